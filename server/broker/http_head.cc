#include "server/broker/http_head.h"

#include <algorithm>

namespace hotline::server {
namespace {

constexpr size_t kMaxMethodBytes = 64;

// Headers that the connection or Hotline sets. By length, so that most headers
// that are allowed need no comparison.
bool IsOwned(std::string_view name) {
  const auto is = [name](std::string_view owned) {
    return EqualsIgnoringCase(name, owned);
  };
  switch (name.size()) {
    case 2:
      return is("te");
    case 6:
      return is("expect");
    case 7:
      return is("trailer") || is("upgrade");
    case 10:
      return is("connection") || is("keep-alive");
    case 14:
      return is("content-length");
    case 16:
      return is("proxy-connection");
    case 17:
      return is("transfer-encoding");
    default:
      return false;
  }
}

// With or without the default port, and with or without a dot at the end of the
// name. (The URL's authority is what is sent.)
bool IsSameHost(std::string_view host, const ParsedUrl& url) {
  if (EqualsIgnoringCase(host, url.authority)) return true;
  const std::string_view canonical = url.target.canonical;
  const std::string whole =
      WithoutRootDot(canonical.substr(canonical.find("//") + 2));
  const std::string bare = WithoutRootDot(host);
  return EqualsIgnoringCase(bare, url.authority) ||
         EqualsIgnoringCase(bare, whole);
}

bool IsLowerHex(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
  });
}

bool IsZero(std::string_view text) {
  return text.find_first_not_of('0') == std::string_view::npos;
}

}  // namespace

std::optional<HeaderFault> CheckHeader(std::string_view name,
                                       std::string_view value,
                                       const ParsedUrl& url) {
  if (!IsToken(name)) return HeaderFault{false, "not a header's name"};
  if (IsOwned(name)) {
    return HeaderFault{false, "Hotline or the connection sets this header"};
  }
  if (!IsFieldValue(value)) {
    return HeaderFault{true, "has a control character other than a tab"};
  }
  if (name.size() == 4 && EqualsIgnoringCase(name, "host") &&
      !IsSameHost(value, url)) {
    return HeaderFault{true, "Host must be what the URL says"};
  }
  return std::nullopt;
}

bool IsTraceparent(std::string_view text) {
  // version "-" trace-id "-" parent-id "-" trace-flags
  constexpr size_t kSize = 55;
  constexpr size_t kMost = 128;
  if (text.size() < kSize || text.size() > kMost) return false;
  const std::string_view version = text.substr(0, 2);
  const std::string_view trace = text.substr(3, 32);
  const std::string_view parent = text.substr(36, 16);
  const std::string_view flags = text.substr(53, 2);
  if (text[2] != '-' || text[35] != '-' || text[52] != '-' ||
      !IsLowerHex(version) || !IsLowerHex(trace) || !IsLowerHex(parent) ||
      !IsLowerHex(flags) || version == "ff" || IsZero(trace) ||
      IsZero(parent)) {
    return false;
  }
  const std::string_view rest = text.substr(kSize);
  if (rest.empty()) return true;
  // Later versions may append fields.
  return version != "00" && rest[0] == '-' && IsVisibleAscii(rest);
}

std::optional<InputError> ValidateMethod(std::string_view method) {
  const char* problem = method.empty()                    ? nullptr
                        : method.size() > kMaxMethodBytes ? "at most 64 bytes"
                        : !IsToken(method)                ? "not a token"
                        : EqualsIgnoringCase(method, "connect")
                            ? "CONNECT is refused"
                            : nullptr;
  if (problem == nullptr) return std::nullopt;
  return InputError{"BAD_METHOD", "method", problem};
}

}  // namespace hotline::server
