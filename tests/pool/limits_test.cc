// Limits: waits that time out, limits of a target and over all targets, changed
// settings, shutdown.
#include "tests/pool/pool_fixture.h"

namespace hotline::pool {
namespace {

class WaitTest : public PoolTest {};

TEST_F(WaitTest, ATimeoutIsExplained) {
  target_.max_connections = 2;
  Lent({.client = "alice"});
  Pass(seconds(1));
  Lent({.client = "bob"});
  Acquire({.wait = seconds(20)});
  Caller& late = Acquire({.wait = seconds(5)});
  Pass(milliseconds(4999));
  EXPECT_TRUE(late.waiting());
  Pass(milliseconds(2));
  ASSERT_TRUE(late.rejected());
  const Rejection& why = late.rejection();
  EXPECT_EQ(why.reason, RejectReason::kWaitTimeout);
  EXPECT_EQ(why.wait.limit, WaitLimit::kTargetConnections);
  EXPECT_EQ(why.wait.limit_value, 2);
  EXPECT_EQ(why.wait.place, 2);
  EXPECT_EQ(why.wait.dials_in_flight, 0);
  EXPECT_GE(why.wait.waited, seconds(5));
  EXPECT_LT(why.wait.waited, seconds(5) + milliseconds(1));
  ASSERT_EQ(why.oldest_holders.size(), 2u);
  EXPECT_EQ(why.oldest_holders[0].holder.client_id, "alice");
  EXPECT_GE(why.oldest_holders[0].age, seconds(6));
  EXPECT_EQ(why.oldest_holders[1].holder.client_id, "bob");
}

TEST_F(WaitTest, ATimeoutNamesAtMostFiveHolders) {
  for (int i = 0; i < 10; ++i) Lent();
  Caller& late = Acquire({.wait = seconds(1)});
  Pass(seconds(2));
  EXPECT_EQ(late.rejection().oldest_holders.size(), 5u);
}

TEST_F(WaitTest, ATimeoutDuringADialSaysSo) {
  Caller& late = Acquire({.wait = seconds(1)});
  Pass(seconds(2));
  ASSERT_TRUE(late.rejected());
  EXPECT_EQ(late.rejection().wait.limit, WaitLimit::kDial);
  EXPECT_EQ(late.rejection().wait.dials_in_flight, 1);
  Dialed();
  EXPECT_EQ(Row().idle, 1);
}

TEST_F(WaitTest, APassedDeadlineIsNotGrantedAlthoughItsTickIsLate) {
  target_.max_connections = 1;
  Caller& holder = Lent();
  Caller& late = Acquire({.wait = seconds(1)});
  Caller& next = Acquire({.wait = seconds(9)});
  now_ += seconds(2);
  Release(holder);
  ASSERT_TRUE(late.rejected());
  EXPECT_EQ(late.reason(), RejectReason::kWaitTimeout);
  EXPECT_TRUE(next.granted());
}

// --- One limit, several HostPools ---

class SiblingTest : public PoolTest {
 protected:
  SiblingTest() { target_.max_connections = 2; }
};

TEST_F(SiblingTest, ABusyHostPoolYieldsAPlaceToOneWithoutConnections) {
  Caller& first = Lent();
  Caller& second = Lent();
  Caller& before = Acquire();
  Caller& stranger = Acquire({.group = "other"});
  Caller& after = Acquire();
  Release(first);  // Serves the caller that came before the stranger.
  EXPECT_TRUE(before.granted());
  Release(second);  // Its place goes to the stranger.
  EXPECT_TRUE(after.waiting());
  EXPECT_EQ(OnlyClose(), CloseReason::kReclaimed);
  Release(before);  // Only one place was owed.
  EXPECT_TRUE(after.granted());
  CloseAll();
  Dialed();
  EXPECT_TRUE(stranger.granted());
}

TEST_F(SiblingTest, ASharedConnectionIsDrainedForAHostPoolWithoutConnections) {
  target_.max_connections = 1;
  Caller& first = Lent({}, /*streams=*/10);
  Caller& beside = Acquire();
  ASSERT_TRUE(beside.granted());
  Caller& stranger = Acquire({.group = "other"});
  EXPECT_EQ(Count(ConnState::kDraining), 1);
  Caller& late = Acquire();
  EXPECT_TRUE(late.waiting());
  Release(first);
  Release(beside);
  CloseAll();
  Dialed(10);
  EXPECT_TRUE(stranger.granted());
  EXPECT_EQ(Count(ConnState::kDraining), 1);  // For `late`, which is next.
}

TEST_F(SiblingTest, NothingIsClosedForAHostPoolThatBacksOff) {
  Caller& first = Lent();
  Caller& stranger = Acquire({.group = "other"});
  DialFailed();
  EXPECT_TRUE(stranger.rejected());
  Lent();
  Caller& again = Acquire({.wait = seconds(9), .group = "other"});
  Caller& after = Acquire();
  Release(first);
  EXPECT_TRUE(after.granted());
  EXPECT_TRUE(again.waiting());
}

// --- Reconfigure ---

class ReconfigureTest : public PoolTest {};

TEST_F(ReconfigureTest, ALowerLimitRetiresIdleConnectionsOnly) {
  Caller& holder = Lent();
  Caller& other = Lent();
  Caller& third = Lent();
  Release(third);
  target_.max_connections = 1;
  Reconfigure();
  EXPECT_EQ(OnlyClose(), CloseReason::kShrunk);
  EXPECT_EQ(transport_.closes[0].id, third.conn());
  CloseAll();
  EXPECT_EQ(Row().leases, 2);
  EXPECT_EQ(Row().max_connections, 1);
  Release(other);
  EXPECT_EQ(OnlyClose(), CloseReason::kShrunk) << "still one above the limit";
  CloseAll();
  Release(holder);
  EXPECT_EQ(closes(), 0u);
  EXPECT_EQ(Row().idle, 1);
}

TEST_F(ReconfigureTest, AHigherLimitDialsForTheWaiter) {
  target_.max_connections = 1;
  Lent();
  Caller& next = Acquire();
  EXPECT_EQ(dials(), 0u);
  target_.max_connections = 2;
  Reconfigure();
  Dialed();
  EXPECT_TRUE(next.granted());
}

TEST_F(ReconfigureTest, ALowerGlobalCapRetiresTheLongestIdle) {
  const ConnId a = Idle({.target = kA});
  Pass(seconds(1));
  Idle({.target = kB});
  config_.max_connections = 1;
  Reconfigure();
  EXPECT_EQ(OnlyClose(), CloseReason::kShrunk);
  EXPECT_EQ(transport_.closes[0].id, a);
}

TEST_F(ReconfigureTest, ALowerStreamLimitHoldsAtOnce) {
  Caller& first = Lent({}, 100);
  target_.max_streams = 1;
  Reconfigure();
  EXPECT_EQ(Conn(first.conn()).limit, 1);
  EXPECT_TRUE(Acquire().waiting());
}

TEST_F(ReconfigureTest, ARaisedWarmFloorIsDialled) {
  Idle();
  target_.warm = 3;
  Reconfigure();
  EXPECT_EQ(dials(), 2u);
}

// --- Shutdown ---

class ShutdownTest : public PoolTest {};

TEST_F(ShutdownTest, ClosesAllButLeasedConnections) {
  target_.max_connections = 2;
  Caller& holder = Lent();
  Caller& other = Lent();
  Caller& waiting = Acquire();
  Idle({.target = kB});
  Shutdown();
  ASSERT_TRUE(waiting.rejected());
  EXPECT_EQ(waiting.reason(), RejectReason::kShutdown);
  EXPECT_EQ(OnlyClose(), CloseReason::kShutdown);
  CloseAll();
  EXPECT_EQ(BeginCall(holder.lease()).status, LeaseStatus::kOk);
  EndCall(holder.lease());
  EXPECT_EQ(Release(holder), LeaseStatus::kOk);
  EXPECT_EQ(OnlyClose(), CloseReason::kShutdown);
  EXPECT_EQ(Row().leases, 1);
  EXPECT_EQ(Release(other), LeaseStatus::kOk);
}

TEST_F(ShutdownTest, RejectsNewCallers) {
  Idle();
  Shutdown();
  EXPECT_EQ(Acquire().reason(), RejectReason::kShutdown);
  EXPECT_EQ(Acquire({.target = kC}).reason(), RejectReason::kShutdown);
  EXPECT_EQ(dials(), 0u);
}

TEST_F(ShutdownTest, ClosesAConnectionDialledMeanwhile) {
  Caller& caller = Acquire();
  Shutdown();
  EXPECT_EQ(caller.reason(), RejectReason::kShutdown);
  Dialed();
  EXPECT_EQ(OnlyClose(), CloseReason::kShutdown);
}

TEST_F(ShutdownTest, IsIdempotent) {
  Idle();
  Shutdown();
  Shutdown();
  EXPECT_EQ(closes(), 1u);
}

TEST_F(ShutdownTest, ClosesTheWarmFloor) {
  target_.warm = 1;
  Warm(kA);
  Dialed();
  Shutdown();
  CloseAll();
  Warm(kA);
  EXPECT_EQ(dials(), 0u);
}

// --- Caps over all targets, in one shard and across shards ---

class BudgetTest : public PoolTest, public ::testing::WithParamInterface<int> {
 protected:
  BudgetTest() { config_.shards = GetParam(); }
};

TEST_P(BudgetTest, AFreedPlaceServesTheTargetInLine) {
  config_.max_connections = 1;
  Caller& a = Lent({.target = kA});
  Caller& b = Acquire({.target = kB});
  EXPECT_EQ(dials(), 0u);
  EXPECT_EQ(Take().budget_waiters, 1);
  Release(a);
  EXPECT_EQ(OnlyClose(), CloseReason::kReclaimed);
  CloseAll();
  ASSERT_EQ(dials(), 1u);
  EXPECT_EQ(transport_.dials[0].target, kB);
  Dialed();
  ASSERT_TRUE(b.granted());
  EXPECT_EQ(b.grant().wait.limit, WaitLimit::kGlobalConnections);
  EXPECT_EQ(b.grant().wait.limit_value, 1);
  EXPECT_EQ(Take().connections_reserved, 1);
  EXPECT_EQ(Take().budget_waiters, 0);
}

TEST_P(BudgetTest, ATargetWithoutConnectionsGoesFirst) {
  config_.max_connections = 2;
  Lent({.target = kA});
  Caller& b = Lent({.target = kB});
  Caller& rich = Acquire({.target = kA});
  Caller& poor = Acquire({.target = kC});
  Release(b, Outcome::kDiscard);
  CloseAll();
  ASSERT_EQ(dials(), 1u);
  EXPECT_EQ(transport_.dials[0].target, kC);
  Dialed();
  EXPECT_TRUE(poor.granted());
  EXPECT_TRUE(rich.waiting());
}

TEST_P(BudgetTest, TargetsAreServedInOrderOfArrival) {
  config_.max_connections = 1;
  Caller& a = Lent({.target = kA});
  Caller& b = Acquire({.target = kB});
  Caller& c = Acquire({.target = kC});
  Release(a);
  CloseAll();
  Dialed();
  ASSERT_TRUE(b.granted());
  EXPECT_TRUE(c.waiting());
  Release(b);
  CloseAll();
  Dialed();
  EXPECT_TRUE(c.granted());
}

TEST_P(BudgetTest, ClosesTheLongestIdleConnectionOfAnotherTarget) {
  config_.max_connections = 2;
  const ConnId oldest = Idle({.target = kA});
  Pass(seconds(1));
  Idle({.target = kB});
  Caller& c = Acquire({.target = kC});
  EXPECT_EQ(OnlyClose(), CloseReason::kReclaimed);
  EXPECT_EQ(transport_.closes[0].id, oldest);
  CloseAll();
  Dialed();
  EXPECT_TRUE(c.granted());
}

TEST_P(BudgetTest, SparesAWarmFloor) {
  config_.max_connections = 1;
  targets_[kA].warm = 1;
  Warm(kA);
  Dialed();
  Caller& b = Acquire({.target = kB, .wait = seconds(1)});
  EXPECT_EQ(closes(), 0u);
  Pass(seconds(2));
  ASSERT_TRUE(b.rejected());
  EXPECT_EQ(b.rejection().wait.limit, WaitLimit::kGlobalConnections);
}

TEST_P(BudgetTest, ACancelledWaiterLeavesTheBudgetsLine) {
  config_.max_connections = 1;
  Caller& a = Lent({.target = kA});
  Caller& b = Acquire({.target = kB});
  Cancel(b);
  EXPECT_EQ(Take().budget_waiters, 0);
  Release(a);
  EXPECT_EQ(closes(), 0u) << "no target needs its token";
}

TEST_P(BudgetTest, AFailedDialReturnsItsToken) {
  config_.max_connections = 1;
  Acquire({.target = kA});
  Caller& b = Acquire({.target = kB});
  DialFailed();
  ASSERT_EQ(dials(), 1u);
  Dialed();
  EXPECT_TRUE(b.granted());
}

TEST_P(BudgetTest, DialsAreCapped) {
  config_.max_dials = 1;
  Caller& a = Acquire({.target = kA});
  Caller& b = Acquire({.target = kB});
  EXPECT_EQ(dials(), 1u);
  Dialed();
  EXPECT_TRUE(a.granted());
  ASSERT_EQ(dials(), 1u);
  Dialed();
  ASSERT_TRUE(b.granted());
  EXPECT_EQ(b.grant().wait.limit, WaitLimit::kGlobalDials);
  EXPECT_EQ(b.grant().wait.limit_value, 1);
}

TEST_P(BudgetTest, AHigherCapServesTheLine) {
  config_.max_connections = 1;
  Lent({.target = kA});
  Caller& b = Acquire({.target = kB});
  config_.max_connections = 2;
  Reconfigure();
  Dialed();
  EXPECT_TRUE(b.granted());
}

INSTANTIATE_TEST_SUITE_P(Shards, BudgetTest, ::testing::Values(1, 8));

}  // namespace
}  // namespace hotline::pool
