// A target's text, taken apart.
#ifndef HOTLINE_UPSTREAM_TARGET_PARTS_H_
#define HOTLINE_UPSTREAM_TARGET_PARTS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace hotline::upstream {

// Of "https://host:port", "http://…", "tls://…" or "tcp://…": the canonical
// form, with the port, and brackets around an IPv6 address.
struct TargetParts {
  bool tls = false;
  bool raw = false;  // Nothing is known of what is spoken there: tls, tcp.
  std::string host;  // Without brackets.
  uint16_t port = 0;
  std::string authority;  // For Host: without the scheme's own port.

  static std::optional<TargetParts> Parse(std::string_view target);
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_TARGET_PARTS_H_
