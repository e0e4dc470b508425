#include "server/observe/metrics.h"

#include <stdio.h>
#include <string.h>

#include <map>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/fakes/rows.h"

namespace hotline::server {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr char kA[] = "https://a.example:443";
constexpr char kB[] = "https://b.example:443";
constexpr char kC[] = "http://c.example:80";

// The page for a pool and a broker whose figures the test sets.
class MetricsTest : public ::testing::Test {
 protected:
  void Show(int max_targets, std::vector<std::string> known = {}) {
    MetricsSources sources;
    sources.pool = [this] { return snapshot_; };
    sources.executes = &executes_;
    sources.rpcs = &rpcs_;
    sources.upstream = [this] { return upstream_; };
    sources.loop_lag = [] { return milliseconds(250); };
    sources.config_ok = [this] { return config_ok_; };
    sources.restart_needed = [this] { return restart_needed_; };
    sources.tls_files_ok = [this] { return tls_files_ok_; };
    metrics_ = std::make_unique<Metrics>(
        MetricsOptions{.max_targets = max_targets,
                       .known_targets = std::move(known),
                       .version = "1.2.3",
                       .build = {}},
        std::move(sources));
  }

  // Adds `target` to the pool and returns its row for the test to fill.
  pool::TargetRow& Row(const std::string& target) {
    for (auto& row : snapshot_.targets) {
      if (row.target == target) return row;
    }
    snapshot_.targets.emplace_back().target = target;
    return snapshot_.targets.back();
  }

  // Makes the pool forget `target`; its grants are kept in `forgotten`.
  void Forget(const std::string& target) {
    snapshot_.forgotten.granted += Row(target).counters.granted;
    std::erase_if(snapshot_.targets,
                  [&](const auto& row) { return row.target == target; });
  }

  void Scrape() {
    values_.clear();
    std::istringstream page(metrics_->Render());
    for (std::string line; std::getline(page, line);) {
      if (line.starts_with("#")) continue;
      const size_t space = line.rfind(' ');
      EXPECT_TRUE(
          values_
              .emplace(line.substr(0, space), std::stod(line.substr(space + 1)))
              .second)
          << "twice: " << line;
    }
  }

  // -1: there is no such series.
  double Value(const std::string& series) const {
    const auto found = values_.find(series);
    return found == values_.end() ? -1 : found->second;
  }
  double Granted(const std::string& target) const {
    return Value("hotline_acquires_total{target=\"" + target +
                 "\",result=\"ok\"}");
  }

  // Compares the page with the rows of a file: a series and its value.
  void CheckSeries(const std::string& path, size_t rows) const {
    for (const auto& row : testing::ReadRows(path, 2, rows)) {
      EXPECT_NEAR(Value(row[0]), std::stod(row[1]), 1e-9) << row[0];
    }
  }

  pool::Snapshot snapshot_;
  CallMetrics executes_{100};
  RpcMetrics rpcs_;
  std::vector<std::pair<std::string, UpstreamFigures>> upstream_;
  bool config_ok_ = true;
  bool restart_needed_ = false;
  bool tls_files_ok_ = true;
  std::unique_ptr<Metrics> metrics_;
  std::map<std::string, double> values_;
};

TEST_F(MetricsTest, EveryFamilyOfTheContractIsThereFromTheStart) {
  Show(100, {kA});
  Scrape();
  std::set<std::string> names;
  for (const auto& [series, unused] : values_) {
    std::string name = series.substr(0, series.find('{'));
    for (const char* suffix : {"_bucket", "_sum", "_count"}) {
      if (name.ends_with(suffix)) name.resize(name.size() - strlen(suffix));
    }
    names.insert(name);
  }
  Row(kA).max_connections = 1;  // This family needs a known target.
  Scrape();
  if (Value("hotline_max_connections{target=\"" + std::string(kA) + "\"}") ==
      1) {
    names.insert("hotline_max_connections");
  }
  for (const auto& row :
       testing::ReadRows("tests/server/observe/families.tsv", 1, 50)) {
    EXPECT_EQ(names.count(row[0]), 1u) << row[0];
  }
}

TEST_F(MetricsTest, AKnownTargetStartsAtZeroEverywhere) {
  Show(100, {kA});
  Scrape();
  int series = 0;
  for (const auto& [name, value] : values_) {
    if (name.find(kA) == std::string::npos) continue;
    ++series;
    EXPECT_EQ(value, 0) << name;
  }
  EXPECT_GT(series, 200);
  EXPECT_EQ(Value("hotline_rpc_seconds_count{method=\"Acquire\","
                  "code=\"DEADLINE_EXCEEDED\"}"),
            0);
}

TEST_F(MetricsTest, ThePoolsRowsArriveUnderTheirNames) {
  Show(100);
  pool::TargetRow& row = Row(kA);
  row.connections = {1, 5, 2, 3, 4};
  row.idle = 2;
  row.max_connections = 20;
  row.warm_deficit = 6;
  row.floor = 8;
  row.breaker = pool::BreakerState::kHalfOpen;
  row.no_reuse_for = milliseconds(1);
  row.waiters = 7;
  row.oldest_wait = milliseconds(1500);
  row.leases = 9;
  auto& c = row.counters;
  c.granted = 100;
  c.reused = 90;
  c.cross_loop = 6;
  for (int i = 0; i < pool::kRejectReasons; ++i) c.rejected[i] = 10 + i;
  c.cancelled = 8;
  c.dials_ok = 11;
  c.dials_failed = {1, 2, 3, 4};
  c.opened = 12;
  for (int i = 0; i < pool::kCloseReasons; ++i) c.closed[i] = 50 + i;
  c.probes_passed = 13;
  c.probes_failed = 14;
  c.errors_counted = 15;
  c.leases_expired = 16;
  c.leases_reclaimed = 18;
  c.leases_leaked = 17;
  c.breaker_opened = 18;
  c.quarantines = 19;
  c.wait.Record(microseconds(60));
  c.wait.Record(seconds(2));
  c.lease.Record(seconds(100));
  c.dial_tls.Record(milliseconds(3));
  snapshot_.max_connections = 1000;
  snapshot_.connections_reserved = 11;
  snapshot_.budget_waiters = 2;
  Scrape();
  CheckSeries("tests/server/observe/pool_series.tsv", 54);
}

TEST_F(MetricsTest, TheBrokersCountersArriveUnderTheirNames) {
  Show(100);
  executes_.RecordExecute(kA, "", milliseconds(5));
  executes_.RecordExecute(kA, "UPSTREAM_TIMEOUT", milliseconds(5));
  executes_.RecordExecute(kA, "NEVER_HEARD_OF", milliseconds(5));
  executes_.RecordRetry(kA, "REFUSED_BY_PEER");
  executes_.RecordStaleReuse(kA);
  executes_.RecordExecute("", "BAD_URL", milliseconds(1));
  rpcs_.RecordRpc(RpcMethod::kExecute, 4, milliseconds(7));
  rpcs_.RecordRpc(RpcMethod::kStats, 13, milliseconds(7));
  rpcs_.RecordRpc(RpcMethod::kStats, 99, milliseconds(7));
  upstream_ = {{kA,
                {.unsolicited_bytes = 3,
                 .full_handshakes = 4,
                 .resumed_handshakes = 5}}};
  tls_files_ok_ = false;
  config_ok_ = false;
  restart_needed_ = true;
  Scrape();
  CheckSeries("tests/server/observe/broker_series.tsv", 19);
  EXPECT_GT(Value("process_resident_memory_bytes"), 1e6);
  EXPECT_GE(Value("process_open_fds"), 3);
}

TEST(MetricsPageTest, SpansAreCountedByWhatBecameOfThem) {
  MetricsSources sources;
  sources.spans = [] {
    return SpanFigures{.sent = 3, .dropped = 2, .refused = 1};
  };
  const std::string page = Metrics({}, std::move(sources)).Render();
  for (const char* sample : {"hotline_spans_total{result=\"sent\"} 3\n",
                             "hotline_spans_total{result=\"dropped\"} 2\n",
                             "hotline_spans_total{result=\"refused\"} 1\n"}) {
    EXPECT_NE(page.find(sample), std::string::npos) << sample;
  }
}

TEST(MetricsPageTest, TheBuildHasFurtherLabels) {
  MetricsOptions options;
  options.version = "1.2.3";
  options.build = {{"commit", "2f9c01d4e8ab"}, {"nghttp2", "1.52.0"}};
  EXPECT_NE(
      Metrics(options, {})
          .Render()
          .find("hotline_build_info{version=\"1.2.3\",commit=\"2f9c01d4e8ab\","
                "nghttp2=\"1.52.0\"} 1\n"),
      std::string::npos);
}

TEST_F(MetricsTest, OpenMetricsHasExemplarsAndAnEnd) {
  Show(100);
  auto running = executes_.Begin(kA, CallKind::kExecute, {});
  executes_.Confirm(kA, {}, &running);
  executes_.RecordStatus(running, 404);
  executes_.End(kA, {}, "", milliseconds(5),
                "00-0123456789abcdeffedcba9876543210-0123456789abcdef-01",
                MonotonicNow(), &running);
  const std::string page = metrics_->Render(MetricsFormat::kOpenMetrics);
  EXPECT_TRUE(page.ends_with("\n# EOF\n"));
  const auto has = [&page](const std::string& text) {
    return page.find(text) != std::string::npos;
  };
  EXPECT_TRUE(has("# TYPE hotline_upstream_responses counter\n"));
  const std::string target = "target=\"" + std::string(kA) + "\"";
  EXPECT_TRUE(has("\nhotline_upstream_responses_total{" + target +
                  ",status_class=\"4xx\"} 1\n"));
  EXPECT_TRUE(has("\nhotline_execute_seconds_bucket{" + target +
                  ",le=\"0.0064\"} 1 # {trace_id="
                  "\"0123456789abcdeffedcba9876543210\"} 0.005 "));
  EXPECT_FALSE(metrics_->Render(MetricsFormat::kText).find("trace_id") !=
               std::string::npos);
}

TEST_F(MetricsTest, AgesAndUsesAreShownInTheirOwnUnits) {
  Show(100);
  auto& counters = Row(kA).counters;
  counters.granted = 2;  // Without calls it would not have series of its own.
  counters.age.Record(Duration(seconds(64)) / pool::kAgeScale);
  counters.uses.Record(Duration(0));
  counters.uses.Record(3 * pool::kUse);
  Scrape();
  const std::string target = "{target=\"" + std::string(kA) + "\"";
  const std::string age = "hotline_connection_age_seconds";
  EXPECT_EQ(Value(age + "_sum" + target + "}"), 64);
  EXPECT_EQ(Value(age + "_bucket" + target + ",le=\"+Inf\"}"), 1);
  const std::string uses = "hotline_connection_uses";
  EXPECT_EQ(Value(uses + "_sum" + target + "}"), 3);
  EXPECT_EQ(Value(uses + "_bucket" + target + ",le=\"0.5\"}"), 1);
  EXPECT_EQ(Value(uses + "_bucket" + target + ",le=\"2.0\"}"), 1);
  EXPECT_EQ(Value(uses + "_bucket" + target + ",le=\"8.0\"}"), 2);
}

TEST_F(MetricsTest, TargetsPastTheLimitFold) {
  Show(2, {kA});
  Row(kB).counters.granted = 5;
  Row(kC).counters.granted = 9;  // Busier: it gets the free series.
  Row(kB).waiters = 3;
  executes_.RecordExecute(kB, "", milliseconds(1));
  Scrape();
  EXPECT_EQ(Granted(kA), 0);
  EXPECT_EQ(Granted(kB), -1);
  EXPECT_EQ(Granted(kC), 9);
  EXPECT_EQ(Granted("other"), 5);
  EXPECT_EQ(Value("hotline_waiters{target=\"other\"}"), 3);
  EXPECT_EQ(Value("hotline_executes_total{target=\"other\",result=\"ok\"}"), 1);
  EXPECT_EQ(Value("hotline_targets"), 2);
  EXPECT_EQ(Value("hotline_folded_targets"), 1);

  Row(kB).counters.granted = 15;  // About as busy as the other one.
  Scrape();
  EXPECT_EQ(Granted(kB), -1);
  EXPECT_EQ(Granted("other"), 15);
}

TEST_F(MetricsTest, AHundredThousandTargetsAreNoLongerAPageThanAThousand) {
  Show(100);
  const auto add_up_to = [this](size_t count) {
    while (snapshot_.targets.size() < count) {
      pool::TargetRow& row = snapshot_.targets.emplace_back();
      row.target =
          "https://host-" + std::to_string(snapshot_.targets.size()) + ":443";
      row.counters.granted = 7;
    }
  };
  add_up_to(1000);
  const size_t before = metrics_->Render().size();
  add_up_to(100'000);
  const size_t after = metrics_->Render().size();
  // The numbers have more digits, but the series are the same.
  EXPECT_LT(after, before + before / 50);
  Scrape();
  EXPECT_EQ(Value("hotline_targets"), 100'000);
  EXPECT_EQ(Value("hotline_folded_targets"), 99'900);
  EXPECT_EQ(Granted("other"), 99'900 * 7);
}

TEST_F(MetricsTest, CountersOnlyGrowWhenTargetsAreForgottenAndComeBack) {
  Show(1);
  Row(kA).counters.granted = 10;
  Scrape();
  Row(kB).counters.granted = 7;
  Scrape();
  EXPECT_EQ(Granted("other"), 7);

  Forget(kA);
  Forget(kB);
  Scrape();
  EXPECT_EQ(Granted(kA), 10);
  EXPECT_EQ(Granted("other"), 7);
  EXPECT_EQ(Value("hotline_targets"), 0);

  Row(kA).counters.granted = 2;  // Counts from zero again.
  Row(kB).counters.granted = 1;
  Scrape();
  EXPECT_EQ(Granted(kA), 12);
  EXPECT_EQ(Granted("other"), 8);

  Row(kA).counters.granted = 20;
  Forget(kA);  // Last scraped at 2: the other 18 count for "other".
  Scrape();
  EXPECT_EQ(Granted(kA), 12);
  EXPECT_EQ(Granted("other"), 26);
}

TEST_F(MetricsTest, PromtoolFindsNoFault) {
  Show(2, {kA});
  Row(kA).counters.wait.Record(milliseconds(1));
  Row(kB).max_connections = 3;
  FILE* const promtool = popen("promtool check metrics 2>&1", "w");
  ASSERT_NE(promtool, nullptr);
  const std::string page = metrics_->Render();
  ASSERT_EQ(fwrite(page.data(), 1, page.size(), promtool), page.size());
  EXPECT_EQ(pclose(promtool), 0) << page;
}

TEST(CallMetricsTest, FiguresOfManyThreadsAddUp) {
  CallMetrics metrics(1);
  constexpr int kThreads = 4;
  constexpr int kEach = 10'000;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kEach; ++i) {
        metrics.RecordExecute("t" + std::to_string(i % 50),
                              i % 2 == 0 ? "" : "queue_full", microseconds(1));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  uint64_t ok = 0;
  uint64_t all = 0;
  const auto rows = metrics.Read();
  EXPECT_EQ(rows.size(), 51u);
  for (const auto& row : rows) {
    ok += row.results[0];
    for (const uint64_t count : row.results) all += count;
    if (row.target.empty()) continue;
    EXPECT_EQ(row.seconds.counts[0], uint64_t{kThreads * kEach / 50});
    EXPECT_EQ(row.seconds.sum_ns, kThreads * kEach / 50 * 1000);
  }
  EXPECT_EQ(ok, uint64_t{kThreads * kEach / 2});
  EXPECT_EQ(all, uint64_t{kThreads * kEach});
}

// The row of `target`; the one with the empty name if it has none.
CallMetrics::Row RowOf(const CallMetrics& metrics, const std::string& target) {
  CallMetrics::Row found;
  for (auto& row : metrics.Read()) {
    if (row.target == target || (found.target.empty() && row.target.empty())) {
      found = row;
    }
  }
  return found;
}

size_t Index(CallKind kind) { return static_cast<size_t>(kind); }

TEST(CallMetricsTest, ACallCountsAsRunningFromItsBeginToItsEnd) {
  CallMetrics metrics(1);
  auto running = metrics.Begin(kA, CallKind::kExecute, {});
  EXPECT_EQ(RowOf(metrics, kA).target, "") << "not known to be a target";
  EXPECT_EQ(RowOf(metrics, kA).running[Index(CallKind::kExecute)], 1);
  metrics.Confirm(kA, {}, &running);
  EXPECT_EQ(RowOf(metrics, "").running[Index(CallKind::kExecute)], 0);
  EXPECT_EQ(RowOf(metrics, kA).target, kA);
  EXPECT_EQ(RowOf(metrics, kA).running[Index(CallKind::kExecute)], 1);

  auto stream = metrics.Begin(kA, CallKind::kStream, {});
  EXPECT_EQ(RowOf(metrics, kA).running[Index(CallKind::kStream)], 1);
  metrics.End(kA, {}, "UPSTREAM_RESET", milliseconds(2), "", Instant{},
              &stream);
  metrics.End(kA, {}, "", milliseconds(1), "", Instant{}, &running);
  const CallMetrics::Row row = RowOf(metrics, kA);
  EXPECT_EQ(row.running, (std::array<int64_t, kCallKinds>{}));
  EXPECT_EQ(row.results[0], 1u);
  EXPECT_EQ(row.seconds.sum_ns, 3'000'000);
}

TEST(CallMetricsTest, WhatARunningCallExchangesIsCounted) {
  CallMetrics metrics(1);
  auto running = metrics.Begin(kA, CallKind::kExecute, {});
  metrics.Confirm(kA, {}, &running);
  for (const int status : {101, 200, 204, 302, 404, 503, 600}) {
    metrics.RecordStatus(running, status);
  }
  metrics.RecordBytes(running, 10, 200);
  metrics.RecordBytes(running, 1, 0);
  metrics.RecordFirstByte(running, milliseconds(3));
  metrics.End(&running);
  // The call is over.
  metrics.RecordBytes(running, 1000, 1000);
  const CallMetrics::Row row = RowOf(metrics, kA);
  EXPECT_EQ(row.statuses,
            (std::array<uint64_t, kStatusClasses.size()>{1, 2, 1, 1, 1, 1}));
  EXPECT_EQ(row.bytes_sent, 11u);
  EXPECT_EQ(row.bytes_received, 200u);
  EXPECT_EQ(row.first_byte.sum_ns, 3'000'000);
}

TEST(CallMetricsTest, ARefusedTargetGetsNoEntry) {
  CallMetrics metrics(1);
  auto running = metrics.Begin(kA, CallKind::kExecute, {});
  metrics.End(kA, {}, "NOT_AUTHORIZED", milliseconds(1), "", Instant{},
              &running);
  EXPECT_EQ(metrics.Read().size(), 1u);
  EXPECT_EQ(RowOf(metrics, "").running[Index(CallKind::kExecute)], 0);
}

TEST(CallMetricsTest, ASampledTraceBecomesTheExemplarOfItsBucket) {
  CallMetrics metrics(1);
  const Instant now{std::chrono::hours(1)};
  const auto call = [&](const char* trace, Duration took, Instant at) {
    auto running = metrics.Begin(kA, CallKind::kExecute, {});
    metrics.Confirm(kA, {}, &running);
    metrics.End(kA, {}, "", took, trace, at, &running);
    return RowOf(metrics, kA).exemplars;
  };
  constexpr char kNotSampled[] =
      "00-0123456789abcdef0123456789abcdef-0123456789abcdef-00";
  constexpr char kSampled[] =
      "00-0123456789abcdeffedcba9876543210-0123456789abcdef-01";
  constexpr char kLater[] =
      "00-aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbb-0123456789abcdef-01";
  EXPECT_TRUE(call("", milliseconds(7), now).empty());
  EXPECT_TRUE(call("nonsense", milliseconds(7), now).empty());
  EXPECT_TRUE(call(kNotSampled, milliseconds(7), now).empty());
  auto exemplars = call(kSampled, milliseconds(7), now);
  ASSERT_EQ(exemplars.size(), 1u);
  EXPECT_EQ(exemplars[0].bucket, Histogram::BucketOf(milliseconds(7)));
  EXPECT_EQ(exemplars[0].trace_high, 0x0123456789abcdefu);
  EXPECT_EQ(exemplars[0].trace_low, 0xfedcba9876543210u);
  EXPECT_EQ(exemplars[0].value, Duration(milliseconds(7)));
  EXPECT_EQ(exemplars[0].at, now);
  // It is kept for a second.
  EXPECT_EQ(call(kLater, milliseconds(7), now + milliseconds(999))[0].at, now);
  exemplars = call(kLater, milliseconds(7), now + seconds(1));
  ASSERT_EQ(exemplars.size(), 1u);
  EXPECT_EQ(exemplars[0].trace_high, 0xaaaaaaaaaaaaaaaau);
  EXPECT_EQ(call(kLater, seconds(2), now).size(), 2u);
}

TEST(CallMetricsTest, TargetsPastTheBoundCountTogether) {
  CallMetrics metrics(1);
  const size_t bound = CallMetrics::kLeastTargets;
  for (size_t i = 0; i < bound + 10; ++i) {
    metrics.RecordExecute("t" + std::to_string(i), "", microseconds(1));
    metrics.RecordExecute("t" + std::to_string(i), "", microseconds(1));
  }
  const auto rows = metrics.Read();
  EXPECT_EQ(rows.size(), bound + 1);
  for (const auto& row : rows) {
    EXPECT_EQ(row.results[0], row.target.empty() ? 20u : 2u) << row.target;
  }
}

}  // namespace
}  // namespace hotline::server
