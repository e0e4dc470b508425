// Events of the transport: dials, closes, GOAWAY, limits on streams.
#include "tests/pool/pool_fixture.h"

namespace hotline::pool {
namespace {

class DialTest : public PoolTest {};

TEST_F(DialTest, ServesTheWaitersAndPoolsSurplusConnections) {
  std::vector<Caller*> line;
  for (int i = 0; i < 3; ++i) line.push_back(&Acquire());
  ASSERT_EQ(dials(), 3u);
  const ConnId first = Dialed(/*streams=*/2);
  ASSERT_TRUE(line[0]->granted());
  ASSERT_TRUE(line[1]->granted());
  EXPECT_TRUE(line[2]->waiting());
  EXPECT_EQ(line[0]->conn(), first);
  EXPECT_EQ(line[1]->conn(), first);
  Dialed(2);
  EXPECT_TRUE(line[2]->granted());
  Dialed(2);
  EXPECT_EQ(Row().idle, 1);
  EXPECT_EQ(closes(), 0u);
}

TEST_F(DialTest, OneDialLearnsTheNumberOfStreams) {
  target_.expected_streams = 0;
  for (int i = 0; i < 5; ++i) Acquire();
  EXPECT_EQ(dials(), 1u);
  Dialed(/*streams=*/1);
  EXPECT_EQ(dials(), 4u) << "HTTP/1.1: one connection each";
}

TEST_F(DialTest, AWaitForTheDialLimitIsExplained) {
  target_.max_dials = 1;
  Acquire();
  Caller& second = Acquire();
  EXPECT_EQ(dials(), 1u);
  Dialed();
  EXPECT_EQ(dials(), 1u);
  Dialed();
  ASSERT_TRUE(second.granted());
  EXPECT_EQ(second.grant().wait.limit, WaitLimit::kTargetDials);
  EXPECT_EQ(second.grant().wait.limit_value, 1);
}

TEST_F(DialTest, FailureOfTheLastDialRejectsAllWaiters) {
  target_.max_dials = 2;
  std::vector<Caller*> line;
  for (int i = 0; i < 3; ++i) line.push_back(&Acquire());
  DialFailed();
  for (Caller* caller : line)
    EXPECT_TRUE(caller->waiting()) << "one dial is still under way";
  DialFailed(FailureClass::kTls, "TLS_VERIFY_FAILED");
  for (Caller* caller : line) {
    ASSERT_TRUE(caller->rejected());
    EXPECT_EQ(caller->reason(), RejectReason::kDialFailed);
    EXPECT_EQ(caller->rejection().dial_error.failure_class, FailureClass::kTls);
    EXPECT_STREQ(caller->rejection().dial_error.reason, "TLS_VERIFY_FAILED");
    EXPECT_EQ(caller->rejection().last_dial_error, "refused by the test");
  }
  EXPECT_EQ(Row().last_dial_error, "refused by the test");
}

TEST_F(DialTest, FailureRejectsNoWaiterWhileAConnectionIsLent) {
  Caller& holder = Lent();
  Caller& next = Acquire();
  DialFailed();
  EXPECT_TRUE(next.waiting());
  Release(holder);
  EXPECT_TRUE(next.granted());
}

TEST_F(DialTest, APolicyFailureIsReportedAsSuch) {
  Caller& caller = Acquire();
  DialFailed(FailureClass::kPolicy, "EGRESS_DENIED");
  ASSERT_TRUE(caller.rejected());
  EXPECT_EQ(caller.rejection().dial_error.failure_class, FailureClass::kPolicy);
  EXPECT_STREQ(caller.rejection().dial_error.reason, "EGRESS_DENIED");
  EXPECT_EQ(Counters().dials_failed[static_cast<int>(FailureClass::kPolicy)],
            1u);
}

TEST_F(DialTest, AfterAFailureTheNextDialWaits) {
  target_.dial_backoff_base = target_.dial_backoff_cap = seconds(1);
  Acquire();
  DialFailed();
  Caller& next = Acquire();
  EXPECT_TRUE(next.waiting());
  EXPECT_EQ(dials(), 0u);
  Pass(seconds(1) + milliseconds(1));
  EXPECT_EQ(dials(), 1u);
  Dialed();
  ASSERT_TRUE(next.granted());
  EXPECT_EQ(next.grant().wait.limit, WaitLimit::kDialBackoff);
}

TEST_F(DialTest, TheBackoffGrowsAndASuccessResetsIt) {
  target_.dial_backoff_base = milliseconds(50);
  target_.dial_backoff_cap = seconds(1);
  target_.breaker_failures = 0;
  Duration longest{0};
  for (int i = 0; i < 40; ++i) {
    Caller& caller = Acquire({.wait = minutes(1)});
    const Instant asked = now_;
    while (dials() == 0) Pass(milliseconds(5));
    longest = std::max(longest, now_ - asked);
    DialFailed();
    ASSERT_TRUE(caller.rejected());
  }
  EXPECT_GT(longest, milliseconds(200)) << "it should have doubled";
  EXPECT_LE(longest, milliseconds(1006));
  Caller& lucky = Acquire({.wait = minutes(1)});
  while (dials() == 0) Pass(milliseconds(5));
  Dialed();
  EXPECT_TRUE(lucky.granted());
  EXPECT_TRUE(Acquire().waiting());
  EXPECT_EQ(dials(), 1u) << "no back-off is left";
  EXPECT_EQ(Row().last_dial_error, "");
}

// --- Closes ---

class ClosedTest : public PoolTest {};

TEST_F(ClosedTest, AClosedIdleConnectionIsNotLentAgain) {
  const ConnId id = Idle();
  Closed(id);
  EXPECT_TRUE(Acquire().waiting());
  EXPECT_EQ(dials(), 1u);
  EXPECT_EQ(Counters().closed[static_cast<int>(CloseReason::kPeerClosed)], 1u);
}

TEST_F(ClosedTest, AClosedLeasedConnectionKeepsItsLeaseButFreesItsPlace) {
  target_.max_connections = 1;
  Caller& holder = Lent();
  Caller& next = Acquire();
  Closed(holder.conn(), CloseReason::kError);
  EXPECT_EQ(dials(), 1u);
  Dialed();
  EXPECT_TRUE(next.granted());
  const CallStart start = BeginCall(holder.lease());
  EXPECT_EQ(start.status, LeaseStatus::kOk)
      << "the transport will report the error";
  EndCall(holder.lease());
  EXPECT_EQ(Release(holder), LeaseStatus::kOk);
  EXPECT_EQ(closes(), 0u);
}

TEST_F(ClosedTest, AStaleIdIsIgnored) {
  const ConnId old = Idle();
  Closed(old);
  Closed(old);
  const ConnId now = Idle();
  EXPECT_NE(old, now);
  Closed(old);
  GoAway(old);
  ErrorCounted(old, 20);
  ConcurrencyChanged(old, 0);
  pool().Probed(old, false, now_);
  Closed(0);
  Closed(UINT64_MAX);
  EXPECT_EQ(Row().idle, 1);
  EXPECT_EQ(Acquire().conn(), now);
}

TEST_F(ClosedTest, ThePoolsOwnReasonIsCountedIfItAskedForTheClose) {
  Release(Lent(), Outcome::kDiscard);
  const ConnId id = transport_.closes[0].id;
  transport_.closes.clear();
  Closed(id, CloseReason::kPeerClosed);
  EXPECT_EQ(Counters().closed[static_cast<int>(CloseReason::kDiscarded)], 1u);
  EXPECT_EQ(Counters().closed[static_cast<int>(CloseReason::kPeerClosed)], 0u);
}

TEST_F(ClosedTest, AClosedConnectionRecordsItsAgeAndUses) {
  const ConnId id = Idle();
  Release(Acquire());
  Pass(seconds(10));
  EXPECT_EQ(Counters().age.total(), 0u);
  Closed(id);
  EXPECT_EQ(Counters().age.total(), 1u);
  EXPECT_EQ(Counters().age.sum(), Duration(seconds(10)) / kAgeScale);
  EXPECT_EQ(Counters().uses.total(), 1u);
  EXPECT_EQ(Counters().uses.sum(), 2 * kUse);
}

TEST_F(ClosedTest, GoAwayClosesAnIdleConnection) {
  GoAway(Idle());
  EXPECT_EQ(OnlyClose(), CloseReason::kPeerClosed);
}

TEST_F(ClosedTest, AfterGoAwayADrainingConnectionCountsAgainstTheLimit) {
  target_.max_connections = 1;
  Caller& holder = Lent({}, 100);
  GoAway(holder.conn());
  EXPECT_EQ(Conn(holder.conn()).state, ConnState::kDraining);
  Caller& next = Acquire();
  EXPECT_TRUE(next.waiting());
  EXPECT_EQ(dials(), 0u);
  Release(holder);
  EXPECT_EQ(OnlyClose(), CloseReason::kPeerClosed);
  CloseAll();
  Dialed();
  EXPECT_TRUE(next.granted());
}

// --- Streams ---

class StreamsTest : public PoolTest {};

TEST_F(StreamsTest, SharedModeUsesThePeersStreamsUpToMaxStreams) {
  target_.max_streams = 3;
  Caller& first = Lent({}, 100);
  EXPECT_EQ(Acquire().conn(), first.conn());
  EXPECT_EQ(Acquire().conn(), first.conn());
  EXPECT_EQ(Conn(first.conn()).limit, 3);
  EXPECT_TRUE(Acquire().waiting());
}

TEST_F(StreamsTest, ExclusiveModeUsesOneSlotWhateverThePeerAllows) {
  Caller& first = Lent({.mode = Mode::kExclusive}, 100);
  EXPECT_EQ(Conn(first.conn()).limit, 1);
  EXPECT_TRUE(Acquire({.mode = Mode::kExclusive}).waiting());
  EXPECT_EQ(dials(), 1u);
  ConcurrencyChanged(first.conn(), 200);
  EXPECT_EQ(Conn(first.conn()).limit, 1);
}

TEST_F(StreamsTest, MoreStreamsServeTheWaiters) {
  target_.max_connections = 1;
  Caller& first = Lent({}, 2);
  Acquire();
  Caller& third = Acquire();
  EXPECT_TRUE(third.waiting());
  ConcurrencyChanged(first.conn(), 3);
  ASSERT_TRUE(third.granted());
  EXPECT_EQ(third.conn(), first.conn());
}

TEST_F(StreamsTest, BelowTheStreamsInUseNothingIsLentUntilEnoughAreReleased) {
  target_.max_connections = 1;
  Caller& first = Lent({}, 3);
  Caller& second = Acquire();
  Caller& third = Acquire();
  ConcurrencyChanged(first.conn(), 1);
  Caller& next = Acquire();
  Release(first);
  EXPECT_TRUE(next.waiting());
  Release(second);
  EXPECT_TRUE(next.waiting()) << "the third caller has the only slot";
  Release(third);
  EXPECT_TRUE(next.granted());
}

TEST_F(StreamsTest, WithoutStreamsNothingIsLent) {
  const ConnId id = Idle({}, 10);
  ConcurrencyChanged(id, 0);
  EXPECT_TRUE(Acquire().waiting());
  ConcurrencyChanged(id, 10);
  EXPECT_EQ(Row().waiters, 0);
}

}  // namespace
}  // namespace hotline::pool
