// Which targets have series of their own, and the figures behind each label.
// Part of metrics.
#ifndef HOTLINE_SERVER_METRICS_TARGETS_H_
#define HOTLINE_SERVER_METRICS_TARGETS_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/time.h"
#include "pool/snapshot.h"
#include "server/execute_metrics.h"
#include "server/metrics.h"

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
  void Add(const PoolFigures& other);
  // Stops at zero.
  void Subtract(const PoolFigures& other);
  // Whether any figure is below `before`'s: a new life began.
  bool FellBehind(const PoolFigures& before) const;
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

struct TargetFigures {
  std::string label;
  TargetGauges gauges;
  PoolFigures pool;
  ExecuteMetrics::Row executes;
  UpstreamFigures upstream;
};

using UpstreamRows = std::vector<std::pair<std::string, UpstreamFigures>>;

// Remembers who is shown, from scrape to scrape, so that every counter only
// grows. Not thread-safe.
class TargetFold {
 public:
  static constexpr std::string_view kOther = "other";

  // `known` are shown from the start, as far as they fit.
  TargetFold(size_t max_targets, const std::vector<std::string>& known);

  // One row per label; the last is kOther.
  std::vector<TargetFigures> Fold(const pool::Snapshot& snapshot,
                                  std::vector<ExecuteMetrics::Row> executes,
                                  const UpstreamRows& upstream);

  // Of the last Fold: how many targets the sources know that are not shown.
  size_t folded() const { return folded_; }

 private:
  // A target with series of its own.
  struct Shown {
    std::string target;
    PoolFigures before;  // Of the lives the pool has forgotten.
    PoolFigures last;    // As last seen, in the present or latest life.
  };

  // The index in shown_, or shown_.size(): kOther.
  size_t IndexOf(const std::string& target) const;
  void Show(const std::string& target);
  void Admit(const pool::Snapshot& snapshot,
             const std::vector<ExecuteMetrics::Row>& executes,
             const UpstreamRows& upstream);

  const size_t max_targets_;
  std::vector<Shown> shown_;
  std::unordered_map<std::string, size_t> index_;
  size_t folded_ = 0;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_METRICS_TARGETS_H_
