#include "base/socket_address.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "base/ip_address.h"

namespace hotline {
namespace {

std::optional<int> ParseDecimal(std::string_view text, int most) {
  int value = 0;
  const char* const end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  if (result.ec != std::errc() || result.ptr != end || value < 0 ||
      value > most) {
    return std::nullopt;
  }
  return value;
}

// An IPv4 range in its own form even where it is written as an IPv6 one
// (::ffff:10.0.0.0/104).
std::optional<IpRange> ParseRange(std::string_view text) {
  constexpr std::array<uint8_t, 12> kMapped = {0, 0, 0, 0, 0,    0,
                                               0, 0, 0, 0, 0xff, 0xff};
  auto range = IpRange::Parse(text);
  if (!range || !range->base.v6 || range->prefix < 96) return range;
  const auto& bytes = range->base.bytes;
  if (!std::equal(kMapped.begin(), kMapped.end(), bytes.begin())) return range;
  return IpRange{IpAddress::V4(bytes[12], bytes[13], bytes[14], bytes[15]),
                 range->prefix - 96};
}

bool IsLoopback(std::string_view address) {
  const auto plain = ParseRange(address);
  if (!plain->base.v6) return plain->base.bytes[0] == 127;
  return plain->base == IpAddress::Parse("::1");
}

}  // namespace

std::optional<SocketAddress> ParseSocketAddress(std::string_view text,
                                                int default_port) {
  SocketAddress out;
  std::string_view rest;
  bool v6 = true;
  if (text.starts_with('[')) {
    const size_t end = text.find(']');
    if (end == std::string_view::npos) return std::nullopt;
    out.host = text.substr(1, end - 1);
    rest = text.substr(end + 1);
  } else if (const auto bare = IpAddress::Parse(text);
             bare && bare->v6 && default_port >= 0) {
    out.host = text;
  } else {
    out.host = text.substr(0, text.find(':'));
    rest = text.substr(out.host.size());
    v6 = false;
  }
  const auto address = IpAddress::Parse(out.host);
  if (!address || address->v6 != v6) return std::nullopt;
  out.loopback = IsLoopback(out.host);
  if (rest.empty()) {
    if (default_port < 0) return std::nullopt;
    out.port = default_port;
    return out;
  }
  const auto port =
      rest[0] == ':' ? ParseDecimal(rest.substr(1), 65535) : std::nullopt;
  if (!port) return std::nullopt;
  out.port = *port;
  return out;
}

bool IsIpAddress(const std::string& text) {
  return IpAddress::Parse(text).has_value();
}

std::string CheckAddressRange(const std::string& text) {
  return IpRange::Parse(text) ? "" : "not a CIDR (10.0.0.0/8) or an address";
}

bool RangeHolds(const std::string& range, const std::string& address) {
  const auto block = ParseRange(range);
  const auto one = ParseRange(address);
  return block && one && block->Contains(one->base);
}

std::string CanonicalAddress(const std::string& text) {
  const auto one = ParseRange(text);
  return one ? one->base.ToString() : text;
}

}  // namespace hotline
