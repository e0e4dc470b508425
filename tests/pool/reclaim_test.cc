// Reclaim, for leases whose holder is gone, and AcquireIdle.
#include "tests/pool/pool_fixture.h"

namespace hotline::pool {
namespace {

class ReclaimTest : public PoolTest {
 protected:
  LeaseStatus Reclaim(const Caller& caller) {
    running_ = 99;
    const LeaseStatus status = pool().Reclaim(caller.lease(), now_, &running_);
    Check();
    return status;
  }

  bool ReleaseIfUnused(const Caller& caller) {
    const bool released = pool().ReleaseIfUnused(caller.lease(), now_);
    Check();
    return released;
  }

  CallTag running_ = 0;
};

TEST_F(ReclaimTest, GrantsTheSlotOfAnIdleLeaseToTheWaiter) {
  target_.max_connections = 1;
  Caller& gone = Lent();
  Caller& next = Acquire();
  EXPECT_EQ(Reclaim(gone), LeaseStatus::kOk);
  EXPECT_EQ(running_, 0u);
  ASSERT_TRUE(next.granted());
  EXPECT_EQ(next.conn(), gone.conn());
  EXPECT_EQ(Counters().leases_reclaimed, 1u);
  EXPECT_EQ(Counters().leases_expired, 0u);
}

TEST_F(ReclaimTest, DuringACallClosesTheConnectionAndNamesTheCall) {
  Caller& gone = Lent();
  BeginCall(gone.lease(), 42);
  EXPECT_EQ(Reclaim(gone), LeaseStatus::kOk);
  EXPECT_EQ(running_, 42u);
  EXPECT_EQ(OnlyClose(), CloseReason::kDiscarded);
  EXPECT_EQ(Reclaim(gone), LeaseStatus::kEnded);
  EXPECT_EQ(running_, 0u);
  CloseAll();
  EndCall(gone.lease());
  EXPECT_EQ(Row().leases, 0);
  EXPECT_EQ(Counters().leases_reclaimed, 1u);
}

TEST_F(ReclaimTest, DuringACallKeepsTheOtherStreams) {
  Caller& other = Lent({}, 100);
  Caller& gone = Acquire();
  ASSERT_EQ(gone.conn(), other.conn());
  BeginCall(gone.lease(), 42);
  EXPECT_EQ(Reclaim(gone), LeaseStatus::kOk);
  EXPECT_EQ(running_, 42u);
  EXPECT_EQ(closes(), 0u);
  EXPECT_EQ(Row().leases, 2) << "until the call has ended";
  EndCall(gone.lease());
  EXPECT_EQ(Row().leases, 1);
  EXPECT_EQ(Conn(other.conn()).state, ConnState::kReady);
}

TEST_F(ReclaimTest, CountsOnlyLeasesThatWereHeld) {
  Caller& released = Lent();
  Release(released);
  EXPECT_EQ(Reclaim(released), LeaseStatus::kEnded);
  Caller& expired = Acquire();
  Pass(seconds(31));
  EXPECT_EQ(Reclaim(expired), LeaseStatus::kEnded);
  CloseAll();
  EXPECT_EQ(Counters().leases_reclaimed, 0u);
  LeaseId forged = expired.lease();
  forged.instance += 1;
  EXPECT_EQ(pool().Reclaim(forged, now_, &running_),
            LeaseStatus::kOtherInstance);
  EXPECT_EQ(running_, 0u);
}

TEST_F(ReclaimTest, ReleaseIfUnusedGivesALeaseBackOnce) {
  target_.max_connections = 1;
  Caller& gone = Lent();
  Caller& next = Acquire();
  EXPECT_TRUE(ReleaseIfUnused(gone));
  ASSERT_TRUE(next.granted());
  EXPECT_EQ(next.conn(), gone.conn());
  EXPECT_EQ(Counters().leases_reclaimed, 1u);
  EXPECT_FALSE(ReleaseIfUnused(gone));
  EXPECT_EQ(Row().leases, 1);
}

TEST_F(ReclaimTest, ReleaseIfUnusedLeavesAUsedLease) {
  Caller& called = Lent();
  BeginCall(called.lease());
  EXPECT_FALSE(ReleaseIfUnused(called)) << "during the call";
  EndCall(called.lease());
  EXPECT_FALSE(ReleaseIfUnused(called)) << "and after it";
  Release(called);
  Caller& renewed = Acquire();
  ASSERT_TRUE(renewed.granted());
  EXPECT_EQ(pool().Renew(renewed.lease(), seconds(30), now_).status,
            LeaseStatus::kOk);
  EXPECT_FALSE(ReleaseIfUnused(renewed));
  Release(renewed);
  Caller& fresh = Acquire();
  EXPECT_TRUE(ReleaseIfUnused(fresh)) << "the record is used again";
}

TEST_F(ReclaimTest, ReleaseIfUnusedLeavesALeaseThatTwoCallersKnow) {
  Caller& first = Lent({.request_id = "r"});
  Caller& again = Acquire({.request_id = "r"});
  ASSERT_EQ(again.lease(), first.lease());
  EXPECT_FALSE(ReleaseIfUnused(first));
  EXPECT_EQ(Row().leases, 1);
  Release(again);
  Caller& single = Acquire({.request_id = "r"});
  EXPECT_TRUE(ReleaseIfUnused(single));
  EXPECT_EQ(Row().leases, 0);
}

TEST_F(ReclaimTest, StatusOfIsOkUntilTheLeaseEnds) {
  Caller& caller = Lent();
  EXPECT_EQ(pool().StatusOf(caller.lease(), now_), LeaseStatus::kOk);
  BeginCall(caller.lease());
  EXPECT_EQ(pool().StatusOf(caller.lease(), now_), LeaseStatus::kOk);
  EndCall(caller.lease());
  Release(caller);
  EXPECT_EQ(pool().StatusOf(caller.lease(), now_), LeaseStatus::kEnded);
}

class AcquireIdleTest : public PoolTest {
 protected:
  bool AcquireIdle(const Ask& ask = {}) {
    const HostPoolKey key{ask.target, {}, ask.mode};
    AcquireRequest request;
    request.key = &key;
    request.reuse = ask.reuse;
    request.lease_ttl = ask.ttl;
    request.secret = 7;
    request.request_id = ask.request_id;
    result_ = {};
    const bool lent = pool().AcquireIdle(request, now_, &result_);
    Check();
    return lent;
  }

  AcquireResult result_;
};

TEST_F(AcquireIdleTest, LendsAnIdleConnection) {
  const ConnId idle = Idle();
  ASSERT_TRUE(AcquireIdle());
  EXPECT_EQ(result_.kind, AcquireResult::kGranted);
  EXPECT_EQ(result_.grant.conn, idle);
  EXPECT_TRUE(result_.grant.reused);
  EXPECT_EQ(Row().leases, 1);
  EXPECT_EQ(Release(result_.grant.lease), LeaseStatus::kOk);
}

TEST_F(AcquireIdleTest, ChangesNothingIfNothingIsIdle) {
  EXPECT_FALSE(AcquireIdle());
  EXPECT_TRUE(Take().targets.empty()) << "not even a new target";
  Caller& holder = Lent();
  const TargetCounters before = Counters();
  EXPECT_FALSE(AcquireIdle());
  EXPECT_FALSE(AcquireIdle({.reuse = Reuse::kForceNew}));
  EXPECT_EQ(dials(), 0u);
  EXPECT_EQ(Counters().granted, before.granted);
  EXPECT_EQ(Counters().rejected, before.rejected);
  Release(holder);
  EXPECT_FALSE(AcquireIdle({.request_id = "r"})) << "that is for Acquire";
}

TEST_F(AcquireIdleTest, DoesNotOvertakeWaiters) {
  target_.max_connections = 1;
  Caller& holder = Lent();
  Caller& waits = Acquire();
  EXPECT_FALSE(AcquireIdle());
  Release(holder);
  ASSERT_TRUE(waits.granted());
  EXPECT_FALSE(AcquireIdle());
}

TEST_F(AcquireIdleTest, LendsNoConnectionThatIsDueForACheck) {
  Idle();
  Pass(seconds(31));
  ASSERT_EQ(probes(), 1u);
  EXPECT_FALSE(AcquireIdle());
  Probed(true);
  EXPECT_TRUE(AcquireIdle());
  Release(result_.grant.lease);
}

TEST_F(AcquireIdleTest, LendsNothingAfterShutdown) {
  Idle();
  Shutdown();
  EXPECT_FALSE(AcquireIdle());
}

}  // namespace
}  // namespace hotline::pool
