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

// What is wrong with something a caller sent.
struct InputError {
  const char* reason;   // Of the contract: "BAD_URL", "BAD_HEADER", …
  std::string field;    // Its path in the message: "headers[3].name".
  std::string message;  // For people. Never repeats what was sent.
};

struct ParsedTarget {
  // "https://example.com:443": lower case, the port always there, IPv6 in
  // brackets and in its shortest form. Equal for equal targets.
  //
  // A dot at the end of a DNS name stays: "https://example.com.:443" is another
  // target, because the name is resolved differently (as it is, never with the
  // search list) and may have other addresses. See OtherSpelling.
  std::string canonical;
  std::string host;  // Without brackets, and without a dot at its end.
  uint16_t port = 0;
  bool tls = false;
  bool raw = false;  // tls://, tcp://: whatever is spoken there, not HTTP.
};

struct ParsedUrl {
  ParsedTarget target;
  // For Host: without the scheme's own port and a dot at the host's end.
  std::string authority;
  std::string path;  // Origin form, with the query; "/" when empty.
};

inline constexpr size_t kMaxUrlBytes = 16 << 10;

// "https://host[:port]", "http://host[:port]", "tls://host:port" or
// "tcp://host:port", nothing else. A host is a DNS
// name (letters, digits, hyphens, underscores; one dot at the end is allowed),
// an IPv4 address of four plain decimal numbers, or an IPv6 address in brackets
// without a zone. What other programs would read as a number (127.1, 0x7f.1) is
// refused rather than looked up.
std::optional<InputError> ParseTarget(std::string_view text,
                                      ParsedTarget* target);

// An https or http target with path and query: no user information, no
// fragment, at most
// kMaxUrlBytes of visible ASCII, every "%" followed by two hexadecimal digits.
// Nothing is decoded, and no dot segments are removed: the path goes out as it
// is.
std::optional<InputError> ParseUrl(std::string_view text, ParsedUrl* url);

// The canonical target with a dot added to the end of its host, or with that
// dot removed; empty when the host is an address. What is configured or allowed
// by name for one of the two spellings holds for the other as well.
std::string OtherSpelling(std::string_view canonical);

// A canonical target, "host:port" or "host", without a dot at the host's end.
std::string WithoutRootDot(std::string_view text);

// Whether `text` is a DNS name by the rules above, without a dot at its end.
bool IsDnsName(std::string_view text);

}  // namespace hotline

#endif  // HOTLINE_BASE_URL_H_
