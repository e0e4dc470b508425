#include "base/ip_address.h"

#include <arpa/inet.h>

#include <charconv>

namespace hotline {

std::optional<IpAddress> IpAddress::Parse(std::string_view text) {
  char copy[INET6_ADDRSTRLEN];
  if (text.size() >= sizeof copy || text.empty()) return std::nullopt;
  text.copy(copy, text.size());
  copy[text.size()] = '\0';
  IpAddress address;
  address.v6 = text.find(':') != std::string_view::npos;
  const int family = address.v6 ? AF_INET6 : AF_INET;
  if (inet_pton(family, copy, address.bytes.data()) != 1) return std::nullopt;
  return address;
}

std::string IpAddress::ToString() const {
  char text[INET6_ADDRSTRLEN];
  return inet_ntop(v6 ? AF_INET6 : AF_INET, bytes.data(), text, sizeof text);
}

std::string IpAddress::WithPort(uint16_t port) const {
  const std::string text = ToString();
  return (v6 ? "[" + text + "]" : text) + ":" + std::to_string(port);
}

std::optional<IpRange> IpRange::Parse(std::string_view text) {
  const size_t slash = text.find('/');
  const auto base = IpAddress::Parse(text.substr(0, slash));
  if (!base) return std::nullopt;
  IpRange range{*base, base->bits()};
  if (slash == std::string_view::npos) return range;
  const char* const end = text.data() + text.size();
  const auto [rest, error] =
      std::from_chars(text.data() + slash + 1, end, range.prefix);
  if (error != std::errc() || rest != end || range.prefix < 0 ||
      range.prefix > base->bits()) {
    return std::nullopt;
  }
  return range;
}

bool IpRange::Contains(const IpAddress& address) const {
  if (address.v6 != base.v6) return false;
  const int whole = prefix / 8;
  for (int i = 0; i < whole; ++i) {
    if (address.bytes[i] != base.bytes[i]) return false;
  }
  const int rest = prefix % 8;
  return rest == 0 ||
         ((address.bytes[whole] ^ base.bytes[whole]) >> (8 - rest)) == 0;
}

}  // namespace hotline
