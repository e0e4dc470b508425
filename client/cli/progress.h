// A line on a terminal that shows the progress of a transfer.
#ifndef HOTLINE_CLIENT_CLI_PROGRESS_H_
#define HOTLINE_CLIENT_CLI_PROGRESS_H_

#include <cstdint>
#include <optional>
#include <ostream>
#include <string>

#include "base/time.h"

namespace hotline::client {

// "12.3 MiB".
std::string FormatBytes(double bytes);

// The line, with a bar if the total is known. At most `width` columns, at least
// 20.
std::string FormatProgress(uint64_t done, std::optional<uint64_t> whole,
                           Duration since, int width);

// Redraws the line at most ten times a second, and finally removes it.
class Progress {
 public:
  // Null: draws nothing.
  explicit Progress(std::ostream* terminal) : terminal_(terminal) {}
  ~Progress() { Clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void Start(std::optional<uint64_t> whole, Instant now);
  void Update(uint64_t done, Instant now);
  void Clear();

 private:
  std::ostream* const terminal_;
  std::optional<uint64_t> whole_;
  Instant start_{};
  Instant drawn_{};
  bool shown_ = false;
};

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_CLI_PROGRESS_H_
