#include "base/socket_address.h"

#include <sys/un.h>

#include <charconv>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/ip_address.h"
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

// IPv6 only, or IPv4 only.
std::optional<IpAddress> ParseAddress(std::string_view text, bool v6) {
  const auto address = IpAddress::Parse(text);
  return address && address->v6 == v6 ? address : std::nullopt;
}

bool AllDigits(std::string_view text) {
  return text.find_first_not_of("0123456789") == std::string_view::npos;
}

std::optional<IpRange> ParseRange(std::string_view text) {
  const auto range = IpRange::Parse(text);
  return range ? std::optional(range->Unmapped()) : std::nullopt;
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
    const auto address = ParseAddress(out.host, /*v6=*/true);
    if (!address) return std::nullopt;
    out.loopback = address->IsLoopback();
  } else if (const auto bare = ParseAddress(text, /*v6=*/true);
             bare && default_port >= 0) {
    out.host = text;
    out.loopback = bare->IsLoopback();
  } else {
    out.host = text.substr(0, text.find(':'));
    rest = text.substr(out.host.size());
    const auto address = ParseAddress(out.host, /*v6=*/false);
    if (!address) return std::nullopt;
    out.loopback = address->IsLoopback();
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

std::string CheckEgressRule(const std::string& text) {
  if (IpRange::Parse(text)) return "";
  if (text.find('/') != std::string::npos) {
    return "not a CIDR such as 10.0.0.0/8";
  }
  const std::string name = text.starts_with("*.") ? text.substr(2) : text;
  // What ends in a number is an address gone wrong, not a name.
  if (IsDnsName(name) && !AllDigits(name.substr(name.rfind('.') + 1))) {
    return "";
  }
  return "not a CIDR (10.0.0.0/8), an address, or a host pattern "
         "(*.example.com)";
}

}  // namespace hotline
