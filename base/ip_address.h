// An IPv4 or IPv6 address as a value.
#ifndef HOTLINE_BASE_IP_ADDRESS_H_
#define HOTLINE_BASE_IP_ADDRESS_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace hotline {

struct IpAddress {
  bool v6 = false;
  std::array<uint8_t, 16> bytes{};  // Network order; IPv4: the first four.

  static IpAddress V4(uint8_t a, uint8_t b, uint8_t c, uint8_t d) {
    IpAddress address;
    address.bytes = {a, b, c, d};
    return address;
  }
  // A dotted quad, or IPv6 without brackets and zone.
  static std::optional<IpAddress> Parse(std::string_view text);

  int bits() const { return v6 ? 128 : 32; }
  // For an IPv4-mapped address (::ffff:192.0.2.1) the IPv4 address that the
  // kernel connects to; others are unchanged.
  IpAddress Unmapped() const;
  bool IsLoopback() const;  // Mapped ones included.
  std::string ToString() const;
  // "192.0.2.1:443", "[2001:db8::1]:443".
  std::string WithPort(uint16_t port) const;

  friend bool operator==(const IpAddress&, const IpAddress&) = default;
};

// Addresses that share a prefix.
struct IpRange {
  IpAddress base;
  int prefix = 0;

  // "10.0.0.0/8", or one address.
  static std::optional<IpRange> Parse(std::string_view text);
  // A range of IPv4-mapped addresses as an IPv4 range; others are unchanged.
  IpRange Unmapped() const;
  bool Contains(const IpAddress& address) const;
  // The address that it begins with.
  IpAddress First() const;
};

// A set of address families.
struct Families {
  bool v4 = true;
  bool v6 = true;
};

}  // namespace hotline

#endif  // HOTLINE_BASE_IP_ADDRESS_H_
