// TargetHealth: what each event changes.
#include "pool/target_health.h"

#include <gtest/gtest.h>

#include "pool/dial_backoff.h"

namespace hotline::pool {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using Step = TargetHealth::BreakerStep;

class TargetHealthTest : public ::testing::Test {
 protected:
  TargetHealthTest() {
    config_.breaker_failures = 2;
    config_.desync_limit = 1;
  }
  Step Fail() {
    now_ += seconds(1);
    return health_.OnDialFailed({}, now_, now_);
  }

  TargetConfig config_;
  TargetHealth health_{&config_};
  Instant now_ = Instant{} + minutes(60);
};

TEST_F(TargetHealthTest, TheBreakerOpensAndASuccessClosesIt) {
  EXPECT_EQ(Fail(), Step::kNone);
  EXPECT_EQ(health_.last_dial_error(), "CONNECT_FAILED");
  EXPECT_EQ(Fail(), Step::kOpened);
  EXPECT_TRUE(health_.breaker().Bars(now_));
  EXPECT_EQ(health_.OnDialed({}, now_), Step::kClosed);
  EXPECT_EQ(health_.OnDialed({}, now_), Step::kNone);
  EXPECT_EQ(health_.last_dial_error(), "");
}

TEST_F(TargetHealthTest, AfterAnEarlyEndOnlyAPassedProbationIsASuccess) {
  Fail();
  EXPECT_EQ(health_.OnEndedEarly({}, now_, now_), Step::kOpened);
  EXPECT_EQ(health_.OnDialed({}, now_), Step::kNone);
  EXPECT_EQ(health_.OnProved(), Step::kClosed);
  EXPECT_EQ(health_.OnProved(), Step::kNone);
}

TEST_F(TargetHealthTest, ReconfigureClosesADisabledBreaker) {
  Fail();
  Fail();
  EXPECT_EQ(health_.Reconfigure(), Step::kNone);
  config_.breaker_failures = 0;
  EXPECT_EQ(health_.Reconfigure(), Step::kClosed);
}

TEST_F(TargetHealthTest, IdleTimesFollowTheLowestKnownLimit) {
  EXPECT_EQ(health_.idle_for(), config_.idle_timeout);
  EXPECT_EQ(health_.lend_for(), config_.check_interval);
  EXPECT_EQ(health_.usable_idle(), Duration::max());
  EXPECT_TRUE(health_.OnKeepAliveSaid(seconds(5), now_));
  EXPECT_FALSE(health_.OnKeepAliveSaid(seconds(9), now_));
  EXPECT_EQ(health_.idle_for(), milliseconds(4500));
  EXPECT_EQ(health_.lend_for(), milliseconds(4500));
  EXPECT_FALSE(health_.OnClosedIdle(seconds(2), now_));
  EXPECT_TRUE(health_.OnClosedIdle(seconds(2), now_ + seconds(10)));
  EXPECT_EQ(health_.idle_for(), milliseconds(1500));
  // A new connection drops what is outdated.
  health_.OnDialed({}, now_ + minutes(20));
  EXPECT_EQ(health_.idle_for(), config_.idle_timeout);
}

TEST_F(TargetHealthTest, QuarantineMakesIdleConnectionsUnusable) {
  EXPECT_TRUE(health_.OnUnsolicited(now_));
  EXPECT_FALSE(health_.OnUnsolicited(now_)) << "it had begun";
  EXPECT_TRUE(health_.no_reuse());
  EXPECT_EQ(health_.usable_idle(), Duration(0));
  TargetRow row;
  health_.FillRow(now_, &row);
  EXPECT_EQ(row.no_reuse_for, Quarantine::kLength);
  health_.OnDialed({}, now_ + Quarantine::kLength);
  EXPECT_FALSE(health_.no_reuse());
  EXPECT_EQ(health_.usable_idle(), Duration::max());
}

TEST_F(TargetHealthTest, MoveFloorReturnsTheChange) {
  config_.warm_max = 10;
  EXPECT_EQ(health_.MoveFloor(1), 0);
  health_.OnDialed({.connect = milliseconds(100)}, now_);
  health_.SampleArrivals(0, now_);
  health_.SampleArrivals(5000, now_ + seconds(100));
  EXPECT_EQ(health_.MoveFloor(1), 5);
  EXPECT_EQ(health_.floor(), 5);
  config_.warm_max = 2;
  EXPECT_EQ(health_.MoveFloor(1), -3);
}

TEST(DialBackoffTest, DoublesUpToTheCap) {
  DialBackoff backoff;
  Instant now = Instant{} + minutes(60);
  for (const int most_ms : {50, 100, 200, 400, 500, 500}) {
    now += minutes(1);
    EXPECT_TRUE(
        backoff.OnFailure(milliseconds(50), milliseconds(500), 0.5, now, now));
    EXPECT_EQ(backoff.until(), now + milliseconds(most_ms) / 2);
    EXPECT_TRUE(backoff.active(now));
    EXPECT_FALSE(backoff.active(backoff.until()));
  }
  EXPECT_EQ(backoff.failures(), 6);
  backoff.Reset();
  EXPECT_EQ(backoff.failures(), 0);
  EXPECT_FALSE(backoff.active(now));
}

TEST(DialBackoffTest, ConcurrentDialsCountAsOneFailure) {
  DialBackoff backoff;
  const Instant began = Instant{} + minutes(60);
  const auto fail = [&](Instant now) {
    return backoff.OnFailure(seconds(1), seconds(1), 0.5, began, now);
  };
  EXPECT_TRUE(fail(began + seconds(1)));
  EXPECT_FALSE(fail(began + seconds(2)));
  EXPECT_EQ(backoff.failures(), 1);
}

TEST(DialBackoffTest, ManyFailuresDoNotOverflow) {
  DialBackoff backoff;
  Instant now = Instant{} + minutes(60);
  for (int i = 0; i < 100; ++i) {
    now += minutes(1);
    backoff.OnFailure(milliseconds(50), seconds(1), 0.999, now, now);
    EXPECT_LE(backoff.until(), now + seconds(1));
  }
}

}  // namespace
}  // namespace hotline::pool
