// Operations on a lease: release, calls, renewal, expiry.
#include "tests/pool/pool_fixture.h"

namespace hotline::pool {
namespace {

class ReleaseTest : public PoolTest {};

TEST_F(ReleaseTest, GrantsTheSlotToTheFirstInLine) {
  target_.max_connections = 1;
  Caller& holder = Lent();
  Caller& first = Acquire();
  Caller& second = Acquire();
  EXPECT_EQ(Release(holder), LeaseStatus::kOk);
  ASSERT_TRUE(first.granted());
  EXPECT_EQ(first.conn(), holder.conn());
  EXPECT_TRUE(first.grant().reused);
  EXPECT_TRUE(second.waiting());
}

TEST_F(ReleaseTest, BrokenClosesTheConnection) {
  Caller& holder = Lent();
  Release(holder, Outcome::kBroken);
  EXPECT_EQ(OnlyClose(), CloseReason::kBroken);
  EXPECT_EQ(transport_.closes[0].id, holder.conn());
  EXPECT_EQ(Counters().errors_counted, 1u);
  EXPECT_TRUE(Acquire().waiting()) << "a closing connection is not lent";
  CloseAll();
  EXPECT_EQ(Counters().closed[static_cast<int>(CloseReason::kBroken)], 1u);
}

TEST_F(ReleaseTest, DiscardClosesTheConnection) {
  Release(Lent(), Outcome::kDiscard);
  EXPECT_EQ(OnlyClose(), CloseReason::kDiscarded);
  EXPECT_EQ(Counters().errors_counted, 0u);
}

TEST_F(ReleaseTest, AfterABrokenOneClosesADialServesTheWaiter) {
  target_.max_connections = 1;
  Caller& holder = Lent();
  Caller& next = Acquire();
  Release(holder, Outcome::kBroken);
  EXPECT_EQ(dials(), 0u) << "the closing connection still counts";
  CloseAll();
  EXPECT_EQ(dials(), 1u);
  Dialed();
  EXPECT_TRUE(next.granted());
}

TEST_F(ReleaseTest, TheEleventhBrokenStreamDrainsASharedConnection) {
  Caller& other = Lent({}, 100);
  for (int i = 0; i < 10; ++i) {
    Caller& caller = Acquire();
    ASSERT_EQ(caller.conn(), other.conn());
    Release(caller, Outcome::kBroken);
  }
  EXPECT_EQ(Conn(other.conn()).errors, 10);
  EXPECT_EQ(Conn(other.conn()).state, ConnState::kReady);
  Caller& eleventh = Acquire();
  ASSERT_EQ(eleventh.conn(), other.conn());
  Release(eleventh, Outcome::kBroken);
  EXPECT_EQ(Conn(other.conn()).state, ConnState::kDraining);
  EXPECT_EQ(closes(), 0u) << "it is still in use";
  Release(other);
  EXPECT_EQ(OnlyClose(), CloseReason::kProbeFailed);
}

TEST_F(ReleaseTest, DiscardOfAStreamDrainsASharedConnection) {
  Caller& other = Lent({}, 100);
  Caller& caller = Acquire();
  Release(caller, Outcome::kDiscard);
  EXPECT_EQ(Conn(other.conn()).state, ConnState::kDraining);
  EXPECT_TRUE(Acquire().waiting());
  Release(other);
  EXPECT_EQ(OnlyClose(), CloseReason::kDiscarded);
}

TEST_F(ReleaseTest, ASecondReleaseReturnsEnded) {
  Caller& caller = Lent();
  EXPECT_EQ(Release(caller), LeaseStatus::kOk);
  EXPECT_EQ(Release(caller), LeaseStatus::kEnded);
  EXPECT_EQ(Row().idle, 1);
}

TEST_F(ReleaseTest, DuringACallItTakesEffectAtTheCallsEnd) {
  Caller& caller = Lent();
  Caller& next = Acquire();
  BeginCall(caller.lease());
  EXPECT_EQ(Release(caller), LeaseStatus::kOk);
  EXPECT_EQ(Release(caller), LeaseStatus::kEnded);
  EXPECT_EQ(BeginCall(caller.lease()).status, LeaseStatus::kEnded);
  EXPECT_TRUE(next.waiting());
  EndCall(caller.lease());
  ASSERT_TRUE(next.granted());
  EXPECT_EQ(next.conn(), caller.conn());
}

TEST_F(ReleaseTest, NamesTheCallThatRuns) {
  Caller& caller = Lent();
  BeginCall(caller.lease(), 42);
  CallTag running = 99;
  EXPECT_EQ(pool().Release(caller.lease(), Outcome::kBroken, now_, &running),
            LeaseStatus::kOk);
  EXPECT_EQ(running, 42u);
  EXPECT_EQ(pool().Release(caller.lease(), Outcome::kBroken, now_, &running),
            LeaseStatus::kEnded);
  EXPECT_EQ(running, 0u) << "reported once";
  EndCall(caller.lease());
}

TEST_F(ReleaseTest, NamesNoCallAfterItsEnd) {
  Caller& caller = Lent();
  BeginCall(caller.lease(), 42);
  EndCall(caller.lease());
  CallTag running = 99;
  EXPECT_EQ(pool().Release(caller.lease(), Outcome::kDiscard, now_, &running),
            LeaseStatus::kOk);
  EXPECT_EQ(running, 0u);
}

TEST_F(ReleaseTest, BrokenDuringACallClosesTheConnectionAtOnce) {
  Caller& caller = Lent();
  BeginCall(caller.lease());
  Release(caller, Outcome::kBroken);
  EXPECT_EQ(OnlyClose(), CloseReason::kBroken);
  CloseAll();
  EndCall(caller.lease());
  EXPECT_EQ(Row().leases, 0);
}

// --- Calls ---

class CallTest : public PoolTest {};

TEST_F(CallTest, ReturnsTheConnectionAndAllowsOneCallAtATime) {
  Caller& caller = Lent();
  const CallStart start = BeginCall(caller.lease());
  EXPECT_EQ(start.status, LeaseStatus::kOk);
  EXPECT_EQ(start.conn, caller.conn());
  EXPECT_EQ(start.key->target, kA);
  EXPECT_EQ(BeginCall(caller.lease()).status, LeaseStatus::kBusy);
  EndCall(caller.lease());
  EXPECT_EQ(BeginCall(caller.lease()).status, LeaseStatus::kOk);
}

TEST_F(CallTest, StopsTheLeasesClock) {
  Caller& caller = Lent({.ttl = seconds(30)});
  Pass(seconds(10));
  BeginCall(caller.lease());
  Pass(seconds(200));
  EXPECT_EQ(Row().leases, 1);
  EndCall(caller.lease());
  Pass(seconds(19));
  EXPECT_EQ(Row().leases, 1);
  Pass(seconds(2));
  EXPECT_EQ(Row().leases, 0);
  EXPECT_EQ(Release(caller), LeaseStatus::kEnded);
}

TEST_F(CallTest, EndCallWithoutACallDoesNothing) {
  Caller& caller = Lent();
  EndCall(caller.lease());
  EXPECT_EQ(Release(caller), LeaseStatus::kOk);
  EndCall(caller.lease());
  EXPECT_EQ(Row().idle, 1);
}

// --- The lease's end ---

class LeaseEndTest : public PoolTest {};

TEST_F(LeaseEndTest, ExpiryClosesTheConnection) {
  target_.max_connections = 1;
  Caller& caller = Lent({.ttl = seconds(5)});
  Caller& next = Acquire();
  Pass(milliseconds(4999));
  EXPECT_EQ(closes(), 0u);
  Pass(milliseconds(2));
  EXPECT_EQ(OnlyClose(), CloseReason::kExpired);
  EXPECT_EQ(Counters().leases_expired, 1u);
  EXPECT_EQ(Release(caller), LeaseStatus::kEnded);
  CloseAll();
  Dialed();
  EXPECT_TRUE(next.granted());
}

TEST_F(LeaseEndTest, ExpiryReleasesASharedStream) {
  Caller& caller = Lent({.ttl = seconds(5)}, 100);
  Pass(seconds(6));
  EXPECT_EQ(closes(), 0u);
  EXPECT_EQ(Row().leases, 0);
  EXPECT_EQ(Acquire().conn(), caller.conn());
}

TEST_F(LeaseEndTest, TakesEffectAlthoughItsTickIsLate) {
  Caller& caller = Lent({.ttl = seconds(5)});
  now_ += seconds(5);
  EXPECT_EQ(BeginCall(caller.lease()).status, LeaseStatus::kEnded);
  EXPECT_EQ(OnlyClose(), CloseReason::kExpired);
}

TEST_F(LeaseEndTest, NeverComesWithoutATimeToLive) {
  target_.max_lifetime = hours(10);
  Caller& caller = Lent({.ttl = Duration(0)});
  EXPECT_EQ(caller.grant().expires, kNever);
  Pass(hours(2));
  EXPECT_EQ(Release(caller), LeaseStatus::kOk);
}

TEST_F(LeaseEndTest, RenewPostponesIt) {
  Caller& caller = Lent({.ttl = seconds(5)});
  Pass(seconds(4));
  const RenewResult renewed = Renew(caller.lease(), seconds(20));
  EXPECT_EQ(renewed.status, LeaseStatus::kOk);
  EXPECT_EQ(renewed.expires, now_ + seconds(20));
  Pass(seconds(19));
  EXPECT_EQ(Row().leases, 1);
  Pass(seconds(2));
  EXPECT_EQ(Row().leases, 0);
  EXPECT_EQ(Renew(caller.lease(), seconds(20)).status, LeaseStatus::kEnded);
}

TEST_F(LeaseEndTest, RenewMayBringItForward) {
  Caller& caller = Lent({.ttl = seconds(50)});
  Renew(caller.lease(), seconds(1));
  Pass(seconds(2));
  EXPECT_EQ(Row().leases, 0);
}

TEST_F(LeaseEndTest, RenewDuringACallCountsFromTheCallsEnd) {
  Caller& caller = Lent({.ttl = seconds(5)});
  BeginCall(caller.lease());
  Renew(caller.lease(), seconds(20));
  Pass(seconds(60));
  EndCall(caller.lease());
  Pass(seconds(19));
  EXPECT_EQ(Row().leases, 1);
  Pass(seconds(2));
  EXPECT_EQ(Row().leases, 0);
}

TEST_F(LeaseEndTest, ALeakIsReportedOnce) {
  int leaks = 0;
  config_.leak_after = seconds(60);
  on_event_ = [&](const PoolEvent& event) {
    if (event.kind != PoolEvent::Kind::kLeaseLeaked) return;
    ++leaks;
    EXPECT_EQ(event.key->target, kA);
    EXPECT_EQ(event.holder->client_id, "alice");
    EXPECT_GE(event.length, seconds(60));
  };
  Lent({.ttl = hours(1), .client = "alice"});
  Pass(seconds(59));
  EXPECT_EQ(leaks, 0);
  Pass(seconds(2));
  EXPECT_EQ(leaks, 1);
  Pass(minutes(10));
  EXPECT_EQ(leaks, 1);
  EXPECT_EQ(Counters().leases_leaked, 1u);
}

// --- Lease ids ---

class LeaseIdTest : public PoolTest {
 protected:
  // Expects every operation on `id` to return `status`.
  void ExpectAll(const LeaseId& id, LeaseStatus status) {
    EXPECT_EQ(Release(id), status);
    EXPECT_EQ(BeginCall(id).status, status);
    EXPECT_EQ(Renew(id, seconds(1)).status, status);
    EndCall(id);
  }
};

TEST_F(LeaseIdTest, AForgedSecretIsUnknown) {
  Caller& caller = Lent();
  LeaseId forged = caller.lease();
  ++forged.secret;
  ExpectAll(forged, LeaseStatus::kUnknown);
  EXPECT_EQ(Release(caller), LeaseStatus::kOk);
}

TEST_F(LeaseIdTest, TheIdOfAnotherProcessIsRecognised) {
  LeaseId foreign = Lent().lease();
  EXPECT_EQ(foreign.instance, 7u);
  foreign.instance = 8;
  ExpectAll(foreign, LeaseStatus::kOtherInstance);
}

TEST_F(LeaseIdTest, ALeaseThatNeverExistedIsUnknown) {
  const LeaseId lease = Lent().lease();
  LeaseId id = lease;
  id.shard = 1;
  ExpectAll(id, LeaseStatus::kUnknown);
  id = lease;
  id.slot = UINT32_MAX;
  ExpectAll(id, LeaseStatus::kUnknown);
  id = lease;
  id.version = 0;
  ExpectAll(id, LeaseStatus::kUnknown);
  id = lease;
  ++id.version;
  ExpectAll(id, LeaseStatus::kUnknown);
  EXPECT_EQ(Release(lease), LeaseStatus::kOk);
}

TEST_F(LeaseIdTest, AStaleIdDoesNotAffectTheNextLeaseInItsRecord) {
  Caller& old = Lent();
  Release(old);
  Caller& now = Acquire();
  ASSERT_EQ(now.lease().slot, old.lease().slot);
  ExpectAll(old.lease(), LeaseStatus::kEnded);
  EXPECT_EQ(Row().leases, 1);
  EXPECT_EQ(Release(now), LeaseStatus::kOk);
}

}  // namespace
}  // namespace hotline::pool
