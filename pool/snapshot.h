// What a look into the pool shows: for Stats, metrics and tests.
#ifndef HOTLINE_POOL_SNAPSHOT_H_
#define HOTLINE_POOL_SNAPSHOT_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/histogram.h"
#include "base/time.h"
#include "pool/types.h"

namespace hotline::pool {

struct SnapshotRequest {
  bool targets = true;       // Rows for targets.
  bool connections = false;  // Rows for connections, too.
  bool leases = false;       // Rows for leases, too.
  // Only this target, when not empty.
  std::string target;
};

// Counted since the target became known. The first of `rejected` etc. is
// indexed by the enum of that name.
struct TargetCounters {
  uint64_t granted = 0;
  uint64_t reused = 0;  // Of those granted.
  std::array<uint64_t, kRejectReasons> rejected{};
  uint64_t cancelled = 0;
  uint64_t dials_ok = 0;
  std::array<uint64_t, 4> dials_failed{};  // By FailureClass.
  uint64_t breaker_opened = 0;
  uint64_t quarantines = 0;
  uint64_t opened = 0;
  std::array<uint64_t, kCloseReasons> closed{};
  uint64_t probes_passed = 0;
  uint64_t probes_failed = 0;
  uint64_t errors_counted = 0;
  uint64_t leases_expired = 0;
  uint64_t leases_reclaimed = 0;  // Their session ended.
  uint64_t leases_leaked = 0;     // Suspected: held longer than leak_after.
  Histogram wait;                 // Of granted acquires.
  Histogram lease;                // How long leases were held.
  Histogram dial_resolve;
  Histogram dial_connect;
  Histogram dial_tls;
  Histogram dial_validate;
};

struct TargetRow {
  std::string target;
  std::array<int, kConnStates> connections{};  // By ConnState.
  int idle = 0;                                // Of the Ready ones: no lease.
  int max_connections = 0;
  int warm_deficit = 0;
  int waiters = 0;
  Duration oldest_wait{0};
  int leases = 0;
  std::string last_dial_error;
  BreakerState breaker = BreakerState::kClosed;
  int failures_in_a_row = 0;     // Dials that the breaker counted.
  Duration breaker_open_for{0};  // While it is kOpen: from now.
  // How long the upstream keeps an idle connection: as it said, as it showed.
  // Duration::max(): it did not.
  Duration keep_alive_said = Duration::max();
  Duration keep_alive_learned = Duration::max();
  // The warm floor as it is now, and what moves it: acquires a second, of late,
  // and how long a dial takes.
  int floor = 0;
  double arrivals_per_second = 0;
  Duration dial_time{0};
  Duration no_reuse_for{0};  // In quarantine for so long still.
  Duration idle_for{0};      // How long one may rest here because of it all.
  TargetCounters counters;
};

struct ConnectionRow {
  ConnId id = 0;
  HostPoolKey key;
  ConnState state = ConnState::kDialing;
  int active = 0;
  int limit = 0;
  Duration age{0};
  std::optional<Duration> idle;
  uint64_t uses = 0;
  int errors = 0;
};

struct LeaseRow {
  // Tells it from all leases that are there at the same time. The same as long
  // as it lives; no part of what proves its ownership.
  uint64_t id = 0;
  std::string target;
  Mode mode = Mode::kShared;
  ConnId conn = 0;
  Holder holder;
  Instant granted{};
  Duration age{0};
  std::optional<Duration> remaining;
  bool busy = false;
  uint64_t owner = 0;
};

// Not of one moment: it is taken while the pool works, some rows at a time.
// Each row is consistent in itself, a target's with all that is counted of it.
// A target, connection or lease that is there from the beginning of
// TakeSnapshot to its end has exactly one row; one that comes or goes
// meanwhile, at most one. Connections and leases are in no particular order.
// With what was forgotten, the counters add up to all that was counted up to
// then.
struct Snapshot {
  std::vector<TargetRow> targets;
  std::vector<ConnectionRow> connections;
  std::vector<LeaseRow> leases;
  int max_connections = 0;
  // Tokens of the global cap: in use, and callers in line for one.
  int connections_reserved = 0;
  int budget_waiters = 0;
  // Of targets that were forgotten since (max_targets).
  TargetCounters forgotten;
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_SNAPSHOT_H_
