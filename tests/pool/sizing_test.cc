// The pure functions of sizing.h.
#include "pool/sizing.h"

#include <gtest/gtest.h>

#include <ostream>
#include <string>

namespace hotline::pool {
namespace {

struct Row {
  const char* name;
  SizingNumbers numbers;
  int wanted;   // Without limits.
  int to_dial;  // Within them.
};

std::ostream& operator<<(std::ostream& out, const Row& row) {
  return out << row.name;
}

// In the order of SizingNumbers: waiters, new_only, floor_missing, dialing,
// streams, connection_room, dial_room, backing_off.
const Row kRows[] = {
    {"NothingIsNeeded", {0, 0, 0, 0, 1, 10, 4, false}, 0, 0},
    {"OneForEachWaiter", {3, 0, 0, 0, 1, 10, 4, false}, 3, 3},
    {"DialsUnderWayCount", {3, 0, 0, 2, 1, 10, 4, false}, 1, 1},
    {"MoreDialsThanWaiters", {1, 0, 0, 3, 1, 10, 4, false}, 0, 0},
    {"NoMoreThanConnectionRoom", {5, 0, 0, 0, 1, 2, 4, false}, 5, 2},
    {"NoMoreThanDialRoom", {5, 0, 0, 0, 1, 10, 1, false}, 5, 1},
    {"NoRoomAtAll", {5, 0, 0, 0, 1, 0, 4, false}, 5, 0},
    {"OverTheLimit", {5, 0, 0, 0, 1, -3, 4, false}, 5, 0},
    {"OverTheLimitOnDials", {5, 0, 0, 0, 1, 4, -1, false}, 5, 0},
    {"BackingOff", {5, 2, 1, 0, 1, 10, 4, true}, 0, 0},
    {"SlotsShareOneDial", {100, 0, 0, 0, 100, 10, 4, false}, 1, 1},
    {"OneWaiterTooMany", {101, 0, 0, 0, 100, 10, 4, false}, 2, 2},
    {"ManySlotsUnderWay", {101, 0, 0, 1, 100, 10, 4, false}, 1, 1},
    {"UnknownSlotsDialOneToLearn", {50, 0, 0, 0, 0, 10, 4, false}, 1, 1},
    {"UnknownSlotsLearningAlready", {50, 0, 0, 1, 0, 10, 4, false}, 0, 0},
    {"UnknownSlotsForNew", {0, 3, 0, 0, 0, 10, 4, false}, 1, 1},
    {"UnknownSlotsForFloor", {0, 0, 2, 0, 0, 10, 4, false}, 1, 1},
    {"UnknownSlotsNothingNeeded", {0, 0, 0, 0, 0, 10, 4, false}, 0, 0},
    {"NewOnlyOneEach", {0, 3, 0, 0, 100, 10, 4, false}, 3, 3},
    {"NewOnesCarryOthers", {99, 1, 0, 0, 100, 10, 4, false}, 1, 1},
    {"NewOnesCarryOthersNotAll", {100, 1, 0, 0, 100, 10, 4, false}, 2, 2},
    {"NewOnHttp1CarryNoOthers", {2, 2, 0, 0, 1, 10, 8, false}, 4, 4},
    {"FloorAlone", {0, 0, 2, 0, 1, 10, 4, false}, 2, 2},
    {"FloorLessDialing", {0, 0, 2, 1, 1, 10, 4, false}, 1, 1},
    {"FloorAboveWaiters", {1, 0, 3, 0, 1, 10, 4, false}, 3, 3},
    {"WaitersAboveFloor", {3, 0, 1, 0, 1, 10, 4, false}, 3, 3},
    {"HugeNumbersDoNotOverflow",
     {1 << 30, 1 << 29, 0, 0, 1, 10, 4, false},
     3 << 29,
     4},
};

class SizingTest : public ::testing::TestWithParam<Row> {};

TEST_P(SizingTest, AgreesWithTheTable) {
  const Row& row = GetParam();
  EXPECT_EQ(ConnectionsWanted(row.numbers), row.wanted);
  EXPECT_EQ(ConnectionsToDial(row.numbers), row.to_dial);
}

INSTANTIATE_TEST_SUITE_P(Rows, SizingTest, ::testing::ValuesIn(kRows),
                         [](const auto& info) {
                           return std::string(info.param.name);
                         });

TEST(AdaptiveFloorTest, IsArrivalsTimesDialTimeWithinItsBounds) {
  const auto floor = [](double arrivals, int dial_ms, int streams = 1) {
    return AdaptiveFloor({.least = 2,
                          .most = 20,
                          .arrivals_per_second = arrivals,
                          .dial_time = std::chrono::milliseconds(dial_ms),
                          .streams = streams});
  };
  EXPECT_EQ(floor(100, 50), 5);
  EXPECT_EQ(floor(100, 54), 5);
  EXPECT_EQ(floor(100, 55), 6);
  EXPECT_EQ(floor(0, 50), 2);
  EXPECT_EQ(floor(10, 50), 2);
  EXPECT_EQ(floor(1000, 50), 20);
  EXPECT_EQ(floor(1e9, 1000), 20);
  EXPECT_EQ(floor(1000, 50, 10), 5) << "each has ten slots";
  EXPECT_EQ(floor(100, 50, 0), 5) << "unknown slots count as one";
}

TEST(AdaptiveFloorTest, IsFixedIfMostIsNotAboveLeast) {
  for (int most : {0, 3}) {
    EXPECT_EQ(AdaptiveFloor({.least = 3,
                             .most = most,
                             .arrivals_per_second = 1000,
                             .dial_time = std::chrono::seconds(1),
                             .streams = 1}),
              3);
  }
}

TEST(EstimatedWaitTest, IsTheDialTimeIfADialServesTheCaller) {
  WaitNumbers n{.place = 1,
                .dialing = 0,
                .dials_to_come = 1,
                .streams = 1,
                .dial_time = std::chrono::milliseconds(80),
                .lent = 10,
                .lease_time = std::chrono::seconds(1)};
  EXPECT_EQ(EstimatedWait(n), std::chrono::milliseconds(80));
  n.place = 3;
  n.dialing = 2;
  EXPECT_EQ(EstimatedWait(n), std::chrono::milliseconds(80));
  n.place = 4;
  EXPECT_EQ(EstimatedWait(n), std::chrono::seconds(1));
  n.streams = 2;
  EXPECT_EQ(EstimatedWait(n), std::chrono::milliseconds(80));
}

TEST(EstimatedWaitTest, IsRoundsOfLeasesOtherwise) {
  WaitNumbers n{.place = 10,
                .dialing = 0,
                .dials_to_come = 0,
                .streams = 1,
                .dial_time = std::chrono::milliseconds(80),
                .lent = 10,
                .lease_time = std::chrono::seconds(1)};
  EXPECT_EQ(EstimatedWait(n), std::chrono::seconds(1));
  n.place = 11;
  EXPECT_EQ(EstimatedWait(n), std::chrono::seconds(2));
  n.lent = 0;
  EXPECT_EQ(EstimatedWait(n), Duration(0)) << "unknown";
}

TEST(MovingRateTest, FollowsTheRateAndDecays) {
  MovingRate rate;
  Instant now = Instant{} + std::chrono::hours(1);
  uint64_t count = 5000;  // Before the first sample.
  rate.Sample(count, now);
  EXPECT_EQ(rate.per_second(), 0);
  for (int i = 0; i < 10; ++i) {
    rate.Sample(count += 100, now += std::chrono::seconds(1));
  }
  EXPECT_NEAR(rate.per_second(), 63.2, 0.1);  // 1 - 1/e of it.
  for (int i = 0; i < 50; ++i) {
    rate.Sample(count += 100, now += std::chrono::seconds(1));
  }
  EXPECT_NEAR(rate.per_second(), 100, 1);
  rate.Sample(count, now);  // At the same time: no new rate.
  EXPECT_NEAR(rate.per_second(), 100, 1);
  rate.Sample(count, now += std::chrono::minutes(2));
  EXPECT_LT(rate.per_second(), 0.01);
}

TEST(MovingDurationTest, BeginsWithTheFirstValueAndFollowsSlowly) {
  MovingDuration mean;
  mean.Add(std::chrono::milliseconds(100));
  EXPECT_EQ(mean.mean(), std::chrono::milliseconds(100));
  mean.Add(std::chrono::milliseconds(600));
  EXPECT_EQ(mean.mean(), std::chrono::milliseconds(200));
}

}  // namespace
}  // namespace hotline::pool
