// Leases whose holder is gone, and acquires that take what is there or nothing.
#include "tests/pool/pool_fixture.h"

namespace hotline::pool {
namespace {

class ReclaimTest : public PoolTest {
 protected:
  LeaseStatus Reclaim(const Caller& caller) {
    busy_ = false;
    const LeaseStatus status = pool().Reclaim(caller.lease(), now_, &busy_);
    Check();
    return status;
  }

  bool busy_ = false;
};

TEST_F(ReclaimTest, GivesAnIdleLeaseToWhoWaits) {
  target_.max_connections = 1;
  Caller& gone = Lent();
  Caller& next = Acquire();
  EXPECT_EQ(Reclaim(gone), LeaseStatus::kOk);
  EXPECT_FALSE(busy_);
  ASSERT_TRUE(next.granted());
  EXPECT_EQ(next.conn(), gone.conn());
  EXPECT_EQ(Counters().leases_reclaimed, 1u);
  EXPECT_EQ(Counters().leases_expired, 0u);
}

TEST_F(ReclaimTest, ClosesAConnectionUnderACall) {
  Caller& gone = Lent();
  BeginCall(gone.lease());
  EXPECT_EQ(Reclaim(gone), LeaseStatus::kOk);
  EXPECT_TRUE(busy_);
  EXPECT_EQ(OnlyClose(), CloseReason::kDiscarded);
  EXPECT_EQ(Reclaim(gone), LeaseStatus::kEnded);
  CloseAll();
  EndCall(gone.lease());
  EXPECT_EQ(Row().leases, 0);
  EXPECT_EQ(Counters().leases_reclaimed, 1u);
}

TEST_F(ReclaimTest, LeavesTheStreamsOfOthersAlone) {
  Caller& other = Lent({}, 100);
  Caller& gone = Acquire();
  ASSERT_EQ(gone.conn(), other.conn());
  BeginCall(gone.lease());
  EXPECT_EQ(Reclaim(gone), LeaseStatus::kOk);
  EXPECT_TRUE(busy_);
  EXPECT_EQ(closes(), 0u);
  EXPECT_EQ(Row().leases, 2) << "until the call has ended";
  EndCall(gone.lease());
  EXPECT_EQ(Row().leases, 1);
  EXPECT_EQ(Conn(other.conn()).state, ConnState::kReady);
}

TEST_F(ReclaimTest, CountsOnlyWhatWasStillHeld) {
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
  bool busy;
  EXPECT_EQ(pool().Reclaim(forged, now_, &busy), LeaseStatus::kOtherInstance);
}

TEST_F(ReclaimTest, ALookTellsWhetherALeaseIsHeld) {
  Caller& caller = Lent();
  EXPECT_EQ(pool().Look(caller.lease(), now_), LeaseStatus::kOk);
  BeginCall(caller.lease());
  EXPECT_EQ(pool().Look(caller.lease(), now_), LeaseStatus::kOk);
  EndCall(caller.lease());
  Release(caller);
  EXPECT_EQ(pool().Look(caller.lease(), now_), LeaseStatus::kEnded);
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

TEST_F(AcquireIdleTest, LendsWhatIsIdle) {
  const ConnId idle = Idle();
  ASSERT_TRUE(AcquireIdle());
  EXPECT_EQ(result_.kind, AcquireResult::kGranted);
  EXPECT_EQ(result_.grant.conn, idle);
  EXPECT_TRUE(result_.grant.reused);
  EXPECT_EQ(Row().leases, 1);
  EXPECT_EQ(Release(result_.grant.lease), LeaseStatus::kOk);
}

TEST_F(AcquireIdleTest, ChangesNothingWhenNothingIsIdle) {
  EXPECT_FALSE(AcquireIdle());
  EXPECT_TRUE(Look().targets.empty()) << "not even a new target";
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

TEST_F(AcquireIdleTest, DoesNotOvertake) {
  target_.max_connections = 1;
  Caller& holder = Lent();
  Caller& waits = Acquire();
  EXPECT_FALSE(AcquireIdle());
  Release(holder);
  ASSERT_TRUE(waits.granted());
  EXPECT_FALSE(AcquireIdle());
}

TEST_F(AcquireIdleTest, LendsNothingThatIsDueForACheck) {
  Idle();
  Pass(seconds(31));
  ASSERT_EQ(probes(), 1u);
  EXPECT_FALSE(AcquireIdle());
  Probed(true);
  EXPECT_TRUE(AcquireIdle());
  Release(result_.grant.lease);
}

TEST_F(AcquireIdleTest, LendsNothingDuringADrain) {
  Idle();
  Shutdown();
  EXPECT_FALSE(AcquireIdle());
}

}  // namespace
}  // namespace hotline::pool
