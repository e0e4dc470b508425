// Writes lines to a descriptor from a thread of its own, so that a stalled
// reader (a full pipe, a paused terminal, a slow disk) does not delay the
// threads that log. The descriptor is not made non-blocking: that would affect
// every process that shares it.
//
// Lines wait in a bounded queue. Lines that do not fit are dropped and counted;
// once the descriptor accepts lines again, a line in their place reports how
// many are missing. The others keep their order.
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

  // `line` ends in '\n' and has at most PIPE_BUF bytes, so that a pipe accepts
  // it as a whole. The first call starts the thread. Never waits for the
  // descriptor.
  void Add(std::string_view line);

  // Waits until all lines added before have been written or lost, for at most
  // `bound`. False: some are still queued. May be called from a signal handler.
  bool Flush(Duration bound) const;

  // Lines that did not fit into the queue or could not be written.
  uint64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }

 private:
  void StartThreadLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Run();
  // Takes the queued lines, and the number of lines dropped after them. False:
  // the writer is being destroyed and nothing is queued.
  bool TakeBatch(std::string* batch, uint64_t* missing);
  // Returns how many of the lines could not be written.
  uint64_t WriteLines(std::string_view lines);
  // Returns the bytes that could not be written.
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

  // Used by the thread only: the last line was written in part.
  bool torn_ = false;

  // Since the start: bytes added; of these, written or lost; lines dropped.
  std::atomic<uint64_t> added_{0};
  std::atomic<uint64_t> settled_{0};
  std::atomic<uint64_t> dropped_{0};
};

}  // namespace hotline

#endif  // HOTLINE_BASE_LOG_WRITER_H_
