// Deadline admission: a caller that would miss its deadline is rejected at
// once.
#include "tests/pool/pool_fixture.h"

namespace hotline::pool {
namespace {

class AdmissionTest : public PoolTest {
 protected:
  AdmissionTest() {
    target_.max_connections = 2;
    target_.deadline_admission = true;
    timings_.tls = milliseconds(100);
    // Teaches the pool that a lease takes about a second.
    for (int i = 0; i < 5; ++i) {
      Caller& caller = Lent();
      Pass(seconds(1));
      Release(caller);
    }
  }
};

TEST_F(AdmissionTest, ACallerThatWouldMissItsDeadlineIsRejectedAtOnce) {
  Lent();
  Lent();
  const Caller& caller = Acquire({.wait = milliseconds(300)});
  ASSERT_TRUE(caller.rejected());
  EXPECT_EQ(caller.reason(), RejectReason::kWontMakeDeadline);
  EXPECT_EQ(caller.rejection().wait.limit, WaitLimit::kTargetConnections);
  EXPECT_EQ(caller.rejection().oldest_holders.size(), 2u);
  EXPECT_GT(caller.rejection().retry_after, milliseconds(100));
  EXPECT_LE(caller.rejection().retry_after, seconds(1));
}

TEST_F(AdmissionTest, ACallerWithEnoughTimeWaits) {
  Caller& holder = Lent();
  Lent();
  Caller& caller = Acquire({.wait = seconds(4)});
  EXPECT_TRUE(caller.waiting());
  Release(holder);
  EXPECT_TRUE(caller.granted());
}

TEST_F(AdmissionTest, TheCallersInLineCount) {
  Lent();
  Lent();
  for (int i = 0; i < 8; ++i) Acquire({.wait = minutes(1)});
  // Four rounds come before the one that serves it.
  EXPECT_EQ(Acquire({.wait = milliseconds(2500)}).reason(),
            RejectReason::kWontMakeDeadline);
  EXPECT_TRUE(Acquire({.wait = seconds(20)}).waiting());
}

TEST_F(AdmissionTest, ACallerThatADialCanServeInTimeWaits) {
  Lent();
  EXPECT_TRUE(Acquire({.wait = milliseconds(150)}).waiting());
  EXPECT_EQ(dials(), 1u);
  CloseAll();
}

TEST_F(AdmissionTest, ACallerThatADialServesTooLateIsRejected) {
  Lent();
  EXPECT_EQ(Acquire({.wait = milliseconds(99)}).reason(),
            RejectReason::kWontMakeDeadline);
  EXPECT_EQ(dials(), 0u);
}

TEST_F(AdmissionTest, WithoutAnEstimateEveryCallerWaits) {
  targets_[kB] = target_;
  EXPECT_TRUE(Acquire({.target = kB, .wait = milliseconds(1)}).waiting());
}

TEST_F(AdmissionTest, AdmissionOffNeverRefuses) {
  target_.deadline_admission = false;
  Reconfigure();
  Lent();
  Lent();
  EXPECT_TRUE(Acquire({.wait = milliseconds(1)}).waiting());
}

}  // namespace
}  // namespace hotline::pool
