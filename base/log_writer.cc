#include "base/log_writer.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace hotline {
namespace {

// The leading lines that a pipe accepts in one write without splitting them.
std::string_view FirstWrite(std::string_view lines) {
  if (lines.size() <= PIPE_BUF) return lines;
  const size_t end = lines.rfind('\n', PIPE_BUF - 1);
  return lines.substr(0, end == std::string_view::npos ? PIPE_BUF : end + 1);
}

}  // namespace

LogWriter::LogWriter(Options options) : options_(options) {}

LogWriter::~LogWriter() {
  bool has_thread;
  {
    MutexLock lock(&mu_);
    stopping_ = true;
    has_thread = has_thread_;
  }
  wake_.notify_one();
  if (has_thread) pthread_join(thread_, nullptr);
}

void LogWriter::Add(std::string_view line) {
  bool wake = false;
  {
    MutexLock lock(&mu_);
    if (queued_.size() + line.size() > options_.max_queued_bytes) {
      ++missing_;
      dropped_.fetch_add(1, std::memory_order_relaxed);
      return;
    }
    queued_ += line;
    added_.fetch_add(line.size(), std::memory_order_relaxed);
    if (!has_thread_) StartThreadLocked();
    wake = std::exchange(idle_, false);
  }
  if (wake) wake_.notify_one();
}

// If no thread can be created, the lines wait for the next attempt.
void LogWriter::StartThreadLocked() {
  // Blocks all signals in this thread: the process handles them in another one.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const auto run = [](void* self) -> void* {
    pthread_setname_np(pthread_self(), "hotline-log");
    static_cast<LogWriter*>(self)->Run();
    return nullptr;
  };
  has_thread_ = pthread_create(&thread_, nullptr, run, this) == 0;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

bool LogWriter::Flush(Duration bound) const {
  // Polled, because a signal handler may neither lock nor wait for a condition.
  const uint64_t end = added_.load();
  const Instant until = MonotonicNow() + bound;
  while (settled_.load() < end) {
    if (MonotonicNow() >= until) return false;
    const timespec step = {.tv_sec = 0, .tv_nsec = 1'000'000};
    nanosleep(&step, nullptr);
  }
  return true;
}

void LogWriter::Run() {
  std::string batch;
  uint64_t missing = 0;
  while (TakeBatch(&batch, &missing)) {
    uint64_t lost = WriteLines(batch);
    dropped_.fetch_add(lost, std::memory_order_relaxed);
    if (missing > 0 && !Write(options_.dropped_line(missing)).empty()) {
      lost += missing;  // To be reported later.
    }
    settled_.fetch_add(batch.size());
    batch.clear();
    if (lost > 0) {
      MutexLock lock(&mu_);
      missing_ += lost;
    }
  }
}

bool LogWriter::TakeBatch(std::string* batch, uint64_t* missing) {
  MutexLock lock(&mu_);
  while (queued_.empty() && !stopping_) {
    idle_ = true;
    lock.Wait(&wake_);
  }
  idle_ = false;
  if (queued_.empty()) return false;
  batch->swap(queued_);
  *missing = std::exchange(missing_, 0);
  return true;
}

uint64_t LogWriter::WriteLines(std::string_view lines) {
  uint64_t lost = 0;
  while (!lines.empty()) {
    const std::string_view some = FirstWrite(lines);
    const std::string_view left = Write(some);
    lost += std::count(left.begin(), left.end(), '\n');
    lines.remove_prefix(some.size());
  }
  return lost;
}

std::string_view LogWriter::Write(std::string_view bytes) {
  if (torn_) {
    // Otherwise the next line would look like the rest of the torn one.
    torn_ = false;
    torn_ = !Write("\n").empty();
    if (torn_) return bytes;
  }
  while (!bytes.empty()) {
    const ssize_t size = write(options_.fd, bytes.data(), bytes.size());
    if (size > 0) {
      torn_ = bytes[size - 1] != '\n';
      bytes.remove_prefix(size);
    } else if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      // Another process that shares the descriptor has made it non-blocking.
      pollfd room{.fd = options_.fd, .events = POLLOUT, .revents = 0};
      poll(&room, 1, -1);
    } else if (size == 0 || errno != EINTR) {
      break;  // The reader is gone, or the disk is full.
    }
  }
  return bytes;
}

}  // namespace hotline
