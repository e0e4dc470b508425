// Numeric addresses as text: with a port, and in policy rules. Pure.
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

// Nothing if `text` is none. Without a port it gets `default_port`, if that is
// not -1.
std::optional<SocketAddress> ParseSocketAddress(std::string_view text,
                                                int default_port = -1);

// "192.0.2.1", "2001:db8::1".
bool IsIpAddress(const std::string& text);

// What is wrong with a CIDR or an address; "" if nothing is.
std::string CheckAddressRange(const std::string& text);

// Whether a range that passes that check contains `address`, a numeric one. An
// IPv4-mapped IPv6 address (::ffff:10.0.0.1) counts as the IPv4 address.
bool RangeHolds(const std::string& range, const std::string& address);

// The shortest form of a numeric address; IPv4 for an IPv4-mapped one.
std::string CanonicalAddress(const std::string& text);

}  // namespace hotline

#endif  // HOTLINE_BASE_SOCKET_ADDRESS_H_
