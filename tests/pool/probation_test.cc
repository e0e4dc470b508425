// Probation: if a connection ends before it has served, its dial counts as
// failed.
#include <algorithm>

#include "tests/pool/pool_fixture.h"

namespace hotline::pool {
namespace {

// The most dials allowed in four seconds to an upstream that accepts and
// closes.
constexpr int kMostDials = 100;
// Ends a test in which there is no limit.
constexpr int kStop = 2000;

class ProbationTest : public PoolTest {
 protected:
  // Accepts every dial, and lets `end` end the connection a millisecond later.
  // Returns the number of dials.
  template <typename End>
  int DialsIn(Duration time, End end) {
    int dialled = 0;
    const Instant until = now_ + time;
    while (now_ < until && dialled < kStop) {
      std::vector<ConnId> made;
      while (dials() > 0) made.push_back(Dialed(streams_));
      dialled += static_cast<int>(made.size());
      Pass(milliseconds(1));
      for (const ConnId id : made) end(id);
      CloseAll();
    }
    return dialled;
  }
  uint64_t Failed(FailureClass failure_class) {
    return Counters().dials_failed[static_cast<int>(failure_class)];
  }

  int streams_ = 1;
};

TEST_F(ProbationTest, AWarmFloorThatIsClosedAtOnceCausesFewDials) {
  target_.warm = 2;
  Warm(kA);
  const int dialled =
      DialsIn(seconds(4), [this](ConnId id) { ClosedEarly(id); });
  EXPECT_LE(dialled, kMostDials);
  EXPECT_GE(dialled, 5) << "it should be tried again";
  EXPECT_NE(Row().breaker, BreakerState::kClosed);
  EXPECT_GE(Counters().breaker_opened, 1u);
  EXPECT_EQ(Row().last_dial_error, "it ended early");
  EXPECT_EQ(Failed(FailureClass::kNetwork), static_cast<uint64_t>(dialled));
  EXPECT_EQ(Counters().dials_ok, 0u) << "each dial has one result";
}

TEST_F(ProbationTest, TheBackOffAloneLimitsTheDials) {
  target_.warm = 10;
  target_.breaker_failures = 0;
  Warm(kA);
  EXPECT_LE(DialsIn(seconds(4), [this](ConnId id) { ClosedEarly(id); }),
            2 * kMostDials);
}

TEST_F(ProbationTest, AGoAwayAtOnceCausesFewDials) {
  streams_ = 100;
  target_.warm = 2;
  Warm(kA);
  EXPECT_LE(DialsIn(seconds(4), [this](ConnId id) { GoAwayEarly(id); }),
            kMostDials);
  EXPECT_GE(Counters().breaker_opened, 1u);
}

TEST_F(ProbationTest, CallersThatRetryAtOnceCauseFewDials) {
  int refused = 0;
  const auto again = [&] {
    Caller& caller = Acquire();
    refused +=
        caller.rejected() && caller.reason() == RejectReason::kCircuitOpen;
    return &caller;
  };
  Caller* caller = again();
  const int dialled = DialsIn(seconds(4), [&](ConnId id) {
    ClosedEarly(id);
    if (caller->granted()) Release(*caller);
  });
  EXPECT_LE(dialled, 2) << "no caller asked again";
  const Instant until = now_ + seconds(4);
  int more = 0;
  while (now_ < until && more < kStop) {
    if (!caller->waiting()) caller = again();
    more += DialsIn(milliseconds(1), [&](ConnId id) {
      ClosedEarly(id);
      if (caller->granted()) Release(*caller);
    });
    if (caller->granted()) Release(*caller);
  }
  EXPECT_LE(more, kMostDials);
  EXPECT_GT(refused, 0) << "the breaker should reject callers at once";
}

TEST_F(ProbationTest, TheFailureClassIsTheTransports) {
  early_ = {FailureClass::kTls, "TLS_FAILED", "bad certificate"};
  Caller& caller = Lent();
  ClosedEarly(caller.conn(), CloseReason::kError);
  EXPECT_EQ(Failed(FailureClass::kTls), 1u);
  EXPECT_EQ(Row().last_dial_error, "bad certificate");
  EXPECT_EQ(Counters().closed[static_cast<int>(CloseReason::kError)], 1u);
}

TEST_F(ProbationTest, AnAnswerEndsIt) {
  Caller& caller = Lent();
  EXPECT_EQ(Counters().dials_ok, 0u);
  Served(caller.conn());
  EXPECT_EQ(Counters().dials_ok, 1u);
  ClosedEarly(caller.conn());  // Too late.
  EXPECT_EQ(Failed(FailureClass::kNetwork), 0u);
  EXPECT_EQ(Row().last_dial_error, "");
}

TEST_F(ProbationTest, ASecondWithoutACloseEndsIt) {
  target_.warm = 1;
  Warm(kA);
  Dialed();
  Pass(kProbation - milliseconds(1));
  EXPECT_EQ(Counters().dials_ok, 0u);
  Pass(milliseconds(2));
  EXPECT_EQ(Counters().dials_ok, 1u);
}

TEST_F(ProbationTest, AnOrdinaryCloseEndsIt) {
  Release(Lent(), Outcome::kDiscard);
  CloseAll();
  EXPECT_EQ(Counters().dials_ok, 1u);
  Closed(Lent().conn());
  EXPECT_EQ(Counters().dials_ok, 2u);
}

TEST_F(ProbationTest, FailuresInARowEndOnlyAfterAPassedProbation) {
  target_.max_dials = 1;
  target_.breaker_failures = 3;
  for (int i = 0; i < 2; ++i) {
    Caller& caller = Lent();
    Pass(milliseconds(1));
    ClosedEarly(caller.conn());
    Pass(target_.dial_backoff_cap);
  }
  EXPECT_EQ(Row().failures_in_a_row, 2);
  Caller& caller = Lent();
  EXPECT_EQ(Row().failures_in_a_row, 2) << "its probation has not ended";
  EXPECT_EQ(Row().last_dial_error, "it ended early");
  Served(caller.conn());
  EXPECT_EQ(Row().failures_in_a_row, 0);
  EXPECT_EQ(Row().last_dial_error, "");
}

TEST_F(ProbationTest, ATrialClosesTheBreakerAfterItsProbation) {
  target_.max_dials = 1;
  target_.breaker_failures = 1;
  ClosedEarly(Lent().conn());
  EXPECT_EQ(Row().breaker, BreakerState::kOpen);
  Pass(target_.breaker_open_for);
  Caller& trial = Lent();
  EXPECT_EQ(Row().breaker, BreakerState::kHalfOpen);
  EXPECT_TRUE(Acquire().waiting()) << "it waits for the trial's connection";
  EXPECT_EQ(dials(), 0u) << "one at a time";
  Served(trial.conn());
  EXPECT_EQ(Row().breaker, BreakerState::kClosed);
  EXPECT_EQ(dials(), 1u) << "for the waiter";
}

TEST_F(ProbationTest, ATrialThatEndsEarlyReopensTheBreaker) {
  target_.breaker_failures = 1;
  ClosedEarly(Lent().conn());
  Pass(target_.breaker_open_for);
  Caller& trial = Lent();
  Pass(milliseconds(1));
  ClosedEarly(trial.conn());
  EXPECT_EQ(Row().breaker, BreakerState::kOpen);
  EXPECT_EQ(Counters().breaker_opened, 2u);
}

TEST_F(ProbationTest, WaitersAreNotRejectedByAnEarlyEnd) {
  target_.max_connections = 1;
  Caller& first = Lent();
  Caller& second = Acquire();
  ClosedEarly(first.conn());
  EXPECT_TRUE(second.waiting()) << "one caller must not fail another";
  EXPECT_EQ(dials(), 0u);
  Pass(target_.dial_backoff_cap);
  Dialed();
  EXPECT_TRUE(second.granted());
}

TEST_F(ProbationTest, ConcurrentEarlyEndsCountAsOneFailure) {
  target_.warm = 4;
  Warm(kA);
  std::vector<ConnId> made;
  while (dials() > 0) made.push_back(Dialed());
  ASSERT_EQ(made.size(), 4u);
  Pass(milliseconds(1));
  for (const ConnId id : made) ClosedEarly(id);
  EXPECT_EQ(Row().failures_in_a_row, 1);
  EXPECT_EQ(Failed(FailureClass::kNetwork), 4u);
}

TEST_F(ProbationTest, AShortIdleTimeoutIsLearnedAndIsNoFailure) {
  for (int i = 0; i < 2; ++i) {
    Caller& caller = Lent();
    Served(caller.conn());
    Release(caller);
    Pass(milliseconds(600));
    Closed(caller.conn());
    Pass(seconds(1));
  }
  EXPECT_EQ(Row().keep_alive_learned, milliseconds(600));
  EXPECT_EQ(Row().failures_in_a_row, 0);
  EXPECT_EQ(Counters().dials_ok, 2u);
  EXPECT_EQ(Failed(FailureClass::kNetwork), 0u);
}

// The upstream's timeout for the first request.
TEST_F(ProbationTest, AWarmConnectionThatIsClosedLaterIsReplacedAtOnce) {
  target_.warm = 1;
  Warm(kA);
  for (int i = 0; i < 20; ++i) {
    ASSERT_EQ(dials(), 1u);
    const ConnId id = Dialed();
    Pass(seconds(5));
    Closed(id);
  }
  EXPECT_EQ(Row().failures_in_a_row, 0);
  EXPECT_EQ(Row().keep_alive_learned, Duration::max());
}

}  // namespace
}  // namespace hotline::pool
