#include "server/observe/call_reports.h"

#include <map>
#include <string>
#include <vector>

#include "base/log.h"
#include "gtest/gtest.h"
#include "server/observe/span.h"

namespace hotline::server {
namespace {

using Mode = AccessLogOptions::Mode;
using std::chrono::milliseconds;

constexpr char kSampled[] =
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
constexpr char kUnsampled[] =
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

class CallReportsTest : public ::testing::Test {
 protected:
  CallReportsTest() {
    SetLogSink([this](LogLevel level, std::string_view line) {
      EXPECT_EQ(level, LogLevel::kInfo);
      // Without the time.
      lines_.emplace_back(line.substr(line.find(' ') + 1));
    });
    record_.rpc = RpcMethod::kExecute;
    record_.target = "https://a.test:443";
    record_.ended = record_.begun + milliseconds(2);
  }
  ~CallReportsTest() override {
    SetLogSink(nullptr);
    SetLogLevel(LogLevel::kInfo);
  }

  std::shared_ptr<const CallObserver> Make(AccessLogOptions access_log,
                                           TracingOptions tracing = {}) {
    return MakeCallReports(access_log, tracing, &exporter_);
  }
  std::shared_ptr<const CallObserver> Traced(uint32_t new_trace_one_in = 0) {
    return Make({}, {.collector = "http://127.0.0.1:1/",
                     .new_trace_one_in = new_trace_one_in});
  }

  Error error_;
  CallRecord record_;
  SpanExporter exporter_{{}};
  std::vector<std::string> lines_;
};

TEST_F(CallReportsTest, WithBothOffThereIsNoObserver) {
  EXPECT_EQ(Make({}), nullptr);
}

TEST_F(CallReportsTest, ALineHasWhatIsKnown) {
  record_.method = "GET";
  record_.path = "/x";
  record_.status = 200;
  record_.attempts = 2;
  record_.connection = 7;
  record_.reused = true;
  record_.sent = 100;
  record_.received = 2000;
  record_.waited = milliseconds(1);
  record_.first_byte = milliseconds(3);
  record_.identity = "uid:7";
  record_.session = 9;
  record_.traceparent = kUnsampled;
  Make({.mode = Mode::kSampled, .one_in = 1})->OnCallEnd(record_);
  ASSERT_EQ(lines_.size(), 1u);
  EXPECT_EQ(lines_[0],
            "info call rpc=Execute target=https://a.test:443 method=GET "
            "path=/x status=200 code=OK attempts=2 connection=7 reused=true "
            "sent=100 received=2000 wait=0.001s first_byte=0.003s total=0.002s "
            "identity=uid:7 session=9 trace=0af7651916cd43dd8448eb211c80319c");
}

TEST_F(CallReportsTest, AnErrorHasItsReasonAndVerdict) {
  error_.code = absl::StatusCode::kAborted;
  error_.reason = "UPSTREAM_RESET";
  error_.message = "not in the line";
  error_.metadata = {{"verdict", "SENT_UNKNOWN"}};
  record_.error = &error_;
  Make({.mode = Mode::kErrors})->OnCallEnd(record_);
  ASSERT_EQ(lines_.size(), 1u);
  EXPECT_EQ(lines_[0],
            "info call rpc=Execute target=https://a.test:443 code=ABORTED "
            "reason=UPSTREAM_RESET verdict=SENT_UNKNOWN attempts=1 "
            "total=0.002s");
}

TEST_F(CallReportsTest, ErrorsAloneAreFailuresAndStatusesOfFiveHundred) {
  const auto reports = Make({.mode = Mode::kErrors});
  for (const int status : {0, 200, 404, 499}) {
    record_.status = status;
    reports->OnCallEnd(record_);
    EXPECT_EQ(lines_.size(), 0u) << status;
  }
  record_.status = 500;
  reports->OnCallEnd(record_);
  EXPECT_EQ(lines_.size(), 1u);
}

TEST_F(CallReportsTest, OneOfManyIsLoggedAndEveryError) {
  const auto reports = Make({.mode = Mode::kSampled, .one_in = 10});
  for (int i = 0; i < 100; ++i) reports->OnCallEnd(record_);
  EXPECT_EQ(lines_.size(), 10u);
  record_.error = &error_;
  for (int i = 0; i < 5; ++i) reports->OnCallEnd(record_);
  EXPECT_EQ(lines_.size(), 15u);
}

TEST_F(CallReportsTest, LinesDoNotDependOnTheLogsLevel) {
  SetLogLevel(LogLevel::kError);
  Make({.mode = Mode::kSampled, .one_in = 1})->OnCallEnd(record_);
  EXPECT_EQ(lines_.size(), 1u);
}

TEST_F(CallReportsTest, ForeignBytesForgeNoLine) {
  record_.path = "/a\ncall code=OK";
  Make({.mode = Mode::kSampled, .one_in = 1})->OnCallEnd(record_);
  ASSERT_EQ(lines_.size(), 1u);
  EXPECT_EQ(lines_[0].find('\n'), std::string::npos);
  EXPECT_NE(lines_[0].find("path=\"/a\\ncall code=OK\""), std::string::npos)
      << lines_[0];
}

TEST_F(CallReportsTest, TheSampledFlagDecidesAboutASpan) {
  const auto reports = Traced();
  const std::string span = reports->BeginSpan(kSampled);
  EXPECT_EQ(span.substr(0, 36), std::string(kSampled, 36));
  EXPECT_NE(span, kSampled);
  EXPECT_EQ(reports->BeginSpan(kUnsampled), "");
  EXPECT_EQ(reports->BeginSpan(""), "");
  EXPECT_EQ(reports->BeginSpan("nonsense"), "");
}

TEST_F(CallReportsTest, CallsWithoutATraceBeginOneAsConfigured) {
  const auto reports = Traced(/*new_trace_one_in=*/4);
  int spans = 0;
  for (int i = 0; i < 100; ++i) spans += !reports->BeginSpan("").empty();
  EXPECT_EQ(spans, 25);
  EXPECT_EQ(reports->BeginSpan(kUnsampled), "");
}

TEST_F(CallReportsTest, WithoutACollectorThereIsNoSpan) {
  EXPECT_EQ(Make({.mode = Mode::kErrors})->BeginSpan(kSampled), "");
}

TEST_F(CallReportsTest, OnlyCallsWithASpanReachTheExporter) {
  const auto reports = Traced();
  reports->OnCallEnd(record_);
  EXPECT_EQ(exporter_.counts().dropped, 0u);
  const std::string span = reports->BeginSpan(kSampled);
  record_.traceparent = kSampled;
  record_.span = span;
  // The exporter has no collector.
  reports->OnCallEnd(record_);
  EXPECT_EQ(exporter_.counts().dropped, 1u);
  EXPECT_EQ(lines_.size(), 0u);
}

}  // namespace
}  // namespace hotline::server
