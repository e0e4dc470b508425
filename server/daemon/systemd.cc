#include "server/daemon/systemd.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/numbers.h"
#include "base/log.h"

namespace hotline::server {
namespace {

constexpr int kFirstDescriptor = 3;
constexpr int kMostSockets = 1000;

// A whole number from the environment; -1: there is none.
int NumberIn(const char* name) {
  const char* const text = std::getenv(name);
  int number = 0;
  return text != nullptr && absl::SimpleAtoi(text, &number) ? number : -1;
}

}  // namespace

void NotifySystemd(const std::string& state) {
  const char* const path = std::getenv("NOTIFY_SOCKET");
  if (path == nullptr) return;
  sockaddr_un to{};
  to.sun_family = AF_UNIX;
  const size_t length = std::strlen(path);
  if (length == 0 || length >= sizeof to.sun_path) return;
  std::memcpy(to.sun_path, path, length);
  if (path[0] == '@') to.sun_path[0] = '\0';  // In the abstract namespace.
  const auto size =
      static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length);
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || sendto(fd, state.data(), state.size(), MSG_NOSIGNAL,
                       reinterpret_cast<const sockaddr*>(&to), size) < 0) {
    HOTLINE_LOG(kWarning, "systemd cannot be notified",
                {{"error", std::strerror(errno)}});
  }
  if (fd >= 0) close(fd);
}

void TakeSystemdSockets(InheritedSockets* sockets) {
  const int count =
      NumberIn("LISTEN_PID") == getpid() ? NumberIn("LISTEN_FDS") : 0;
  for (const char* name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}) {
    unsetenv(name);
  }
  for (int i = 0; i < count && i < kMostSockets; ++i) {
    const int fd = kFirstDescriptor + i;
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) break;
    ListeningSocket socket;
    socket.fd = fd;
    socket.keeps_file = true;
    sockets->Add(std::move(socket));
  }
}

}  // namespace hotline::server
