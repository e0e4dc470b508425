#include "client/cli/local_listener.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/ip_address.h"
#include "base/socket_address.h"

namespace hotline::client {
namespace {

constexpr int kBacklog = 128;
constexpr char kUnixPrefix[] = "unix://";

// Closes `fd`.
absl::Status Failed(int fd, const std::string& address) {
  const int error = errno;
  if (fd >= 0) close(fd);
  return absl::FailedPreconditionError(
      absl::StrCat("cannot listen on ", address, ": ", std::strerror(error)));
}

bool Listen(int fd, const sockaddr* address, socklen_t length) {
  return fd >= 0 && bind(fd, address, length) == 0 && listen(fd, kBacklog) == 0;
}

}  // namespace

absl::StatusOr<std::unique_ptr<LocalListener>> LocalListener::Open(
    const std::string& address) {
  if (absl::StartsWith(address, "unix:")) {
    if (!absl::StartsWith(address, absl::StrCat(kUnixPrefix, "/"))) {
      return absl::InvalidArgumentError("a socket is written unix:///path");
    }
    return OpenUnix(address.substr(std::strlen(kUnixPrefix)));
  }
  const bool port_alone = address.find(':') == address.npos;
  const auto parsed = ParseSocketAddress(
      port_alone ? absl::StrCat("127.0.0.1:", address) : address);
  if (!parsed.has_value() || !parsed->loopback) {
    return absl::InvalidArgumentError(absl::StrCat(
        "LOCAL is a port, a loopback address such as 127.0.0.1:5432, or "
        "unix:///path, not ",
        address));
  }
  return OpenTcp(parsed->host, parsed->port);
}

absl::StatusOr<std::unique_ptr<LocalListener>> LocalListener::OpenUnix(
    const std::string& path) {
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  if (path.size() >= sizeof name.sun_path) {
    return absl::InvalidArgumentError(
        absl::StrCat("the path of a socket has at most ",
                     sizeof name.sun_path - 1, " bytes"));
  }
  std::memcpy(name.sun_path, path.data(), path.size());
  const std::string address = kUnixPrefix + path;
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const mode_t before = umask(0177);
  const bool listens =
      Listen(fd, reinterpret_cast<const sockaddr*>(&name), sizeof name);
  umask(before);
  if (!listens) return Failed(fd, address);
  return std::unique_ptr<LocalListener>(new LocalListener(fd, address, path));
}

absl::StatusOr<std::unique_ptr<LocalListener>> LocalListener::OpenTcp(
    const std::string& host, int port) {
  const IpAddress ip = *IpAddress::Parse(host);
  const auto net_port = htons(static_cast<uint16_t>(port));
  sockaddr_in v4 = {};
  v4.sin_family = AF_INET;
  v4.sin_port = net_port;
  std::memcpy(&v4.sin_addr, ip.bytes.data(), sizeof v4.sin_addr);
  sockaddr_in6 v6 = {};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = net_port;
  std::memcpy(&v6.sin6_addr, ip.bytes.data(), sizeof v6.sin6_addr);
  const int fd = socket(ip.v6 ? AF_INET6 : AF_INET,
                        SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const bool listens =
      ip.v6 ? Listen(fd, reinterpret_cast<const sockaddr*>(&v6), sizeof v6)
            : Listen(fd, reinterpret_cast<const sockaddr*>(&v4), sizeof v4);
  if (!listens) return Failed(fd, ip.WithPort(static_cast<uint16_t>(port)));
  // Both kinds have the port at the same place.
  socklen_t length = sizeof v6;
  getsockname(fd, reinterpret_cast<sockaddr*>(&v6), &length);
  return std::unique_ptr<LocalListener>(
      new LocalListener(fd, ip.WithPort(ntohs(v6.sin6_port)), ""));
}

LocalListener::~LocalListener() {
  close(fd_);
  if (!path_.empty()) unlink(path_.c_str());
}

int LocalListener::Accept() const {
  return accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
}

}  // namespace hotline::client
