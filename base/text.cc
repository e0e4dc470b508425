#include "base/text.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace hotline {
namespace {

uint8_t Byte(std::string_view text, size_t i) {
  return static_cast<uint8_t>(text[i]);
}

// The length of a character by its first byte; 0: no character begins with it.
size_t LengthFor(uint8_t first) {
  if (first < 0x80) return 1;
  if ((first & 0xe0) == 0xc0) return 2;
  if ((first & 0xf0) == 0xe0) return 3;
  if ((first & 0xf8) == 0xf0) return 4;
  return 0;
}

// The first character of `text` and its length in bytes; 0: it is invalid.
struct Character {
  size_t length = 0;
  uint32_t point = 0;
};

// REQUIRES: !text.empty().
Character First(std::string_view text) {
  const uint8_t first = Byte(text, 0);
  const size_t length = LengthFor(first);
  if (length == 1) return {1, first};
  if (length == 0 || text.size() < length) return {};
  uint32_t point = first & (0xff >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    if ((Byte(text, i) & 0xc0) != 0x80) return {};
    point = point << 6 | (Byte(text, i) & 0x3f);
  }
  constexpr uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = point >= 0xd800 && point <= 0xdfff;
  if (point < kLeast[length] || surrogate || point > 0x10ffff) return {};
  return {length, point};
}

// The number of leading ASCII bytes, in whole words: nearly all text is ASCII.
size_t AsciiWords(std::string_view text) {
  size_t i = 0;
  for (; i + sizeof(uint64_t) <= text.size(); i += sizeof(uint64_t)) {
    uint64_t word;
    std::memcpy(&word, text.data() + i, sizeof word);
    if ((word & 0x8080808080808080u) != 0) break;
  }
  return i;
}

size_t ValidPrefix(std::string_view text) {
  size_t at = AsciiWords(text);
  while (at < text.size()) {
    const size_t length = First(text.substr(at)).length;
    if (length == 0) break;
    at += length;
  }
  return at;
}

// Moves a terminal's cursor, ends a line, or changes the direction of text.
bool IsUnsafe(uint32_t point) {
  return point < 0x20 || (point >= 0x7f && point <= 0x9f) || point == 0x61c ||
         point == 0x200e || point == 0x200f ||
         (point >= 0x2028 && point <= 0x202e) ||
         (point >= 0x2066 && point <= 0x206f) || point == 0xfeff ||
         (point >= 0xfff9 && point <= 0xfffb);
}

void AppendHex(std::string* out, std::string_view prefix, uint32_t value,
               int digits) {
  *out += prefix;
  for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4) {
    *out += "0123456789abcdef"[value >> shift & 0xf];
  }
}

void AppendUnsafe(std::string* out, uint32_t point) {
  switch (point) {
    case '\n':
      *out += "\\n";
      return;
    case '\r':
      *out += "\\r";
      return;
    case '\t':
      *out += "\\t";
      return;
    default:
      AppendHex(out, "\\u", point, 4);
  }
}

// Whether kLines leaves it unescaped although it IsUnsafe.
bool IsLayout(std::string_view text) {
  return text[0] == '\n' || text[0] == '\t' || text.starts_with("\r\n");
}

}  // namespace

bool IsUtf8(std::string_view text) { return ValidPrefix(text) == text.size(); }

std::string ToUtf8(std::string text) {
  size_t at = ValidPrefix(text);
  if (at == text.size()) return text;
  std::string out;
  for (size_t done = 0; done < text.size();) {
    out.append(text, done, at - done);
    done = at;
    if (done == text.size()) break;
    out += "\xef\xbf\xbd";
    ++done;
    at = done + ValidPrefix(std::string_view(text).substr(done));
  }
  return out;
}

std::string_view CutUtf8(std::string_view text, size_t bytes) {
  if (text.size() <= bytes) return text;
  size_t end = bytes;
  // A character has at most three continuation bytes.
  while (end > 0 && bytes - end < 3 && (Byte(text, end) & 0xc0) == 0x80) --end;
  return text.substr(0, end);
}

void AppendEscaped(std::string* out, std::string_view text, Escape how,
                   size_t most) {
  const size_t start = out->size();
  const bool quoted = how == Escape::kQuoted || how == Escape::kJson;
  while (!text.empty()) {
    if (out->size() - start >= most) {
      *out += "...";
      return;
    }
    const Character character = First(text);
    const size_t length = std::max<size_t>(character.length, 1);
    if (character.length == 0) {
      if (how == Escape::kJson) {
        *out += "\\ufffd";
      } else {
        AppendHex(out, "\\x", Byte(text, 0), 2);
      }
    } else if (IsUnsafe(character.point) &&
               !(how == Escape::kLines && IsLayout(text))) {
      AppendUnsafe(out, character.point);
    } else {
      if (quoted && (text[0] == '"' || text[0] == '\\')) *out += '\\';
      *out += text.substr(0, length);
    }
    text.remove_prefix(length);
  }
}

std::string Printable(std::string_view text) {
  std::string out;
  AppendEscaped(&out, text, Escape::kLine);
  return out;
}

size_t UnfinishedEnd(std::string_view text) {
  if (text.ends_with('\r')) return 1;
  for (size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const uint8_t byte = Byte(text, text.size() - back);
    if ((byte & 0xc0) == 0x80) continue;
    return LengthFor(byte) > back ? back : 0;
  }
  return 0;
}

}  // namespace hotline
