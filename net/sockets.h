// Small change around sockets.
#ifndef HOTLINE_NET_SOCKETS_H_
#define HOTLINE_NET_SOCKETS_H_

#include <cstdint>
#include <string>

#include "base/ip_address.h"

namespace hotline::net {

// "Connection refused".
std::string SocketErrorText(int error);

// A TCP socket that neither blocks nor delays. -1: see errno.
int OpenTcpSocket(const IpAddress& address);

// Binds the local end, leaving the port to connect(), so that all ports serve
// each of several destinations. 0, or what went wrong.
int BindSource(int fd, const IpAddress& source);

// 0, EINPROGRESS, or what went wrong.
int BeginConnect(int fd, const IpAddress& address, uint16_t port);

// How a connect that was in progress ended: 0, or what went wrong.
int ConnectOutcome(int fd);

// The close will be a reset (RST): what has not been sent never is.
void ResetOnClose(int fd);

// "127.0.0.1:43210"; empty when it cannot be told.
std::string LocalAddress(int fd);

}  // namespace hotline::net

#endif  // HOTLINE_NET_SOCKETS_H_
