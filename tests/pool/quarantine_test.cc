// Quarantine of a target that sends unsolicited bytes repeatedly.
#include "pool/quarantine.h"

#include "tests/pool/pool_fixture.h"

namespace hotline::pool {
namespace {

TEST(QuarantineTest, BeginsAtTheLimitWithinTheWindow) {
  Quarantine quarantine;
  const Instant start = Instant{} + hours(1);
  EXPECT_FALSE(quarantine.OnUnsolicited(3, start));
  EXPECT_FALSE(quarantine.OnUnsolicited(3, start + minutes(2)));
  EXPECT_FALSE(quarantine.active(start + minutes(2)));
  EXPECT_TRUE(quarantine.OnUnsolicited(3, start + minutes(4)));
  EXPECT_TRUE(quarantine.active(start + minutes(4)));
  EXPECT_TRUE(quarantine.active(start + minutes(9) - seconds(1)));
  EXPECT_FALSE(quarantine.active(start + minutes(9)));
}

TEST(QuarantineTest, EventsOutsideTheWindowDoNotCount) {
  Quarantine quarantine;
  const Instant start = Instant{} + hours(1);
  for (int i = 0; i < 20; ++i) {
    EXPECT_FALSE(quarantine.OnUnsolicited(3, start + i * minutes(3)));
  }
}

TEST(QuarantineTest, AFurtherEventRestartsIt) {
  Quarantine quarantine;
  const Instant start = Instant{} + hours(1);
  EXPECT_TRUE(quarantine.OnUnsolicited(1, start));
  EXPECT_TRUE(quarantine.OnUnsolicited(3, start + minutes(4)));
  EXPECT_TRUE(quarantine.active(start + minutes(8)));
  EXPECT_FALSE(quarantine.active(start + minutes(9)));
}

TEST(QuarantineTest, AZeroLimitDisablesIt) {
  Quarantine quarantine;
  EXPECT_FALSE(quarantine.OnUnsolicited(0, Instant{} + hours(1)));
}

class NoReuseTest : public PoolTest {
 protected:
  void Desync(int times) {
    for (int i = 0; i < times; ++i) {
      Closed(Idle(), CloseReason::kUnsolicited);
    }
  }
};

TEST_F(NoReuseTest, BelowTheLimitConnectionsAreReused) {
  Desync(2);
  const ConnId id = Idle();
  EXPECT_EQ(Acquire().conn(), id);
  EXPECT_EQ(Counters().quarantines, 0u);
}

TEST_F(NoReuseTest, AtTheLimitEachCallHasItsOwnConnection) {
  Desync(3);
  EXPECT_EQ(Counters().quarantines, 1u);
  EXPECT_EQ(Row().no_reuse_for, Quarantine::kLength);
  const ConnId first = Idle();
  Caller& next = Acquire();
  EXPECT_TRUE(next.waiting());
  EXPECT_EQ(OnlyClose(), CloseReason::kNoReuse);
  EXPECT_NE(Dialed(), first);
  EXPECT_TRUE(next.granted());
}

TEST_F(NoReuseTest, AReleasedConnectionIsNotGrantedToWaiters) {
  target_.max_connections = 1;
  Desync(3);
  Caller& holder = Lent();
  Caller& waiting = Acquire();
  Release(holder);
  EXPECT_TRUE(waiting.waiting());
  EXPECT_EQ(OnlyClose(), CloseReason::kNoReuse);
  CloseAll();
  Dialed();
  EXPECT_TRUE(waiting.granted());
}

TEST_F(NoReuseTest, ConnectionsAlreadyIdleAreNotLent) {
  target_.max_connections = 20;
  Caller& a = Lent();
  Caller& b = Lent();
  Release(a);
  Release(b);
  Closed(a.conn(), CloseReason::kUnsolicited);
  Caller& c = Lent({.reuse = Reuse::kForceNew});
  Release(c);
  Closed(c.conn(), CloseReason::kUnsolicited);
  Caller& d = Lent({.reuse = Reuse::kForceNew});
  Release(d);
  Closed(d.conn(), CloseReason::kUnsolicited);
  EXPECT_TRUE(Acquire().waiting());
  EXPECT_EQ(OnlyClose(), CloseReason::kNoReuse) << "b";
}

TEST_F(NoReuseTest, AWarmFloorOfUnusedConnectionsIsKept) {
  target_.warm = 1;
  Warm(kA);
  Dialed();
  for (int i = 0; i < 3; ++i) {
    Caller& caller = Acquire();
    Release(caller);
    Closed(caller.conn(), CloseReason::kUnsolicited);
    Dialed();
  }
  EXPECT_EQ(Counters().quarantines, 1u);
  Pass(seconds(20));
  EXPECT_EQ(closes(), 0u);
  EXPECT_EQ(probes(), 0u);
  EXPECT_TRUE(Acquire().granted()) << "it has not served";
}

TEST_F(NoReuseTest, ReuseResumesAfterItsLength) {
  Desync(3);
  Pass(Quarantine::kLength + seconds(1));
  EXPECT_EQ(Row().no_reuse_for, Duration(0));
  const ConnId id = Idle();
  EXPECT_EQ(Acquire().conn(), id);
}

TEST_F(NoReuseTest, AZeroLimitLiftsIt) {
  Desync(3);
  target_.desync_limit = 0;
  Reconfigure();
  const ConnId id = Idle();
  EXPECT_EQ(Acquire().conn(), id);
  Desync(5);
  EXPECT_EQ(Counters().quarantines, 1u);
}

}  // namespace
}  // namespace hotline::pool
