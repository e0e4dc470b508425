// The characters of an HTTP message's parts (RFC 9110): for the code that takes
// them from a caller, and for the code that writes them. Case is ASCII's,
// whatever the locale.
#ifndef HOTLINE_BASE_HTTP_CHARS_H_
#define HOTLINE_BASE_HTTP_CHARS_H_

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace hotline {
namespace http_chars {

enum : uint8_t { kToken = 1, kFieldValue = 2, kVisible = 4 };

constexpr std::array<uint8_t, 256> MakeClasses() {
  std::array<uint8_t, 256> classes{};
  for (int c = 0; c < 256; ++c) {
    const int lower = c >= 'A' && c <= 'Z' ? c + 32 : c;
    const bool alnum = (c >= '0' && c <= '9') || (lower >= 'a' && lower <= 'z');
    if (alnum) classes[c] |= kToken;
    if (c > 0x20 && c < 0x7f) classes[c] |= kVisible;
    if ((c >= 0x20 && c != 0x7f) || c == '\t') classes[c] |= kFieldValue;
  }
  for (char c : std::string_view("!#$%&'*+-.^_`|~")) {
    classes[static_cast<unsigned char>(c)] |= kToken;
  }
  return classes;
}

inline constexpr std::array<uint8_t, 256> kClasses = MakeClasses();

constexpr bool AllAre(std::string_view text, uint8_t bits) {
  uint8_t common = bits;
  for (char c : text) common &= kClasses[static_cast<unsigned char>(c)];
  return common == bits;
}

}  // namespace http_chars

// A token of RFC 9110: a method or a header name.
constexpr bool IsToken(std::string_view text) {
  return !text.empty() && http_chars::AllAre(text, http_chars::kToken);
}

// A header's value: no control characters except tab. Bytes above ASCII are
// allowed, and so are leading and trailing blanks.
constexpr bool IsFieldValue(std::string_view text) {
  return http_chars::AllAre(text, http_chars::kFieldValue);
}

// Without white space, control characters and bytes above ASCII.
constexpr bool IsVisibleAscii(std::string_view text) {
  return http_chars::AllAre(text, http_chars::kVisible);
}

constexpr char ToLower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
}

inline std::string LowerCase(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(), ToLower);
  return lower;
}

constexpr bool EqualsIgnoringCase(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return ToLower(x) == ToLower(y); });
}

}  // namespace hotline

#endif  // HOTLINE_BASE_HTTP_CHARS_H_
