// The line before a chunk: its size, and extensions nobody needs.
#ifndef HOTLINE_UPSTREAM_CODEC_CHUNK_LINE_H_
#define HOTLINE_UPSTREAM_CODEC_CHUNK_LINE_H_

#include <algorithm>
#include <cstddef>
#include <string_view>

namespace hotline::upstream {

// What the bytes at a chunk's beginning say. The size itself and the grammar of
// the extensions are the parser's; this finds the line and what is wrong with
// its form.
struct ChunkLine {
  static constexpr size_t kMaxBytes = 4096;

  size_t size = 0;       // With its line break; 0: more bytes are needed.
  size_t extension = 0;  // Bytes behind the chunk's size.
  bool last = false;     // The chunk's size is zero.
  const char* problem = nullptr;
};

inline ChunkLine FindChunkLine(std::string_view bytes) {
  const auto is_hex = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') ||
           (c >= 'A' && c <= 'F');
  };
  const auto is_control = [](char c) {
    return (static_cast<unsigned char>(c) < ' ' && c != '\t') || c == 0x7f;
  };
  ChunkLine found;
  const std::string_view window = bytes.substr(0, ChunkLine::kMaxBytes);
  const size_t lf = window.find('\n');
  if (lf == std::string_view::npos) {
    if (window.size() == ChunkLine::kMaxBytes) found.problem = "line too long";
    return found;
  }
  if (lf == 0 || window[lf - 1] != '\r') {
    found.problem = "bare LF";
    return found;
  }
  const std::string_view line = window.substr(0, lf - 1);
  const size_t digits =
      std::find_if_not(line.begin(), line.end(), is_hex) - line.begin();
  const char after = digits < line.size() ? line[digits] : ';';
  if (digits == 0 || (after != ';' && after != ' ' && after != '\t') ||
      std::any_of(line.begin(), line.end(), is_control)) {
    found.problem = "malformed line";
    return found;
  }
  found.size = lf + 1;
  found.extension = line.size() - digits;
  found.last = line.find_first_not_of('0') >= digits;
  return found;
}

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_CODEC_CHUNK_LINE_H_
