#include "upstream/dial/target_parts.h"

#include <charconv>

namespace hotline::upstream {

std::optional<TargetParts> TargetParts::Parse(std::string_view target) {
  TargetParts parts;
  const size_t slashes = target.find("://");
  const std::string_view scheme = target.substr(0, slashes);
  if (slashes == std::string_view::npos) return std::nullopt;
  target.remove_prefix(slashes + 3);
  parts.tls = scheme == "https" || scheme == "tls";
  parts.raw = scheme == "tls" || scheme == "tcp";
  if (!parts.tls && !parts.raw && scheme != "http") return std::nullopt;
  const size_t colon = target.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return std::nullopt;
  const std::string_view port = target.substr(colon + 1);
  const char* const end = port.data() + port.size();
  const auto [rest, error] = std::from_chars(port.data(), end, parts.port);
  if (error != std::errc() || rest != end || parts.port == 0) {
    return std::nullopt;
  }
  std::string_view host = target.substr(0, colon);
  const bool brackets = host.starts_with('[') && host.ends_with(']');
  parts.lookup = brackets ? host.substr(1, host.size() - 2) : host;
  parts.host = parts.lookup;
  if (host.size() > 1 && host.ends_with('.')) {
    host.remove_suffix(1);
    parts.host.pop_back();
  }
  parts.authority = host;
  const uint16_t usual = parts.tls ? 443 : 80;
  if (parts.port != usual) parts.authority.append(target.substr(colon));
  return parts;
}

}  // namespace hotline::upstream
