#include "base/socket_address.h"

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
  const auto range = IpRange::Parse(text);
  return range ? std::optional(range->Unmapped()) : std::nullopt;
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
  out.loopback = address->IsLoopback();
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
