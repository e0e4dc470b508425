// What an operator does to targets, connections and leases.
#include "tests/pool/pool_fixture.h"

namespace hotline::pool {
namespace {

class OperationsTest : public PoolTest {
 protected:
  Admission SetAdmission(Admission admission) {
    const auto before = pool().SetAdmission(kA, admission, now_);
    Check();
    return before.value_or(Admission::kOpen);
  }
  int Reconnect() {
    const auto open = pool().Reconnect(kA, now_);
    Check();
    return open.value_or(-1);
  }
  bool Evict(ConnId conn, bool at_once) {
    const bool evicted = pool().Evict(conn, at_once, now_);
    Check();
    return evicted;
  }
};

// --- Pause ---

TEST_F(OperationsTest, CallersOfAPausedTargetWaitUntilItIsOpened) {
  const ConnId conn = Idle();
  EXPECT_EQ(SetAdmission(Admission::kPaused), Admission::kOpen);
  Caller& caller = Acquire();
  EXPECT_TRUE(caller.waiting());
  EXPECT_EQ(dials(), 0u);
  EXPECT_EQ(Row().admission, Admission::kPaused);
  EXPECT_EQ(SetAdmission(Admission::kOpen), Admission::kPaused);
  ASSERT_TRUE(caller.granted());
  EXPECT_EQ(caller.conn(), conn);
}

TEST_F(OperationsTest, AWaitForAPausedTargetNamesThePause) {
  SetAdmission(Admission::kPaused);
  Caller& caller = Acquire({.wait = seconds(2)});
  Pass(seconds(3));
  ASSERT_TRUE(caller.rejected());
  EXPECT_EQ(caller.reason(), RejectReason::kWaitTimeout);
  EXPECT_EQ(caller.rejection().wait.limit, WaitLimit::kPaused);
  EXPECT_EQ(dials(), 0u);
}

TEST_F(OperationsTest, APausedTargetIsNeitherDialledNorChecked) {
  target_.warm = 2;
  target_.check_interval = seconds(5);
  const ConnId conn = Idle();
  while (dials() > 0) Dialed();
  SetAdmission(Admission::kPaused);
  Warm(kA);
  Prewarm(4, 4);
  Acquire({.may_wait = false});
  Pass(seconds(20));
  EXPECT_EQ(dials(), 0u);
  EXPECT_EQ(probes(), 0u);
  EXPECT_EQ(closes(), 0u);
  SetAdmission(Admission::kOpen);
  // It is checked before it is lent.
  Caller& caller = Acquire();
  EXPECT_TRUE(caller.waiting());
  EXPECT_GE(probes(), 1u);
  while (probes() > 0) Probed(true);
  ASSERT_TRUE(caller.granted());
  EXPECT_NE(Conn(conn).state, ConnState::kProbing);
}

TEST_F(OperationsTest, IdleConnectionsOfAPausedTargetEndByTheirIdleTimeout) {
  Idle();
  SetAdmission(Admission::kPaused);
  Pass(target_.idle_timeout + seconds(1));
  EXPECT_EQ(OnlyClose(), CloseReason::kIdle);
}

TEST_F(OperationsTest, LeasesOfAPausedTargetStayUsable) {
  Caller& holder = Lent();
  SetAdmission(Admission::kPaused);
  Caller& caller = Acquire();
  EXPECT_EQ(BeginCall(holder.lease()).status, LeaseStatus::kOk);
  EndCall(holder.lease());
  EXPECT_EQ(Release(holder), LeaseStatus::kOk);
  // Its connection is kept, and is not lent.
  EXPECT_TRUE(caller.waiting());
  EXPECT_EQ(closes(), 0u);
  SetAdmission(Admission::kOpen);
  EXPECT_TRUE(caller.granted());
}

TEST_F(OperationsTest, AConnectionDialledDuringAPauseIsLentAfterIt) {
  Caller& caller = Acquire();
  SetAdmission(Admission::kPaused);
  Dialed(4);
  EXPECT_TRUE(caller.waiting());
  SetAdmission(Admission::kOpen);
  EXPECT_TRUE(caller.granted());
  EXPECT_TRUE(Acquire().granted());
}

TEST_F(OperationsTest, APausedTargetIsNotForgotten) {
  config_.max_targets = 1;
  SetAdmission(Admission::kPaused);
  EXPECT_EQ(Acquire({.target = kB}).reason(), RejectReason::kTooManyTargets);
  SetAdmission(Admission::kOpen);
  EXPECT_TRUE(Acquire({.target = kB}).waiting());
}

// --- Drain ---

TEST_F(OperationsTest, ADrainedTargetRejectsItsCallersAndClosesConnections) {
  target_.max_connections = 2;
  Caller& holder = Lent();
  Caller& idle = Lent();
  Caller& waiting = Acquire();
  Release(idle);
  ASSERT_TRUE(waiting.granted());
  Release(waiting);
  Caller& other = Lent({.target = kB});
  SetAdmission(Admission::kDrained);
  EXPECT_EQ(OnlyClose(), CloseReason::kOperator);
  Caller& late = Acquire();
  ASSERT_TRUE(late.rejected());
  EXPECT_EQ(late.reason(), RejectReason::kDrained);
  EXPECT_GT(late.rejection().retry_after, Duration(0));
  CloseAll();
  EXPECT_EQ(BeginCall(holder.lease()).status, LeaseStatus::kOk);
  EndCall(holder.lease());
  EXPECT_EQ(Release(holder), LeaseStatus::kOk);
  EXPECT_EQ(OnlyClose(), CloseReason::kOperator);
  CloseAll();
  EXPECT_EQ(Row().leases, 0);
  EXPECT_EQ(Release(other), LeaseStatus::kOk);
  EXPECT_EQ(Count(ConnState::kReady, kB), 1);
}

TEST_F(OperationsTest, WaitersOfADrainedTargetAreRejected) {
  Caller& caller = Acquire();
  SetAdmission(Admission::kDrained);
  ASSERT_TRUE(caller.rejected());
  EXPECT_EQ(caller.reason(), RejectReason::kDrained);
  Dialed();
  EXPECT_EQ(OnlyClose(), CloseReason::kOperator);
}

TEST_F(OperationsTest, AnOpenedTargetDialsItsWarmFloor) {
  target_.warm = 1;
  SetAdmission(Admission::kDrained);
  Warm(kA);
  EXPECT_EQ(dials(), 0u);
  EXPECT_EQ(SetAdmission(Admission::kOpen), Admission::kDrained);
  EXPECT_EQ(dials(), 1u);
  Dialed();
  EXPECT_TRUE(Acquire().granted());
}

// --- Reconnect ---

TEST_F(OperationsTest, AReconnectDialsBeforeItCloses) {
  Caller& first = Lent();
  Caller& second = Lent();
  Release(first);
  Release(second);
  Pass(milliseconds(1));
  EXPECT_EQ(Reconnect(), 2);
  EXPECT_TRUE(Row().reconnecting);
  EXPECT_EQ(closes(), 0u);
  ASSERT_EQ(dials(), 1u);
  Dialed();
  EXPECT_EQ(OnlyClose(), CloseReason::kOperator);
  ASSERT_EQ(dials(), 1u);
  CloseAll();
  Dialed();
  EXPECT_EQ(closes(), 1u);
  CloseAll();
  EXPECT_EQ(dials(), 0u);
  EXPECT_FALSE(Row().reconnecting);
  EXPECT_EQ(Count(ConnState::kReady), 2);
}

TEST_F(OperationsTest, AReconnectDrainsLeasedConnections) {
  Caller& holder = Lent();
  Pass(milliseconds(1));
  EXPECT_EQ(Reconnect(), 1);
  Dialed();
  EXPECT_EQ(closes(), 0u);
  EXPECT_EQ(Count(ConnState::kDraining), 1);
  EXPECT_EQ(Release(holder), LeaseStatus::kOk);
  EXPECT_EQ(OnlyClose(), CloseReason::kOperator);
  CloseAll();
  Caller& caller = Acquire();
  ASSERT_TRUE(caller.granted());
  EXPECT_NE(caller.conn(), holder.conn());
}

TEST_F(OperationsTest, WithoutRoomAReconnectClosesOneFirst) {
  target_.max_connections = 2;
  Caller& first = Lent();
  Caller& second = Lent();
  Release(first);
  Release(second);
  Pass(milliseconds(1));
  EXPECT_EQ(Reconnect(), 2);
  EXPECT_EQ(dials(), 0u);
  for (int i = 0; i < 2; ++i) {
    ASSERT_EQ(closes(), 1u) << i;
    CloseAll();
    ASSERT_EQ(dials(), 1u) << i;
    Dialed();
  }
  EXPECT_EQ(closes(), 0u);
  EXPECT_FALSE(Row().reconnecting);
  EXPECT_EQ(Count(ConnState::kReady), 2);
}

TEST_F(OperationsTest, AReconnectKeepsTheOldOnesWhileDialsFail) {
  const ConnId conn = Idle();
  Pass(milliseconds(1));
  Reconnect();
  DialFailed();
  EXPECT_EQ(closes(), 0u);
  Caller& caller = Acquire();
  ASSERT_TRUE(caller.granted());
  EXPECT_EQ(caller.conn(), conn);
  Release(caller);
  // It tries again by itself.
  Pass(seconds(2));
  ASSERT_EQ(dials(), 1u);
  Dialed();
  EXPECT_EQ(OnlyClose(), CloseReason::kOperator);
}

TEST_F(OperationsTest, AReconnectOfAnUnknownTargetDoesNothing) {
  EXPECT_EQ(Reconnect(), -1);
}

// --- Evict, end, forgive ---

TEST_F(OperationsTest, AnIdleConnectionIsEvicted) {
  const ConnId conn = Idle();
  EXPECT_TRUE(Evict(conn, false));
  EXPECT_EQ(OnlyClose(), CloseReason::kOperator);
  EXPECT_FALSE(Evict(conn, true));
  CloseAll();
  EXPECT_FALSE(Evict(conn, true));
}

TEST_F(OperationsTest, ALeasedConnectionIsEvictedWhenItIsReturnedOrAtOnce) {
  Caller& patient = Lent();
  Caller& other = Lent();
  EXPECT_TRUE(Evict(patient.conn(), false));
  EXPECT_EQ(closes(), 0u);
  Release(patient);
  EXPECT_EQ(closes(), 1u);
  CloseAll();
  EXPECT_TRUE(Evict(other.conn(), true));
  EXPECT_EQ(OnlyClose(), CloseReason::kOperator);
  CloseAll();
  EXPECT_EQ(Release(other), LeaseStatus::kOk);
}

TEST_F(OperationsTest, ALeaseIsEndedByItsRow) {
  Caller& holder = Lent();
  ASSERT_EQ(Take(true).leases.size(), 1u);
  const uint64_t row = Take(true).leases[0].id;
  LeaseId lease;
  CallTag running = 0;
  EXPECT_EQ(pool().EndLease(row, now_, &lease, &running), LeaseStatus::kOk);
  Check();
  EXPECT_EQ(lease, holder.lease());
  EXPECT_EQ(running, 0u);
  EXPECT_EQ(Counters().leases_reclaimed, 1u);
  EXPECT_EQ(Release(holder), LeaseStatus::kEnded);
  EXPECT_EQ(pool().EndLease(row, now_, &lease, &running), LeaseStatus::kEnded);
}

TEST_F(OperationsTest, TheCallOnALeaseThatIsEndedIsReported) {
  Caller& holder = Lent();
  BeginCall(holder.lease(), 77);
  LeaseId lease;
  CallTag running = 0;
  EXPECT_EQ(pool().EndLease(Take(true).leases[0].id, now_, &lease, &running),
            LeaseStatus::kOk);
  Check();
  EXPECT_EQ(running, 77u);
  EndCall(holder.lease());
  CloseAll();
  EXPECT_EQ(Row().leases, 0);
}

TEST_F(OperationsTest, ForgivenDialsCloseTheBreaker) {
  target_.breaker_failures = 1;
  Acquire();
  DialFailed();
  EXPECT_EQ(Acquire().reason(), RejectReason::kCircuitOpen);
  EXPECT_TRUE(pool().ForgiveDials(kA, now_));
  Check();
  EXPECT_EQ(Row().breaker, BreakerState::kClosed);
  EXPECT_EQ(Row().last_dial_error, "");
  Caller& caller = Acquire();
  EXPECT_EQ(dials(), 1u);
  Dialed();
  EXPECT_TRUE(caller.granted());
  EXPECT_FALSE(pool().ForgiveDials(kC, now_));
}

}  // namespace
}  // namespace hotline::pool
