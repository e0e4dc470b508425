#include "client/cli/pump.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <string>
#include <vector>

#include "client/cli/format.h"

namespace hotline::client {
namespace {

bool WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t size = write(fd, bytes.data(), bytes.size());
    if (size >= 0) {
      bytes.remove_prefix(static_cast<size_t>(size));
    } else if (errno == EAGAIN) {
      pollfd ready{fd, POLLOUT, 0};
      poll(&ready, 1, -1);
    } else if (errno != EINTR) {
      return false;
    }
  }
  return true;
}

}  // namespace

Feeder::Feeder(int fd, Tunnel* tunnel)
    : fd_(fd), tunnel_(tunnel), stop_(eventfd(0, EFD_CLOEXEC)) {
  thread_ = std::thread([this] { Run(); });
}

Feeder::~Feeder() {
  eventfd_write(stop_, 1);
  thread_.join();
  close(stop_);
}

void Feeder::Run() {
  std::vector<char> buffer(64 << 10);
  for (;;) {
    pollfd ready[] = {{stop_, POLLIN, 0}, {fd_, POLLIN, 0}};
    if (poll(ready, 2, -1) < 0 && errno != EINTR) return;
    if (ready[0].revents != 0) return;
    if (ready[1].revents == 0) continue;
    const ssize_t size = read(fd_, buffer.data(), buffer.size());
    if (size < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    // A read error counts as the end.
    if (size <= 0) return tunnel_->CloseWrite();
    if (!tunnel_->Write({buffer.data(), static_cast<size_t>(size)})) return;
  }
}

bool CopyOut(Tunnel* tunnel, int out_fd, bool escaped) {
  EscapedText text;
  while (const std::optional<std::string> data = tunnel->Read()) {
    if (!WriteAll(out_fd, escaped ? text.Next(*data) : *data)) return false;
  }
  return WriteAll(out_fd, text.End());
}

void EndOutput(int fd) {
  shutdown(fd, SHUT_WR);  // For a socket that is also the input.
  const int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (nowhere < 0) return;
  dup2(nowhere, fd);
  close(nowhere);
}

}  // namespace hotline::client
