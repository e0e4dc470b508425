// The circuit breaker: when it opens, what it bars, and how it closes.
#include "tests/pool/pool_fixture.h"

namespace hotline::pool {
namespace {

class BreakerTest : public PoolTest {
 protected:
  BreakerTest() {
    target_.breaker_failures = 3;
    target_.breaker_open_for = seconds(2);
    target_.max_dials = 1;
  }

  // One more failed dial in a row, and the back-off after it.
  void FailOnce() {
    Caller& caller = Acquire();
    ASSERT_TRUE(caller.waiting());
    if (dials() == 0) Pass(target_.dial_backoff_cap);
    DialFailed();
    EXPECT_EQ(caller.reason(), RejectReason::kDialFailed)
        << "the caller that waited for the dial gets its error";
    Pass(target_.dial_backoff_cap);
  }
  void Open() {
    FailOnce();
    FailOnce();
    Acquire();
    DialFailed();
  }
  BreakerState State() { return Row().breaker; }
};

TEST_F(BreakerTest, BelowTheThresholdItStaysClosed) {
  FailOnce();
  FailOnce();
  EXPECT_EQ(State(), BreakerState::kClosed);
  EXPECT_EQ(Row().failures_in_a_row, 2);
  Acquire();
  EXPECT_EQ(dials(), 1u);
}

TEST_F(BreakerTest, AtTheThresholdItOpensAndCallersAreRejectedAtOnce) {
  Open();
  EXPECT_EQ(State(), BreakerState::kOpen);
  EXPECT_EQ(Row().breaker_open_for, seconds(2));
  EXPECT_EQ(Counters().breaker_opened, 1u);
  const Caller& caller = Acquire();
  ASSERT_TRUE(caller.rejected());
  EXPECT_EQ(caller.reason(), RejectReason::kCircuitOpen);
  EXPECT_EQ(caller.rejection().retry_after, seconds(2));
  EXPECT_EQ(caller.rejection().wait.limit, WaitLimit::kCircuitOpen);
  EXPECT_EQ(caller.rejection().last_dial_error, "refused by the test");
  EXPECT_EQ(dials(), 0u);
  const Caller& hasty = Acquire({.may_wait = false});
  EXPECT_EQ(hasty.reason(), RejectReason::kCircuitOpen);
}

TEST_F(BreakerTest, ASuccessInBetweenResetsTheCount) {
  FailOnce();
  FailOnce();
  Release(Lent(), Outcome::kDiscard);
  CloseAll();
  EXPECT_EQ(Row().failures_in_a_row, 0);
  FailOnce();
  FailOnce();
  EXPECT_EQ(State(), BreakerState::kClosed);
}

TEST_F(BreakerTest, HalfOpenOneDialBeginsAndItsSuccessClosesIt) {
  Open();
  Pass(milliseconds(1999));
  EXPECT_EQ(Acquire().reason(), RejectReason::kCircuitOpen);
  Pass(milliseconds(2));
  EXPECT_EQ(State(), BreakerState::kHalfOpen);
  Caller& trial = Acquire();
  EXPECT_TRUE(trial.waiting());
  ASSERT_EQ(dials(), 1u);
  EXPECT_EQ(Acquire({.group = "other"}).reason(), RejectReason::kCircuitOpen)
      << "one trial at a time";
  Dialed();
  EXPECT_TRUE(trial.granted());
  EXPECT_EQ(State(), BreakerState::kClosed);
  EXPECT_EQ(Row().failures_in_a_row, 0);
  EXPECT_TRUE(Acquire({.group = "other"}).waiting());
}

TEST_F(BreakerTest, ATrialThatFailsOpensItAgain) {
  Open();
  Pass(seconds(3));
  Caller& trial = Acquire();
  DialFailed();
  EXPECT_EQ(trial.reason(), RejectReason::kDialFailed);
  EXPECT_EQ(State(), BreakerState::kOpen);
  EXPECT_EQ(Row().breaker_open_for, seconds(2));
  EXPECT_EQ(Counters().breaker_opened, 2u);
}

TEST_F(BreakerTest, ExistingConnectionsAreStillLent) {
  Caller& holder = Lent();
  for (int i = 0; i < 3; ++i) {
    Acquire({.reuse = Reuse::kForceNew});
    Pass(target_.dial_backoff_cap);
    DialFailed();
  }
  EXPECT_EQ(State(), BreakerState::kOpen);
  // The lent connection will be released; no new one will be dialled.
  Caller& patient = Acquire();
  EXPECT_TRUE(patient.waiting());
  EXPECT_EQ(Acquire({.reuse = Reuse::kForceNew}).reason(),
            RejectReason::kCircuitOpen);
  Release(holder);
  EXPECT_TRUE(patient.granted());
}

TEST_F(BreakerTest, AWaiterIsRejectedWhenTheLastConnectionCloses) {
  Caller& holder = Lent();
  for (int i = 0; i < 3; ++i) {
    Acquire({.reuse = Reuse::kForceNew});
    Pass(target_.dial_backoff_cap);
    DialFailed();
  }
  Caller& patient = Acquire();
  Release(holder, Outcome::kBroken);
  EXPECT_EQ(patient.reason(), RejectReason::kCircuitOpen);
}

TEST_F(BreakerTest, OpeningRejectsWaitersOfOtherHostPools) {
  Caller& other = Acquire({.group = "other"});
  DialFailed();
  EXPECT_TRUE(other.rejected());
  FailOnce();
  Caller& first = Acquire();
  Caller& second = Acquire({.group = "other"});
  EXPECT_TRUE(second.waiting());  // For the only dial allowed.
  DialFailed();
  EXPECT_EQ(first.reason(), RejectReason::kDialFailed);
  EXPECT_EQ(second.reason(), RejectReason::kCircuitOpen);
}

TEST_F(BreakerTest, ConcurrentDialsCountAsOneFailure) {
  target_.max_dials = 4;
  for (int i = 0; i < 4; ++i) Acquire();
  ASSERT_EQ(dials(), 4u);
  Pass(milliseconds(1));
  for (int i = 0; i < 4; ++i) DialFailed();
  EXPECT_EQ(Row().failures_in_a_row, 1);
}

TEST_F(BreakerTest, ADialFromBeforeItOpenedDoesNotDecideTheTrial) {
  target_.max_dials = 2;
  target_.breaker_failures = 1;
  Acquire();
  Pass(seconds(1));
  Acquire({.group = "other"});
  ASSERT_EQ(dials(), 2u);
  DialFailed();
  EXPECT_EQ(State(), BreakerState::kOpen);
  Pass(seconds(3));
  Caller& trial = Acquire();
  ASSERT_EQ(dials(), 2u);
  DialFailed();  // The old one.
  EXPECT_EQ(State(), BreakerState::kHalfOpen);
  EXPECT_TRUE(trial.waiting());
  Dialed();
  EXPECT_EQ(State(), BreakerState::kClosed);
}

TEST_F(BreakerTest, CertificateAndPolicyErrorsDoNotCount) {
  for (int i = 0; i < 10; ++i) {
    Acquire();
    Pass(target_.dial_backoff_cap);
    if (i % 2 == 0) {
      DialFailed(FailureClass::kTls, "TLS_VERIFY_FAILED");
    } else {
      DialFailed(FailureClass::kPolicy, "EGRESS_DENIED");
    }
  }
  EXPECT_EQ(State(), BreakerState::kClosed);
  for (int i = 0; i < 3; ++i) {
    Acquire();
    Pass(target_.dial_backoff_cap);
    DialFailed(FailureClass::kTls, "TLS_FAILED");
  }
  EXPECT_EQ(State(), BreakerState::kOpen);
}

TEST_F(BreakerTest, AWarmFloorStartsTheTrial) {
  target_.warm = 1;
  Warm(kA);
  for (int i = 0; i < 3; ++i) {
    Pass(target_.dial_backoff_cap);
    DialFailed();
  }
  EXPECT_EQ(State(), BreakerState::kOpen);
  Pass(milliseconds(1990));
  EXPECT_EQ(dials(), 0u);
  Pass(milliseconds(20));
  ASSERT_EQ(dials(), 1u);
  Dialed();
  EXPECT_EQ(State(), BreakerState::kClosed);
}

TEST_F(BreakerTest, ZeroDisablesIt) {
  Open();
  target_.breaker_failures = 0;
  Reconfigure();
  EXPECT_EQ(State(), BreakerState::kClosed);
  for (int i = 0; i < 20; ++i) {
    Acquire();
    Pass(target_.dial_backoff_cap);
    DialFailed();
  }
  EXPECT_EQ(State(), BreakerState::kClosed);
}

TEST_F(BreakerTest, EachChangeIsReportedOnce) {
  std::vector<std::pair<BreakerState, int>> changes;
  on_event_ = [&](const PoolEvent& event) {
    if (event.kind != PoolEvent::Kind::kBreaker) return;
    EXPECT_EQ(event.key->target, kA);
    changes.emplace_back(event.breaker, event.failures);
  };
  Open();
  Pass(seconds(3));
  Lent();
  using Changes = std::vector<std::pair<BreakerState, int>>;
  EXPECT_EQ(changes,
            (Changes{{BreakerState::kOpen, 3}, {BreakerState::kClosed, 0}}));
}

}  // namespace
}  // namespace hotline::pool
