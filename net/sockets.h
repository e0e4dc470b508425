// Helpers for TCP sockets.
#ifndef HOTLINE_NET_SOCKETS_H_
#define HOTLINE_NET_SOCKETS_H_

#include <cstdint>
#include <string>

#include "base/ip_address.h"

namespace hotline::net {

// "Connection refused".
std::string SocketErrorText(int error);

// A non-blocking TCP socket with TCP_NODELAY. -1: see errno.
int OpenTcpSocket(const IpAddress& address);

// Binds the local address but leaves the port to connect(), so that every port
// can be used once per destination. Returns 0 or an errno.
int BindSource(int fd, const IpAddress& source);

// Returns 0, EINPROGRESS, or another errno.
int BeginConnect(int fd, const IpAddress& address, uint16_t port);

// The outcome of a connect that was in progress: 0 or an errno.
int ConnectOutcome(int fd);

// Makes close() send a reset (RST) and drop unsent data.
void ResetOnClose(int fd);

// "127.0.0.1:43210"; empty if unknown.
std::string LocalAddress(int fd);

}  // namespace hotline::net

#endif  // HOTLINE_NET_SOCKETS_H_
