// Which targets have series of their own, and the figures behind each label.
// Part of metrics.
#ifndef HOTLINE_SERVER_OBSERVE_METRICS_TARGETS_H_
#define HOTLINE_SERVER_OBSERVE_METRICS_TARGETS_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/time.h"
#include "pool/snapshot.h"
#include "server/broker/call_metrics.h"
#include "server/observe/metrics.h"

namespace hotline::server {

HistogramCounts ToCounts(const Histogram& histogram);

// pool::TargetCounters that can be subtracted again.
struct PoolFigures {
  uint64_t granted = 0;
  uint64_t reused = 0;
  uint64_t cross_loop = 0;
  std::array<uint64_t, pool::kRejectReasons> rejected{};
  uint64_t cancelled = 0;
  uint64_t dials_ok = 0;
  std::array<uint64_t, 4> dials_failed{};
  uint64_t breaker_opened = 0;
  uint64_t quarantines = 0;
  uint64_t opened = 0;
  std::array<uint64_t, pool::kCloseReasons> closed{};
  uint64_t probes_passed = 0;
  uint64_t probes_failed = 0;
  uint64_t errors_counted = 0;
  uint64_t leases_expired = 0;
  uint64_t leases_reclaimed = 0;
  uint64_t leases_leaked = 0;
  HistogramCounts wait;
  HistogramCounts lease;
  HistogramCounts dial_resolve;
  HistogramCounts dial_connect;
  HistogramCounts dial_tls;
  HistogramCounts dial_validate;
  HistogramCounts age;   // By pool::kAgeScale.
  HistogramCounts uses;  // By pool::kUse.

  static PoolFigures From(const pool::TargetCounters& counters);
};

// The current state, summed over the targets of one label.
struct TargetGauges {
  bool known = false;  // The pool knows one of them.
  std::array<int64_t, pool::kConnStates> connections{};  // By ConnState.
  int64_t idle = 0;
  int64_t max_connections = 0;
  int64_t warm_floor = 0;
  int64_t warm_deficit = 0;
  int64_t breakers_open = 0;
  int64_t quarantined = 0;
  int64_t waiters = 0;
  int64_t leases = 0;
  Duration oldest_wait{0};
  std::array<int64_t, kCallKinds> running{};  // Calls, by CallKind.
  // Of targets with series of their own:
  std::vector<Exemplar> exemplars;  // Of the calls' durations.
  int64_t certificate_expires = 0;
  AddressCounts addresses{};  // Filled by the caller of Fold.

  void Add(const pool::TargetRow& row);
};

// Every counter of a target, or of several.
struct TargetCounts {
  PoolFigures pool;
  CallMetrics::Row executes;  // Without `target`.
  UpstreamFigures upstream;
};

struct TargetFigures : TargetCounts {
  std::string label;
  TargetGauges gauges;
};

using UpstreamRows = std::vector<std::pair<std::string, UpstreamFigures>>;

// Decides which targets have series of their own, and keeps the choice from
// scrape to scrape.
//
// The series of a target count events since it got them; kOther counts all
// other events. When a target loses its series, the counts that they showed
// move to kOther; when it gets series again, they start from zero, which
// Prometheus takes for a restart.
//
// A free series goes to the busiest target without one. If none is free, a
// target that is served takes the series of one that is not, or of one less
// than half as busy. Busy is measured in acquires, with a half-life of a
// minute. A target of which only denials by egress are known gets no series.
//
// Invariant: every counter of a label only grows while the label has it.
//
// Not thread-safe.
class TargetFold {
 public:
  static constexpr std::string_view kOther = "other";

  // `known` always have series, as far as they fit.
  TargetFold(size_t max_targets, const std::vector<std::string>& known);

  // One row per label; the last is kOther.
  std::vector<TargetFigures> Fold(const pool::Snapshot& snapshot,
                                  const std::vector<CallMetrics::Row>& executes,
                                  const UpstreamRows& upstream, Instant now);

  // The number of targets without series at the last Fold.
  size_t folded() const { return folded_; }

 private:
  // A target with series of its own.
  struct Shown {
    std::string target;
    bool pinned = false;
    bool served = false;   // A call on it ever succeeded.
    double score = 0;      // Decays while no source knows the target.
    TargetCounts counted;  // The values of its series.
    TargetCounts last;     // The sources' values at the last Fold.
  };
  // How busy a target was at the last Fold, by the hash of its name.
  struct Seen {
    uint64_t asked = 0;
    double score = 0;
  };
  // A target's rows in the sources; null if a source does not have it.
  struct Source {
    const pool::TargetRow* pool = nullptr;
    const CallMetrics::Row* executes = nullptr;
    const UpstreamFigures* upstream = nullptr;
    double score = 0;
    bool eligible = false;  // For series.
    bool served = false;    // It has served a call.
    bool was_seen = false;  // At the last Fold: kOther has counted it.
  };
  using Sources = absl::flat_hash_map<std::string_view, Source>;

  static Sources Gather(const pool::Snapshot& snapshot,
                        const std::vector<CallMetrics::Row>& executes,
                        const UpstreamRows& upstream);
  static TargetCounts CountsOf(const Source& source);
  void Score(Sources* sources, Instant now);
  void ScoreShown(const Sources& sources);
  // A target that may get series, or lose them.
  struct Candidate {
    bool served;
    double score;
    std::string_view target;
    const Source* source;  // Null: it has series, ...
    size_t index;          // ... in shown_[index].
  };
  // Those with series, the least busy first.
  std::vector<Candidate> LeastBusy() const;
  // Those without, the busiest first, max_targets_ at most. Counts folded_.
  std::vector<Candidate> Busy(const Sources& sources);
  static bool IsBusier(const Candidate& a, const Candidate& b);
  void Choose(const Sources& sources);
  Shown Begin(std::string_view target, const Source& source) const;
  static void Count(const Source& source, Shown* shown);
  static void AddRunning(const CallMetrics::Row& row, TargetGauges* gauges);
  static void AddGauges(const Source& source, TargetGauges* gauges);

  const size_t max_targets_;
  std::vector<Shown> shown_;
  absl::flat_hash_map<size_t, Seen> seen_;
  Instant scored_at_{};
  double kept_ = 0;  // The share of a score that is left since then.
  size_t folded_ = 0;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_OBSERVE_METRICS_TARGETS_H_
