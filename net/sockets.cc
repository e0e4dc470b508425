#include "net/sockets.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

namespace hotline::net {
namespace {

struct SocketName {
  sockaddr_storage storage{};
  socklen_t length = 0;
};

SocketName NameOf(const IpAddress& address, uint16_t port) {
  SocketName name;
  if (address.v6) {
    auto* in6 = reinterpret_cast<sockaddr_in6*>(&name.storage);
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(port);
    memcpy(&in6->sin6_addr, address.bytes.data(), 16);
    name.length = sizeof *in6;
  } else {
    auto* in = reinterpret_cast<sockaddr_in*>(&name.storage);
    in->sin_family = AF_INET;
    in->sin_port = htons(port);
    memcpy(&in->sin_addr, address.bytes.data(), 4);
    name.length = sizeof *in;
  }
  return name;
}

}  // namespace

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

int BindSource(int fd, const IpAddress& source) {
  const int on = 1;
  setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
  const SocketName name = NameOf(source, 0);
  const auto* generic = reinterpret_cast<const sockaddr*>(&name.storage);
  return bind(fd, generic, name.length) == 0 ? 0 : errno;
}

int BeginConnect(int fd, const IpAddress& address, uint16_t port) {
  const SocketName name = NameOf(address, port);
  const auto* generic = reinterpret_cast<const sockaddr*>(&name.storage);
  return connect(fd, generic, name.length) == 0 ? 0 : errno;
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

}  // namespace hotline::net
