#include "base/text.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "gtest/gtest.h"

namespace hotline {
namespace {

// Invalid UTF-8, one sample for each check of a decoder.
const std::string kInvalid[] = {
    "\xff",         "\x80",         "\xc3",         "\xc0\x80",
    "\xe2\x82",     "\xed\xa0\x80", "\xf0\x9f\x98", "\xf4\x90\x80\x80",
    "\xf8\x88\x80", "\xc3(",        "\xe0\x80\x80", "\xf0\x80\x80\x80"};

TEST(TextTest, InvalidBytesAreFoundWhereverTheyAre) {
  for (const std::string& bytes : kInvalid) {
    for (size_t before = 0; before < 20; ++before) {
      const std::string text = std::string(before, 'a') + bytes + "bcdefghijk";
      EXPECT_FALSE(IsUtf8(text)) << before;
      const std::string fixed = ToUtf8(text);
      EXPECT_TRUE(IsUtf8(fixed)) << before;
      EXPECT_TRUE(fixed.starts_with(std::string(before, 'a') + "\uFFFD"));
      EXPECT_TRUE(fixed.ends_with("bcdefghijk"));
    }
  }
  EXPECT_EQ(ToUtf8("a\xff\xfez\xc3"), "a\uFFFD\uFFFDz\uFFFD");
}

TEST(TextTest, ValidTextStaysAsItIs) {
  for (const std::string text : {"", "plain", "h\u00e9\u65e5 \U0001f525",
                                 "0123456789\u00e9abcdefghij"}) {
    EXPECT_TRUE(IsUtf8(text));
    EXPECT_EQ(ToUtf8(text), text);
    EXPECT_EQ(Printable(text), text);
  }
}

TEST(TextTest, TruncationKeepsCharactersWhole) {
  const std::string text = "a\u00e9\u65e5\U0001f525";
  for (size_t bytes = 0; bytes <= text.size() + 1; ++bytes) {
    const std::string_view cut = CutUtf8(text, bytes);
    EXPECT_TRUE(IsUtf8(cut)) << bytes;
    EXPECT_LE(cut.size(), bytes);
    EXPECT_GT(cut.size() + 4, std::min(bytes, text.size()));
    EXPECT_TRUE(text.starts_with(cut));
  }
}

TEST(TextTest, ControlCharactersAreEscaped) {
  EXPECT_EQ(Printable("\x1b]0;x\x07\r\n\t"), "\\u001b]0;x\\u0007\\r\\n\\t");
  EXPECT_EQ(Printable(std::string("\0\x7f", 2)), "\\u0000\\u007f");
  EXPECT_EQ(Printable("\u009b2J\u0085"), "\\u009b2J\\u0085");
  EXPECT_EQ(Printable("\x9b\xff"), "\\x9b\\xff");
  for (const char* const mark :
       {"\u061c", "\u200e", "\u200f", "\u2028", "\u2029", "\u202a", "\u202e",
        "\u2066", "\u2069", "\ufeff"}) {
    EXPECT_EQ(Printable(mark).substr(0, 2), "\\u") << mark;
  }
}

TEST(TextTest, EachFormatHasItsEscapes) {
  const auto escaped = [](std::string_view text, Escape how) {
    std::string out;
    AppendEscaped(&out, text, how);
    return out;
  };
  const std::string text = "a\"\\\xff\n\x1b";
  EXPECT_EQ(escaped(text, Escape::kLine), "a\"\\\\xff\\n\\u001b");
  EXPECT_EQ(escaped(text, Escape::kQuoted), "a\\\"\\\\\\xff\\n\\u001b");
  EXPECT_EQ(escaped(text, Escape::kJson), "a\\\"\\\\\\ufffd\\n\\u001b");
  EXPECT_EQ(escaped("a\r\nb\tc\rd\x1b", Escape::kLines),
            "a\r\nb\tc\\rd\\u001b");
}

TEST(TextTest, PiecesAreEscapedAsTheWholeIs) {
  const std::string text =
      "a\r\n\u00e9\u65e5\U0001f525\x1b\u009b\xffz\rb\xe2\x82";
  std::string whole;
  AppendEscaped(&whole, text, Escape::kLines);
  for (size_t first = 0; first <= text.size(); ++first) {
    std::string out;
    std::string rest;
    for (const std::string& piece :
         {text.substr(0, first), text.substr(first)}) {
      const std::string all = rest + piece;
      const size_t end = all.size() - UnfinishedEnd(all);
      AppendEscaped(&out, std::string_view(all).substr(0, end), Escape::kLines);
      rest = all.substr(end);
    }
    AppendEscaped(&out, rest, Escape::kLines);
    EXPECT_EQ(out, whole) << first;
  }
}

}  // namespace
}  // namespace hotline
