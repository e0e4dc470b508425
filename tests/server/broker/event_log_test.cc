#include "server/broker/event_log.h"

#include <atomic>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace hotline::server {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr char kA[] = "https://a.test:443";
constexpr char kB[] = "https://b.test:443";

class EventLogTest : public testing::Test {
 protected:
  // Each in a second of its own, so that none is left out.
  void Add(const std::string& target = kA,
           v1::EventKind kind = v1::EVENT_KIND_READY) {
    now_ += seconds(1);
    log_.Add({.kind = kind, .target = target}, now_);
  }

  static std::vector<uint64_t> Numbers(const std::vector<EventPtr>& events) {
    std::vector<uint64_t> numbers;
    for (const EventPtr& event : events) numbers.push_back(event->sequence);
    return numbers;
  }
  using Sequences = std::vector<uint64_t>;

  Instant now_ = Instant{} + seconds(1000);
  EventLog log_{/*capacity=*/4};
};

TEST_F(EventLogTest, AnEmptyLogHasNothing) {
  EXPECT_EQ(log_.last(), 0u);
  const EventLog::Page page = log_.Read(0, {}, 10);
  EXPECT_TRUE(page.events.empty());
  EXPECT_EQ(page.sequence, 0u);
  EXPECT_EQ(page.gap_first, 0u);
  EXPECT_TRUE(log_.Recent(kA).empty());
}

TEST_F(EventLogTest, EventsAreNumberedFromOne) {
  Add();
  Add();
  EXPECT_EQ(log_.last(), 2u);
  EXPECT_EQ(Numbers(log_.Read(0, {}, 10).events), (Sequences{1, 2}));
}

TEST_F(EventLogTest, AReaderResumesAfterANumber) {
  for (int i = 0; i < 3; ++i) Add();
  EventLog::Page page = log_.Read(0, {}, 2);
  EXPECT_EQ(Numbers(page.events), (Sequences{1, 2}));
  EXPECT_EQ(page.sequence, 2u);
  page = log_.Read(page.sequence, {}, 2);
  EXPECT_EQ(Numbers(page.events), (Sequences{3}));
  EXPECT_EQ(page.gap_first, 0u);
  EXPECT_TRUE(log_.Read(page.sequence, {}, 2).events.empty());
}

TEST_F(EventLogTest, WhatWasOverwrittenIsAGap) {
  for (int i = 0; i < 10; ++i) Add();
  const EventLog::Page page = log_.Read(2, {}, 10);
  EXPECT_EQ(page.gap_first, 3u);
  EXPECT_EQ(page.gap_last, 6u);
  EXPECT_EQ(Numbers(page.events), (Sequences{7, 8, 9, 10}));
  EXPECT_EQ(log_.Read(6, {}, 10).gap_first, 0u) << "7 is still kept";
}

TEST_F(EventLogTest, AFilterSkipsButCounts) {
  Add(kA);
  Add(kB, v1::EVENT_KIND_CLOSED);
  Add(kB);
  EventLog::Page page = log_.Read(0, {.target = kB}, 10);
  EXPECT_EQ(Numbers(page.events), (Sequences{2, 3}));
  page = log_.Read(
      0, {.target = kB, .kinds = uint64_t{1} << v1::EVENT_KIND_CLOSED}, 10);
  EXPECT_EQ(Numbers(page.events), (Sequences{2}));
  EXPECT_EQ(page.sequence, 3u);
}

TEST_F(EventLogTest, AReadLooksAtABoundedNumberOfEvents) {
  EventLog log;
  for (int i = 0; i < 1000; ++i) {
    now_ += seconds(1);
    log.Add({.kind = v1::EVENT_KIND_READY, .target = kA}, now_);
  }
  EventLog::Page page = log.Read(0, {.target = kB}, 10);
  EXPECT_TRUE(page.events.empty());
  EXPECT_LT(page.sequence, 1000u);
  int reads = 1;
  while (page.sequence < log.last()) {
    page = log.Read(page.sequence, {.target = kB}, 10);
    ++reads;
  }
  EXPECT_LT(reads, 10);
}

TEST_F(EventLogTest, EachTargetKeepsItsLastEvents) {
  for (int i = 0; i < 20; ++i) Add(kA);
  Add(kB);
  const std::vector<EventPtr> recent = log_.Recent(kA);
  ASSERT_EQ(recent.size(), EventLog::kRecorded);
  EXPECT_EQ(recent.front()->sequence, 5u);
  EXPECT_EQ(recent.back()->sequence, 20u) << "longer than the log itself";
  EXPECT_EQ(Numbers(log_.Recent(kA, 2)), (Sequences{19, 20}));
  EXPECT_EQ(Numbers(log_.Recent(kB)), (Sequences{21}));
}

TEST_F(EventLogTest, TheRecorderOfTheQuietestTargetMakesRoom) {
  const auto name = [](size_t i) { return absl::StrCat("http://", i, ":80"); };
  for (size_t i = 0; i < EventLog::kRecorders; ++i) Add(name(i));
  Add(name(0));  // Now the quietest is 1.
  Add(kA);
  EXPECT_EQ(log_.Recent(name(0)).size(), 2u);
  EXPECT_TRUE(log_.Recent(name(1)).empty());
  EXPECT_EQ(log_.Recent(name(2)).size(), 1u);
}

TEST_F(EventLogTest, AStormOfOneKindIsThinnedOutAndSaysSo) {
  EventLog log;
  for (int i = 0; i < EventLog::kMostPerSecond + 50; ++i) {
    log.Add({.kind = v1::EVENT_KIND_CLOSED, .target = kA}, now_);
  }
  EXPECT_EQ(log.last(), static_cast<uint64_t>(EventLog::kMostPerSecond));
  // Others are not affected.
  log.Add({.kind = v1::EVENT_KIND_READY, .target = kA}, now_);
  log.Add({.kind = v1::EVENT_KIND_CLOSED, .target = kB}, now_);
  log.Add({.kind = v1::EVENT_KIND_CLOSED, .target = kA}, now_ + seconds(1));
  const uint64_t last = log.last();
  EXPECT_EQ(last, static_cast<uint64_t>(EventLog::kMostPerSecond) + 3);
  const EventLog::Page page = log.Read(last - 3, {}, 10);
  ASSERT_EQ(page.events.size(), 3u);
  EXPECT_EQ(page.events[0]->suppressed, 0u);
  EXPECT_EQ(page.events[1]->suppressed, 0u);
  EXPECT_EQ(page.events[2]->suppressed, 50u);
  log.Add({.kind = v1::EVENT_KIND_CLOSED, .target = kA},
          now_ + milliseconds(1001));
  EXPECT_EQ(log.Read(last, {}, 10).events.at(0)->suppressed, 0u);
}

TEST_F(EventLogTest, LongTextIsCutBetweenCharacters) {
  std::string text(EventLog::kMostTextBytes - 1, 'x');
  log_.Add({.kind = v1::EVENT_KIND_DNS, .text = text + "\u00e9 and more"},
           now_);
  EXPECT_EQ(log_.Read(0, {}, 1).events.at(0)->text, text);
}

TEST_F(EventLogTest, ReadersSeeEachEventOrAGapWhileOthersAreAdded) {
  constexpr int kThreads = 3;
  constexpr int kEach = 20'000;
  EventLog log(64);
  std::vector<std::thread> adders;
  for (int t = 0; t < kThreads; ++t) {
    adders.emplace_back([&log, t] {
      Instant now = Instant{} + seconds(1);
      for (int i = 0; i < kEach; ++i) {
        now += seconds(1);
        log.Add({.kind = v1::EVENT_KIND_READY, .target = absl::StrCat(t)}, now);
      }
    });
  }
  uint64_t at = 0;
  uint64_t seen = 0;
  uint64_t missed = 0;
  while (at < uint64_t{kThreads} * kEach) {
    const EventLog::Page page = log.Read(at, {}, 16);
    uint64_t next = at + 1;
    if (page.gap_first != 0) {
      EXPECT_EQ(page.gap_first, next);
      missed += page.gap_last - page.gap_first + 1;
      next = page.gap_last + 1;
    }
    for (const EventPtr& event : page.events) {
      ASSERT_EQ(event->sequence, next++);
      ++seen;
    }
    at = page.sequence;
    ASSERT_EQ(at + 1, next);
  }
  for (std::thread& adder : adders) adder.join();
  EXPECT_EQ(seen + missed, uint64_t{kThreads} * kEach);
  EXPECT_EQ(log.last(), uint64_t{kThreads} * kEach);
}

}  // namespace
}  // namespace hotline::server
