// The load of `hotline bench`, and the command against a fake broker.
#include <condition_variable>
#include <csignal>
#include <deque>
#include <sstream>
#include <thread>

#include "client/cli/bench_load.h"
#include "client/cli/bench_report.h"
#include "client/cli/command.h"
#include "client/cli/exit_code.h"
#include "gmock/gmock.h"
#include "google/protobuf/struct.pb.h"
#include "google/protobuf/util/json_util.h"
#include "gtest/gtest.h"
#include "tests/client/fake_broker.h"

namespace hotline::client {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

const std::atomic<bool> kNotInterrupted{false};
const auto kNoTick = [](const BenchResult&) {};

// Completes operations one after the other, `each` apart, on its own thread.
class SerialDriver : public BenchDriver {
 public:
  explicit SerialDriver(Duration each, Duration stall = Duration(0))
      : each_(each), stall_(stall), thread_([this] { Run(); }) {}
  ~SerialDriver() override {
    {
      std::lock_guard lock(mu_);
      stop_ = true;
    }
    stopped_.notify_all();
    thread_.join();
  }
  void Start(std::function<void(absl::Status)> done) override {
    std::lock_guard lock(mu_);
    waiting_.push_back(std::move(done));
    most_ = std::max(most_, waiting_.size());
  }
  size_t most() {
    std::lock_guard lock(mu_);
    return most_;
  }

 private:
  void Run() {
    for (int n = 0;; ++n) {
      std::function<void(absl::Status)> done;
      {
        std::unique_lock lock(mu_);
        stopped_.wait_for(lock, n == 10 ? stall_ : each_,
                          [this] { return waiting_.empty() && stop_; });
        if (waiting_.empty() && stop_) return;
        if (waiting_.empty()) continue;
        done = std::move(waiting_.front());
        waiting_.pop_front();
      }
      done(absl::OkStatus());
    }
  }

  const Duration each_;
  const Duration stall_;
  std::mutex mu_;
  std::condition_variable stopped_;
  std::deque<std::function<void(absl::Status)>> waiting_;
  size_t most_ = 0;
  bool stop_ = false;
  std::thread thread_;
};

// Completes operations at once.
class InlineDriver : public BenchDriver {
 public:
  void Start(std::function<void(absl::Status)> done) override {
    ++started;
    done(started % 10 == 0 ? absl::UnavailableError("x") : absl::OkStatus());
  }
  int64_t started = 0;
};

TEST(BenchLoadTest, MakesTheRequestedNumberOfCalls) {
  InlineDriver driver;
  BenchLoad load({.concurrency = 1, .requests = 100'000}, {&driver});
  const BenchResult result = load.Run(kNotInterrupted, kNoTick);
  EXPECT_EQ(driver.started, 100'000);
  EXPECT_EQ(result.ok(), 90'000u);
  EXPECT_EQ(result.failed(), 10'000u);
  EXPECT_EQ(result.errors.at("UNAVAILABLE"), 10'000u);
  EXPECT_TRUE(absl::IsUnavailable(result.first_error));
  EXPECT_FALSE(result.interrupted);
}

TEST(BenchLoadTest, ConcurrencyBoundsTheCallsInFlight) {
  SerialDriver a(milliseconds(1));
  SerialDriver b(milliseconds(1));
  BenchLoad load({.concurrency = 6, .requests = 100}, {&a, &b});
  EXPECT_EQ(load.Run(kNotInterrupted, kNoTick).ok(), 100u);
  EXPECT_EQ(a.most(), 3u);
  EXPECT_EQ(b.most(), 3u);
}

TEST(BenchLoadTest, EndsAfterItsDuration) {
  SerialDriver driver(milliseconds(1));
  BenchLoad load({.concurrency = 2, .duration = milliseconds(1500)}, {&driver});
  int ticks = 0;
  const BenchResult result =
      load.Run(kNotInterrupted, [&](const BenchResult&) { ++ticks; });
  EXPECT_GE(result.took, milliseconds(1500));
  EXPECT_LT(result.took, milliseconds(6500));
  EXPECT_GE(ticks, 1);
  EXPECT_GT(result.ok(), 10u);
}

TEST(BenchLoadTest, EndsIfTheTimeIsUpBeforeAllCallsHaveBegun) {
  InlineDriver driver;
  BenchLoad load({.concurrency = 2, .duration = milliseconds(1)}, {&driver});
  const BenchResult result = load.Run(kNotInterrupted, kNoTick);
  EXPECT_EQ(result.ok() + result.failed(),
            static_cast<uint64_t>(driver.started));
}

TEST(BenchLoadTest, AnInterruptedRunReportsItsResult) {
  SerialDriver driver(milliseconds(1));
  std::atomic<bool> interrupted{false};
  BenchLoad load({.concurrency = 2, .duration = std::chrono::minutes(10)},
                 {&driver});
  const BenchResult result =
      load.Run(interrupted, [&](const BenchResult&) { interrupted = true; });
  EXPECT_TRUE(result.interrupted);
  EXPECT_GT(result.ok(), 0u);
}

TEST(BenchLoadTest, WithARateAStallDelaysEveryOperationThatWasDue) {
  // One slot, one stall of 300 ms among operations of 1 ms: closed, one slow
  // operation; at 200 a second, some sixty that were due meanwhile.
  SerialDriver closed(milliseconds(1), milliseconds(300));
  BenchLoad closed_load({.concurrency = 1, .requests = 100}, {&closed});
  const BenchResult one = closed_load.Run(kNotInterrupted, kNoTick);
  SerialDriver open(milliseconds(1), milliseconds(300));
  BenchLoad open_load({.concurrency = 1, .requests = 100, .rate = 200},
                      {&open});
  const BenchResult many = open_load.Run(kNotInterrupted, kNoTick);
  EXPECT_GE(one.latency.max(), milliseconds(300));
  EXPECT_GE(many.latency.max(), milliseconds(290));
  EXPECT_GE(many.latency.Quantile(0.75), milliseconds(50));
  EXPECT_GE(many.took, milliseconds(490)) << "the last one is due at 0.495 s";
}

BenchResult Measured() {
  BenchResult result;
  for (int i = 1; i <= 1000; ++i) {
    result.latency.Record(std::chrono::microseconds(i));
  }
  result.errors["QUEUE_FULL"] = 3;
  result.took = std::chrono::seconds(2);
  return result;
}

TEST(BenchReportTest, TheDefaultReportIsATable) {
  const std::string text =
      BenchTable({"acquire", "session", 64, 1, 0}, Measured());
  EXPECT_THAT(text, HasSubstr("acquire + release over session, 64 at once, 1 "
                              "connection, 2.00 s\n"));
  EXPECT_THAT(text, HasSubstr("ok         1000, 500/s\nfailed     3\n"));
  EXPECT_THAT(text, HasSubstr("  QUEUE_FULL               3\n"));
  EXPECT_THAT(text, HasSubstr("max 1.00 ms"));
  EXPECT_THAT(BenchLine(Measured(), {}), HasSubstr("2 s  500/s"));
}

TEST(BenchReportTest, TheJsonReportParses) {
  BenchResult result = Measured();
  result.errors["a\"b\n"] = 1;
  google::protobuf::Struct json;
  ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(
                  BenchJson({"execute", "unary", 2, 1, 10}, result), &json)
                  .ok());
  const auto& fields = json.fields();
  EXPECT_EQ(fields.at("ok").number_value(), 1000);
  EXPECT_EQ(fields.at("failed").number_value(), 4);
  EXPECT_EQ(fields.at("rate").number_value(), 500);
  const auto& latency = fields.at("latency_us").struct_value().fields();
  EXPECT_NEAR(latency.at("p99").number_value(), 990, 20);
  EXPECT_EQ(latency.at("max").number_value(), 1000);
  EXPECT_EQ(fields.at("errors")
                .struct_value()
                .fields()
                .at("QUEUE_FULL")
                .number_value(),
            3);
}

class BenchCommandTest : public testing::Test {
 protected:
  int Bench(std::vector<std::string> words) {
    words.insert(words.begin(),
                 {"hotline", "--address", broker_.address(), "bench"});
    std::vector<const char*> argv;
    for (const std::string& word : words) argv.push_back(word.c_str());
    std::istringstream in;
    out_.str("");
    return RunCommandLine(
        static_cast<int>(argv.size()), argv.data(),
        {.in = in, .out = out_, .err = err_, .terminal_err = true});
  }

  FakeBroker broker_;
  std::ostringstream out_, err_;
};

TEST_F(BenchCommandTest, CountsUnaryCalls) {
  broker_.acquire.Answer([](const auto&, auto* response, int) {
    response->mutable_lease()->set_lease_id("abc");
    return grpc::Status::OK;
  });
  EXPECT_EQ(Bench({"acquire", "https://a.test", "--over", "unary", "-n", "50",
                   "-c", "4"}),
            kExitOk);
  EXPECT_THAT(out_.str(), HasSubstr("ok         50, "));
  EXPECT_EQ(broker_.acquire.requests().size(), 50u);
  EXPECT_EQ(broker_.release.requests().size(), 50u);
  EXPECT_EQ(broker_.release.requests()[0].lease_id(), "abc");
}

TEST_F(BenchCommandTest, AnHttpErrorIsAFailure) {
  broker_.execute.Answer([](const auto&, auto* response, int call) {
    response->set_status(call % 2 == 0 ? 503 : 200);
    return grpc::Status::OK;
  });
  EXPECT_EQ(Bench({"execute", "https://a.test/", "--over", "unary", "-n", "10",
                   "--output", "json"}),
            kExitOk);
  EXPECT_THAT(out_.str(), HasSubstr("\"errors\": {\"HTTP_503\": 5}"));
}

TEST_F(BenchCommandTest, WithoutABrokerItExitsAsUnreachable) {
  broker_.Stop();
  EXPECT_EQ(Bench({"execute", "https://a.test/", "-n", "3"}), kExitUnreachable);
  EXPECT_THAT(out_.str(), HasSubstr("failed     3"));
}

TEST_F(BenchCommandTest, InvalidArgumentsAreAUsageError) {
  EXPECT_EQ(Bench({"fly", "https://a.test/"}), kExitUsage);
  EXPECT_EQ(Bench({"execute"}), kExitUsage);
  EXPECT_EQ(Bench({"execute", "u", "-c", "0"}), kExitUsage);
  EXPECT_EQ(Bench({"execute", "u", "--rate", "-1"}), kExitUsage);
  EXPECT_EQ(Bench({"execute", "u", "-d", "soon"}), kExitUsage);
}

TEST_F(BenchCommandTest, CtrlCEndsTheRunAndPrintsItsResult) {
  broker_.execute.Answer([](const auto&, auto* response, int call) {
    response->set_status(200);
    if (call == 20) std::raise(SIGINT);
    return grpc::Status::OK;
  });
  EXPECT_EQ(
      Bench({"execute", "https://a.test/", "--over", "unary", "-d", "10m"}),
      kExitOk);
  EXPECT_THAT(out_.str(), HasSubstr("(interrupted)"));
}

}  // namespace
}  // namespace hotline::client
