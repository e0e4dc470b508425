// Finds where a block of header lines ends, in bytes that arrive in pieces.
#ifndef HOTLINE_UPSTREAM_CODEC_HEADER_SCANNER_H_
#define HOTLINE_UPSTREAM_CODEC_HEADER_SCANNER_H_

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string_view>

namespace hotline::upstream {

// Looks at line ends only, and at each byte once however many pieces there are.
// What it says depends on the bytes alone, not on the pieces.
class HeaderScanner {
 public:
  // Lines in one block; a cap on what 64 KiB of tiny headers can cost.
  static constexpr size_t kMaxLines = 1000;

  enum class Result {
    kMore,  // The block is not whole yet.
    kEnd,   // size() and lines() are right.
    kBad,   // See problem().
  };

  // `limit`: most bytes of a block, the empty line at its end included.
  explicit HeaderScanner(size_t limit) : limit_(limit) {}

  // `bytes` begins with the block's first byte: the bytes of the call before,
  // and maybe more.
  Result Scan(std::string_view bytes) {
    const size_t window = std::min(bytes.size(), limit_);
    while (line_ < window) {
      if (bytes[line_] == ' ' || bytes[line_] == '\t') {
        return Bad("a line begins with white space");
      }
      const void* found =
          std::memchr(bytes.data() + seen_, '\n', window - seen_);
      if (found == nullptr) {
        seen_ = window;
        break;
      }
      const size_t lf = static_cast<const char*>(found) - bytes.data();
      if (lf == line_ || bytes[lf - 1] != '\r') {
        return Bad("a line ends with a bare LF");
      }
      const bool empty = lf == line_ + 1;
      line_ = seen_ = lf + 1;
      if (empty) return Result::kEnd;
      if (++lines_ > kMaxLines) return Bad("too many lines");
    }
    return bytes.size() < limit_ ? Result::kMore : Bad("too many bytes");
  }

  // Bytes of the block, the empty line included.
  size_t size() const { return line_; }
  // Lines of the block, the empty one not counted.
  size_t lines() const { return lines_; }
  const char* problem() const { return problem_; }

 private:
  Result Bad(const char* problem) {
    problem_ = problem;
    return Result::kBad;
  }

  size_t limit_;
  size_t line_ = 0;  // Where the current line begins.
  size_t seen_ = 0;  // No LF between line_ and here.
  size_t lines_ = 0;
  const char* problem_ = "";
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_CODEC_HEADER_SCANNER_H_
