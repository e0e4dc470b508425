// A view into the pool for Stats, metrics, the status page and tests.
//
//   SnapshotRequest request;
//   request.connections = true;
//   const Snapshot snapshot = pool.TakeSnapshot(request, now);
//   for (const ConnectionRow& row : snapshot.connections) ...
//
// A snapshot is taken while the pool works, a page of rows at a time, so that
// no lock is held for long. It is therefore not the state of one moment:
//   1. Each row is consistent in itself; a target's row with all its counters.
//   2. A target, connection or lease that exists throughout TakeSnapshot has
//      exactly one row; one that comes or goes meanwhile has at most one.
//   3. Connections and leases are in no particular order; targets are in the
//      order in which the pool first saw them, shard by shard.
//   4. The counters of all targets plus `forgotten` are what was counted so
//      far: nothing is lost when a target is evicted.
//
// Thread safety: plain values.
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
  bool targets = true;       // Include rows of targets.
  bool connections = false;  // Include rows of connections.
  bool leases = false;       // Include rows of leases.
  std::string target;        // If not empty, only this target.
};

// How TargetCounters fits ages and uses into a Histogram, whose buckets end at
// 50 us * 2^i: an age is divided by kAgeScale (3.2 ms to 56 minutes), a use
// counts as kUse (0, 1, 2, 4, ... uses).
inline constexpr int kAgeScale = 64;
inline constexpr Duration kUse = std::chrono::microseconds(100);

// Counts since the target was first seen.
struct TargetCounters {
  uint64_t granted = 0;
  uint64_t reused = 0;  // Of `granted`: on a connection that had served before.
  uint64_t cross_loop = 0;  // Of `granted`: on a connection of another loop.
  std::array<uint64_t, kRejectReasons> rejected{};  // By RejectReason.
  uint64_t cancelled = 0;
  uint64_t dials_ok = 0;
  std::array<uint64_t, kFailureClasses> dials_failed{};  // By FailureClass.
  uint64_t breaker_opened = 0;
  uint64_t quarantines = 0;
  uint64_t opened = 0;                           // Connections.
  std::array<uint64_t, kCloseReasons> closed{};  // Connections, by CloseReason.
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
  // Of closed connections; see kAgeScale and kUse.
  Histogram age;
  Histogram uses;
};

struct TargetRow {
  std::string target;
  std::array<int, kConnStates> connections{};  // By ConnState.
  int idle = 0;  // Of the Ready connections: those without a lease.
  int max_connections = 0;
  int warm_deficit = 0;  // Connections missing to the warm floor.
  int waiters = 0;
  Duration oldest_wait{0};
  int leases = 0;
  std::string last_dial_error;        // Empty since the last success.
  const char* last_dial_reason = "";  // DialError::reason of the same dial.
  Admission admission = Admission::kOpen;
  bool reconnecting = false;  // See Pool::Reconnect.
  BreakerState breaker = BreakerState::kClosed;
  int failures_in_a_row = 0;     // Dials that the breaker counted.
  Duration breaker_open_for{0};  // From now, while it is kOpen.
  // How long the upstream keeps an idle connection, as it announced it and as
  // its closes showed it. Duration::max(): unknown.
  Duration keep_alive_said = Duration::max();
  Duration keep_alive_learned = Duration::max();
  // The current warm floor and its inputs: the recent rate of acquires and the
  // mean duration of a dial.
  int floor = 0;
  double arrivals_per_second = 0;
  Duration dial_time{0};
  Duration no_reuse_for{0};  // From now, while in quarantine.
  // How long a connection may stay idle, with all of the above applied.
  Duration idle_for{0};
  TargetCounters counters;
};

struct ConnectionRow {
  ConnId id = 0;
  HostPoolKey key;
  ConnState state = ConnState::kDialing;
  int active = 0;  // Slots lent.
  int limit = 0;   // Slots that may be lent.
  Duration age{0};
  std::optional<Duration> idle;  // How long, if idle.
  uint64_t uses = 0;
  int errors = 0;
};

struct LeaseRow {
  // Unique among the current leases and constant for the lease's life. It does
  // not reveal the lease id.
  uint64_t id = 0;
  std::string target;
  Mode mode = Mode::kShared;
  ConnId conn = 0;
  Holder holder;
  Instant granted{};
  Duration age{0};
  std::optional<Duration> remaining;  // Of its time to live, if it has one.
  bool busy = false;                  // A call runs on it.
  uint64_t owner = 0;
};

struct Snapshot {
  std::vector<TargetRow> targets;
  std::vector<ConnectionRow> connections;
  std::vector<LeaseRow> leases;
  int max_connections = 0;
  // Tokens of the global cap that are taken, and targets in line for one.
  int connections_reserved = 0;
  int budget_waiters = 0;
  // Sum over the targets that were evicted (PoolConfig::max_targets).
  TargetCounters forgotten;
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_SNAPSHOT_H_
