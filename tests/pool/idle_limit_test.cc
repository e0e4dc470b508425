// How the pool learns how long an upstream keeps idle connections.
#include "pool/idle_limit.h"

#include "gtest/gtest.h"

namespace hotline::pool {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

class IdleLimitTest : public ::testing::Test {
 protected:
  bool ClosedAfter(Duration idle) {
    now_ += seconds(10);
    return limit_.OnClosed(idle, now_);
  }

  IdleLimit limit_;
  Instant now_ = Instant{} + minutes(60);
};

TEST_F(IdleLimitTest, IsUnknownAtFirst) {
  EXPECT_EQ(limit_.limit(), IdleLimit::kNone);
  EXPECT_EQ(limit_.usable(), IdleLimit::kNone);
}

TEST_F(IdleLimitTest, TwoClosesThatAgreeSetTheLimit) {
  EXPECT_FALSE(ClosedAfter(milliseconds(5003)));
  EXPECT_EQ(limit_.limit(), IdleLimit::kNone);
  EXPECT_TRUE(ClosedAfter(milliseconds(5001)));
  EXPECT_EQ(limit_.limit(), milliseconds(5001));
  EXPECT_EQ(limit_.usable(), Duration(milliseconds(5001)) * 9 / 10);
}

TEST_F(IdleLimitTest, ClosesAgreeWithinATenth) {
  ClosedAfter(seconds(10));
  EXPECT_TRUE(ClosedAfter(seconds(9)));
  IdleLimit other;
  other.OnClosed(seconds(10), now_);
  EXPECT_FALSE(other.OnClosed(milliseconds(8999), now_ + seconds(10)));
}

TEST_F(IdleLimitTest, ClosesWithinOneSecondCountAsOne) {
  for (int i = 0; i < 50; ++i) {
    EXPECT_FALSE(limit_.OnClosed(seconds(20), now_ + milliseconds(i)));
  }
  EXPECT_FALSE(limit_.OnClosed(seconds(20), now_ + milliseconds(999)));
  EXPECT_TRUE(limit_.OnClosed(seconds(20), now_ + milliseconds(1000)));
}

TEST_F(IdleLimitTest, ClosesAtRandomTimesSetNoLimit) {
  for (int idle : {1, 30, 3, 20, 8, 2, 40, 5, 12}) {
    EXPECT_FALSE(ClosedAfter(seconds(idle)));
  }
}

TEST_F(IdleLimitTest, ClosesWithin100MillisecondsAreIgnored) {
  EXPECT_FALSE(ClosedAfter(milliseconds(99)));
  EXPECT_FALSE(ClosedAfter(milliseconds(99)));
  EXPECT_EQ(limit_.limit(), IdleLimit::kNone);
  EXPECT_FALSE(ClosedAfter(milliseconds(100)));
  EXPECT_TRUE(ClosedAfter(milliseconds(100)));
}

TEST_F(IdleLimitTest, AShorterTimeReplacesTheLimit) {
  ClosedAfter(seconds(60));
  ClosedAfter(seconds(60));
  EXPECT_FALSE(ClosedAfter(seconds(5)));
  EXPECT_EQ(limit_.limit(), seconds(60));
  EXPECT_TRUE(ClosedAfter(seconds(5)));
  EXPECT_EQ(limit_.limit(), seconds(5));
}

TEST_F(IdleLimitTest, AnUnconfirmedLimitIsDroppedAfterTenMinutes) {
  ClosedAfter(seconds(5));
  ClosedAfter(seconds(5));
  const Instant learned = now_;
  EXPECT_FALSE(limit_.Forget(learned + minutes(10) - seconds(1)));
  EXPECT_EQ(limit_.limit(), seconds(5));
  EXPECT_TRUE(limit_.Forget(learned + minutes(10)));
  EXPECT_EQ(limit_.limit(), IdleLimit::kNone);
  // Nothing is learned while the upstream closes nothing.
  EXPECT_FALSE(limit_.Forget(learned + minutes(30)));
}

TEST_F(IdleLimitTest, ACloseThatAgreesConfirmsTheLimit) {
  ClosedAfter(seconds(5));
  ClosedAfter(seconds(5));
  now_ += minutes(9);
  EXPECT_FALSE(ClosedAfter(seconds(5)));
  EXPECT_FALSE(limit_.Forget(now_ + minutes(9)));
}

TEST_F(IdleLimitTest, AnAnnouncementHoldsAtOnceAndTheLowestCounts) {
  EXPECT_TRUE(limit_.OnSaid(seconds(60), now_));
  EXPECT_EQ(limit_.limit(), seconds(60));
  EXPECT_TRUE(limit_.OnSaid(seconds(5), now_));
  EXPECT_FALSE(limit_.OnSaid(seconds(60), now_))
      << "it may be another server of the target";
  EXPECT_EQ(limit_.limit(), seconds(5));
  EXPECT_TRUE(limit_.Forget(now_ + minutes(10)));
  EXPECT_TRUE(limit_.OnSaid(seconds(60), now_ + minutes(10)));
  EXPECT_EQ(limit_.limit(), seconds(60));
}

TEST_F(IdleLimitTest, TheLowerOfAnnouncedAndLearnedHolds) {
  limit_.OnSaid(seconds(60), now_);
  ClosedAfter(seconds(5));
  EXPECT_TRUE(ClosedAfter(seconds(5)));
  EXPECT_EQ(limit_.limit(), seconds(5));
}

TEST_F(IdleLimitTest, TheMarginIsATenthWithinBounds) {
  const auto usable = [](Duration said) {
    IdleLimit limit;
    limit.OnSaid(said, Instant{} + minutes(60));
    return limit.usable();
  };
  EXPECT_EQ(usable(seconds(5)), milliseconds(4500));
  EXPECT_EQ(usable(seconds(1)), milliseconds(500));
  EXPECT_EQ(usable(milliseconds(600)), milliseconds(300));
  EXPECT_EQ(usable(seconds(20)), seconds(18));
  EXPECT_EQ(usable(seconds(60)), seconds(55));
  EXPECT_EQ(usable(seconds(600)), seconds(595));
}

}  // namespace
}  // namespace hotline::pool
