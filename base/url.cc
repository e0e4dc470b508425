#include "base/url.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>

namespace hotline {
namespace {

// Classes of characters, as bits.
enum : uint8_t {
  kName = 1,      // Of a label of a DNS name.
  kDigit = 2,     // Decimal.
  kHex = 4,       // Hexadecimal.
  kPathChar = 8,  // Of path and query; "%" needs more.
};

constexpr std::array<uint8_t, 256> MakeClasses() {
  std::array<uint8_t, 256> classes{};
  for (int c = 0x21; c <= 0x7e; ++c) {
    const bool digit = c >= '0' && c <= '9';
    const int lower = c >= 'A' && c <= 'Z' ? c + 32 : c;
    const bool letter = lower >= 'a' && lower <= 'z';
    uint8_t bits = 0;
    if (c != '#' && c != '%') bits |= kPathChar;
    if (digit || letter || c == '-' || c == '_') bits |= kName;
    if (digit) bits |= kDigit;
    if (digit || (lower >= 'a' && lower <= 'f')) bits |= kHex;
    classes[c] = bits;
  }
  return classes;
}

constexpr std::array<uint8_t, 256> kClasses = MakeClasses();

bool Is(char c, uint8_t bits) {
  return (kClasses[static_cast<unsigned char>(c)] & bits) != 0;
}

bool AllAre(std::string_view text, uint8_t bits) {
  return std::all_of(text.begin(), text.end(),
                     [bits](char c) { return Is(c, bits); });
}

// The parsers below return the fault, or null.
using Problem = const char*;

// Whether a name that ends with this label could be read as an address.
bool IsNumeric(std::string_view label) {
  if (AllAre(label, kDigit)) return true;
  return label.size() >= 2 && label[0] == '0' && ToLower(label[1]) == 'x' &&
         AllAre(label.substr(2), kHex);
}

bool IsDottedQuad(std::string_view text) {
  for (int part = 0; part < 4; ++part) {
    const size_t dot = std::min(text.find('.'), text.size());
    const std::string_view number = text.substr(0, dot);
    if (number.empty() || number.size() > 3 || !AllAre(number, kDigit) ||
        (number.size() > 1 && number[0] == '0')) {
      return false;
    }
    int value = 0;
    std::from_chars(number.data(), number.data() + number.size(), value);
    if (value > 255 || (dot == text.size()) != (part == 3)) return false;
    text.remove_prefix(std::min(dot + 1, text.size()));
  }
  return true;
}

// `text` has no trailing dot.
Problem CheckName(std::string_view text) {
  if (text.empty()) return "the host is missing";
  if (text.size() > 253) return "a host has at most 253 characters";
  size_t label = 0;
  for (size_t i = 0; i <= text.size(); ++i) {
    if (i < text.size() && text[i] != '.') {
      if (Is(text[i], kName)) continue;
      return "a host has letters, digits, '-', '_' and '.' only (write others "
             "as xn--…); no user information is allowed";
    }
    if (i == label) return "the host has an empty label";
    if (i - label > 63) return "a host's label has at most 63 characters";
    if (text[label] == '-' || text[i - 1] == '-') {
      return "a host's label neither begins nor ends with '-'";
    }
    if (i < text.size()) label = i + 1;
  }
  if (IsNumeric(text.substr(label)) && !IsDottedQuad(text)) {
    return "an IPv4 address is four decimal numbers up to 255, without "
           "leading zeros";
  }
  return nullptr;
}

Problem ParseNamedHost(std::string_view text, std::string* host, bool* rooted) {
  *rooted = !text.empty() && text.back() == '.';
  if (*rooted) text.remove_suffix(1);
  if (Problem problem = CheckName(text)) return problem;
  if (*rooted && IsNumeric(text.substr(text.rfind('.') + 1))) {
    return "an address has no dot at its end";
  }
  host->resize(text.size());
  std::transform(text.begin(), text.end(), host->begin(), ToLower);
  return nullptr;
}

// `text` has no brackets.
Problem ParseIpv6(std::string_view text, std::string* host) {
  constexpr Problem kBad =
      "what stands in brackets must be an IPv6 address, without a zone";
  char terminated[INET6_ADDRSTRLEN];
  if (text.size() >= sizeof(terminated)) return kBad;
  std::memcpy(terminated, text.data(), text.size());
  terminated[text.size()] = '\0';
  in6_addr address;
  // A NUL within `text` would hide what follows it.
  if (text.find('\0') != std::string_view::npos ||
      inet_pton(AF_INET6, terminated, &address) != 1) {
    return kBad;
  }
  host->assign(inet_ntop(AF_INET6, &address, terminated, sizeof(terminated)));
  return nullptr;
}

Problem ParsePort(std::string_view text, uint16_t* port) {
  unsigned value = 0;
  if (text.empty() || text.size() > 5 || !AllAre(text, kDigit) ||
      text[0] == '0') {
    return "a port is a decimal number, 1 to 65535";
  }
  std::from_chars(text.data(), text.data() + text.size(), value);
  if (value > 65535) return "a port is a decimal number, 1 to 65535";
  *port = static_cast<uint16_t>(value);
  return nullptr;
}

struct Scheme {
  std::string_view prefix;
  bool tls;
  bool raw;
};
constexpr Scheme kSchemes[] = {{"https://", true, false},
                               {"http://", false, false},
                               {"tls://", true, true},
                               {"tcp://", false, true}};

// The scheme that `text` begins with, or null.
const Scheme* FindScheme(std::string_view text) {
  for (const Scheme& scheme : kSchemes) {
    if (EqualsIgnoringCase(text.substr(0, scheme.prefix.size()),
                           scheme.prefix)) {
      return &scheme;
    }
  }
  return nullptr;
}

// Parses scheme, host and port; `*rest` is the text after them. `*rooted`: the
// host is a name with a trailing dot.
Problem ParseOrigin(std::string_view text, ParsedTarget* target, bool* rooted,
                    std::string_view* rest) {
  *rooted = false;
  if (text.empty()) return "it is required";
  const Scheme* const scheme = FindScheme(text);
  if (scheme == nullptr) return "the scheme is https, http, tls or tcp";
  target->tls = scheme->tls;
  target->raw = scheme->raw;
  text.remove_prefix(scheme->prefix.size());
  size_t end = 0;
  while (end < text.size() && text[end] != '/' && text[end] != '?' &&
         text[end] != '#') {
    ++end;
  }
  *rest = text.substr(end);
  text = text.substr(0, end);

  const bool ipv6 = !text.empty() && text[0] == '[';
  size_t host_end;
  Problem problem;
  if (ipv6) {
    host_end = text.find(']');
    if (host_end == std::string_view::npos) return "']' is missing";
    problem = ParseIpv6(text.substr(1, host_end - 1), &target->host);
    ++host_end;
    if (host_end < text.size() && text[host_end] != ':') {
      return "only a port may follow ']'";
    }
  } else {
    host_end = std::min(text.find(':'), text.size());
    problem = ParseNamedHost(text.substr(0, host_end), &target->host, rooted);
  }
  if (problem != nullptr) return problem;
  target->port = target->tls ? 443 : 80;
  if (host_end == text.size()) {
    return target->raw ? "tls and tcp need a port" : nullptr;
  }
  return ParsePort(text.substr(host_end + 1), &target->port);
}

void AppendPort(uint16_t port, std::string* out) {
  char digits[5];
  const auto end = std::to_chars(digits, digits + sizeof(digits), port);
  out->append(":").append(digits, end.ptr - digits);
}

void AppendHost(const std::string& host, std::string* out) {
  const bool ipv6 = host.find(':') != std::string::npos;
  if (ipv6) out->push_back('[');
  out->append(host);
  if (ipv6) out->push_back(']');
}

void FillCanonical(bool rooted, ParsedTarget* target) {
  std::string& out = target->canonical;
  out.reserve(target->host.size() + 16);
  for (const Scheme& scheme : kSchemes) {
    if (scheme.tls == target->tls && scheme.raw == target->raw) {
      out.assign(scheme.prefix);
    }
  }
  AppendHost(target->host, &out);
  if (rooted) out.push_back('.');
  AppendPort(target->port, &out);
}

Problem CheckPath(std::string_view path) {
  for (size_t i = 0; i < path.size(); ++i) {
    if (Is(path[i], kPathChar)) continue;
    if (path[i] == '#') return "a fragment is not sent to servers";
    if (path[i] != '%') {
      return "white space, control and non-ASCII characters must be "
             "percent-encoded";
    }
    if (path.size() - i < 3 || !Is(path[i + 1], kHex) ||
        !Is(path[i + 2], kHex)) {
      return "'%' must be followed by two hexadecimal digits";
    }
    i += 2;
  }
  return nullptr;
}

Problem ParseUrlParts(std::string_view text, ParsedUrl* url) {
  if (text.size() > kMaxUrlBytes) return "a URL has at most 16384 bytes";
  std::string_view rest;
  bool rooted;
  if (Problem problem = ParseOrigin(text, &url->target, &rooted, &rest)) {
    return problem;
  }
  if (url->target.raw) return "the scheme of a URL is https or http";
  if (Problem problem = CheckPath(rest)) return problem;
  FillCanonical(rooted, &url->target);
  url->authority.clear();
  AppendHost(url->target.host, &url->authority);
  if (url->target.port != (url->target.tls ? 443 : 80)) {
    AppendPort(url->target.port, &url->authority);
  }
  url->path.clear();
  if (rest.empty() || rest[0] != '/') url->path.push_back('/');
  url->path.append(rest);
  return nullptr;
}

}  // namespace

std::optional<InputError> ParseTarget(std::string_view text,
                                      ParsedTarget* target) {
  std::string_view rest;
  bool rooted;
  Problem problem = ParseOrigin(text, target, &rooted, &rest);
  if (problem == nullptr && !rest.empty()) {
    problem = "a target ends with its host or port";
  }
  if (problem != nullptr) return InputError{"BAD_TARGET", "target", problem};
  FillCanonical(rooted, target);
  return std::nullopt;
}

std::optional<InputError> ParseUrl(std::string_view text, ParsedUrl* url) {
  Problem problem = ParseUrlParts(text, url);
  if (problem != nullptr) return InputError{"BAD_URL", "url", problem};
  return std::nullopt;
}

std::string OtherSpelling(std::string_view canonical) {
  const size_t colon = canonical.rfind(':');
  std::string other = WithoutRootDot(canonical);
  if (other.size() < canonical.size()) return other;
  const size_t host = canonical.find("//") + 2;
  if (!IsDnsName(canonical.substr(host, colon - host))) return "";
  return other.insert(colon, ".");
}

std::string WithoutRootDot(std::string_view text) {
  const size_t end = std::min(text.rfind(':'), text.size());
  std::string out(text);
  if (end > 0 && out[end - 1] == '.') out.erase(end - 1, 1);
  return out;
}

bool IsDnsName(std::string_view text) {
  return CheckName(text) == nullptr &&
         !IsNumeric(text.substr(text.rfind('.') + 1));
}

}  // namespace hotline
