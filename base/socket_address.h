// What the configuration says of addresses. Pure. Part of config.
#ifndef HOTLINE_BASE_SOCKET_ADDRESS_H_
#define HOTLINE_BASE_SOCKET_ADDRESS_H_

#include <optional>
#include <string>
#include <string_view>

namespace hotline {

// "127.0.0.1:50051", "[::1]:50051": a numeric address and a port.
struct SocketAddress {
  std::string host;  // Without brackets.
  int port = 0;
  bool loopback = false;
};

// Nothing unless `text` is one. A missing port is `default_port` where that is
// not -1.
std::optional<SocketAddress> ParseSocketAddress(std::string_view text,
                                                int default_port = -1);

// What is wrong with a gRPC listener's address, empty when nothing is.
// `reachable`: whether others than this machine may connect.
std::string CheckGrpcListener(const std::string& text, bool* reachable);

// "192.0.2.1", "2001:db8::1".
bool IsIpAddress(const std::string& text);

// What is wrong with an entry of egress.allow or egress.deny.
std::string CheckEgressRule(const std::string& text);

// What is wrong with a CIDR or an address; empty: nothing.
std::string CheckAddressRange(const std::string& text);

// Whether a range that passes that check holds `address`, a numeric one. An
// IPv4 address in the form of an IPv6 one (::ffff:10.0.0.1) is that IPv4
// address.
bool RangeHolds(const std::string& range, const std::string& address);

// The shortest form of a numeric address, IPv4 for what RangeHolds takes for
// it.
std::string CanonicalAddress(const std::string& text);

}  // namespace hotline

#endif  // HOTLINE_BASE_SOCKET_ADDRESS_H_
