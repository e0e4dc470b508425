#include "server/observe/call_reports.h"

#include <atomic>
#include <chrono>
#include <string>
#include <string_view>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "base/log.h"
#include "server/broker/http_head.h"
#include "server/observe/span.h"

namespace hotline::server {
namespace {

using Fields = absl::InlinedVector<LogField, 24>;

// Whether an operator would call it a failure: the call has failed, or the
// upstream states that it has.
bool Failed(const CallRecord& record) {
  return record.error != nullptr || record.status >= 500;
}

void AddText(std::string_view key, std::string_view text, Fields* fields) {
  if (!text.empty()) fields->push_back({key, text});
}

template <typename T>
void AddUnlessZero(std::string_view key, T value, Fields* fields) {
  if (value != T(0)) fields->push_back({key, value});
}

void AddEnd(const CallRecord& record, Fields* fields) {
  AddUnlessZero("status", record.status, fields);
  fields->push_back({"code", CodeOf(record)});
  if (record.error == nullptr) return;
  AddText("reason", record.error->reason, fields);
  AddText("verdict", VerdictOf(*record.error), fields);
}

void WriteLine(const CallRecord& record) {
  Fields fields;
  fields.push_back({"rpc", kRpcMethods[static_cast<size_t>(record.rpc)]});
  AddText("target", record.target, &fields);
  AddText("method", record.method, &fields);
  AddText("path", record.path, &fields);
  AddEnd(record, &fields);
  fields.push_back({"attempts", record.attempts});
  if (record.connection != 0) {
    fields.push_back({"connection", record.connection});
    fields.push_back({"reused", record.reused});
  }
  AddUnlessZero("sent", record.sent, &fields);
  AddUnlessZero("received", record.received, &fields);
  AddUnlessZero("wait", record.waited, &fields);
  AddUnlessZero("dial", record.dial, &fields);
  AddUnlessZero("first_byte", record.first_byte, &fields);
  fields.push_back({"total", record.ended - record.begun});
  AddText("identity", record.identity, &fields);
  AddUnlessZero("session", record.session, &fields);
  AddText("trace", TraceIdOf(record), &fields);
  WriteLogFields(LogLevel::kInfo, "call", {fields.data(), fields.size()});
}

class CallReports final : public CallObserver {
 public:
  CallReports(const AccessLogOptions& access_log, const TracingOptions& tracing,
              SpanExporter* exporter)
      : access_log_(access_log), tracing_(tracing), exporter_(exporter) {}

  std::string BeginSpan(std::string_view traceparent) const override {
    if (tracing_.collector.empty()) return "";
    if (IsTraceparent(traceparent)) {
      return IsSampled(traceparent) ? ChildOf(traceparent) : "";
    }
    return IsNth(tracing_.new_trace_one_in, &untraced_) ? NewTrace() : "";
  }

  void OnCallEnd(const CallRecord& record) const override {
    if (IsLogged(record)) WriteLine(record);
    // Without room, encoding it would be in vain.
    if (!record.span.empty() && exporter_->MakeRoom()) {
      exporter_->Add(EncodeSpan(record, std::chrono::system_clock::now()));
    }
  }

 private:
  // Of each `one_in` calls the first one; 0: none.
  static bool IsNth(uint32_t one_in, std::atomic<uint64_t>* counter) {
    return one_in == 1 ||
           (one_in > 0 &&
            counter->fetch_add(1, std::memory_order_relaxed) % one_in == 0);
  }

  bool IsLogged(const CallRecord& record) const {
    if (access_log_.mode == AccessLogOptions::Mode::kOff) return false;
    if (Failed(record)) return true;
    return access_log_.mode == AccessLogOptions::Mode::kSampled &&
           IsNth(access_log_.one_in, &unlogged_);
  }

  const AccessLogOptions access_log_;
  const TracingOptions tracing_;
  SpanExporter* const exporter_;
  mutable std::atomic<uint64_t> unlogged_{0};  // Calls that succeeded.
  mutable std::atomic<uint64_t> untraced_{0};  // Calls without a traceparent.
};

}  // namespace

std::shared_ptr<const CallObserver> MakeCallReports(
    const AccessLogOptions& access_log, const TracingOptions& tracing,
    SpanExporter* exporter) {
  if (access_log.mode == AccessLogOptions::Mode::kOff &&
      tracing.collector.empty()) {
    return nullptr;
  }
  return std::make_shared<CallReports>(access_log, tracing, exporter);
}

}  // namespace hotline::server
