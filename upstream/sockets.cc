#include "upstream/sockets.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

namespace hotline::upstream {

std::string SocketErrorText(int error) {
  char buffer[128];
  return strerror_r(error, buffer, sizeof buffer);
}

int OpenTcpSocket(const IpAddress& address) {
  const int fd = socket(address.v6 ? AF_INET6 : AF_INET,
                        SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int on = 1;
  if (fd >= 0) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

void ResetOnClose(int fd) {
  const linger at_once{.l_onoff = 1, .l_linger = 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

int BeginConnect(int fd, const IpAddress& address, uint16_t port) {
  sockaddr_storage storage{};
  socklen_t length = 0;
  if (address.v6) {
    auto* in6 = reinterpret_cast<sockaddr_in6*>(&storage);
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(port);
    memcpy(&in6->sin6_addr, address.bytes.data(), 16);
    length = sizeof *in6;
  } else {
    auto* in = reinterpret_cast<sockaddr_in*>(&storage);
    in->sin_family = AF_INET;
    in->sin_port = htons(port);
    memcpy(&in->sin_addr, address.bytes.data(), 4);
    length = sizeof *in;
  }
  const int result =
      connect(fd, reinterpret_cast<const sockaddr*>(&storage), length);
  return result == 0 ? 0 : errno;
}

int ConnectOutcome(int fd) {
  int error = 0;
  socklen_t size = sizeof error;
  return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error
                                                                  : errno;
}

std::string LocalAddress(int fd) {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &length) != 0) {
    return "";
  }
  IpAddress address;
  if (storage.ss_family == AF_INET6) {
    const auto* in6 = reinterpret_cast<const sockaddr_in6*>(&storage);
    address.v6 = true;
    memcpy(address.bytes.data(), &in6->sin6_addr, 16);
    return address.WithPort(ntohs(in6->sin6_port));
  }
  const auto* in = reinterpret_cast<const sockaddr_in*>(&storage);
  memcpy(address.bytes.data(), &in->sin_addr, 4);
  return address.WithPort(ntohs(in->sin_port));
}

}  // namespace hotline::upstream
