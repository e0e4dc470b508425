// Writes lines to a descriptor from a thread of its own, so that a reader that
// stands still (a full pipe, a paused terminal, a slow disk) delays nobody who
// logs. The descriptor is not made non-blocking: that would be seen by every
// process that shares it.
//
// Lines wait in a queue of bounded size. What does not fit is dropped and
// counted; when the descriptor takes lines again, a line in the place of those
// that are missing says how many. The others keep their order.
//
// Thread safety: everything may be called from any thread.
#ifndef HOTLINE_BASE_LOG_WRITER_H_
#define HOTLINE_BASE_LOG_WRITER_H_

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/mutex.h"
#include "base/time.h"

namespace hotline {

class LogWriter {
 public:
  struct Options {
    int fd = 2;
    size_t max_queued_bytes = 1 << 20;
    // The line, with its end, that reports dropped ones. Required.
    std::string (*dropped_line)(uint64_t count) = nullptr;
  };

  explicit LogWriter(Options options);
  // Waits until the lines have been written or lost.
  ~LogWriter();
  LogWriter(const LogWriter&) = delete;
  LogWriter& operator=(const LogWriter&) = delete;

  // `line` ends in '\n' and is at most PIPE_BUF bytes long, so that a pipe
  // takes it as a whole. Starts the thread the first time. Never waits for the
  // descriptor.
  void Add(std::string_view line);

  // Waits until the lines added before have been written or lost, for `bound`
  // at most. False: some still wait. May be called from a signal handler.
  bool Flush(Duration bound) const;

  // Lines that were dropped for want of room or could not be written.
  uint64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }

 private:
  void StartThreadLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Run();
  // Sets aside the lines that wait, and how many were dropped after them.
  // False: the end.
  bool TakeBatch(std::string* batch, uint64_t* missing);
  // Returns how many of the lines could not be written.
  uint64_t WriteLines(std::string_view lines);
  // Returns what could not be written.
  std::string_view Write(std::string_view bytes);

  const Options options_;

  Mutex mu_;
  std::condition_variable wake_;
  std::string queued_ ABSL_GUARDED_BY(mu_);
  uint64_t missing_ ABSL_GUARDED_BY(mu_) = 0;  // Dropped and not yet reported.
  bool idle_ ABSL_GUARDED_BY(mu_) = false;     // The thread waits.
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  bool has_thread_ ABSL_GUARDED_BY(mu_) = false;
  pthread_t thread_{};

  bool torn_ = false;  // Of the thread: the last line was written in part.

  // Bytes, since the start: added, and of those written or lost.
  std::atomic<uint64_t> added_{0};
  std::atomic<uint64_t> settled_{0};
  std::atomic<uint64_t> dropped_{0};
};

}  // namespace hotline

#endif  // HOTLINE_BASE_LOG_WRITER_H_
