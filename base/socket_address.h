// Numeric addresses as text, with a port or in policy rules. Pure functions.
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

// Returns nothing if `text` does not parse. `default_port` is used if `text`
// has no port; -1: a port is required.
std::optional<SocketAddress> ParseSocketAddress(std::string_view text,
                                                int default_port = -1);

// "192.0.2.1", "2001:db8::1".
bool IsIpAddress(const std::string& text);

// Returns the fault of a CIDR or an address; "" if it is valid.
std::string CheckAddressRange(const std::string& text);

// Whether `range`, which passes that check, contains the numeric `address`. An
// IPv4-mapped IPv6 address (::ffff:10.0.0.1) counts as the IPv4 address.
bool RangeHolds(const std::string& range, const std::string& address);

// The shortest form of a numeric address; an IPv4-mapped one as IPv4.
std::string CanonicalAddress(const std::string& text);

}  // namespace hotline

#endif  // HOTLINE_BASE_SOCKET_ADDRESS_H_
