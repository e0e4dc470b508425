#include "server/front/inherited_sockets.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/socket_address.h"

namespace hotline::server {
namespace {

// The address that a socket is bound to, as the configuration writes it; empty
// for one that it cannot write.
std::string NameOf(int fd) {
  sockaddr_storage name{};
  socklen_t size = sizeof name;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&name), &size) != 0)
    return "";
  char host[INET6_ADDRSTRLEN] = "";
  if (name.ss_family == AF_INET) {
    const auto& in = reinterpret_cast<const sockaddr_in&>(name);
    inet_ntop(AF_INET, &in.sin_addr, host, sizeof host);
    return absl::StrCat(host, ":", ntohs(in.sin_port));
  }
  if (name.ss_family == AF_INET6) {
    const auto& in = reinterpret_cast<const sockaddr_in6&>(name);
    inet_ntop(AF_INET6, &in.sin6_addr, host, sizeof host);
    return absl::StrCat("[", host, "]:", ntohs(in.sin6_port));
  }
  if (name.ss_family != AF_UNIX) return "";
  const auto& un = reinterpret_cast<const sockaddr_un&>(name);
  if (size <= offsetof(sockaddr_un, sun_path) || un.sun_path[0] == '\0') {
    return "";
  }
  return absl::StrCat("unix://", un.sun_path);
}

// Whether two spellings are one address. Never with port 0.
bool SameAddress(const std::string& a, const std::string& b) {
  const auto first = ParseSocketAddress(a);
  const auto second = ParseSocketAddress(b);
  if (!first.has_value() || !second.has_value()) return false;
  return first->port != 0 && first->port == second->port &&
         CanonicalAddress(first->host) == CanonicalAddress(second->host);
}

}  // namespace

InheritedSockets::InheritedSockets(InheritedSockets&& other) noexcept
    : sockets_(std::exchange(other.sockets_, {})) {}

InheritedSockets::~InheritedSockets() {
  for (const ListeningSocket& socket : sockets_) close(socket.fd);
}

void InheritedSockets::Add(ListeningSocket socket) {
  if (socket.address.empty()) socket.address = NameOf(socket.fd);
  sockets_.push_back(std::move(socket));
}

ListeningSocket InheritedSockets::Take(std::string_view role,
                                       const std::string& address) {
  const auto fits = [&](const ListeningSocket& socket) {
    if (!socket.role.empty() && socket.role != role) return false;
    return socket.address == address || SameAddress(socket.address, address);
  };
  const auto found = std::find_if(sockets_.begin(), sockets_.end(), fits);
  if (found == sockets_.end()) return {};
  ListeningSocket taken = std::move(*found);
  sockets_.erase(found);
  return taken;
}

}  // namespace hotline::server
