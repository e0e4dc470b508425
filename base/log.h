// The log: lines with a message and named fields, to standard error.
//
//   HOTLINE_LOG(kInfo, "listening", {{"address", address}, {"port", 50051}});
//
// gives, as text or as one JSON object,
//
//   2025-01-31T12:00:00.123Z info listening address=127.0.0.1 port=50051
//
// Logging never waits for the log's reader: a thread of the log's own writes
// the lines, from a queue of 1 MiB. Lines that do not fit are dropped and
// counted, and a line reports them once the reader reads again (log_writer.h).
// A line has at most kMaxLogLine bytes, which a pipe accepts in one piece, so
// lines of different threads and processes never mix. Lines that are queued
// when the process exits are written within kLogFlushTime, or lost; see
// FlushLogOnCrash for crashes.
//
// Control characters, line ends and bytes that are not UTF-8 are escaped
// (text.h), so a value from outside can neither forge a line nor control a
// terminal.
//
// Callers must not log secrets: no lease id, header value, body or query of a
// URL may be a field.
//
// Thread safety: everything here may be called from any thread.
#ifndef HOTLINE_BASE_LOG_H_
#define HOTLINE_BASE_LOG_H_

#include <atomic>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/time.h"

namespace hotline {

enum class LogLevel : uint8_t { kDebug, kInfo, kWarning, kError };
enum class LogFormat : uint8_t { kText, kJson };

// Longer lines are truncated and marked: a text line ends in "...", a JSON
// object has "truncated":true.
inline constexpr size_t kMaxLogLine = 4096;

// "debug", "info", "warning", "error".
std::string_view ToString(LogLevel level);
std::optional<LogLevel> ParseLogLevel(std::string_view name);
// "text", "json".
std::optional<LogFormat> ParseLogFormat(std::string_view name);

// Lines below `level` are not written, and their arguments not evaluated.
// Default: kInfo.
void SetLogLevel(LogLevel level);
LogLevel GetLogLevel();

// The level of lines that have a field "target" with this value, in place of
// the others' level. Replaces all that were set before.
using TargetLogLevels = std::vector<std::pair<std::string, LogLevel>>;
void SetTargetLogLevels(TargetLogLevels levels);

// Default: kText.
void SetLogFormat(LogFormat format);

// How long a process that exits or crashes waits for a stalled reader of its
// log.
inline constexpr Duration kLogFlushTime = std::chrono::seconds(1);

// Waits until all lines logged before have been written or lost, for at most
// `bound`. False: some are still queued. May be called from a signal handler.
bool FlushLog(Duration bound);

// Makes the process write queued lines, as at an exit, before it dies of an
// abort or a fault. Does not replace existing signal handlers.
void FlushLogOnCrash();

// Lines that were dropped or could not be written, since the start.
uint64_t LogLinesDropped();

// Receives each line, without its line end, instead of standard error; one call
// at a time. Null: back to standard error. The sink must not log.
using LogSink = std::function<void(LogLevel level, std::string_view line)>;
void SetLogSink(LogSink sink);

// Anything that has a string's data() and size().
template <typename T>
concept StringLike = requires(const T& t) {
  { t.data() } -> std::convertible_to<const char*>;
  { t.size() } -> std::convertible_to<size_t>;
};

// A field's value: text, a number, a boolean, or a duration (written in
// seconds, "0.25s"). A view: text must live until the end of the statement, as
// temporaries do.
class LogValue {
 public:
  enum class Kind : uint8_t { kText, kInt, kUint, kDouble, kBool, kDuration };

  LogValue(const char* text)  // NOLINT: implicit on purpose, all of them.
      : LogValue(std::string_view(text == nullptr ? "(null)" : text)) {}
  LogValue(std::string_view text) : kind_(Kind::kText), text_(text) {}
  template <StringLike T>
  LogValue(const T& text)
      : LogValue(std::string_view(text.data(), text.size())) {}
  LogValue(std::same_as<bool> auto value) : kind_(Kind::kBool), int_(value) {}
  template <std::signed_integral T>
  LogValue(T value) : kind_(Kind::kInt), int_(value) {}
  template <std::unsigned_integral T>
  requires(!std::same_as<T, bool>) LogValue(T value)
      : kind_(Kind::kUint), uint_(value) {}
  LogValue(double value) : kind_(Kind::kDouble), double_(value) {}
  template <typename Rep, typename Period>
  LogValue(std::chrono::duration<Rep, Period> value)
      : kind_(Kind::kDuration),
        int_(std::chrono::duration_cast<Duration>(value).count()) {}

  Kind kind() const { return kind_; }
  std::string_view text() const { return text_; }
  int64_t int_value() const { return int_; }
  uint64_t uint_value() const { return uint_; }
  double double_value() const { return double_; }

 private:
  Kind kind_;
  std::string_view text_;
  union {
    int64_t int_ = 0;
    uint64_t uint_;
    double double_;
  };
};

struct LogField {
  std::string_view key;  // A word of [a-z0-9_], not "time", "level", "message".
  LogValue value;
};

// Use HOTLINE_LOG: these do not check the level.
void WriteLogFields(LogLevel level, std::string_view message,
                    std::span<const LogField> fields);
inline void WriteLog(LogLevel level, std::string_view message,
                     std::initializer_list<LogField> fields = {}) {
  WriteLogFields(level, message, {fields.begin(), fields.size()});
}

// The same if the level of its target, or the log's, allows it.
void WriteEnabledLog(LogLevel level, std::string_view message,
                     std::initializer_list<LogField> fields = {});

namespace log_internal {
// The lowest level in use.
extern std::atomic<LogLevel> level;
}  // namespace log_internal

// False: no line of this level is written.
inline bool LogEnabled(LogLevel level) {
  return level >= log_internal::level.load(std::memory_order_relaxed);
}

// Lets one line through per interval, for warnings that recur with a fault.
//
//   static LogLimiter limiter(std::chrono::seconds(10));
//   HOTLINE_LOG_LIMITED(limiter, kWarning, "accept failed",
//                       {{"error", error},
//                        {"suppressed", limiter.TakeSuppressed()}});
class LogLimiter {
 public:
  explicit constexpr LogLimiter(Duration interval) : interval_(interval) {}

  // Whether a line may be written now; counts it if not.
  bool Admit(Instant now);

  // The number of suppressed lines since the last call.
  uint64_t TakeSuppressed() { return suppressed_.exchange(0); }

 private:
  const Duration interval_;
  std::atomic<int64_t> next_ns_{INT64_MIN};
  std::atomic<uint64_t> suppressed_{0};
};

// Logs `text`, a message of a library from `line` of its source file `file`.
// For the log hooks of libraries. At most one line a second from each place.
void WriteLibraryLog(LogLevel level, std::string_view library,
                     std::string_view file, int line, std::string_view text);

}  // namespace hotline

#define HOTLINE_LOG(log_level, ...)                                            \
  do {                                                                         \
    if (::hotline::LogEnabled(::hotline::LogLevel::log_level)) {               \
      ::hotline::WriteEnabledLog(::hotline::LogLevel::log_level, __VA_ARGS__); \
    }                                                                          \
  } while (false)

#define HOTLINE_LOG_LIMITED(limiter, log_level, ...)                           \
  do {                                                                         \
    if (::hotline::LogEnabled(::hotline::LogLevel::log_level) &&               \
        (limiter).Admit(::hotline::MonotonicNow())) {                          \
      ::hotline::WriteEnabledLog(::hotline::LogLevel::log_level, __VA_ARGS__); \
    }                                                                          \
  } while (false)

#endif  // HOTLINE_BASE_LOG_H_
