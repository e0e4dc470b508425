// Several loops: whose connection is lent, and where dials are placed.
#include "tests/pool/pool_fixture.h"

namespace hotline::pool {
namespace {

class LoopTest : public PoolTest {
 protected:
  LoopTest() { config_.loops = 3; }

  // An idle connection that lives on `loop` and has served.
  ConnId IdleOn(LoopIndex loop, int streams = 1) {
    Caller& caller = Acquire({.reuse = Reuse::kForceNew, .loop = loop});
    if (caller.waiting()) Dialed(streams, loop);
    Release(caller);
    return caller.conn();
  }
  // An idle connection that lives on `loop` and has never served.
  ConnId FreshOn(LoopIndex loop) {
    Prewarm(Count(ConnState::kReady) + 1, 1);
    return Dialed(1, loop);
  }
  ConnId Lend(LoopIndex loop, Reuse reuse = Reuse::kPrefer) {
    Caller& caller = Acquire({.reuse = reuse, .loop = loop});
    EXPECT_TRUE(caller.granted());
    return caller.granted() ? caller.conn() : 0;
  }
};

TEST_F(LoopTest, AnIdleConnectionOfTheCallersLoopIsLentFirst) {
  const ConnId zero = IdleOn(0);
  const ConnId one = IdleOn(1);
  const ConnId two = IdleOn(2);
  struct Case {
    const char* what;
    LoopIndex loop;
    ConnId expected;
    uint64_t away;  // In all, after it.
  };
  const Case cases[] = {
      {"loop 0 has one", 0, zero, 0},
      {"loop 1 has one", 1, one, 0},
      {"loop 1 has none left: the last used of all", 1, two, 1},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(Lend(c.loop), c.expected) << c.what;
    EXPECT_EQ(Counters().cross_loop, c.away) << c.what;
  }
}

TEST_F(LoopTest, ACallerWithoutALoopIsLentTheLastUsed) {
  const ConnId first = IdleOn(1);
  const ConnId last = IdleOn(0);
  EXPECT_EQ(Lend(kNoLoop), last);
  EXPECT_EQ(Lend(3), first) << "there are three loops";
  EXPECT_EQ(Counters().cross_loop, 0u);
}

TEST_F(LoopTest, AnUnusedConnectionOfTheCallersLoopGoesBeforeAUsedOne) {
  const ConnId used = IdleOn(0);
  const ConnId fresh = FreshOn(1);
  EXPECT_EQ(Lend(1), fresh);
  EXPECT_EQ(Lend(1), used);
  EXPECT_EQ(Counters().cross_loop, 1u);
}

TEST_F(LoopTest, ACallerForAnUnusedConnectionPrefersOneOfItsLoop) {
  target_.max_connections = 3;
  FreshOn(1);
  const ConnId mine = FreshOn(2);
  const ConnId last = FreshOn(0);
  EXPECT_EQ(Lend(2, Reuse::kForceNew), mine);
  EXPECT_EQ(Lend(2, Reuse::kForceNew), last);
}

TEST_F(LoopTest, AConnectionDueForACheckIsNotLentThoughItIsOfTheLoop) {
  target_.check_interval = seconds(10);
  target_.idle_timeout = minutes(5);
  const ConnId mine = IdleOn(1);
  Pass(seconds(9));
  const ConnId other = IdleOn(0);
  now_ += seconds(2);  // Without the tick.
  EXPECT_EQ(Lend(1), other);
  ASSERT_EQ(probes(), 1u);
  EXPECT_EQ(transport_.probes[0].id, mine);
}

TEST_F(LoopTest, TheLineStaysInOrderWhateverTheLoop) {
  target_.max_connections = 1;
  Caller& holder = Acquire({.loop = 0});
  Dialed();
  Caller& first = Acquire({.loop = 1});
  Caller& second = Acquire({.loop = 0});
  Release(holder);
  EXPECT_TRUE(first.granted());
  EXPECT_TRUE(second.waiting());
  EXPECT_EQ(Counters().cross_loop, 1u);
  Release(first);
  EXPECT_TRUE(second.granted());
  EXPECT_EQ(Counters().cross_loop, 1u);
}

TEST_F(LoopTest, ADialIsPlacedOnTheLoopOfItsCaller) {
  for (const LoopIndex loop : {2, 0, 1}) {
    Caller& caller = Acquire({.loop = loop});
    EXPECT_EQ(dial_loop(), loop);
    Dialed();
    EXPECT_TRUE(caller.granted());
  }
  EXPECT_EQ(Counters().cross_loop, 0u);
  Acquire();
  EXPECT_EQ(dial_loop(), kNoLoop) << "the transport chooses";
}

TEST_F(LoopTest, ADialIsPlacedOnTheLoopThatLacksAConnection) {
  Caller& mine = Acquire({.loop = 0});
  Dialed();
  Release(mine);
  // Loop 1's caller has loop 0's connection: the next dial is for loop 1,
  // though a caller on loop 0 asks for it.
  Caller& guest = Acquire({.loop = 1});
  EXPECT_TRUE(guest.granted());
  Caller& waiting = Acquire({.loop = 0});
  EXPECT_EQ(dial_loop(), 1);
  Dialed();
  EXPECT_TRUE(waiting.granted());
  Release(guest);
  Release(waiting);
  const uint64_t away = Counters().cross_loop;
  EXPECT_EQ(Lend(0), guest.conn());
  EXPECT_EQ(Lend(1), waiting.conn());
  EXPECT_EQ(Counters().cross_loop, away) << "all are at home";
}

TEST_F(LoopTest, ADialForACallerThatDoesNotWaitIsPlacedOnItsLoop) {
  EXPECT_TRUE(Acquire({.may_wait = false, .loop = 2}).rejected());
  EXPECT_EQ(dial_loop(), 2);
}

TEST_F(LoopTest, ATransportMayPlaceADialElsewhere) {
  Caller& caller = Acquire({.loop = 0});
  EXPECT_EQ(dial_loop(), 0);
  Dialed(1, /*elsewhere=*/2);
  EXPECT_TRUE(caller.granted());
  EXPECT_EQ(Counters().cross_loop, 1u);
  Release(caller);
  EXPECT_EQ(Lend(2), caller.conn());
  EXPECT_EQ(Counters().cross_loop, 1u);
}

TEST_F(LoopTest, ARepeatedAcquireWaitsForItsOwnLoop) {
  target_.max_connections = 2;
  target_.max_dials = 1;
  Acquire({.loop = 0});
  Caller& old = Acquire({.request_id = "r", .loop = 1});
  Caller& heir = Acquire({.request_id = "r", .loop = 2});
  EXPECT_TRUE(old.rejected());
  Dialed();
  EXPECT_EQ(dial_loop(), 2);
  Dialed();
  EXPECT_TRUE(heir.granted());
  EXPECT_EQ(Counters().cross_loop, 0u);
}

// --- Shared connections ---

TEST_F(LoopTest, EachLoopGetsASharedConnectionOfItsOwn) {
  target_.max_connections = 3;
  Lent({.loop = 0}, /*streams=*/10);
  Caller& shared = Acquire({.loop = 1});
  EXPECT_TRUE(shared.granted()) << "it does not wait for its own";
  ASSERT_EQ(dials(), 1u);
  EXPECT_EQ(dial_loop(), 1);
  EXPECT_TRUE(Acquire({.loop = 1}).granted());
  EXPECT_EQ(dials(), 1u) << "one is under way";
  EXPECT_EQ(Counters().cross_loop, 2u);
  const ConnId own = Dialed(10);
  EXPECT_EQ(Lend(1), own);
  EXPECT_EQ(Lend(0), shared.conn());
  EXPECT_EQ(Counters().cross_loop, 2u);
  EXPECT_EQ(dials(), 0u);
}

TEST_F(LoopTest, LoopsShareWhereTheLimitsAllowNoMore) {
  target_.max_connections = 1;
  Lent({.loop = 0}, /*streams=*/10);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(Acquire({.loop = 1}).granted());
  EXPECT_EQ(dials(), 0u);
  EXPECT_EQ(Counters().cross_loop, 3u);
}

TEST_F(LoopTest, LoopsShareWhereTheWholePoolsLimitAllowsNoMore) {
  config_.max_connections = 1;
  Lent({.loop = 0}, /*streams=*/10);
  EXPECT_TRUE(Acquire({.loop = 1}).granted());
  EXPECT_EQ(dials(), 0u);
}

TEST_F(LoopTest, AFailedDialForALoopLeavesItSharing) {
  Lent({.loop = 0}, /*streams=*/10);
  Acquire({.loop = 1});
  DialFailed();
  EXPECT_TRUE(Acquire({.loop = 1}).granted());
  EXPECT_EQ(dials(), 0u) << "it backs off";
  Pass(seconds(1));
  EXPECT_TRUE(Acquire({.loop = 1}).granted());
  EXPECT_EQ(dials(), 1u);
}

TEST_F(LoopTest, ALoopWhoseSharedConnectionDrainsGetsAnother) {
  Lent({.loop = 0}, /*streams=*/10);
  Acquire({.loop = 1});
  const ConnId own = Dialed(10);
  EXPECT_EQ(Lend(1), own);
  GoAway(own);
  EXPECT_TRUE(Acquire({.loop = 1}).granted());
  ASSERT_EQ(dials(), 1u);
  EXPECT_EQ(dial_loop(), 1);
}

TEST_F(LoopTest, AnIdleExclusiveConnectionIsLentWithoutADial) {
  IdleOn(0, /*streams=*/1);
  EXPECT_TRUE(Acquire({.loop = 1}).granted());
  EXPECT_EQ(dials(), 0u);
}

TEST_F(LoopTest, AcquireIdleLeavesTheDialToAcquire) {
  Lent({.loop = 0}, /*streams=*/10);
  const HostPoolKey key{kA, {}, Mode::kShared};
  AcquireRequest request;
  request.key = &key;
  request.loop = 1;
  AcquireResult result;
  EXPECT_FALSE(pool().AcquireIdle(request, now_, &result));
  EXPECT_EQ(dials(), 0u);
  EXPECT_EQ(Counters().granted, 1u);
  Acquire({.loop = 1});
  Dialed(10);
  ASSERT_TRUE(pool().AcquireIdle(request, now_, &result));
  Release(result.grant.lease);
  EXPECT_EQ(Counters().cross_loop, 1u);
}

TEST_F(LoopTest, WithASingleLoopNothingIsCounted) {
  config_.loops = 1;
  Lent({.loop = 0});
  EXPECT_EQ(dials(), 0u);
  Caller& other = Acquire({.loop = 1});
  EXPECT_EQ(dial_loop(), kNoLoop);
  Dialed();
  EXPECT_TRUE(other.granted());
  EXPECT_EQ(Counters().cross_loop, 0u);
}

}  // namespace
}  // namespace hotline::pool
