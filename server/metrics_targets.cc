#include "server/metrics_targets.h"

#include <algorithm>
#include <set>

namespace hotline::server {
namespace {

HistogramCounts ToCounts(const Histogram& histogram) {
  HistogramCounts out;
  for (int i = 0; i < Histogram::kBuckets; ++i) {
    out.counts[i] = histogram.count(i);
  }
  out.sum_ns = histogram.sum().count();
  return out;
}

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
  uint64_t sum = static_cast<uint64_t>(a.sum_ns);
  f(sum, static_cast<uint64_t>(b.sum_ns));
  a.sum_ns = static_cast<int64_t>(sum);
}

// Calls f(x of a, x of b) for every number there is.
template <typename F>
void ForEachPair(PoolFigures& a, const PoolFigures& b, F f) {
  Pair(a.granted, b.granted, f);
  Pair(a.reused, b.reused, f);
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
}

void AddRow(const ExecuteMetrics::Row& row, ExecuteMetrics::Row* to) {
  for (size_t i = 0; i < row.results.size(); ++i) {
    to->results[i] += row.results[i];
  }
  for (size_t i = 0; i < row.retries.size(); ++i) {
    to->retries[i] += row.retries[i];
  }
  to->stale_reuse += row.stale_reuse;
  for (size_t i = 0; i < row.seconds.counts.size(); ++i) {
    to->seconds.counts[i] += row.seconds.counts[i];
  }
  to->seconds.sum_ns += row.seconds.sum_ns;
}

}  // namespace

PoolFigures PoolFigures::From(const pool::TargetCounters& in) {
  PoolFigures out;
  out.granted = in.granted;
  out.reused = in.reused;
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
  return out;
}

void PoolFigures::Add(const PoolFigures& other) {
  ForEachPair(*this, other, [](uint64_t& a, uint64_t b) { a += b; });
}

void PoolFigures::Subtract(const PoolFigures& other) {
  ForEachPair(*this, other,
              [](uint64_t& a, uint64_t b) { a -= std::min(a, b); });
}

bool PoolFigures::FellBehind(const PoolFigures& before) const {
  bool behind = false;
  PoolFigures mine = *this;
  ForEachPair(mine, before,
              [&behind](uint64_t& a, uint64_t b) { behind |= a < b; });
  return behind;
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
  for (const std::string& target : known) Show(target);
}

size_t TargetFold::IndexOf(const std::string& target) const {
  const auto found = index_.find(target);
  return found == index_.end() ? shown_.size() : found->second;
}

void TargetFold::Show(const std::string& target) {
  if (target.empty() || shown_.size() >= max_targets_) return;
  if (!index_.emplace(target, shown_.size()).second) return;
  shown_.push_back({.target = target, .before = {}, .last = {}});
}

// Gives the free series away, the busiest first. When none is left nobody gets
// one any more, so nothing ever moves out of kOther.
void TargetFold::Admit(const pool::Snapshot& snapshot,
                       const std::vector<ExecuteMetrics::Row>& executes,
                       const UpstreamRows& upstream) {
  if (shown_.size() < max_targets_) {
    std::vector<std::pair<uint64_t, std::string>> found;
    for (const pool::TargetRow& row : snapshot.targets) {
      if (index_.count(row.target) == 0) {
        found.emplace_back(row.counters.granted, row.target);
      }
    }
    std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) {
      return a.first != b.first ? a.first > b.first : a.second < b.second;
    });
    for (const auto& [unused, target] : found) Show(target);
    for (const auto& row : executes) Show(row.target);
    for (const auto& [target, unused] : upstream) Show(target);
  }
  std::set<std::string_view> folded;
  const auto look = [&](const std::string& target) {
    if (!target.empty() && index_.count(target) == 0) folded.insert(target);
  };
  for (const pool::TargetRow& row : snapshot.targets) look(row.target);
  for (const auto& row : executes) look(row.target);
  for (const auto& [target, unused] : upstream) look(target);
  folded_ = folded.size();
}

std::vector<TargetFigures> TargetFold::Fold(
    const pool::Snapshot& snapshot, std::vector<ExecuteMetrics::Row> executes,
    const UpstreamRows& upstream) {
  Admit(snapshot, executes, upstream);

  std::vector<TargetFigures> out(shown_.size() + 1);
  TargetFigures& other = out.back();
  other.label = kOther;
  // Forgotten targets count under kOther, but for what shown ones still show.
  other.pool = PoolFigures::From(snapshot.forgotten);
  for (const pool::TargetRow& row : snapshot.targets) {
    const size_t index = IndexOf(row.target);
    const PoolFigures figures = PoolFigures::From(row.counters);
    out[index].gauges.Add(row);
    if (index == shown_.size()) {
      other.pool.Add(figures);
      continue;
    }
    Shown& shown = shown_[index];
    if (figures.FellBehind(shown.last)) shown.before.Add(shown.last);
    shown.last = figures;
  }
  for (size_t i = 0; i < shown_.size(); ++i) {
    out[i].label = shown_[i].target;
    out[i].pool = shown_[i].before;
    out[i].pool.Add(shown_[i].last);
    other.pool.Subtract(out[i].gauges.known ? shown_[i].before : out[i].pool);
  }
  for (const auto& row : executes) {
    AddRow(row, &out[IndexOf(row.target)].executes);
  }
  for (const auto& [target, figures] : upstream) {
    UpstreamFigures& to = out[IndexOf(target)].upstream;
    to.unsolicited_bytes += figures.unsolicited_bytes;
    to.full_handshakes += figures.full_handshakes;
    to.resumed_handshakes += figures.resumed_handshakes;
  }
  return out;
}

}  // namespace hotline::server
