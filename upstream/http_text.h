// Small questions about HTTP's words. Case is ASCII's, whatever the locale.
#ifndef HOTLINE_UPSTREAM_HTTP_TEXT_H_
#define HOTLINE_UPSTREAM_HTTP_TEXT_H_

#include <algorithm>
#include <string_view>

namespace hotline::upstream {

inline char ToLower(char c) {
  return c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c;
}

inline bool EqualsIgnoringCase(std::string_view text, std::string_view lower) {
  return std::equal(text.begin(), text.end(), lower.begin(), lower.end(),
                    [](char a, char b) { return ToLower(a) == b; });
}

// Whether a request says how long its body is even when there is none.
inline bool MeantToHaveBody(std::string_view method) {
  return method == "POST" || method == "PUT" || method == "PATCH";
}

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_HTTP_TEXT_H_
