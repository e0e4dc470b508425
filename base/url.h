// Targets and URLs, as callers write them.
#ifndef HOTLINE_BASE_URL_H_
#define HOTLINE_BASE_URL_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/http_chars.h"

namespace hotline {

// A fault in a caller's input.
struct InputError {
  const char* reason;   // By the contract: "BAD_URL", "BAD_HEADER", …
  std::string field;    // Path in the message: "headers[3].name".
  std::string message;  // For people. Never repeats the input.
};

struct ParsedTarget {
  // "https://example.com:443": in lower case, always with a port, IPv6 in
  // brackets and in its shortest form. Equal for equal targets.
  //
  // A trailing dot of a DNS name is kept: "https://example.com.:443" is a
  // target of its own, because the name is resolved as an absolute one, without
  // the search list, and may have other addresses. See OtherSpelling.
  std::string canonical;
  std::string host;  // Without brackets and trailing dot.
  uint16_t port = 0;
  bool tls = false;
  bool raw = false;  // tls://, tcp://: any protocol, not HTTP.
};

struct ParsedUrl {
  ParsedTarget target;
  // For Host: without the scheme's default port and the host's trailing dot.
  std::string authority;
  std::string path;  // Origin form, with the query; "/" if empty.
};

inline constexpr size_t kMaxUrlBytes = 16 << 10;

// Accepts "https://host[:port]", "http://host[:port]", "tls://host:port" and
// "tcp://host:port", nothing else. A host is a DNS name (letters, digits,
// hyphens, underscores; one trailing dot is allowed), an IPv4 address of four
// plain decimal numbers, or an IPv6 address in brackets without a zone. A name
// that other programs would read as a number (127.1, 0x7f.1) is refused.
std::optional<InputError> ParseTarget(std::string_view text,
                                      ParsedTarget* target);

// Accepts an https or http target with path and query, but without user
// information and fragment: at most kMaxUrlBytes of visible ASCII, every "%"
// followed by two hexadecimal digits. Nothing is decoded, and no dot segments
// are removed: the path is sent unchanged.
std::optional<InputError> ParseUrl(std::string_view text, ParsedUrl* url);

// The canonical target with a trailing dot added to its host, or removed; empty
// if the host is an address. Settings and rules by name for one of the two
// spellings apply to the other as well.
std::string OtherSpelling(std::string_view canonical);

// A canonical target, "host:port" or "host", without the host's trailing dot.
std::string WithoutRootDot(std::string_view text);

// Whether `text` is a DNS name by the rules above, without a trailing dot.
bool IsDnsName(std::string_view text);

}  // namespace hotline

#endif  // HOTLINE_BASE_URL_H_
