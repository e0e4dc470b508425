#include "server/http_head.h"

#include <cstring>

namespace hotline::server {
namespace {

constexpr size_t kMaxMethodBytes = 64;

// Those that the connection or Hotline owns. By length: nearly every header
// that is allowed is told apart without a comparison.
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

// With or without the port that goes without saying, and the dot at the end of
// a name. (What is sent is the URL's authority.)
bool IsSameHost(std::string_view host, const ParsedUrl& url) {
  if (EqualsIgnoringCase(host, url.authority)) return true;
  const std::string_view canonical = url.target.canonical;
  const std::string whole =
      WithoutRootDot(canonical.substr(canonical.find("//") + 2));
  const std::string bare = WithoutRootDot(host);
  return EqualsIgnoringCase(bare, url.authority) ||
         EqualsIgnoringCase(bare, whole);
}

bool HasLineBreakOrNul(std::string_view value) {
  const auto has = [value](char c) {
    return std::memchr(value.data(), c, value.size()) != nullptr;
  };
  return !value.empty() && (has('\r') || has('\n') || has('\0'));
}

}  // namespace

std::optional<HeaderFault> CheckHeader(std::string_view name,
                                       std::string_view value,
                                       const ParsedUrl& url) {
  if (!IsToken(name)) return HeaderFault{false, "not a header's name"};
  if (IsOwned(name)) {
    return HeaderFault{false, "Hotline or the connection sets this header"};
  }
  if (HasLineBreakOrNul(value)) return HeaderFault{true, "has CR, LF or NUL"};
  if (name.size() == 4 && EqualsIgnoringCase(name, "host") &&
      !IsSameHost(value, url)) {
    return HeaderFault{true, "Host must be what the URL says"};
  }
  return std::nullopt;
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
