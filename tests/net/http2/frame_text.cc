#include "tests/net/http2/frame_text.h"

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include "gtest/gtest.h"
#include "tests/fakes/rows.h"

namespace hotline::net {
namespace {

using ::hotline::testing::Unescape;

struct Name {
  std::string_view text;
  uint32_t value;
};

constexpr Name kTypes[] = {
    {"DATA", NGHTTP2_DATA},
    {"HEADERS", NGHTTP2_HEADERS},
    {"PRIORITY", NGHTTP2_PRIORITY},
    {"RST_STREAM", NGHTTP2_RST_STREAM},
    {"SETTINGS", NGHTTP2_SETTINGS},
    {"PUSH_PROMISE", NGHTTP2_PUSH_PROMISE},
    {"PING", NGHTTP2_PING},
    {"GOAWAY", NGHTTP2_GOAWAY},
    {"WINDOW_UPDATE", NGHTTP2_WINDOW_UPDATE},
    {"CONTINUATION", NGHTTP2_CONTINUATION},
};
constexpr Name kFlags[] = {
    {"ack", kAck},
    {"end_stream", kEndStream},
    {"end_headers", kEndHeaders},
    {"padded", kPadded},
    {"priority", kPriority},
};

template <size_t N>
std::optional<uint32_t> Find(const Name (&names)[N], std::string_view word) {
  for (const Name& name : names) {
    if (name.text == word) return name.value;
  }
  return std::nullopt;
}

std::optional<uint32_t> Number(std::string_view word) {
  const bool hexadecimal = word.starts_with("0x");
  if (hexadecimal) word.remove_prefix(2);
  uint32_t number = 0;
  const char* const end = word.data() + word.size();
  const auto result =
      std::from_chars(word.data(), end, number, hexadecimal ? 16 : 10);
  if (result.ec != std::errc() || result.ptr != end) return std::nullopt;
  return number;
}

// Adds a part that is one word. False: it is none.
bool AddWord(std::string_view word, uint8_t* flags, std::string* payload) {
  if (const auto flag = Find(kFlags, word)) {
    *flags |= *flag;
    return true;
  }
  if (const auto code = ErrorCode(word)) {
    *payload += Bytes(*code, 4);
    return true;
  }
  const size_t equals = word.find('=');
  const auto value =
      Number(equals == word.npos ? word : word.substr(equals + 1));
  if (!value) return false;
  if (equals == word.npos) {
    *payload += Bytes(*value, 4);
    return true;
  }
  const std::string_view name = word.substr(0, equals);
  if (name == "flags") {
    *flags = static_cast<uint8_t>(*value);
    return true;
  }
  const auto setting = Number(name);
  if (setting) *payload += Bytes(*setting, 2) + Bytes(*value, 4);
  return setting.has_value();
}

class TextReader {
 public:
  explicit TextReader(std::string_view text) : text_(text), left_(text) {}

  std::string Read() {
    std::string bytes;
    for (SkipBlanks(); !left_.empty(); SkipBlanks()) {
      bytes += left_[0] == '"' ? ReadText() : ReadFrame();
    }
    return bytes;
  }

 private:
  std::string ReadFrame() {
    const std::string_view name = ReadWord();
    auto type = Find(kTypes, name);
    if (!type) type = Number(name);
    if (!type || !Take('(')) return Fail();
    const auto stream = Number(ReadWord());
    if (!stream) return Fail();
    uint8_t flags = kNoFlag;
    std::string payload;
    for (SkipBlanks(); !Take(')'); SkipBlanks()) {
      if (left_.starts_with('"')) {
        payload += ReadText();
      } else if (left_.starts_with('[')) {
        payload += Block(ParseFields(ReadUntil(']')));
      } else if (!AddWord(ReadWord(), &flags, &payload)) {
        return Fail();
      }
    }
    return Frame(static_cast<uint8_t>(*type), flags, *stream, payload);
  }

  std::string ReadText() {
    size_t end = 1;
    while (end < left_.size() && left_[end] != '"') {
      end += left_[end] == '\\' ? 2 : 1;
    }
    if (end >= left_.size()) return Fail();
    const std::string_view text = left_.substr(1, end - 1);
    left_.remove_prefix(end + 1);
    return Unescape(text);
  }

  // What is between a bracket and `end`.
  std::string_view ReadUntil(char end) {
    const size_t size = left_.find(end);
    if (size == left_.npos) return Fail();
    const std::string_view inner = left_.substr(1, size - 1);
    left_.remove_prefix(size + 1);
    return inner;
  }

  std::string_view ReadWord() {
    const std::string_view word = left_.substr(0, left_.find_first_of(" ()"));
    left_.remove_prefix(word.size());
    return word;
  }

  bool Take(char c) {
    if (!left_.starts_with(c)) return false;
    left_.remove_prefix(1);
    return true;
  }

  void SkipBlanks() {
    while (Take(' ')) {
    }
  }

  // Ends the reading.
  const char* Fail() {
    ADD_FAILURE() << "no frames at byte " << text_.size() - left_.size()
                  << " of: " << text_.substr(0, 1000);
    left_ = {};
    return "";
  }

  const std::string_view text_;
  std::string_view left_;
};

}  // namespace

std::optional<uint32_t> ErrorCode(std::string_view name) {
  for (uint32_t code = 0; code <= NGHTTP2_HTTP_1_1_REQUIRED; ++code) {
    if (name == nghttp2_http2_strerror(code)) return code;
  }
  return std::nullopt;
}

std::string ParseFrames(std::string_view text) {
  return TextReader(text).Read();
}

FieldList ParseFields(std::string_view text) {
  constexpr std::string_view kBetween = "; ";
  FieldList fields;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(kBetween, begin), text.size());
    const std::string_view field = text.substr(begin, end - begin);
    begin = end + kBetween.size();
    const size_t equals = field.find('=');
    if (field == "POST") {
      for (const auto& part : PostFields()) fields.push_back(part);
    } else if (equals != field.npos) {
      fields.emplace_back(Unescape(field.substr(0, equals)),
                          Unescape(field.substr(equals + 1)));
    } else {
      EXPECT_TRUE(field.size() == 3 && Number(field)) << text.substr(0, 1000);
      fields.emplace_back(":status", field);
    }
  }
  return fields;
}

}  // namespace hotline::net
