// What the pool has learned about one target: whether it answers dials, how
// long it keeps idle connections, whether its answers can be trusted, and how
// many warm connections its arrivals call for.
#ifndef HOTLINE_POOL_TARGET_HEALTH_H_
#define HOTLINE_POOL_TARGET_HEALTH_H_

#include <string>

#include "base/time.h"
#include "pool/breaker.h"
#include "pool/idle_limit.h"
#include "pool/quarantine.h"
#include "pool/sizing.h"
#include "pool/snapshot.h"
#include "pool/types.h"

namespace hotline::pool {

// Combines Breaker, IdleLimit, Quarantine and the adaptive floor. It only
// computes: each event returns what has changed, and the Target carries that
// out on its HostPools.
//
// Pure: time is an argument. Not thread-safe: guarded by the shard's mutex.
class TargetHealth {
 public:
  // What an event did to the circuit breaker.
  enum class BreakerStep { kNone, kOpened, kClosed };

  // `config` must outlive this; call Reconfigure when it has changed.
  explicit TargetHealth(const TargetConfig* config);

  // --- Dials ---

  void OnDialBegun(Instant now) { breaker_.OnDial(now); }
  BreakerStep OnDialed(const DialTimings& timings, Instant now);
  // The dial began at `began`.
  BreakerStep OnDialFailed(const DialError& error, Instant began, Instant now);
  // The dial had succeeded, but the connection ended on probation.
  BreakerStep OnEndedEarly(const DialError& error, Instant began, Instant now);
  // A connection passed its probation.
  BreakerStep OnProved();
  // Forgets failed dials, as after a success.
  BreakerStep Forgive() { return EndFailures(); }

  // --- The upstream's behaviour. True: idle_for(), lend_for(), usable_idle()
  // or no_reuse() changed. ---

  // It closed a connection that had been idle for `idle`.
  bool OnClosedIdle(Duration idle, Instant now);
  bool OnKeepAliveSaid(Duration timeout, Instant now);
  // Also true if the quarantine began: see no_reuse().
  bool OnUnsolicited(Instant now);

  // --- The warm floor ---

  // `arrivals`: acquires so far.
  void SampleArrivals(uint64_t arrivals, Instant now) {
    arrivals_.Sample(arrivals, now);
  }
  // Recomputes floor(). Returns by how much it changed. `streams`: slots of a
  // connection; 0: unknown.
  int MoveFloor(int streams);

  BreakerStep Reconfigure();

  // --- Results ---

  // How long a connection is lent after its last use or check.
  Duration lend_for() const { return lend_for_; }
  // How long a connection may stay idle.
  Duration idle_for() const { return idle_for_; }
  // How long an idle connection is usable, before the upstream closes it;
  // Duration::max(): unknown.
  Duration usable_idle() const { return usable_idle_; }
  // In quarantine: a connection that has served is not lent again.
  bool no_reuse() const { return no_reuse_; }
  int floor() const { return floor_; }
  const Breaker& breaker() const { return breaker_; }
  // Empty if no dial has failed since the last success.
  const std::string& last_dial_error() const { return last_dial_error_; }
  // Mean duration of a dial. Zero: unknown.
  Duration dial_time() const { return dial_time_.mean(); }

  // Fills in the health's part of the row.
  void FillRow(Instant now, TargetRow* row) const;

 private:
  BreakerStep CloseBreaker();
  BreakerStep EndFailures();
  // Drops what was learned too long ago.
  void ExpireLearned(Instant now);
  void UpdateIdleTimes();

  // Read by every Release.
  Duration lend_for_{0};
  Duration idle_for_{0};
  Duration usable_idle_ = IdleLimit::kNone;
  bool no_reuse_ = false;

  // A connection ended on probation: the row of failures ends only when one has
  // passed it.
  bool ended_early_ = false;
  const TargetConfig* const config_;
  std::string last_dial_error_;
  const char* last_dial_reason_ = "";
  Breaker breaker_;
  IdleLimit idle_limit_;
  Quarantine quarantine_;
  int floor_;
  MovingRate arrivals_;
  MovingDuration dial_time_;
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_TARGET_HEALTH_H_
