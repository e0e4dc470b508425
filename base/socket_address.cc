#include "base/socket_address.h"

#include <arpa/inet.h>
#include <sys/un.h>

#include <charconv>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/url.h"

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

std::optional<in_addr> ParseIpv4(const std::string& text) {
  in_addr address;
  if (inet_pton(AF_INET, text.c_str(), &address) != 1) return std::nullopt;
  return address;
}

std::optional<in6_addr> ParseIpv6(const std::string& text) {
  in6_addr address;
  if (inet_pton(AF_INET6, text.c_str(), &address) != 1) return std::nullopt;
  return address;
}

bool IsLoopback(const in_addr& address) {
  return ntohl(address.s_addr) >> 24 == 127;
}

bool IsLoopback(const in6_addr& address) {
  if (IN6_IS_ADDR_V4MAPPED(&address)) return address.s6_addr[12] == 127;
  return IN6_IS_ADDR_LOOPBACK(&address);
}

bool AllDigits(std::string_view text) {
  return text.find_first_not_of("0123456789") == std::string_view::npos;
}

// A block of addresses, all of them as IPv6: IPv4 ones are mapped.
struct Block {
  in6_addr base{};
  int prefix = 128;

  bool v4() const { return IN6_IS_ADDR_V4MAPPED(&base) && prefix >= 96; }
};

std::optional<Block> ParseBlock(const std::string& text) {
  const size_t slash = text.find('/');
  const std::string host = text.substr(0, slash);
  const auto v4 = ParseIpv4(host);
  const auto v6 = ParseIpv6(v4 ? "::ffff:" + host : host);
  if (!v6) return std::nullopt;
  Block block{*v6};
  if (slash == std::string::npos) return block;
  const auto bits = ParseDecimal(text.substr(slash + 1), v4 ? 32 : 128);
  if (!bits) return std::nullopt;
  block.prefix = v4 ? 96 + *bits : *bits;
  return block;
}

}  // namespace

std::optional<SocketAddress> ParseSocketAddress(std::string_view text,
                                                int default_port) {
  SocketAddress out;
  std::string_view rest;
  if (text.starts_with('[')) {
    const size_t end = text.find(']');
    if (end == std::string_view::npos) return std::nullopt;
    out.host = text.substr(1, end - 1);
    rest = text.substr(end + 1);
    const auto address = ParseIpv6(out.host);
    if (!address) return std::nullopt;
    out.loopback = IsLoopback(*address);
  } else if (const auto bare = ParseIpv6(std::string(text));
             bare && default_port >= 0) {
    out.host = text;
    out.loopback = IsLoopback(*bare);
  } else {
    out.host = text.substr(0, text.find(':'));
    rest = text.substr(out.host.size());
    const auto address = ParseIpv4(out.host);
    if (!address) return std::nullopt;
    out.loopback = IsLoopback(*address);
  }
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

std::string CheckGrpcListener(const std::string& text, bool* reachable) {
  *reachable = false;
  if (text.starts_with("unix:")) {
    if (!text.starts_with("unix:///") || text.size() < 9) {
      return "a Unix socket is written unix:///path";
    }
    const size_t length = text.size() - std::strlen("unix://");
    constexpr size_t kMost = sizeof(sockaddr_un::sun_path) - 1;
    if (length > kMost) {
      return absl::StrCat("the socket's path has ", length,
                          " bytes, more than the system's ", kMost);
    }
    return "";
  }
  const auto address = ParseSocketAddress(text);
  if (!address) {
    return "must be a numeric address and a port such as 127.0.0.1:50051 or "
           "[::1]:50051, or unix:///path";
  }
  *reachable = !address->loopback;
  return "";
}

bool IsIpAddress(const std::string& text) {
  return ParseIpv4(text).has_value() || ParseIpv6(text).has_value();
}

std::string CheckAddressRange(const std::string& text) {
  return ParseBlock(text) ? "" : "not a CIDR (10.0.0.0/8) or an address";
}

bool RangeHolds(const std::string& range, const std::string& address) {
  const auto block = ParseBlock(range);
  const auto one = ParseBlock(address);
  if (!block || !one || block->v4() != one->v4()) return false;
  for (int bit = 0; bit < block->prefix; ++bit) {
    const int differ =
        block->base.s6_addr[bit / 8] ^ one->base.s6_addr[bit / 8];
    if ((differ >> (7 - bit % 8) & 1) != 0) return false;
  }
  return true;
}

std::string CanonicalAddress(const std::string& text) {
  const auto one = ParseBlock(text);
  if (!one) return text;
  char out[INET6_ADDRSTRLEN];
  if (one->v4()) {
    return inet_ntop(AF_INET, one->base.s6_addr + 12, out, sizeof out);
  }
  return inet_ntop(AF_INET6, &one->base, out, sizeof out);
}

std::string CheckEgressRule(const std::string& text) {
  const size_t slash = text.find('/');
  const std::string host = text.substr(0, slash);
  const bool v4 = ParseIpv4(host).has_value();
  const bool v6 = ParseIpv6(host).has_value();
  if (slash != std::string::npos) {
    const auto bits = ParseDecimal(text.substr(slash + 1), v4 ? 32 : 128);
    if ((v4 || v6) && bits) return "";
    return "not a CIDR such as 10.0.0.0/8";
  }
  if (v4 || v6) return "";
  const std::string name = host.starts_with("*.") ? host.substr(2) : host;
  // What ends in a number is an address gone wrong, not a name.
  if (IsDnsName(name) && !AllDigits(name.substr(name.rfind('.') + 1))) {
    return "";
  }
  return "not a CIDR (10.0.0.0/8), an address, or a host pattern "
         "(*.example.com)";
}

}  // namespace hotline
