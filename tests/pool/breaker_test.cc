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

  // A dial in a row that fails, and the back-off after it.
  void FailOnce() {
    Caller& caller = Acquire();
    ASSERT_TRUE(caller.waiting());
    if (dials() == 0) Pass(target_.dial_backoff_cap);
    DialFailed();
    EXPECT_EQ(caller.reason(), RejectReason::kDialFailed)
        << "whose dial it was hears what became of it";
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

TEST_F(BreakerTest, TheLastFailureBeforeTheThresholdLeavesItClosed) {
  FailOnce();
  FailOnce();
  EXPECT_EQ(State(), BreakerState::kClosed);
  EXPECT_EQ(Row().failures_in_a_row, 2);
  Acquire();
  EXPECT_EQ(dials(), 1u);
}

TEST_F(BreakerTest, AtTheThresholdItOpensAndRefusesAtOnce) {
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

TEST_F(BreakerTest, ASuccessInBetweenBeginsAnew) {
  FailOnce();
  FailOnce();
  Release(Lent(), Outcome::kDiscard);
  CloseAll();
  EXPECT_EQ(Row().failures_in_a_row, 0);
  FailOnce();
  FailOnce();
  EXPECT_EQ(State(), BreakerState::kClosed);
}

TEST_F(BreakerTest, HalfOpenOneDialBeginsAndItsSuccessCloses) {
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

TEST_F(BreakerTest, WhatIsThereIsLentAsEver) {
  Caller& holder = Lent();
  for (int i = 0; i < 3; ++i) {
    Acquire({.reuse = Reuse::kForceNew});
    Pass(target_.dial_backoff_cap);
    DialFailed();
  }
  EXPECT_EQ(State(), BreakerState::kOpen);
  // Somebody will give it back; a new one will not come.
  Caller& patient = Acquire();
  EXPECT_TRUE(patient.waiting());
  EXPECT_EQ(Acquire({.reuse = Reuse::kForceNew}).reason(),
            RejectReason::kCircuitOpen);
  Release(holder);
  EXPECT_TRUE(patient.granted());
}

TEST_F(BreakerTest, WhoeverWaitsForTheLastOneIsTurnedAwayWhenItGoes) {
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

TEST_F(BreakerTest, OpeningTurnsAwayWhoWaitsInOtherPools) {
  Caller& other = Acquire({.group = "other"});
  DialFailed();
  EXPECT_TRUE(other.rejected());
  FailOnce();
  Caller& first = Acquire();
  Caller& second = Acquire({.group = "other"});
  EXPECT_TRUE(second.waiting());  // For the one dial there may be.
  DialFailed();
  EXPECT_EQ(first.reason(), RejectReason::kDialFailed);
  EXPECT_EQ(second.reason(), RejectReason::kCircuitOpen);
}

TEST_F(BreakerTest, DialsSideBySideFailOnce) {
  target_.max_dials = 4;
  for (int i = 0; i < 4; ++i) Acquire();
  ASSERT_EQ(dials(), 4u);
  Pass(milliseconds(1));
  for (int i = 0; i < 4; ++i) DialFailed();
  EXPECT_EQ(Row().failures_in_a_row, 1);
}

TEST_F(BreakerTest, OneFromBeforeItOpenedHasNoSayInTheTrial) {
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

TEST_F(BreakerTest, ACertificateOrAPolicyIsNoSilence) {
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

TEST_F(BreakerTest, AWarmFloorMakesTheTrialByItself) {
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

TEST_F(BreakerTest, ZeroTurnsItOff) {
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

TEST_F(BreakerTest, EachChangeIsToldOnce) {
  std::vector<std::pair<BreakerState, int>> told;
  on_breaker_ = [&](const std::string& target, const BreakerChange& change) {
    EXPECT_EQ(target, kA);
    told.emplace_back(change.state, change.failures);
  };
  Open();
  Pass(seconds(3));
  Lent();
  using Told = std::vector<std::pair<BreakerState, int>>;
  EXPECT_EQ(told, (Told{{BreakerState::kOpen, 3}, {BreakerState::kClosed, 0}}));
}

}  // namespace
}  // namespace hotline::pool
