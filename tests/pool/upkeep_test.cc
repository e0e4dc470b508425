// Upkeep of connections: checks, errors, idle time, lifetime, the warm floor.
#include <set>

#include "tests/pool/pool_fixture.h"

namespace hotline::pool {
namespace {

class ProbeTest : public PoolTest {};

TEST_F(ProbeTest, NoCheckBeforeTheInterval) {
  const ConnId id = Idle();
  Pass(seconds(29));
  EXPECT_EQ(probes(), 0u);
  EXPECT_EQ(Acquire().conn(), id);
}

TEST_F(ProbeTest, AfterTheIntervalAConnectionIsLentOnlyIfItsCheckPasses) {
  const ConnId id = Idle();
  Pass(seconds(31));
  ASSERT_EQ(probes(), 1u);
  EXPECT_EQ(transport_.probes[0].id, id);
  EXPECT_EQ(Count(ConnState::kProbing), 1);
  Caller& caller = Acquire();
  EXPECT_TRUE(caller.waiting());
  EXPECT_EQ(dials(), 1u) << "a caller does not wait for a check";
  Probed(true);
  ASSERT_TRUE(caller.granted());
  EXPECT_EQ(caller.conn(), id);
  EXPECT_EQ(Counters().probes_passed, 1u);
}

TEST_F(ProbeTest, IsDueAlthoughItsTickIsLate) {
  Idle();
  now_ += seconds(31);
  EXPECT_TRUE(Acquire().waiting());
  EXPECT_EQ(probes(), 1u);
}

TEST_F(ProbeTest, TheIntervalRestartsAfterAPassedCheck) {
  target_.idle_timeout = hours(1);
  Idle();
  Pass(seconds(31));
  Probed(true);
  Pass(seconds(29));
  EXPECT_EQ(probes(), 0u);
  Pass(seconds(2));
  EXPECT_EQ(probes(), 1u);
}

TEST_F(ProbeTest, UseCountsAsACheck) {
  Caller& caller = Lent();
  Pass(seconds(20));
  Release(caller);
  Pass(seconds(20));
  EXPECT_EQ(probes(), 0u);
}

TEST_F(ProbeTest, AFailedCheckClosesTheConnection) {
  Idle();
  Pass(seconds(31));
  Probed(false);
  EXPECT_EQ(OnlyClose(), CloseReason::kProbeFailed);
  EXPECT_EQ(Counters().probes_failed, 1u);
  Caller& caller = Acquire();
  Dialed();
  EXPECT_TRUE(caller.granted());
}

TEST_F(ProbeTest, ClosesAfterProbeFallFailuresInARow) {
  target_.probe_fall = 3;
  Idle();
  Pass(seconds(31));
  Probed(false);
  EXPECT_EQ(closes(), 0u);
  EXPECT_EQ(Count(ConnState::kProbing), 1);
  EXPECT_TRUE(Acquire().waiting()) << "it is not lent meanwhile";
  Pass(milliseconds(990));
  EXPECT_EQ(probes(), 0u);
  Pass(milliseconds(20));
  Probed(false);
  EXPECT_EQ(closes(), 0u);
  Pass(seconds(2));
  Probed(false);
  EXPECT_EQ(OnlyClose(), CloseReason::kProbeFailed);
  EXPECT_EQ(Counters().probes_failed, 3u);
}

TEST_F(ProbeTest, IsLentAgainAfterProbeRisePassesInARow) {
  target_.probe_fall = 3;
  target_.probe_rise = 2;
  const ConnId id = Idle();
  Pass(seconds(31));
  for (bool passed : {false, true, false, true}) {
    Probed(passed);
    EXPECT_EQ(Count(ConnState::kProbing), 1);
    Pass(seconds(2));
  }
  Probed(true);
  EXPECT_EQ(Count(ConnState::kReady), 1);
  EXPECT_EQ(Acquire().conn(), id);
  EXPECT_EQ(closes(), 0u);
}

TEST_F(ProbeTest, WithoutAFailureOnePassIsEnough) {
  target_.probe_rise = 5;
  const ConnId id = Idle();
  Pass(seconds(31));
  Probed(true);
  EXPECT_EQ(Acquire().conn(), id);
}

TEST_F(ProbeTest, ItsLifetimeEndsItBetweenFailedChecks) {
  target_.probe_fall = 100;
  target_.max_errors = 1000;
  target_.max_lifetime = seconds(60);
  target_.lifetime_jitter = 0;
  Idle();
  Pass(seconds(31));
  for (int i = 0; i < 25; ++i) {
    Probed(false);
    Pass(seconds(1) + milliseconds(10));
  }
  Probed(false);
  Pass(seconds(10));
  EXPECT_EQ(OnlyClose(), CloseReason::kLifetime);
  while (probes() > 0) Probed(false);
  EXPECT_EQ(closes(), 1u);
}

TEST_F(ProbeTest, AFailedCheckOfASharedConnectionCountsAsAnError) {
  const ConnId id = Idle({}, 100);
  Pass(seconds(31));
  Probed(false);
  EXPECT_EQ(closes(), 0u);
  EXPECT_EQ(Conn(id).errors, 1);
  EXPECT_EQ(Acquire().conn(), id);
}

TEST_F(ProbeTest, ACloseDuringTheCheckIsOneFailedCheck) {
  const ConnId id = Idle();
  Pass(seconds(31));
  Closed(id, CloseReason::kError);
  Probed(false);
  EXPECT_EQ(Counters().probes_failed, 1u);
  EXPECT_EQ(Counters().closed[static_cast<int>(CloseReason::kProbeFailed)], 1u);
}

TEST_F(ProbeTest, ProbeKindNoneDisablesChecks) {
  target_.probe = ProbeKind::kNone;
  const ConnId id = Idle();
  Pass(seconds(40));
  EXPECT_EQ(probes(), 0u);
  EXPECT_EQ(Acquire().conn(), id);
}

// --- Errors ---

class ErrorsTest : public PoolTest {};

TEST_F(ErrorsTest, TheTenthErrorIsTolerated) {
  const ConnId id = Idle({}, 100);
  ErrorCounted(id, 10);
  EXPECT_EQ(Conn(id).errors, 10);
  EXPECT_EQ(Conn(id).state, ConnState::kReady);
  EXPECT_EQ(Acquire().conn(), id);
}

TEST_F(ErrorsTest, TheEleventhErrorClosesTheConnection) {
  const ConnId id = Idle({}, 100);
  ErrorCounted(id, 11);
  EXPECT_EQ(OnlyClose(), CloseReason::kProbeFailed);
  EXPECT_EQ(Counters().errors_counted, 11u);
  Caller& caller = Acquire();
  EXPECT_TRUE(caller.waiting());
  Dialed(100);
  EXPECT_NE(caller.conn(), id);
}

TEST_F(ErrorsTest, TheEleventhErrorDrainsALeasedConnection) {
  Caller& holder = Lent({}, 100);
  ErrorCounted(holder.conn(), 11);
  EXPECT_EQ(Conn(holder.conn()).state, ConnState::kDraining);
  EXPECT_TRUE(Acquire().waiting());
  Release(holder);
  EXPECT_EQ(OnlyClose(), CloseReason::kProbeFailed);
}

TEST_F(ErrorsTest, TheEleventhFailedCheckClosesASharedConnection) {
  target_.idle_timeout = target_.max_lifetime = hours(1);
  const ConnId id = Idle({}, 100);
  for (int i = 0; i < 10; ++i) {
    Pass(seconds(31));
    Probed(false);
    ASSERT_EQ(Conn(id).state, ConnState::kReady) << i;
  }
  Pass(seconds(31));
  Probed(false);
  EXPECT_EQ(OnlyClose(), CloseReason::kProbeFailed);
}

TEST_F(ErrorsTest, ALowerThresholdHolds) {
  target_.max_errors = 0;
  ErrorCounted(Idle({}, 100));
  EXPECT_EQ(closes(), 1u);
}

// --- Idle time and lifetime ---

class AgeTest : public PoolTest {};

TEST_F(AgeTest, IdleFor45SecondsCloses) {
  target_.probe = ProbeKind::kNone;
  Idle();
  Pass(seconds(44));
  EXPECT_EQ(closes(), 0u);
  Pass(seconds(2));
  EXPECT_EQ(OnlyClose(), CloseReason::kIdle);
}

TEST_F(AgeTest, ACheckDoesNotRestartTheIdleTime) {
  Idle();
  Pass(seconds(31));
  Probed(true);
  Pass(seconds(13));
  EXPECT_EQ(closes(), 0u);
  Pass(seconds(2));
  EXPECT_EQ(OnlyClose(), CloseReason::kIdle);
}

TEST_F(AgeTest, ALeasedConnectionIsNotIdle) {
  Caller& caller = Lent({.ttl = hours(1)});
  Pass(minutes(2));
  EXPECT_EQ(closes(), 0u);
  Release(caller);
  Pass(seconds(29));
  EXPECT_EQ(closes(), 0u);
}

TEST_F(AgeTest, LifetimesVaryByATenth) {
  target_.max_connections = 50;
  target_.max_dials = 50;
  target_.probe = ProbeKind::kNone;
  target_.idle_timeout = hours(1);
  std::vector<Caller*> callers;
  for (int i = 0; i < 50; ++i) callers.push_back(&Acquire());
  while (dials() > 0) Dialed();
  const Instant born = now_;
  for (Caller* caller : callers) Release(*caller);
  Pass(seconds(269));
  EXPECT_EQ(closes(), 0u);
  std::set<size_t> counts;
  while (now_ < born + seconds(331)) {
    Pass(seconds(1));
    counts.insert(closes());
  }
  EXPECT_EQ(closes(), 50u);
  EXPECT_GT(counts.size(), 10u) << "they should not all close at once";
}

TEST_F(AgeTest, AnIdleConnectionClosesAtItsLifetime) {
  target_.lifetime_jitter = 0;
  target_.probe = ProbeKind::kNone;
  target_.idle_timeout = hours(1);
  Idle();
  Pass(seconds(299));
  EXPECT_EQ(closes(), 0u);
  Pass(seconds(2));
  EXPECT_EQ(OnlyClose(), CloseReason::kLifetime);
}

TEST_F(AgeTest, AConnectionPastItsLifetimeIsNotLentAlthoughItsTickIsLate) {
  target_.lifetime_jitter = 0;
  target_.idle_timeout = hours(1);
  Idle();
  now_ += seconds(301);
  EXPECT_TRUE(Acquire().waiting());
  EXPECT_EQ(OnlyClose(), CloseReason::kLifetime);
}

TEST_F(AgeTest, ALeaseMayOutliveTheLifetime) {
  target_.lifetime_jitter = 0;
  Caller& caller = Lent({.ttl = hours(1)});
  Pass(seconds(301));
  EXPECT_EQ(closes(), 0u);
  EXPECT_EQ(BeginCall(caller.lease()).status, LeaseStatus::kOk);
  EndCall(caller.lease());
  Release(caller);
  Pass(milliseconds(1));
  EXPECT_EQ(OnlyClose(), CloseReason::kLifetime);
}

TEST_F(AgeTest, ASharedConnectionThatIsNeverIdleIsRetired) {
  target_.lifetime_jitter = 0;
  Caller* last = &Lent({.ttl = hours(1)}, 100);
  const ConnId id = last->conn();
  for (int i = 0; i < 40; ++i) {
    Pass(seconds(10));
    Caller& next = Acquire({.ttl = hours(1)});
    if (dials() > 0) Dialed(100);
    Release(*last);
    last = &next;
  }
  EXPECT_NE(last->conn(), id) << "400 s old and still lent";
}

TEST_F(AgeTest, AConnectionReleasedPastItsLifetimeIsNotGranted) {
  target_.lifetime_jitter = 0;
  target_.max_connections = 1;
  Caller& caller = Lent({.ttl = hours(1)});
  Pass(seconds(301));
  Caller& next = Acquire();
  Release(caller);
  EXPECT_TRUE(next.waiting());
  EXPECT_EQ(OnlyClose(), CloseReason::kLifetime);
  CloseAll();
  Dialed();
  EXPECT_TRUE(next.granted());
}

// --- The warm floor ---

class WarmTest : public PoolTest {};

TEST_F(WarmTest, IsDialledWithoutACallerAndKept) {
  target_.warm = 2;
  Warm(kA);
  EXPECT_EQ(dials(), 2u);
  EXPECT_EQ(Row().warm_deficit, 2);
  Dialed();
  Dialed();
  EXPECT_EQ(Row().warm_deficit, 0);
  for (int i = 0; i < 4; ++i) {
    Pass(seconds(31));
    while (probes() > 0) Probed(true);
  }
  EXPECT_EQ(closes(), 0u) << "they are the warm floor";
  EXPECT_EQ(Row().idle, 2);
}

TEST_F(WarmTest, AClosedConnectionIsReplaced) {
  target_.warm = 1;
  Warm(kA);
  Closed(Dialed());
  EXPECT_EQ(dials(), 1u);
}

TEST_F(WarmTest, ConnectionsAboveItIdleOut) {
  target_.warm = 1;
  target_.probe = ProbeKind::kNone;
  Warm(kA);
  Dialed();
  Caller& first = Acquire();
  Caller& second = Acquire();
  Dialed();
  Release(first);
  Release(second);
  Pass(seconds(46));
  EXPECT_EQ(OnlyClose(), CloseReason::kIdle);
  EXPECT_EQ(Row().idle, 1);
}

TEST_F(WarmTest, IsDialledAgainAfterAFailure) {
  target_.warm = 1;
  Warm(kA);
  DialFailed();
  Pass(seconds(2));
  EXPECT_EQ(dials(), 1u);
}

TEST_F(WarmTest, TheDeficitIsTheNumberOfMissingConnections) {
  target_.warm = 2;
  EXPECT_EQ(pool().WarmDeficit(kA), 2) << "also of an unknown target";
  Warm(kA);
  EXPECT_EQ(pool().WarmDeficit(kA), 2);
  Dialed();
  EXPECT_EQ(pool().WarmDeficit(kA), 1);
  Dialed();
  EXPECT_EQ(pool().WarmDeficit(kA), 0);
}

class AdaptiveFloorTest : public PoolTest {
 protected:
  AdaptiveFloorTest() {
    target_.max_connections = 50;
    target_.warm = 1;
    target_.warm_max = 8;
    target_.probe = ProbeKind::kNone;
    timings_.connect = milliseconds(30);
    timings_.tls = milliseconds(70);
  }
  void DialAll() {
    while (dials() > 0) Dialed();
  }
  void Calls(int seconds_long, int a_second) {
    for (int i = 0; i < seconds_long; ++i) {
      for (int j = 0; j < a_second; ++j) {
        Caller& caller = Acquire();
        if (caller.waiting()) DialAll();
        Release(caller);
      }
      Pass(seconds(1));
      DialAll();
      CloseAll();
    }
  }
};

TEST_F(AdaptiveFloorTest, RisesWithArrivalsAndFallsWithoutThem) {
  Warm(kA);
  DialAll();
  EXPECT_EQ(Row().floor, 1);
  Calls(60, 40);  // 40/s x 0.1 s.
  EXPECT_NEAR(Row().arrivals_per_second, 37, 5);
  EXPECT_EQ(Row().dial_time, milliseconds(100));
  EXPECT_EQ(Row().floor, 4);
  EXPECT_EQ(Row().warm_deficit, 0);
  EXPECT_EQ(Row().idle, 4) << "one would be enough for these calls";
  Pass(minutes(3));
  EXPECT_EQ(Row().floor, 1);
  CloseAll();
  DialAll();
  EXPECT_EQ(Row().idle, 1);
}

TEST_F(AdaptiveFloorTest, StaysWithinItsBounds) {
  Warm(kA);
  DialAll();
  Calls(60, 400);
  EXPECT_EQ(Row().floor, 8);
  target_.warm_max = 3;
  Reconfigure();
  EXPECT_EQ(Row().floor, 3);
  target_.warm_max = 0;
  Reconfigure();
  EXPECT_EQ(Row().floor, 1);
}

TEST_F(AdaptiveFloorTest, FromZeroItRisesWithTheFirstDialAndReturnsToZero) {
  target_.warm = 0;
  target_.idle_timeout = seconds(5);
  Calls(30, 40);
  EXPECT_EQ(Row().floor, 4);
  Pass(minutes(5));
  CloseAll();
  Pass(minutes(5));
  CloseAll();
  EXPECT_EQ(Row().floor, 0);
  EXPECT_EQ(Row().idle, 0);
  EXPECT_TRUE(transport_.wakes.empty()) << "no timer is left";
}

class PrewarmTest : public PoolTest {};

TEST_F(PrewarmTest, DialsUpToTheConnectionsAskedForAndTheMostAtOnce) {
  PrewarmResult result = Prewarm(3, 2);
  EXPECT_EQ(result.begun, 2);
  EXPECT_EQ(result.missing, 3);
  Dialed();
  Dialed();
  result = Prewarm(3, 5);
  EXPECT_EQ(result.begun, 1);
  EXPECT_EQ(result.missing, 1);
  Dialed();
  result = Prewarm(3, 5);
  EXPECT_EQ(result.begun, 0);
  EXPECT_EQ(result.missing, 0);
  EXPECT_FALSE(Acquire().waiting());
}

TEST_F(PrewarmTest, StaysWithinTheLimitsAndClosesNothing) {
  target_.max_connections = 2;
  Caller& holder = Lent({.group = "other"});
  EXPECT_EQ(Prewarm(5, 10).begun, 1);
  Dialed();
  EXPECT_EQ(Prewarm(5, 10).begun, 0);
  EXPECT_EQ(closes(), 0u);
  Release(holder);
}

TEST_F(PrewarmTest, DialsOneFirstIfTheProtocolIsUnknown) {
  target_.expected_streams = 0;
  EXPECT_EQ(Prewarm(3, 10).begun, 1);
  Dialed(100);
  EXPECT_EQ(Prewarm(3, 10).begun, 2);
}

TEST_F(PrewarmTest, UnusedConnectionsIdleOut) {
  EXPECT_EQ(Prewarm(2, 2, "own").begun, 2);
  Dialed();
  Dialed();
  Pass(target_.idle_timeout + seconds(1));
  while (probes() > 0) Probed(true);
  Pass(target_.idle_timeout);
  EXPECT_EQ(closes(), 2u);
}

TEST_F(PrewarmTest, DialsNothingAfterShutdown) {
  Prewarm(1, 0);
  Shutdown();
  const PrewarmResult result = Prewarm(2, 2);
  EXPECT_EQ(result.begun, 0);
  EXPECT_EQ(result.missing, 2);
}

TEST_F(WarmTest, AZeroFloorDialsNothing) {
  Warm(kA);
  EXPECT_EQ(dials(), 0u);
}

}  // namespace
}  // namespace hotline::pool
