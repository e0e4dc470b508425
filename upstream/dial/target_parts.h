// A target's text, taken apart.
#ifndef HOTLINE_UPSTREAM_DIAL_TARGET_PARTS_H_
#define HOTLINE_UPSTREAM_DIAL_TARGET_PARTS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace hotline::upstream {

// Of "https://host:port", "http://…", "tls://…" or "tcp://…": the canonical
// form, with the port, and brackets around an IPv6 address. A name may end with
// a dot.
struct TargetParts {
  bool tls = false;
  bool raw = false;  // Nothing is known of what is spoken there: tls, tcp.
  // Without brackets; for DNS, which looks a name with a dot at its end up as
  // it is, without the search list.
  std::string lookup;
  std::string host;  // The same without that dot: for TLS and for people.
  uint16_t port = 0;
  // For Host: without the scheme's own port, and without that dot.
  std::string authority;

  static std::optional<TargetParts> Parse(std::string_view target);
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_DIAL_TARGET_PARTS_H_
