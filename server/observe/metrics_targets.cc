#include "server/observe/metrics_targets.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <tuple>
#include <type_traits>

#include "absl/container/flat_hash_set.h"
#include "absl/hash/hash.h"

namespace hotline::server {
namespace {

constexpr double kHalfLifeSeconds = 60;

template <typename Array>
uint64_t Sum(const Array& array) {
  return std::accumulate(array.begin(), array.end(), uint64_t{0});
}

// Notices a counter that has fallen. (A histogram's sum may.)
struct FallWatch {
  bool fell = false;
  void operator()(uint64_t now, uint64_t before) { fell |= now < before; }
};

template <typename F>
void Pair(uint64_t& a, const uint64_t& b, F& f) {
  f(a, b);
}
template <size_t n, typename F>
void Pair(std::array<uint64_t, n>& a, const std::array<uint64_t, n>& b, F& f) {
  for (size_t i = 0; i < n; ++i) f(a[i], b[i]);
}
template <typename F>
void Pair(HistogramCounts& a, const HistogramCounts& b, F& f) {
  Pair(a.counts, b.counts, f);
  if constexpr (std::is_same_v<F, FallWatch>) return;
  uint64_t sum = static_cast<uint64_t>(a.sum_ns);
  f(sum, static_cast<uint64_t>(b.sum_ns));
  a.sum_ns = static_cast<int64_t>(sum);
}

template <typename F>
void Pair(PoolFigures& a, const PoolFigures& b, F& f) {
  Pair(a.granted, b.granted, f);
  Pair(a.reused, b.reused, f);
  Pair(a.cross_loop, b.cross_loop, f);
  Pair(a.rejected, b.rejected, f);
  Pair(a.cancelled, b.cancelled, f);
  Pair(a.dials_ok, b.dials_ok, f);
  Pair(a.dials_failed, b.dials_failed, f);
  Pair(a.breaker_opened, b.breaker_opened, f);
  Pair(a.quarantines, b.quarantines, f);
  Pair(a.opened, b.opened, f);
  Pair(a.closed, b.closed, f);
  Pair(a.probes_passed, b.probes_passed, f);
  Pair(a.probes_failed, b.probes_failed, f);
  Pair(a.errors_counted, b.errors_counted, f);
  Pair(a.leases_expired, b.leases_expired, f);
  Pair(a.leases_reclaimed, b.leases_reclaimed, f);
  Pair(a.leases_leaked, b.leases_leaked, f);
  Pair(a.wait, b.wait, f);
  Pair(a.lease, b.lease, f);
  Pair(a.dial_resolve, b.dial_resolve, f);
  Pair(a.dial_connect, b.dial_connect, f);
  Pair(a.dial_tls, b.dial_tls, f);
  Pair(a.dial_validate, b.dial_validate, f);
  Pair(a.age, b.age, f);
  Pair(a.uses, b.uses, f);
}
template <typename F>
void Pair(CallMetrics::Row& a, const CallMetrics::Row& b, F& f) {
  Pair(a.results, b.results, f);
  Pair(a.retries, b.retries, f);
  Pair(a.stale_reuse, b.stale_reuse, f);
  Pair(a.statuses, b.statuses, f);
  Pair(a.bytes_sent, b.bytes_sent, f);
  Pair(a.bytes_received, b.bytes_received, f);
  Pair(a.first_byte, b.first_byte, f);
  Pair(a.seconds, b.seconds, f);
}
template <typename F>
void Pair(UpstreamFigures& a, const UpstreamFigures& b, F& f) {
  Pair(a.unsolicited_bytes, b.unsolicited_bytes, f);
  Pair(a.full_handshakes, b.full_handshakes, f);
  Pair(a.resumed_handshakes, b.resumed_handshakes, f);
}
template <typename F>
void Pair(TargetCounts& a, const TargetCounts& b, F& f) {
  Pair(a.pool, b.pool, f);
  Pair(a.executes, b.executes, f);
  Pair(a.upstream, b.upstream, f);
}

template <typename Counts>
void Add(const Counts& counts, Counts* to) {
  auto add = [](uint64_t& a, uint64_t b) { a += b; };
  Pair(*to, counts, add);
}

template <typename Counts>
void Subtract(const Counts& counts, Counts* from) {
  auto subtract = [](uint64_t& a, uint64_t b) { a -= b; };
  Pair(*from, counts, subtract);
}

// The increase since `before`. If any counter fell, the source has restarted
// from zero, and all of `now` is new.
template <typename Counts>
Counts Since(const Counts& before, Counts now) {
  FallWatch watch;
  Pair(now, before, watch);
  if (!watch.fell) Subtract(before, &now);
  return now;
}

}  // namespace

HistogramCounts ToCounts(const Histogram& histogram) {
  HistogramCounts out;
  for (int i = 0; i < Histogram::kBuckets; ++i) {
    out.counts[i] = histogram.count(i);
  }
  out.sum_ns = histogram.sum().count();
  return out;
}

PoolFigures PoolFigures::From(const pool::TargetCounters& in) {
  PoolFigures out;
  out.granted = in.granted;
  out.reused = in.reused;
  out.cross_loop = in.cross_loop;
  out.rejected = in.rejected;
  out.cancelled = in.cancelled;
  out.dials_ok = in.dials_ok;
  out.dials_failed = in.dials_failed;
  out.breaker_opened = in.breaker_opened;
  out.quarantines = in.quarantines;
  out.opened = in.opened;
  out.closed = in.closed;
  out.probes_passed = in.probes_passed;
  out.probes_failed = in.probes_failed;
  out.errors_counted = in.errors_counted;
  out.leases_expired = in.leases_expired;
  out.leases_reclaimed = in.leases_reclaimed;
  out.leases_leaked = in.leases_leaked;
  out.wait = ToCounts(in.wait);
  out.lease = ToCounts(in.lease);
  out.dial_resolve = ToCounts(in.dial_resolve);
  out.dial_connect = ToCounts(in.dial_connect);
  out.dial_tls = ToCounts(in.dial_tls);
  out.dial_validate = ToCounts(in.dial_validate);
  out.age = ToCounts(in.age);
  out.uses = ToCounts(in.uses);
  return out;
}

void TargetGauges::Add(const pool::TargetRow& row) {
  known = true;
  for (size_t i = 0; i < connections.size(); ++i) {
    connections[i] += row.connections[i];
  }
  idle += row.idle;
  max_connections += row.max_connections;
  warm_floor += row.floor;
  warm_deficit += row.warm_deficit;
  quarantined += row.no_reuse_for > Duration(0) ? 1 : 0;
  breakers_open += row.breaker != pool::BreakerState::kClosed ? 1 : 0;
  waiters += row.waiters;
  leases += row.leases;
  oldest_wait = std::max(oldest_wait, row.oldest_wait);
}

TargetFold::TargetFold(size_t max_targets,
                       const std::vector<std::string>& known)
    : max_targets_(max_targets) {
  for (const std::string& target : known) {
    if (shown_.size() >= max_targets_) break;
    shown_.push_back({.target = target,
                      .pinned = true,
                      .served = false,
                      .score = 0,
                      .counted = {},
                      .last = {}});
  }
}

TargetFold::Sources TargetFold::Gather(
    const pool::Snapshot& snapshot,
    const std::vector<CallMetrics::Row>& executes,
    const UpstreamRows& upstream) {
  Sources out;
  out.reserve(snapshot.targets.size());
  for (const pool::TargetRow& row : snapshot.targets) {
    out[row.target].pool = &row;
  }
  for (const CallMetrics::Row& row : executes) {
    if (!row.target.empty()) out[row.target].executes = &row;
  }
  for (const auto& [target, figures] : upstream) {
    if (target != kOther) out[target].upstream = &figures;
  }
  return out;
}

TargetCounts TargetFold::CountsOf(const Source& source) {
  TargetCounts out;
  if (source.pool != nullptr) {
    out.pool = PoolFigures::From(source.pool->counters);
  }
  if (source.executes != nullptr) out.executes = *source.executes;
  if (source.upstream != nullptr) out.upstream = *source.upstream;
  return out;
}

void TargetFold::Score(Sources* sources, Instant now) {
  kept_ =
      std::exp2(-std::max(0.0, ToSeconds(now - scored_at_) / kHalfLifeSeconds));
  scored_at_ = now;
  absl::flat_hash_map<size_t, Seen> seen;
  seen.reserve(sources->size());
  for (auto& [target, source] : *sources) {
    uint64_t asked = 0;
    if (source.pool != nullptr) {
      const pool::TargetCounters& counters = source.pool->counters;
      const auto& failed = counters.dials_failed;
      constexpr auto kPolicy = static_cast<size_t>(pool::FailureClass::kPolicy);
      asked = counters.granted + Sum(counters.rejected) + counters.cancelled;
      source.served = counters.granted > 0;
      source.eligible = source.served || counters.dials_ok > 0 ||
                        Sum(failed) > failed[kPolicy];
    } else if (source.executes != nullptr) {
      asked = Sum(source.executes->results);
      source.served = source.executes->results[0] > 0;
    }
    source.eligible = source.eligible || source.executes != nullptr ||
                      source.upstream != nullptr;
    const auto before = seen_.find(absl::HashOf(target));
    source.was_seen = before != seen_.end();
    source.score = static_cast<double>(asked);
    if (source.was_seen) {
      const Seen& last = before->second;
      const uint64_t fresh = asked - (asked >= last.asked ? last.asked : 0);
      source.score = last.score * kept_ + static_cast<double>(fresh);
    }
    seen.emplace(absl::HashOf(target), Seen{asked, source.score});
  }
  seen_ = std::move(seen);
}

TargetFold::Shown TargetFold::Begin(std::string_view target,
                                    const Source& source) const {
  Shown shown{.target = std::string(target),
              .pinned = false,
              .served = source.served,
              .score = source.score,
              .counted = {},
              .last = {}};
  // These are in kOther already, which must not fall.
  if (source.was_seen) shown.last = CountsOf(source);
  return shown;
}

void TargetFold::ScoreShown(const Sources& sources) {
  for (Shown& shown : shown_) {
    const auto found = sources.find(shown.target);
    shown.score *= kept_;
    if (found == sources.end()) continue;
    const Source& source = found->second;
    shown.score = source.was_seen ? source.score : shown.score + source.score;
    shown.served = shown.served || source.served;
  }
}

bool TargetFold::IsBusier(const Candidate& a, const Candidate& b) {
  return std::tie(a.served, a.score, b.target) >
         std::tie(b.served, b.score, a.target);
}

std::vector<TargetFold::Candidate> TargetFold::LeastBusy() const {
  std::vector<Candidate> least_busy;
  for (size_t i = 0; i < shown_.size(); ++i) {
    const Shown& s = shown_[i];
    if (s.pinned) continue;
    least_busy.push_back({s.served, s.score, s.target, nullptr, i});
  }
  std::sort(least_busy.rbegin(), least_busy.rend(), IsBusier);
  return least_busy;
}

std::vector<TargetFold::Candidate> TargetFold::Busy(const Sources& sources) {
  absl::flat_hash_set<std::string_view> shown;
  for (const Shown& s : shown_) shown.insert(s.target);
  std::vector<Candidate> busy;
  folded_ = 0;
  for (const auto& [target, source] : sources) {
    if (shown.contains(target)) continue;
    ++folded_;
    if (!source.eligible) continue;
    busy.push_back({source.served, source.score, target, &source, 0});
  }
  const size_t most = std::min(busy.size(), max_targets_);
  std::partial_sort(busy.begin(), busy.begin() + most, busy.end(), IsBusier);
  busy.resize(most);
  return busy;
}

void TargetFold::Choose(const Sources& sources) {
  const std::vector<Candidate> least_busy = LeastBusy();
  const std::vector<Candidate> busy = Busy(sources);
  auto next = busy.begin();
  const auto end = busy.end();
  for (; next != end && shown_.size() < max_targets_; ++next, --folded_) {
    shown_.push_back(Begin(next->target, *next->source));
  }
  for (const Candidate& place : least_busy) {
    if (next == end || !next->served) break;
    // More than twice as busy, by more than one call: otherwise two targets
    // would take turns.
    if (place.served && next->score <= 2 * place.score + 1) break;
    if (sources.contains(shown_[place.index].target)) ++folded_;
    shown_[place.index] = Begin(next->target, *next->source);
    ++next;
    --folded_;
  }
}

void TargetFold::Count(const Source& source, Shown* shown) {
  TargetCounts now = CountsOf(source);
  // A source that forgets the target restarts from zero.
  Add(Since(shown->last.pool, now.pool), &shown->counted.pool);
  Add(Since(shown->last.upstream, now.upstream), &shown->counted.upstream);
  const bool same_entry = shown->last.executes.entry == now.executes.entry;
  Add(same_entry ? Since(shown->last.executes, now.executes) : now.executes,
      &shown->counted.executes);
  shown->last = std::move(now);
}

void TargetFold::AddRunning(const CallMetrics::Row& row, TargetGauges* gauges) {
  for (size_t i = 0; i < row.running.size(); ++i) {
    gauges->running[i] += row.running[i];
  }
}

void TargetFold::AddGauges(const Source& source, TargetGauges* gauges) {
  if (source.pool != nullptr) gauges->Add(*source.pool);
  if (source.executes != nullptr) {
    AddRunning(*source.executes, gauges);
    gauges->exemplars = source.executes->exemplars;
  }
  if (source.upstream != nullptr) {
    gauges->certificate_expires = source.upstream->certificate_expires;
  }
}

std::vector<TargetFigures> TargetFold::Fold(
    const pool::Snapshot& snapshot,
    const std::vector<CallMetrics::Row>& executes, const UpstreamRows& upstream,
    Instant now) {
  Sources sources = Gather(snapshot, executes, upstream);
  Score(&sources, now);
  ScoreShown(sources);
  Choose(sources);

  std::vector<TargetFigures> out(shown_.size() + 1);
  TargetFigures& other = out.back();
  other.label = kOther;
  // First the events of all targets.
  other.pool = PoolFigures::From(snapshot.forgotten);
  for (const pool::TargetRow& row : snapshot.targets) {
    Add(PoolFigures::From(row.counters), &other.pool);
  }
  for (const auto& row : executes) Add(row, &other.executes);
  for (const auto& [target, figures] : upstream) Add(figures, &other.upstream);

  const Source none;
  absl::flat_hash_set<std::string_view> shown;
  for (size_t i = 0; i < shown_.size(); ++i) {
    const auto found = sources.find(shown_[i].target);
    const Source& source = found == sources.end() ? none : found->second;
    Count(source, &shown_[i]);
    static_cast<TargetCounts&>(out[i]) = shown_[i].counted;
    out[i].label = shown_[i].target;
    AddGauges(source, &out[i].gauges);
    shown.insert(shown_[i].target);
    Subtract(shown_[i].counted, static_cast<TargetCounts*>(&other));
  }
  for (const pool::TargetRow& row : snapshot.targets) {
    if (!shown.contains(row.target)) other.gauges.Add(row);
  }
  for (const auto& row : executes) {
    if (!shown.contains(row.target)) AddRunning(row, &other.gauges);
  }
  return out;
}

}  // namespace hotline::server
