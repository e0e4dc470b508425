#include "base/log.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "base/log_writer.h"
#include "base/mutex.h"
#include "base/text.h"

namespace hotline {
namespace log_internal {

std::atomic<LogLevel> level{LogLevel::kInfo};

}  // namespace log_internal

namespace {

// Limits one escaped message or value, so that a long field leaves room for the
// others.
constexpr size_t kMaxValue = 1024;

constexpr std::string_view kLevels[] = {"debug", "info", "warning", "error"};

std::atomic<LogFormat> g_format{LogFormat::kText};

// The level of lines without a target that has its own.
std::atomic<LogLevel> g_level{LogLevel::kInfo};
// The mutex is taken for lines only while some targets have one.
std::atomic<bool> g_has_targets{false};
Mutex g_levels_mu;
TargetLogLevels& TargetLevels() ABSL_EXCLUSIVE_LOCKS_REQUIRED(g_levels_mu) {
  static auto* const levels = new TargetLogLevels;  // Never destroyed.
  return *levels;
}

LogLevel LevelOf(std::initializer_list<LogField> fields) {
  for (const LogField& field : fields) {
    if (field.key != "target" || field.value.kind() != LogValue::Kind::kText) {
      continue;
    }
    MutexLock lock(&g_levels_mu);
    for (const auto& [target, level] : TargetLevels()) {
      if (target == field.value.text()) return level;
    }
  }
  return g_level.load(std::memory_order_relaxed);
}

void SetLowestLevel() ABSL_EXCLUSIVE_LOCKS_REQUIRED(g_levels_mu) {
  LogLevel lowest = g_level.load(std::memory_order_relaxed);
  for (const auto& [target, level] : TargetLevels()) {
    lowest = std::min(lowest, level);
  }
  log_internal::level.store(lowest, std::memory_order_relaxed);
}

// The sink is for tests: the mutex is taken only if there is one.
std::atomic<bool> g_has_sink{false};
Mutex g_sink_mu;
LogSink& Sink() {
  static LogSink* const sink = new LogSink;  // Never destroyed: exit may log.
  return *sink;
}

Escape EscapeFor(LogFormat format, bool quoted) {
  if (format == LogFormat::kJson) return Escape::kJson;
  return quoted ? Escape::kQuoted : Escape::kLine;
}

void AppendQuoted(std::string& out, std::string_view text, LogFormat format) {
  out += '"';
  AppendEscaped(&out, text, EscapeFor(format, /*quoted=*/true), kMaxValue);
  out += '"';
}

// Text that reads as one word without quotes.
bool IsWord(std::string_view text) {
  if (text.empty()) return false;
  for (const char c : text) {
    if (static_cast<uint8_t>(c) <= 0x20 || static_cast<uint8_t>(c) >= 0x7f ||
        c == '"' || c == '=' || c == '\\') {
      return false;
    }
  }
  return true;
}

template <typename T>
void AppendNumber(std::string& out, T value) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
  out.append(buffer, end);
}

void AppendDuration(std::string& out, int64_t ns) {
  char buffer[48];
  const bool negative = ns < 0;
  const uint64_t all = negative ? 0 - static_cast<uint64_t>(ns) : ns;
  int size =
      snprintf(buffer, sizeof buffer, "%s%llu.%09llu", negative ? "-" : "",
               static_cast<unsigned long long>(all / 1'000'000'000),
               static_cast<unsigned long long>(all % 1'000'000'000));
  while (buffer[size - 1] == '0') --size;
  if (buffer[size - 1] == '.') --size;
  out.append(buffer, size);
  out += 's';
}

void AppendValue(std::string& out, const LogValue& value, LogFormat format) {
  const bool json = format == LogFormat::kJson;
  switch (value.kind()) {
    case LogValue::Kind::kText:
      if (!json && value.text().size() <= kMaxValue && IsWord(value.text())) {
        out += value.text();
      } else {
        AppendQuoted(out, value.text(), format);
      }
      break;
    case LogValue::Kind::kInt:
      AppendNumber(out, value.int_value());
      break;
    case LogValue::Kind::kUint:
      AppendNumber(out, value.uint_value());
      break;
    case LogValue::Kind::kDouble:
      if (json && !std::isfinite(value.double_value())) {
        out += "null";
      } else {
        AppendNumber(out, value.double_value());
      }
      break;
    case LogValue::Kind::kBool:
      out += value.int_value() != 0 ? "true" : "false";
      break;
    case LogValue::Kind::kDuration:
      if (json) out += '"';
      AppendDuration(out, value.int_value());
      if (json) out += '"';
      break;
  }
}

void AppendTime(std::string& out) {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  tm utc;
  gmtime_r(&now.tv_sec, &utc);
  char buffer[80];
  snprintf(buffer, sizeof buffer, "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ",
           utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour,
           utc.tm_min, utc.tm_sec, now.tv_nsec / 1'000'000);
  out += buffer;
}

std::string FormatLine(LogLevel level, std::string_view message,
                       std::span<const LogField> fields, LogFormat format) {
  const bool json = format == LogFormat::kJson;
  std::string line;
  line.reserve(256);
  if (json) line += "{\"time\":\"";
  AppendTime(line);
  line += json ? "\",\"level\":\"" : " ";
  line += ToString(level);
  line += json ? "\",\"message\":\"" : " ";
  AppendEscaped(&line, message, EscapeFor(format, json), kMaxValue);
  if (json) line += '"';

  const std::string_view mark = json ? ",\"truncated\":true" : " ...";
  const size_t room = kMaxLogLine - mark.size() - 2;  // Of "}" and line end.
  std::string one;
  for (const LogField& field : fields) {
    one.assign(json ? ",\"" : " ");
    AppendEscaped(&one, field.key, EscapeFor(format, /*quoted=*/true));
    one += json ? "\":" : "=";
    AppendValue(one, field.value, format);
    if (line.size() + one.size() > room) {
      line += mark;
      break;
    }
    line += one;
  }
  if (json) line += '}';
  return line;
}

std::string DroppedLine(uint64_t count) {
  const LogField fields[] = {{"count", count}};
  return FormatLine(LogLevel::kWarning, "lines of the log were dropped", fields,
                    g_format.load(std::memory_order_relaxed)) +
         '\n';
}

// Created for the first line that goes to standard error; never destroyed,
// because other threads may log until the process has exited.
std::atomic<LogWriter*> g_writer{nullptr};

LogWriter& Writer() {
  static LogWriter* const writer = [] {
    auto* made =
        new LogWriter({.fd = STDERR_FILENO, .dropped_line = DroppedLine});
    g_writer.store(made);
    std::atexit([] { FlushLog(kLogFlushTime); });
    return made;
  }();
  return *writer;
}

void OnCrash(int signal) {
  FlushLog(kLogFlushTime);
  raise(signal);  // With its default action: see FlushLogOnCrash.
}

}  // namespace

std::string_view ToString(LogLevel level) {
  return kLevels[static_cast<int>(level)];
}

std::optional<LogLevel> ParseLogLevel(std::string_view name) {
  for (int i = 0; i < 4; ++i) {
    if (name == kLevels[i]) return static_cast<LogLevel>(i);
  }
  return std::nullopt;
}

std::optional<LogFormat> ParseLogFormat(std::string_view name) {
  if (name == "text") return LogFormat::kText;
  if (name == "json") return LogFormat::kJson;
  return std::nullopt;
}

void SetLogLevel(LogLevel level) {
  MutexLock lock(&g_levels_mu);
  g_level.store(level, std::memory_order_relaxed);
  SetLowestLevel();
}

LogLevel GetLogLevel() { return g_level.load(std::memory_order_relaxed); }

void SetTargetLogLevels(TargetLogLevels levels) {
  MutexLock lock(&g_levels_mu);
  g_has_targets.store(!levels.empty(), std::memory_order_relaxed);
  TargetLevels() = std::move(levels);
  SetLowestLevel();
}

void SetLogFormat(LogFormat format) {
  g_format.store(format, std::memory_order_relaxed);
}

void SetLogSink(LogSink sink) {
  MutexLock lock(&g_sink_mu);
  g_has_sink.store(sink != nullptr);
  Sink() = std::move(sink);
}

void WriteLogFields(LogLevel level, std::string_view message,
                    std::span<const LogField> fields) {
  const int saved_errno = errno;
  std::string line = FormatLine(level, message, fields,
                                g_format.load(std::memory_order_relaxed));
  if (g_has_sink.load()) {
    MutexLock lock(&g_sink_mu);
    if (Sink()) {
      Sink()(level, line);
      errno = saved_errno;
      return;
    }
  }
  line += '\n';
  Writer().Add(line);
  errno = saved_errno;
}

void WriteEnabledLog(LogLevel level, std::string_view message,
                     std::initializer_list<LogField> fields) {
  if (g_has_targets.load(std::memory_order_relaxed) &&
      level < LevelOf(fields)) {
    return;
  }
  WriteLog(level, message, fields);
}

bool FlushLog(Duration bound) {
  const LogWriter* const writer = g_writer.load();
  return writer == nullptr || writer->Flush(bound);
}

void FlushLogOnCrash() {
  for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE}) {
    struct sigaction action;
    if (sigaction(signal, nullptr, &action) != 0) continue;
    if ((action.sa_flags & SA_SIGINFO) != 0 || action.sa_handler != SIG_DFL) {
      continue;
    }
    action.sa_handler = OnCrash;
    // The handler runs once and then raises the signal again, which ends the
    // process.
    action.sa_flags = SA_RESETHAND | SA_NODEFER;
    sigaction(signal, &action, nullptr);
  }
}

uint64_t LogLinesDropped() {
  const LogWriter* const writer = g_writer.load();
  return writer == nullptr ? 0 : writer->dropped();
}

bool LogLimiter::Admit(Instant now) {
  const int64_t now_ns = now.time_since_epoch().count();
  int64_t next = next_ns_.load(std::memory_order_relaxed);
  while (now_ns >= next) {
    if (next_ns_.compare_exchange_weak(next, now_ns + interval_.count(),
                                       std::memory_order_relaxed)) {
      return true;
    }
  }
  suppressed_.fetch_add(1, std::memory_order_relaxed);
  return false;
}

void WriteLibraryLog(LogLevel level, std::string_view library,
                     std::string_view file, int line, std::string_view text) {
  if (!LogEnabled(level)) return;
  struct PlaceLimiter : LogLimiter {
    PlaceLimiter() : LogLimiter(std::chrono::seconds(1)) {}
  };
  // Few places share a limiter, and sharing loses little.
  static std::array<PlaceLimiter, 256> limiters;
  const size_t hash = std::hash<std::string_view>()(file) + line;
  PlaceLimiter& limiter = limiters[hash % limiters.size()];
  if (!limiter.Admit(MonotonicNow())) return;
  WriteEnabledLog(level, "from a library",
                  {{"library", library},
                   {"file", file.substr(file.rfind('/') + 1)},
                   {"line", line},
                   {"text", text},
                   {"suppressed", limiter.TakeSuppressed()}});
}

}  // namespace hotline
