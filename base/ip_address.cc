#include "base/ip_address.h"

#include <algorithm>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/ip/network_v4.hpp>
#include <boost/asio/ip/network_v6.hpp>
#include <charconv>
#include <string>

namespace hotline {
namespace {

namespace ip = boost::asio::ip;

ip::address_v4 V4Of(const IpAddress& address) {
  ip::address_v4::bytes_type bytes;
  std::copy_n(address.bytes.begin(), bytes.size(), bytes.begin());
  return ip::address_v4(bytes);
}

ip::address_v6 V6Of(const IpAddress& address) {
  return ip::address_v6(address.bytes);
}

ip::address AsioOf(const IpAddress& address) {
  if (address.v6) return V6Of(address);
  return V4Of(address);
}

}  // namespace

std::optional<IpAddress> IpAddress::Parse(std::string_view text) {
  boost::system::error_code error;
  const ip::address parsed = ip::make_address(std::string(text), error);
  if (error || text.find('%') != std::string_view::npos) return std::nullopt;
  if (parsed.is_v6()) return IpAddress{true, parsed.to_v6().to_bytes()};
  const auto bytes = parsed.to_v4().to_bytes();
  return V4(bytes[0], bytes[1], bytes[2], bytes[3]);
}

IpAddress IpAddress::Unmapped() const {
  if (!v6 || !V6Of(*this).is_v4_mapped()) return *this;
  return V4(bytes[12], bytes[13], bytes[14], bytes[15]);
}

bool IpAddress::IsLoopback() const { return AsioOf(Unmapped()).is_loopback(); }

std::string IpAddress::ToString() const { return AsioOf(*this).to_string(); }

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

IpRange IpRange::Unmapped() const {
  const IpAddress unmapped = base.Unmapped();
  if (unmapped.v6 == base.v6 || prefix < 96) return *this;
  return {unmapped, prefix - 96};
}

IpAddress IpRange::First() const {
  IpAddress first = base;
  for (int bit = prefix; bit < base.bits(); ++bit) {
    first.bytes[bit / 8] &= static_cast<uint8_t>(~(0x80 >> bit % 8));
  }
  return first;
}

bool IpRange::Contains(const IpAddress& address) const {
  if (address.v6 != base.v6) return false;
  if (base.v6) {
    return ip::network_v6(V6Of(address), prefix).canonical() ==
           ip::network_v6(V6Of(base), prefix).canonical();
  }
  return ip::network_v4(V4Of(address), prefix).canonical() ==
         ip::network_v4(V4Of(base), prefix).canonical();
}

}  // namespace hotline
