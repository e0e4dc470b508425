// Acquire: which connection serves, which callers wait, which are rejected.
#include "tests/pool/pool_fixture.h"

namespace hotline::pool {
namespace {

class AcquireTest : public PoolTest {};

TEST_F(AcquireTest, DialsWhenThereIsNoConnection) {
  timings_.connect = milliseconds(3);
  Caller& caller = Acquire();
  EXPECT_TRUE(caller.waiting());
  ASSERT_EQ(dials(), 1u);
  EXPECT_EQ(transport_.dials[0].target, kA);
  Pass(milliseconds(20));
  const ConnId id = Dialed();
  ASSERT_TRUE(caller.granted());
  EXPECT_EQ(caller.conn(), id);
  EXPECT_FALSE(caller.grant().reused);
  EXPECT_EQ(caller.grant().uses, 0u);
  EXPECT_EQ(caller.grant().ready_since, now_);
  EXPECT_EQ(caller.grant().expires, now_ + seconds(30));
  EXPECT_EQ(caller.grant().dial.connect, milliseconds(3));
  EXPECT_EQ(caller.grant().wait.limit, WaitLimit::kDial);
  EXPECT_EQ(caller.grant().wait.place, 1);
  EXPECT_EQ(caller.grant().wait.waited, milliseconds(20));
}

TEST_F(AcquireTest, ReusesTheMostRecentlyUsedConnection) {
  Caller& first = Lent();
  Caller& second = Lent();
  Release(first);
  Release(second);
  Caller& third = Acquire();
  ASSERT_TRUE(third.granted());
  EXPECT_EQ(third.conn(), second.conn());
  EXPECT_TRUE(third.grant().reused);
  EXPECT_EQ(third.grant().uses, 1u);
  EXPECT_EQ(third.grant().wait.limit, WaitLimit::kNone);
  EXPECT_EQ(dials(), 0u);
  EXPECT_EQ(Counters().granted, 3u);
  EXPECT_EQ(Counters().reused, 1u);
}

TEST_F(AcquireTest, ServesWaitersInOrderOfArrival) {
  target_.max_connections = 1;
  Caller& holder = Lent();
  std::vector<Caller*> line;
  for (int i = 0; i < 4; ++i) line.push_back(&Acquire());
  EXPECT_EQ(dials(), 0u);
  EXPECT_EQ(Row().waiters, 4);
  Caller* last = &holder;
  for (int i = 0; i < 4; ++i) {
    EXPECT_TRUE(line[i]->waiting());
    Release(*last);
    ASSERT_TRUE(line[i]->granted()) << i;
    EXPECT_EQ(line[i]->grant().wait.place, i + 1);
    EXPECT_EQ(line[i]->grant().wait.limit, WaitLimit::kTargetConnections);
    EXPECT_EQ(line[i]->grant().wait.limit_value, 1);
    last = line[i];
  }
}

TEST_F(AcquireTest, AFullQueueRejectsAndNamesTheHolders) {
  target_.max_connections = 1;
  target_.max_waiters = 1;
  Lent({.client = "alice"});
  Acquire();
  Pass(seconds(2));
  Caller& refused = Acquire();
  ASSERT_TRUE(refused.rejected());
  EXPECT_EQ(refused.reason(), RejectReason::kQueueFull);
  ASSERT_EQ(refused.rejection().oldest_holders.size(), 1u);
  EXPECT_EQ(refused.rejection().oldest_holders[0].holder.client_id, "alice");
  EXPECT_EQ(refused.rejection().oldest_holders[0].age, seconds(2));
  EXPECT_GT(refused.rejection().retry_after, Duration(0));
  EXPECT_EQ(Counters().rejected[static_cast<int>(RejectReason::kQueueFull)],
            1u);
}

TEST_F(AcquireTest, NoWaitStartsADialForTheNextCaller) {
  Caller& hasty = Acquire({.may_wait = false});
  ASSERT_TRUE(hasty.rejected());
  EXPECT_EQ(hasty.reason(), RejectReason::kNoIdleConnection);
  EXPECT_EQ(dials(), 1u);
  Acquire({.may_wait = false});
  EXPECT_EQ(dials(), 1u) << "a dial is under way already";
  Dialed();
  Caller& next = Acquire({.may_wait = false});
  ASSERT_TRUE(next.granted());
  EXPECT_FALSE(next.grant().reused);
}

TEST_F(AcquireTest, NoWaitDoesNotDialAtTheLimit) {
  target_.max_connections = 1;
  Lent();
  Caller& hasty = Acquire({.may_wait = false});
  EXPECT_EQ(hasty.reason(), RejectReason::kNoIdleConnection);
  EXPECT_EQ(dials(), 0u);
}

TEST_F(AcquireTest, RequireWarmNeverDials) {
  Caller& picky = Acquire({.reuse = Reuse::kRequireWarm});
  ASSERT_TRUE(picky.rejected());
  EXPECT_EQ(picky.reason(), RejectReason::kNoIdleConnection);
  EXPECT_EQ(dials(), 0u);
  const ConnId idle = Idle();
  Caller& lucky = Acquire({.reuse = Reuse::kRequireWarm});
  ASSERT_TRUE(lucky.granted());
  EXPECT_EQ(lucky.conn(), idle);
}

TEST_F(AcquireTest, ForceNewSkipsAUsedConnection) {
  const ConnId used = Idle();
  Caller& caller = Acquire({.reuse = Reuse::kForceNew});
  EXPECT_TRUE(caller.waiting());
  EXPECT_EQ(dials(), 1u);
  const ConnId unused = Dialed();
  ASSERT_TRUE(caller.granted());
  EXPECT_EQ(caller.conn(), unused);
  EXPECT_EQ(caller.grant().uses, 0u);
  EXPECT_EQ(Acquire().conn(), used);
}

TEST_F(AcquireTest, ForceNewTakesAnUnusedIdleConnection) {
  Acquire({.may_wait = false});
  const ConnId unused = Dialed();
  Caller& caller = Acquire({.reuse = Reuse::kForceNew});
  ASSERT_TRUE(caller.granted());
  EXPECT_EQ(caller.conn(), unused);
}

TEST_F(AcquireTest, ForceNewAtTheLimitClosesAnIdleConnectionFirst) {
  target_.max_connections = 1;
  Idle();
  Caller& caller = Acquire({.reuse = Reuse::kForceNew});
  EXPECT_EQ(OnlyClose(), CloseReason::kReclaimed);
  EXPECT_EQ(dials(), 0u) << "the old connection still counts";
  CloseAll();
  EXPECT_EQ(dials(), 1u);
  Dialed();
  EXPECT_TRUE(caller.granted());
}

TEST_F(AcquireTest, AForceNewWaiterDoesNotBlockTheOthers) {
  Caller& holder = Lent();
  Caller& choosy = Acquire({.reuse = Reuse::kForceNew});
  Caller& any = Acquire();
  Release(holder);
  EXPECT_TRUE(any.granted());
  EXPECT_TRUE(choosy.waiting());
  Dialed();
  EXPECT_TRUE(choosy.granted());
}

TEST_F(AcquireTest, APassedDeadlineIsRejectedWithoutADial) {
  Caller& late = Acquire({.wait = Duration(0)});
  ASSERT_TRUE(late.rejected());
  EXPECT_EQ(late.reason(), RejectReason::kWaitTimeout);
  EXPECT_EQ(dials(), 0u);
}

TEST_F(AcquireTest, APassedDeadlineMayStillTakeAnIdleConnection) {
  const ConnId idle = Idle();
  Caller& late = Acquire({.wait = Duration(0)});
  ASSERT_TRUE(late.granted());
  EXPECT_EQ(late.conn(), idle);
}

TEST_F(AcquireTest, DifferentKeysShareNoConnection) {
  Idle();
  EXPECT_TRUE(Acquire({.group = "other"}).waiting());
  EXPECT_TRUE(Acquire({.mode = Mode::kExclusive}).waiting());
  EXPECT_TRUE(Acquire({.target = kB}).waiting());
  EXPECT_EQ(dials(), 3u);
}

TEST_F(AcquireTest, ATargetAboveTheLimitIsRejected) {
  config_.max_targets = 2;
  Lent({.target = kA});
  Lent({.target = kB});
  Caller& refused = Acquire({.target = kC});
  ASSERT_TRUE(refused.rejected());
  EXPECT_EQ(refused.reason(), RejectReason::kTooManyTargets);
  EXPECT_EQ(dials(), 0u);
}

TEST_F(AcquireTest, EvictsTheTargetThatHasBeenEmptyForLongest) {
  config_.max_targets = 2;
  Caller& a = Lent({.target = kA});
  Caller& b = Lent({.target = kB});
  Release(b, Outcome::kDiscard);
  CloseAll();
  Release(a, Outcome::kDiscard);
  CloseAll();
  Lent({.target = kC});
  EXPECT_EQ(Row(kB).target, "");
  EXPECT_EQ(Row(kA).target, kA);
  EXPECT_EQ(Take().forgotten.granted, 1u);
}

TEST_F(AcquireTest, ATargetInUseAgainIsNotEvicted) {
  config_.max_targets = 2;
  Release(Lent({.target = kA}), Outcome::kDiscard);
  CloseAll();
  Release(Lent({.target = kB}), Outcome::kDiscard);
  CloseAll();
  Lent({.target = kA});
  Lent({.target = kC});
  EXPECT_EQ(Row(kA).target, kA);
  EXPECT_EQ(Row(kB).target, "");
}

// --- Cancel ---

class CancelTest : public PoolTest {};

TEST_F(CancelTest, ACancelledWaiterIsNeverCalled) {
  target_.max_connections = 1;
  Caller& holder = Lent();
  Caller& leaver = Acquire();
  Caller& next = Acquire();
  EXPECT_TRUE(Cancel(leaver));
  EXPECT_FALSE(Cancel(leaver));
  Release(holder);
  EXPECT_TRUE(leaver.waiting());
  EXPECT_TRUE(next.granted());
  EXPECT_EQ(Counters().cancelled, 1u);
}

TEST_F(CancelTest, TheDialOfACancelledWaiterIsPooled) {
  Caller& leaver = Acquire();
  EXPECT_TRUE(Cancel(leaver));
  const ConnId id = Dialed();
  EXPECT_TRUE(leaver.waiting());
  EXPECT_EQ(Row().idle, 1);
  EXPECT_EQ(Acquire().conn(), id);
}

TEST_F(CancelTest, FailsAfterTheGrant) {
  Caller& caller = Acquire();
  Dialed();
  EXPECT_FALSE(Cancel(caller));
  EXPECT_TRUE(caller.granted());
  EXPECT_EQ(Release(caller), LeaseStatus::kOk);
}

TEST_F(CancelTest, FailsAfterTheRejection) {
  Caller& caller = Acquire();
  DialFailed();
  ASSERT_TRUE(caller.rejected());
  EXPECT_FALSE(Cancel(caller));
}

TEST_F(CancelTest, FailsForAnUnknownWaiter) {
  Caller stranger;
  pool();
  EXPECT_FALSE(Cancel(stranger));
  stranger.id = UINT64_MAX;
  EXPECT_FALSE(Cancel(stranger));
}

}  // namespace
}  // namespace hotline::pool
