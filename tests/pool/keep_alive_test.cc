// Idle connections are retired before the upstream would close them.
#include "pool/idle_limit.h"
#include "tests/pool/pool_fixture.h"

namespace hotline::pool {
namespace {

class KeepAliveTest : public PoolTest {
 protected:
  // The upstream closes two connections that have been idle for `idle`.
  void Learn(Duration idle) {
    for (int i = 0; i < 2; ++i) {
      const ConnId id = Idle();
      Pass(idle);
      Closed(id);
    }
  }
};

TEST_F(KeepAliveTest, AnAnnouncedTimeIsObeyed) {
  Caller& caller = Lent();
  KeepAliveSaid(caller.conn(), seconds(5));
  Release(caller);
  EXPECT_EQ(Row().keep_alive_said, seconds(5));
  EXPECT_EQ(Row().idle_for, milliseconds(4500));
  Pass(milliseconds(4490));
  EXPECT_EQ(closes(), 0u);
  EXPECT_EQ(Acquire().conn(), caller.conn());
}

TEST_F(KeepAliveTest, AConnectionIsRetiredAMarginEarlier) {
  Caller& caller = Lent();
  KeepAliveSaid(caller.conn(), seconds(5));
  Release(caller);
  Pass(milliseconds(4510));
  EXPECT_EQ(OnlyClose(), CloseReason::kIdle);
}

TEST_F(KeepAliveTest, AConnectionPastItsTimeIsNotLentAlthoughItsTickIsLate) {
  Caller& caller = Lent();
  KeepAliveSaid(caller.conn(), seconds(5));
  Release(caller);
  now_ += milliseconds(4500);
  EXPECT_TRUE(Acquire().waiting());
  EXPECT_EQ(OnlyClose(), CloseReason::kIdle);
  EXPECT_EQ(dials(), 1u);
}

TEST_F(KeepAliveTest, TheTimeIsLearnedFromTwoCloses) {
  Learn(seconds(5));
  EXPECT_EQ(Row().keep_alive_learned, seconds(5));
  EXPECT_EQ(Row().idle_for, milliseconds(4500));
  Idle();
  Pass(milliseconds(4490));
  EXPECT_EQ(closes(), 0u);
  Pass(milliseconds(20));
  EXPECT_EQ(OnlyClose(), CloseReason::kIdle);
}

TEST_F(KeepAliveTest, OneCloseChangesNothing) {
  const ConnId id = Idle();
  Pass(seconds(5));
  Closed(id);
  EXPECT_EQ(Row().idle_for, target_.idle_timeout);
}

TEST_F(KeepAliveTest, ALearnedTimeAppliesToConnectionsAlreadyIdle) {
  const ConnId first = Idle();
  Pass(seconds(5));
  Closed(first);
  Caller& a = Lent();
  Caller& b = Lent();
  Release(a);
  Pass(seconds(2));
  Release(b);
  Pass(seconds(3));
  Closed(a.conn());  // After 5 s; `b` has been idle for 3 s.
  EXPECT_EQ(Row().keep_alive_learned, seconds(5));
  EXPECT_EQ(closes(), 0u);
  Pass(milliseconds(1510));
  EXPECT_EQ(OnlyClose(), CloseReason::kIdle);
}

TEST_F(KeepAliveTest, ClosesInUseOrBeforeTheFirstUseAreIgnored) {
  for (int i = 0; i < 3; ++i) {
    Caller& caller = Lent();
    Pass(seconds(5));
    Closed(caller.conn());
    Release(caller);
  }
  target_.warm = 1;
  Reconfigure();
  for (int i = 0; i < 3; ++i) {
    const ConnId id = Dialed();
    Pass(seconds(5));
    Closed(id);
  }
  EXPECT_EQ(Row().keep_alive_learned, IdleLimit::kNone);
  EXPECT_EQ(Row().idle_for, target_.idle_timeout);
}

TEST_F(KeepAliveTest, AnHttpCheckKeepsAWarmConnectionOpen) {
  target_.warm = 1;
  Learn(seconds(5));
  const ConnId id = Idle();
  Pass(milliseconds(4510));
  ASSERT_EQ(probes(), 1u);
  Probed(true);
  Pass(milliseconds(4000));
  EXPECT_EQ(Acquire().conn(), id) << "the check restarted its idle time";
  EXPECT_EQ(closes(), 0u);
}

TEST_F(KeepAliveTest, AWarmConnectionThatNoCheckCanKeepIsReplaced) {
  target_.warm = 1;
  target_.probe = ProbeKind::kTcp;
  Learn(seconds(5));
  Idle();
  Pass(milliseconds(4510));
  EXPECT_EQ(probes(), 0u);
  EXPECT_EQ(OnlyClose(), CloseReason::kIdle);
  EXPECT_EQ(dials(), 1u);
}

TEST_F(KeepAliveTest, AGoAwayWhileIdleCountsAsAClose) {
  for (int i = 0; i < 2; ++i) {
    const ConnId id = Idle({}, 100);
    Pass(seconds(10));
    GoAway(id);
    CloseAll();
  }
  EXPECT_EQ(Row().keep_alive_learned, seconds(10));
}

TEST_F(KeepAliveTest, AnOutdatedTimeIsDroppedWithTheNextConnection) {
  Learn(seconds(5));
  Pass(minutes(11));
  // A new connection drops the outdated limit.
  Idle();
  EXPECT_EQ(Row().idle_for, target_.idle_timeout);
  Pass(seconds(44));
  EXPECT_EQ(closes(), 0u);
}

}  // namespace
}  // namespace hotline::pool
