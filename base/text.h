// Text from callers, upstreams and files, which may contain any bytes:
// converted to valid UTF-8 to be sent on, or escaped to be displayed.
//
// Thread safety: pure functions.
#ifndef HOTLINE_BASE_TEXT_H_
#define HOTLINE_BASE_TEXT_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace hotline {

// Valid UTF-8: no overlong form, no surrogate, nothing above U+10FFFF.
bool IsUtf8(std::string_view text);

// Returns `text` with each byte that is not part of a character replaced by
// U+FFFD. A `string` field of a protobuf message must be UTF-8: with any other
// bytes the receiver rejects the whole message. Valid text is moved, not
// copied.
std::string ToUtf8(std::string text);

// Returns at most the first `bytes` bytes, cut between two characters.
std::string_view CutUtf8(std::string_view text, size_t bytes);

enum class Escape : uint8_t {
  kLine,    // For one line: "\n", "\u001b", "\x80".
  kLines,   // The same, but \n, \r\n and \t stay as they are.
  kQuoted,  // kLine, for use in quotes: " and \ are escaped, too.
  kJson,    // The contents of a JSON string: an invalid byte is \ufffd.
};

// Appends `text` in a form that a terminal or a parser does not interpret.
// Escapes control characters (C0, DEL, C1), line and paragraph separators,
// bidirectional marks, and bytes that are not UTF-8. After about `most` bytes
// the rest is replaced by "...".
void AppendEscaped(std::string* out, std::string_view text, Escape how,
                   size_t most = SIZE_MAX);

// `text` escaped as kLine, for the output of a command, a page or a message.
std::string Printable(std::string_view text);

// `text` without leading and trailing spaces and tabs, which are not part of an
// HTTP field's value (RFC 9110, 5.5).
inline std::string_view Trimmed(std::string_view text) {
  constexpr std::string_view kBlank = " \t";
  const size_t first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

// Returns how many bytes at the end of `text` (at most 3) cannot be escaped
// without the bytes that follow: an incomplete character, or a \r. For text
// that arrives in pieces.
size_t UnfinishedEnd(std::string_view text);

}  // namespace hotline

#endif  // HOTLINE_BASE_TEXT_H_
