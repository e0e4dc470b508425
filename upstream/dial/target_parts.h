// Parses a target's canonical text.
#ifndef HOTLINE_UPSTREAM_DIAL_TARGET_PARTS_H_
#define HOTLINE_UPSTREAM_DIAL_TARGET_PARTS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace hotline::upstream {

// The parts of "https://host:port", "http://…", "tls://…" or "tcp://…" in
// canonical form: with the port, and brackets around an IPv6 address. A name
// may end with a dot.
struct TargetParts {
  bool tls = false;
  bool raw = false;  // tls:// or tcp://: an unknown protocol.
  // For DNS: without brackets, with a trailing dot, which makes a name
  // absolute.
  std::string lookup;
  std::string host;  // For TLS and messages: without the trailing dot.
  uint16_t port = 0;
  // For Host: without the scheme's default port and the trailing dot.
  std::string authority;

  static std::optional<TargetParts> Parse(std::string_view target);
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_DIAL_TARGET_PARTS_H_
