#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <charconv>
#include <cmath>
#include <string>

#include "base/mutex.h"

namespace hotline {
namespace log_internal {

std::atomic<LogLevel> level{LogLevel::kInfo};

}  // namespace log_internal

namespace {

// Of one message or one value, escaped: so that one long field leaves room for
// the others.
constexpr size_t kMaxValue = 1024;

constexpr std::string_view kLevels[] = {"debug", "info", "warning", "error"};

std::atomic<LogFormat> g_format{LogFormat::kText};

// The sink is for tests: the mutex is taken only when there is one.
std::atomic<bool> g_has_sink{false};
Mutex g_sink_mu;
LogSink& Sink() {
  static LogSink* const sink = new LogSink;  // Never destroyed: exit may log.
  return *sink;
}

// The length of the UTF-8 sequence at the front of `text`, 0 when it is none.
size_t Utf8Length(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t first = byte(0);
  if (first < 0x80) return 1;
  size_t length;
  uint32_t point;
  if ((first & 0xe0) == 0xc0) {
    length = 2, point = first & 0x1f;
  } else if ((first & 0xf0) == 0xe0) {
    length = 3, point = first & 0x0f;
  } else if ((first & 0xf8) == 0xf0) {
    length = 4, point = first & 0x07;
  } else {
    return 0;
  }
  if (text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    point = point << 6 | (byte(i) & 0x3f);
  }
  constexpr uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = point >= 0xd800 && point <= 0xdfff;
  if (point < kLeast[length] || surrogate || point > 0x10ffff) return 0;
  return length;
}

// Whether the sequence, valid UTF-8 of several bytes, moves a terminal or ends
// a line: C1 controls (U+0080..9F), U+2028, U+2029, and the marks that turn the
// direction of text (U+202A..E, U+2066..9).
bool IsUnsafe(std::string_view sequence) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(sequence[i]); };
  if (sequence.size() == 2) return byte(0) == 0xc2 && byte(1) < 0xa0;
  if (sequence.size() != 3 || byte(0) != 0xe2) return false;
  if (byte(1) == 0x80) return byte(2) >= 0xa8 && byte(2) <= 0xae;
  return byte(1) == 0x81 && byte(2) >= 0xa6 && byte(2) <= 0xa9;
}

void AppendHex(std::string& out, const char* prefix, unsigned value,
               int digits) {
  char buffer[16];
  snprintf(buffer, sizeof buffer, "%s%0*x", prefix, digits, value);
  out += buffer;
}

// What JSON and our text agree on: JSON's escapes, but \xNN in text for bytes
// that are no character at all. `quoted`: quotes and backslashes, too.
void AppendEscaped(std::string& out, std::string_view text, LogFormat format,
                   bool quoted) {
  const size_t start = out.size();
  while (!text.empty()) {
    if (out.size() - start >= kMaxValue) {
      out += "...";
      return;
    }
    const size_t length = Utf8Length(text);
    const char c = text[0];
    if (length == 0) {
      if (format == LogFormat::kJson) {
        out += "\\ufffd";
      } else {
        AppendHex(out, "\\x", static_cast<uint8_t>(c), 2);
      }
    } else if (length > 1) {
      const std::string_view sequence = text.substr(0, length);
      if (!IsUnsafe(sequence)) {
        out += sequence;
      } else if (length == 2) {
        AppendHex(out, "\\u", static_cast<uint8_t>(sequence[1]), 4);
      } else {
        AppendHex(out, "\\u20",
                  (static_cast<uint8_t>(sequence[1]) & 0x03) << 6 |
                      (static_cast<uint8_t>(sequence[2]) & 0x3f),
                  2);
      }
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (static_cast<uint8_t>(c) < 0x20 || c == 0x7f) {
      AppendHex(out, "\\u", static_cast<uint8_t>(c), 4);
    } else {
      if (quoted && (c == '"' || c == '\\')) out += '\\';
      out += c;
    }
    text.remove_prefix(length == 0 ? 1 : length);
  }
}

void AppendQuoted(std::string& out, std::string_view text, LogFormat format) {
  out += '"';
  AppendEscaped(out, text, format, /*quoted=*/true);
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
                       std::initializer_list<LogField> fields,
                       LogFormat format) {
  const bool json = format == LogFormat::kJson;
  std::string line;
  line.reserve(256);
  if (json) line += "{\"time\":\"";
  AppendTime(line);
  line += json ? "\",\"level\":\"" : " ";
  line += ToString(level);
  line += json ? "\",\"message\":\"" : " ";
  AppendEscaped(line, message, format, /*quoted=*/json);
  if (json) line += '"';

  const std::string_view mark = json ? ",\"truncated\":true" : " ...";
  const size_t room = kMaxLogLine - mark.size() - 2;  // Of "}" and line end.
  std::string one;
  for (const LogField& field : fields) {
    one.assign(json ? ",\"" : " ");
    AppendEscaped(one, field.key, format, /*quoted=*/true);
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

void WriteAll(std::string_view line) {
  while (!line.empty()) {
    const ssize_t written = write(STDERR_FILENO, line.data(), line.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;  // Nowhere left to complain.
    line.remove_prefix(written);
  }
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
  log_internal::level.store(level, std::memory_order_relaxed);
}

LogLevel GetLogLevel() {
  return log_internal::level.load(std::memory_order_relaxed);
}

void SetLogFormat(LogFormat format) {
  g_format.store(format, std::memory_order_relaxed);
}

void SetLogSink(LogSink sink) {
  MutexLock lock(&g_sink_mu);
  g_has_sink.store(sink != nullptr);
  Sink() = std::move(sink);
}

void WriteLog(LogLevel level, std::string_view message,
              std::initializer_list<LogField> fields) {
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
  WriteAll(line);
  errno = saved_errno;
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

}  // namespace hotline
