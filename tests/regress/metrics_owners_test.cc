// Metric series reserved for the first names seen.
//
// The first targets got series of their own, and the first 1024 names counters
// for their calls, until the process ended, including misspelt names and those
// that the policy had denied. A client looping over bad names could so deprive
// every later target of its metrics.
//
// Now both follow the load, refused names get neither, and no counter
// decreases: the counts of an evicted name move to "other".
#include <atomic>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/hash/hash.h"
#include "gtest/gtest.h"
#include "server/broker/call_metrics.h"
#include "server/observe/metrics_targets.h"

namespace hotline::server {
namespace {

using std::chrono::microseconds;
using std::chrono::seconds;

// What the pool and the broker count, and a fold that looks at it.
class FoldTest : public testing::Test {
 protected:
  pool::TargetCounters& Of(const std::string& target) {
    for (auto& row : snapshot_.targets) {
      if (row.target == target) return row.counters;
    }
    snapshot_.targets.emplace_back().target = target;
    return snapshot_.targets.back().counters;
  }

  void Call(const std::string& target, int times) {
    Of(target).granted += times;
    for (int i = 0; i < times; ++i) {
      executes_.RecordExecute(target, "", microseconds(1));
    }
  }

  void Forget(const std::string& target) {
    snapshot_.forgotten.granted += Of(target).granted;
    std::erase_if(snapshot_.targets,
                  [&](const auto& row) { return row.target == target; });
  }

  // Label to what it shows: acquires, executes.
  using Page = std::map<std::string, std::pair<uint64_t, uint64_t>>;
  Page Scrape(Duration later = seconds(15)) {
    now_ += later;
    Page page;
    for (const TargetFigures& row :
         fold_->Fold(snapshot_, executes_.Read(), {}, now_)) {
      EXPECT_TRUE(page.emplace(row.label, std::pair(row.pool.granted,
                                                    row.executes.results[0]))
                      .second)
          << row.label;
    }
    executes_.MakeRoom(now_);
    return page;
  }

  Instant now_{std::chrono::hours(1)};
  pool::Snapshot snapshot_;
  CallMetrics executes_{1};
  std::unique_ptr<TargetFold> fold_ =
      std::make_unique<TargetFold>(2, std::vector<std::string>());
};

TEST_F(FoldTest, ABusyTargetTakesTheSeriesOfAQuietOne) {
  Call("a", 10);
  Call("b", 20);
  EXPECT_EQ(Scrape().count("a"), 1u);
  Call("c", 15);
  Page page = Scrape();
  EXPECT_EQ(page.count("c"), 0u) << "not twice as busy as any";
  EXPECT_EQ(page["other"], std::pair(uint64_t{15}, uint64_t{15}));
  // The first two are called no more.
  for (int i = 0; i < 10; ++i) {
    Call("c", 15);
    page = Scrape();
  }
  EXPECT_EQ(page.count("a"), 0u);
  EXPECT_EQ(page.count("b"), 1u);
  ASSERT_EQ(page.count("c"), 1u);
  EXPECT_EQ(page["other"].first + page["c"].first, 10u + 11 * 15);

  // When it comes back it starts from zero.
  page = Scrape();
  const auto other = page["other"];
  for (int i = 0; i < 5; ++i) {
    Call("a", 500);
    page = Scrape();
    if (page.count("a") == 1) break;
  }
  ASSERT_EQ(page.count("a"), 1u);
  EXPECT_LE(page["a"].first, 500u);
  EXPECT_GE(page["other"], other);
}

TEST_F(FoldTest, EquallyBusyTargetsKeepTheirSeries) {
  const auto call_all = [this] {
    for (const char* target : {"a", "b", "c", "d"}) Call(target, 10);
  };
  call_all();
  const Page first = Scrape();
  for (int i = 0; i < 50; ++i) {
    call_all();
    const Page page = Scrape();
    for (const auto& [label, unused] : page) EXPECT_EQ(first.count(label), 1u);
  }
}

TEST_F(FoldTest, RefusedTargetsGetNoSeries) {
  for (int i = 0; i < 100; ++i) {
    const std::string name = "denied-" + std::to_string(i);
    // By egress: the pool has tried to dial it.
    Of(name).dials_failed[static_cast<int>(pool::FailureClass::kPolicy)] = 9;
    Of(name).rejected[static_cast<int>(pool::RejectReason::kDialFailed)] = 9;
    executes_.RecordExecute(name, "EGRESS_DENIED", microseconds(1));
    // By the policy: the pool has not heard of it.
    executes_.RecordExecute("policy-" + std::to_string(i), "NOT_AUTHORIZED",
                            microseconds(1));
    executes_.RecordExecute("nobody-" + std::to_string(i), "NO_IDENTITY",
                            microseconds(1));
  }
  EXPECT_EQ(executes_.Read().size(), 1u);
  const Page page = Scrape();
  EXPECT_EQ(page.size(), 1u);
  EXPECT_EQ(page.count("other"), 1u);
}

TEST_F(FoldTest, ANameWithoutCallsIsReplacedByOneWithCalls) {
  for (const char* name : {"http://typo:1", "http://tyop:1"}) {
    Of(name).dials_failed[0] = 1000;
    Of(name).rejected[static_cast<int>(pool::RejectReason::kDialFailed)] = 1000;
    executes_.RecordExecute(name, "DNS_FAILED", microseconds(1));
  }
  Page page = Scrape();
  EXPECT_EQ(page.size(), 3u) << "there was room";
  Call("good", 1);
  Call("better", 2);
  page = Scrape();
  EXPECT_EQ(page.count("good"), 1u);
  EXPECT_EQ(page.count("better"), 1u);
}

// Whatever comes, goes, and comes back.
TEST_F(FoldTest, NoCounterFallsAndNothingIsLost) {
  fold_ = std::make_unique<TargetFold>(5, std::vector<std::string>{"pinned"});
  std::mt19937 random(7);
  const auto dice = [&](int n) { return static_cast<int>(random() % n); };
  uint64_t calls = 0;
  Page before;
  for (int scrape = 0; scrape < 500; ++scrape) {
    for (int i = 0; i < 20; ++i) {
      // Who is busy changes.
      const int target = (dice(6) + scrape / 10) % 40;
      const int times = 1 + dice(30);
      Call("t" + std::to_string(target), times);
      calls += times;
    }
    if (dice(3) == 0) Forget("t" + std::to_string(dice(40)));
    const Page page = Scrape(seconds(1 + dice(60)));
    EXPECT_LE(page.size(), 6u);
    EXPECT_EQ(page.count("pinned"), 1u);
    uint64_t acquires = 0;
    uint64_t executes = 0;
    for (const auto& [label, figures] : page) {
      acquires += figures.first;
      executes += figures.second;
      const auto last = before.find(label);
      if (last == before.end()) continue;
      ASSERT_GE(figures.first, last->second.first) << label << " " << scrape;
      ASSERT_GE(figures.second, last->second.second) << label << " " << scrape;
    }
    ASSERT_EQ(acquires, calls);
    ASSERT_EQ(executes, calls);
    before = page;
  }
}

// Of one table of calls.
uint64_t Sum(const std::vector<CallMetrics::Row>& rows) {
  uint64_t sum = 0;
  for (const auto& row : rows) {
    for (const uint64_t count : row.results) sum += count;
  }
  return sum;
}

bool Has(const std::vector<CallMetrics::Row>& rows, const std::string& name,
         uint64_t calls) {
  for (const auto& row : rows) {
    if (row.target == name) return row.results[0] == calls;
  }
  return false;
}

TEST(ExecuteTableTest, UnusedNamesAreEvicted) {
  CallMetrics metrics(1);
  constexpr int kNames = CallMetrics::kLeastTargets;
  Instant now{std::chrono::hours(1)};
  for (int i = 0; i < kNames - 10; ++i) {
    metrics.RecordExecute("typo" + std::to_string(i), "DNS_FAILED",
                          microseconds(1));
  }
  for (int i = 0; i < 10; ++i) {
    for (int n = 0; n < 100; ++n) {
      metrics.RecordExecute("good" + std::to_string(i), "", microseconds(1));
    }
  }
  metrics.RecordExecute("late", "", microseconds(1));
  EXPECT_FALSE(Has(metrics.Read(), "late", 1));
  const uint64_t before = Sum(metrics.Read());
  metrics.MakeRoom(now);
  EXPECT_EQ(Sum(metrics.Read()), before);
  EXPECT_LE(metrics.Read().size(), size_t{kNames});
  for (int n = 0; n < 5; ++n) {
    metrics.RecordExecute("late", "", microseconds(1));
  }
  const auto rows = metrics.Read();
  EXPECT_TRUE(Has(rows, "late", 5));
  for (int i = 0; i < 10; ++i) {
    EXPECT_TRUE(Has(rows, "good" + std::to_string(i), 100)) << i;
  }
  // Not more often than it says.
  const size_t size = rows.size();
  for (int i = 0; i < kNames; ++i) {
    metrics.RecordExecute("more" + std::to_string(i), "", microseconds(1));
  }
  metrics.MakeRoom(now + seconds(9));
  EXPECT_GT(metrics.Read().size(), size);
  metrics.MakeRoom(now + seconds(10));
  EXPECT_LE(metrics.Read().size(), size_t{kNames - kNames / 4 + 1});
}

TEST(ExecuteTableTest, AnEntryThatWasResolvedBeforeItsEvictionIsNotUsed) {
  CallMetrics metrics(1);
  const std::string_view target = "seldom";
  CallMetrics::EntryRef ref;
  metrics.Resolve(target, absl::HashOf(target), &ref);
  metrics.RecordExecute(target, "", microseconds(1), &ref);
  // Resolve adds no entry, so the first ref named none.
  metrics.Resolve(target, absl::HashOf(target), &ref);
  metrics.RecordExecute(target, "", microseconds(1), &ref);
  EXPECT_TRUE(Has(metrics.Read(), "seldom", 2));
  for (size_t i = 1; i < CallMetrics::kLeastTargets; ++i) {
    for (int n = 0; n < 3; ++n) {
      metrics.RecordExecute("t" + std::to_string(i), "", microseconds(1));
    }
  }
  metrics.MakeRoom(Instant{std::chrono::hours(1)});
  EXPECT_FALSE(Has(metrics.Read(), "seldom", 2));
  const uint64_t before = Sum(metrics.Read());
  // A call that resolved its target before the eviction ends after it.
  metrics.RecordExecute(target, "", microseconds(1), &ref);
  EXPECT_TRUE(Has(metrics.Read(), "seldom", 1));
  metrics.Resolve(target, absl::HashOf(target), &ref);
  metrics.RecordExecute(target, "", microseconds(1), &ref);
  EXPECT_TRUE(Has(metrics.Read(), "seldom", 2));
  EXPECT_EQ(Sum(metrics.Read()), before + 2);
}

// Fills the table with names of a few calls each, and makes room.
void Evict(CallMetrics* metrics, Instant now) {
  for (size_t i = 1; i < CallMetrics::kLeastTargets; ++i) {
    for (int n = 0; n < 3; ++n) {
      metrics->RecordExecute("t" + std::to_string(i), "", microseconds(1));
    }
  }
  metrics->MakeRoom(now);
}

TEST(ExecuteTableTest, ATargetWithARunningCallIsNotEvicted) {
  CallMetrics metrics(1);
  auto running = metrics.Begin("long", CallKind::kStream, {});
  metrics.Confirm("long", {}, &running);
  Evict(&metrics, Instant{std::chrono::hours(1)});
  metrics.End("long", {}, "", seconds(100), "", Instant{}, &running);
  EXPECT_TRUE(Has(metrics.Read(), "long", 1));
}

TEST(ExecuteTableTest, NoRunningCallIsLostWhileThreadsRecordAndNamesLeave) {
  CallMetrics metrics(1);
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> recorded{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      uint64_t mine = 0;
      std::vector<CallMetrics::EntryRef> refs(5003);
      for (int i = t; !stop || mine < 5000; i = (i * 31 + 7) % 5003, ++mine) {
        const std::string target = "t" + std::to_string(i);
        metrics.Resolve(target, absl::HashOf(std::string_view(target)),
                        &refs[i]);
        auto running = metrics.Begin(target, CallKind::kExecute, refs[i]);
        if (mine % 3 != 0) metrics.Confirm(target, refs[i], &running);
        metrics.RecordBytes(running, 1, 1);
        metrics.End(target, refs[i], "", microseconds(1), "", Instant{},
                    &running);
      }
      recorded += mine;
    });
  }
  Instant now{std::chrono::hours(1)};
  for (int i = 0; i < 200; ++i) {
    metrics.MakeRoom(now += seconds(10));
    for (const auto& row : metrics.Read()) EXPECT_GE(row.running[0], 0);
  }
  stop = true;
  for (auto& thread : threads) thread.join();
  for (int i = 0; i < 3; ++i) metrics.MakeRoom(now += seconds(10));
  uint64_t bytes = 0;
  int64_t running = 0;
  for (const auto& row : metrics.Read()) {
    bytes += row.bytes_sent;
    running += row.running[0];
  }
  EXPECT_EQ(Sum(metrics.Read()), recorded);
  EXPECT_EQ(bytes, recorded);
  EXPECT_EQ(running, 0);
}

TEST(ExecuteTableTest, NothingIsLostWhileThreadsRecordAndNamesLeave) {
  CallMetrics metrics(1);
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> recorded{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      uint64_t mine = 0;
      // Every second call has resolved its target, maybe long ago.
      std::vector<CallMetrics::EntryRef> refs(5003);
      for (int i = t; !stop || mine < 5000; i = (i * 31 + 7) % 5003, ++mine) {
        const std::string target = "t" + std::to_string(i);
        if (mine % 4 == 0) {
          metrics.Resolve(target, absl::HashOf(std::string_view(target)),
                          &refs[i]);
        }
        metrics.RecordExecute(target, "", microseconds(1),
                              mine % 2 == 0 ? &refs[i] : nullptr);
      }
      recorded += mine;
    });
  }
  Instant now{std::chrono::hours(1)};
  uint64_t last = 0;
  for (int i = 0; i < 200; ++i) {
    metrics.MakeRoom(now += seconds(10));
    const uint64_t sum = Sum(metrics.Read());
    EXPECT_GE(sum, last);
    last = sum;
  }
  stop = true;
  for (auto& thread : threads) thread.join();
  for (int i = 0; i < 3; ++i) metrics.MakeRoom(now += seconds(10));
  EXPECT_EQ(Sum(metrics.Read()), recorded);
}

}  // namespace
}  // namespace hotline::server
