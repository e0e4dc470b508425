#include "server/observe/span.h"

#include <cstdint>

#include "absl/random/random.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/text.h"
#include "base/version.h"
#include "server/broker/http_head.h"

namespace hotline::server {
namespace {

// Offsets in "00-<trace id>-<span id>-<flags>".
constexpr size_t kTraceAt = 3;
constexpr size_t kTraceDigits = 32;
constexpr size_t kSpanAt = 36;
constexpr size_t kSpanDigits = 16;
constexpr size_t kFlagsAt = 53;

constexpr size_t kMaxValue = 1024;

// 16 digits, not all 0.
std::string RandomId() {
  thread_local absl::BitGen random;
  const auto bits = absl::Uniform<uint64_t>(random, 1, UINT64_MAX);
  return absl::StrCat(absl::Hex(bits, absl::kZeroPad16));
}

std::string Traceparent(std::string_view trace, std::string_view span) {
  std::string out = "00-";
  out.append(trace).append("-").append(span).append("-01");
  return out;
}

std::string_view SpanIdOf(std::string_view traceparent) {
  return traceparent.substr(kSpanAt, kSpanDigits);
}

void AppendString(std::string_view text, std::string* out) {
  *out += '"';
  AppendEscaped(out, text, Escape::kJson, kMaxValue);
  *out += '"';
}

// The attributes of a span or resource, as a JSON list. Text, Count and Seconds
// leave those without a value out.
class Attributes {
 public:
  explicit Attributes(std::string* out) : out_(*out) { out_ += '['; }
  void End() { out_ += ']'; }

  void Text(std::string_view key, std::string_view value) {
    if (value.empty()) return;
    Begin(key);
    out_ += "\"stringValue\":";
    AppendString(value, &out_);
    out_ += "}}";
  }
  // 64-bit numbers are strings in protobuf's JSON.
  void Number(std::string_view key, uint64_t value) {
    Begin(key);
    absl::StrAppend(&out_, "\"intValue\":\"", value, "\"}}");
  }
  void Count(std::string_view key, uint64_t value) {
    if (value != 0) Number(key, value);
  }
  void Bool(std::string_view key, bool value) {
    Begin(key);
    out_ += value ? "\"boolValue\":true}}" : "\"boolValue\":false}}";
  }
  void Seconds(std::string_view key, Duration value) {
    if (value == Duration(0)) return;
    Begin(key);
    absl::StrAppend(&out_, "\"doubleValue\":", ToSeconds(value), "}}");
  }

 private:
  void Begin(std::string_view key) {
    if (out_.back() == '}') out_ += ',';
    out_ += "{\"key\":";
    AppendString(key, &out_);
    out_ += ",\"value\":{";
  }

  std::string& out_;
};

void AppendAttributes(const CallRecord& record, std::string* out) {
  Attributes attributes(out);
  attributes.Text("rpc.system", "grpc");
  attributes.Text("rpc.service", "hotline.v1.Broker");
  attributes.Text("rpc.method", kRpcMethods[static_cast<size_t>(record.rpc)]);
  attributes.Number(
      "rpc.grpc.status_code",
      record.error == nullptr ? 0 : static_cast<uint64_t>(record.error->code));
  attributes.Text("http.request.method", record.method);
  attributes.Text("url.path", record.path);
  attributes.Count("http.response.status_code",
                   static_cast<uint64_t>(record.status));
  attributes.Text("enduser.id", record.identity);
  attributes.Text("hotline.target", record.target);
  if (record.error != nullptr) {
    attributes.Text("error.type", record.error->reason);
    attributes.Text("hotline.verdict", VerdictOf(*record.error));
  }
  attributes.Number("hotline.attempts", static_cast<uint64_t>(record.attempts));
  attributes.Count("hotline.session", record.session);
  if (record.connection != 0) {
    attributes.Number("hotline.connection", record.connection);
    attributes.Bool("hotline.connection.reused", record.reused);
  }
  attributes.Count("hotline.sent_bytes", record.sent);
  attributes.Count("hotline.received_bytes", record.received);
  attributes.Seconds("hotline.wait_seconds", record.waited);
  attributes.Seconds("hotline.dial_seconds", record.dial);
  attributes.Seconds("hotline.first_byte_seconds", record.first_byte);
  attributes.End();
}

void AppendStatus(const CallRecord& record, std::string* out) {
  if (record.error == nullptr) return;
  constexpr int kError = 2;
  absl::StrAppend(out, ",\"status\":{\"code\":", kError, ",\"message\":");
  AppendString(CodeOf(record), out);
  *out += '}';
}

}  // namespace

bool IsSampled(std::string_view traceparent) {
  // The lowest bit of the last digit.
  const char digit = traceparent[kFlagsAt + 1];
  return ((digit <= '9' ? digit - '0' : digit - 'a' + 10) & 1) != 0;
}

std::string ChildOf(std::string_view traceparent) {
  return Traceparent(traceparent.substr(kTraceAt, kTraceDigits), RandomId());
}

std::string NewTrace() {
  return Traceparent(absl::StrCat(RandomId(), RandomId()), RandomId());
}

std::string_view CodeOf(const CallRecord& record) {
  static const auto* const names = [] {
    auto* made = new std::string[17];
    for (int code = 0; code < 17; ++code) {
      made[code] =
          absl::StatusCodeToString(static_cast<absl::StatusCode>(code));
    }
    return made;
  }();
  const int code =
      record.error == nullptr ? 0 : static_cast<int>(record.error->code);
  return names[code >= 0 && code < 17 ? code : 2];
}

std::string_view VerdictOf(const Error& error) {
  for (const auto& [key, value] : error.metadata) {
    if (key == "verdict") return value;
  }
  return {};
}

std::string_view TraceIdOf(const CallRecord& record) {
  const std::string_view context =
      record.span.empty() ? record.traceparent : record.span;
  if (!IsTraceparent(context)) return {};
  return context.substr(kTraceAt, kTraceDigits);
}

std::string EncodeSpan(const CallRecord& record,
                       std::chrono::system_clock::time_point now) {
  const int64_t end = std::chrono::duration_cast<std::chrono::nanoseconds>(
                          now.time_since_epoch())
                          .count();
  const int64_t begin = end - (record.ended - record.begun).count();
  std::string out;
  out.reserve(1024);
  out.append("{\"traceId\":\"").append(TraceIdOf(record));
  out.append("\",\"spanId\":\"").append(SpanIdOf(record.span));
  if (IsTraceparent(record.traceparent)) {
    out.append("\",\"parentSpanId\":\"").append(SpanIdOf(record.traceparent));
  }
  constexpr int kServer = 2;
  out += "\",\"name\":\"hotline.v1.Broker/";
  out += kRpcMethods[static_cast<size_t>(record.rpc)];
  absl::StrAppend(&out, "\",\"kind\":", kServer, ",\"startTimeUnixNano\":\"",
                  begin, "\",\"endTimeUnixNano\":\"", end,
                  "\",\"attributes\":");
  AppendAttributes(record, &out);
  AppendStatus(record, &out);
  out += '}';
  return out;
}

std::string EncodeRequest(std::string_view instance, std::string_view spans) {
  std::string out = "{\"resourceSpans\":[{\"resource\":{\"attributes\":";
  Attributes attributes(&out);
  attributes.Text("service.name", "hotline");
  attributes.Text("service.version", kVersion);
  attributes.Text("service.instance.id", instance);
  attributes.End();
  out += "},\"scopeSpans\":[{\"scope\":{\"name\":\"hotline\"},\"spans\":[";
  out += spans;
  out += "]}]}]}";
  return out;
}

}  // namespace hotline::server
