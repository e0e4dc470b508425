// Acquire with a request_id, which makes it repeatable.
#include "tests/pool/pool_fixture.h"

namespace hotline::pool {
namespace {

class RequestIdTest : public PoolTest {};

TEST_F(RequestIdTest, ReturnsTheSameLeaseWhileItIsHeld) {
  Caller& first = Lent({.request_id = "r"});
  Pass(seconds(3));
  Caller& again = Acquire({.request_id = "r"});
  ASSERT_TRUE(again.granted());
  EXPECT_EQ(again.lease(), first.lease());
  EXPECT_EQ(again.grant().expires, first.grant().expires);
  EXPECT_EQ(Row().leases, 1);
  EXPECT_EQ(dials(), 0u);
}

TEST_F(RequestIdTest, TakesOverThePlaceInLine) {
  target_.max_connections = 1;
  Caller& holder = Lent();
  Caller& first = Acquire({.request_id = "r"});
  Caller& other = Acquire();
  Caller& again = Acquire({.request_id = "r"});
  ASSERT_TRUE(first.rejected());
  EXPECT_EQ(first.reason(), RejectReason::kSuperseded);
  EXPECT_FALSE(Cancel(first)) << "the place belongs to the repetition";
  EXPECT_EQ(Row().waiters, 2);
  Release(holder);
  EXPECT_TRUE(again.granted());
  EXPECT_TRUE(other.waiting());
}

TEST_F(RequestIdTest, TheDeadlineOfTheRepetitionCounts) {
  target_.max_connections = 1;
  Lent();
  Acquire({.wait = seconds(2), .request_id = "r"});
  Pass(seconds(1));
  Caller& again = Acquire({.wait = seconds(5), .request_id = "r"});
  Pass(seconds(4));
  EXPECT_TRUE(again.waiting());
  Pass(seconds(2));
  ASSERT_TRUE(again.rejected());
  EXPECT_EQ(again.reason(), RejectReason::kWaitTimeout);
}

TEST_F(RequestIdTest, ANoWaitRepetitionLeavesThePlaceToTheFirst) {
  target_.max_connections = 1;
  Caller& holder = Lent();
  Caller& first = Acquire({.request_id = "r"});
  Caller& hasty = Acquire({.may_wait = false, .request_id = "r"});
  EXPECT_EQ(hasty.reason(), RejectReason::kNoIdleConnection);
  Release(holder);
  EXPECT_TRUE(first.granted());
}

TEST_F(RequestIdTest, OtherParametersAreAConflict) {
  Lent({.request_id = "r"});
  for (const Ask& other : {Ask{.ttl = seconds(31), .request_id = "r"},
                           Ask{.reuse = Reuse::kForceNew, .request_id = "r"},
                           Ask{.request_id = "r", .group = "g"},
                           Ask{.mode = Mode::kExclusive, .request_id = "r"}}) {
    Caller& caller = Acquire(other);
    ASSERT_TRUE(caller.rejected());
    EXPECT_EQ(caller.reason(), RejectReason::kIdConflict);
  }
  EXPECT_EQ(Row().leases, 1);
}

TEST_F(RequestIdTest, OtherParametersAreAConflictWhileWaiting) {
  Caller& first = Acquire({.request_id = "r"});
  Caller& other = Acquire({.ttl = seconds(31), .request_id = "r"});
  EXPECT_EQ(other.reason(), RejectReason::kIdConflict);
  Dialed();
  EXPECT_TRUE(first.granted());
}

TEST_F(RequestIdTest, IsFreeAgainAfterTheRelease) {
  Caller& first = Lent({.request_id = "r"});
  Release(first);
  Caller& again = Acquire({.ttl = seconds(3), .request_id = "r"});
  ASSERT_TRUE(again.granted());
  EXPECT_NE(again.lease(), first.lease());
}

TEST_F(RequestIdTest, IsFreeAgainAfterCancelAndRejection) {
  Caller& cancelled = Acquire({.request_id = "r"});
  Cancel(cancelled);
  Caller& refused = Acquire({.ttl = seconds(3), .request_id = "r"});
  EXPECT_TRUE(refused.waiting());
  DialFailed();
  EXPECT_TRUE(refused.rejected());
  EXPECT_TRUE(Acquire({.ttl = seconds(4), .request_id = "r"}).waiting());
}

TEST_F(RequestIdTest, IsFreeAgainAfterTheLeaseEndedEvenUnticked) {
  Caller& first = Lent({.ttl = seconds(5), .request_id = "r"});
  now_ += seconds(6);
  Caller& again = Acquire({.ttl = seconds(5), .request_id = "r"});
  EXPECT_TRUE(again.waiting());
  EXPECT_EQ(OnlyClose(), CloseReason::kExpired);
  EXPECT_EQ(Release(first), LeaseStatus::kEnded);
}

TEST_F(RequestIdTest, BelongsToOneTarget) {
  Caller& a = Lent({.target = kA, .request_id = "r"});
  Caller& b = Lent({.target = kB, .ttl = seconds(3), .request_id = "r"});
  EXPECT_NE(a.conn(), b.conn());
}

// --- Release by it ---

TEST_F(RequestIdTest, ReleaseEndsTheLease) {
  Caller& caller = Lent({.request_id = "r"});
  EXPECT_EQ(ReleaseNamed("r"), LeaseStatus::kOk);
  EXPECT_EQ(Row().leases, 0);
  EXPECT_EQ(Row().idle, 1);
  EXPECT_EQ(Release(caller), LeaseStatus::kEnded);
  EXPECT_EQ(ReleaseNamed("r"), LeaseStatus::kEnded);
}

TEST_F(RequestIdTest, ReleaseOfAnUnknownOneChangesNothing) {
  EXPECT_EQ(ReleaseNamed("r"), LeaseStatus::kEnded) << "an unknown target";
  Lent({.request_id = "other"});
  Lent();
  EXPECT_EQ(ReleaseNamed("r"), LeaseStatus::kEnded);
  EXPECT_EQ(ReleaseNamed(""), LeaseStatus::kEnded);
  EXPECT_EQ(Row().leases, 2);
}

TEST_F(RequestIdTest, ReleaseEndsTheWait) {
  target_.max_connections = 1;
  Caller& holder = Lent();
  Caller& gone = Acquire({.request_id = "r"});
  Caller& next = Acquire();
  EXPECT_EQ(ReleaseNamed("r"), LeaseStatus::kOk);
  ASSERT_TRUE(gone.rejected());
  EXPECT_EQ(gone.reason(), RejectReason::kSuperseded);
  EXPECT_EQ(Row().waiters, 1);
  EXPECT_EQ(ReleaseNamed("r"), LeaseStatus::kEnded);
  Release(holder);
  EXPECT_TRUE(next.granted());
}

TEST_F(RequestIdTest, ReleaseOfAnExpiredLeaseFindsItEnded) {
  Lent({.ttl = seconds(1), .request_id = "r"});
  now_ += seconds(2);  // Without the tick.
  EXPECT_EQ(ReleaseNamed("r"), LeaseStatus::kEnded);
  EXPECT_EQ(Counters().leases_expired, 1u);
}

TEST_F(RequestIdTest, ReleaseDuringACallNamesTheCall) {
  Caller& caller = Lent({.request_id = "r"});
  BeginCall(caller.lease(), 9);
  CallTag running = 0;
  EXPECT_EQ(ReleaseNamed("r", Outcome::kBroken, &running), LeaseStatus::kOk);
  EXPECT_EQ(running, 9u);
  EXPECT_EQ(OnlyClose(), CloseReason::kBroken);
  EXPECT_EQ(Row().leases, 1);
  EXPECT_EQ(ReleaseNamed("r"), LeaseStatus::kEnded);
  EndCall(caller.lease());
  EXPECT_EQ(Row().leases, 0);
}

}  // namespace
}  // namespace hotline::pool
