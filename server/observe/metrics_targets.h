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

// pool::TargetCounters that can be subtracted again.
struct PoolFigures {
  uint64_t granted = 0;
  uint64_t reused = 0;
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

  static PoolFigures From(const pool::TargetCounters& counters);
};

// The present state, added up over the targets of one label.
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

  void Add(const pool::TargetRow& row);
};

// All that is counted of a target, or of several.
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

// Decides who is shown, and remembers it from scrape to scrape, so that every
// counter only grows.
//
// The series of a target count what has happened since it got them; kOther has
// the rest of what happened to all. So when a target loses its series, what
// they showed goes on counting in kOther; when it gets some again they start
// from zero, which is what a counter's reader takes for a restart.
//
// A free series goes to the busiest target without one. Once there is none
// left, a target that is served takes the series of one that is not, or of one
// that is less than half as busy; "busy" are acquires of late, with a half-life
// of a minute. One of which nothing is known but that egress forbids it gets
// none.
//
// Not thread-safe.
class TargetFold {
 public:
  static constexpr std::string_view kOther = "other";

  // `known` are always shown, as far as they fit.
  TargetFold(size_t max_targets, const std::vector<std::string>& known);

  // One row per label; the last is kOther.
  std::vector<TargetFigures> Fold(const pool::Snapshot& snapshot,
                                  const std::vector<CallMetrics::Row>& executes,
                                  const UpstreamRows& upstream, Instant now);

  // Of the last Fold: how many targets the sources know that are not shown.
  size_t folded() const { return folded_; }

 private:
  // A target with series of its own.
  struct Shown {
    std::string target;
    bool pinned = false;
    bool served = false;   // Since it has series, or before.
    double score = 0;      // Kept, and fading, while no source knows it.
    TargetCounts counted;  // What its series show.
    TargetCounts last;     // What its sources had counted when last seen.
  };
  // How busy a target was, when last seen. By the hash of its name.
  struct Seen {
    uint64_t asked = 0;
    double score = 0;
  };
  // What the sources say of a target now. Null: nothing.
  struct Source {
    const pool::TargetRow* pool = nullptr;
    const CallMetrics::Row* executes = nullptr;
    const UpstreamFigures* upstream = nullptr;
    double score = 0;
    bool eligible = false;  // For series.
    bool served = false;    // It was of use to somebody.
    bool was_seen = false;  // The last time, so kOther has counted it.
  };
  using Sources = absl::flat_hash_map<std::string_view, Source>;

  static Sources Gather(const pool::Snapshot& snapshot,
                        const std::vector<CallMetrics::Row>& executes,
                        const UpstreamRows& upstream);
  static TargetCounts CountsOf(const Source& source);
  void Score(Sources* sources, Instant now);
  void ScoreShown(const Sources& sources);
  void Choose(const Sources& sources);
  Shown Begin(std::string_view target, const Source& source) const;
  static void Count(const Source& source, Shown* shown);

  const size_t max_targets_;
  std::vector<Shown> shown_;
  absl::flat_hash_map<size_t, Seen> seen_;
  Instant scored_at_{};
  double kept_ = 0;  // Of a score, since the Fold before.
  size_t folded_ = 0;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_OBSERVE_METRICS_TARGETS_H_
