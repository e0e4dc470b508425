#include "server/observe/status_page.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "absl/strings/str_format.h"
#include "base/text.h"

namespace hotline::server {
namespace {

constexpr size_t kMostRows = 200;

// Durations below the histogram's first bound are not told apart.
std::string WaitQuantile(const Histogram& waits, double quantile) {
  const Duration wait = waits.Quantile(quantile);
  if (wait == Duration(0)) return "-";
  if (wait == Histogram::Bound(0)) return "<0.05ms";
  return absl::StrFormat("%.1fms", ToSeconds(wait) * 1e3);
}

int Connections(const pool::TargetRow& row) {
  return std::accumulate(row.connections.begin(), row.connections.end(), 0);
}

}  // namespace

std::string StatusPage(const pool::Snapshot& snapshot,
                       const std::string& version) {
  std::vector<const pool::TargetRow*> rows;
  int connections = 0, waiters = 0, leases = 0;
  for (const pool::TargetRow& row : snapshot.targets) {
    rows.push_back(&row);
    connections += Connections(row);
    waiters += row.waiters;
    leases += row.leases;
  }
  std::sort(rows.begin(), rows.end(), [](const auto* a, const auto* b) {
    const int more = Connections(*a), less = Connections(*b);
    return more != less ? more > less : a->target < b->target;
  });

  std::string page = absl::StrFormat(
      "hotline %s\n\n%d targets, %d of %d connections, %d leases, %d waiting\n"
      "\n%6s %6s %6s %6s %6s %8s %10s %9s  %s\n",
      version, snapshot.targets.size(), connections, snapshot.max_connections,
      leases, waiters, "conns", "max", "idle", "leases", "wait", "p99 wait",
      "served", "reused", "target");
  const size_t shown = std::min(rows.size(), kMostRows);
  for (size_t i = 0; i < shown; ++i) {
    const pool::TargetRow& row = *rows[i];
    absl::StrAppendFormat(
        &page, "%6d %6d %6d %6d %6d %8s %10d %9d  %s%s%s\n", Connections(row),
        row.max_connections, row.idle, row.leases, row.waiters,
        WaitQuantile(row.counters.wait, 0.99), row.counters.granted,
        row.counters.reused, Printable(row.target),
        row.last_dial_error.empty() ? "" : "  ! ",
        Printable(row.last_dial_error));
  }
  if (shown < rows.size()) {
    absl::StrAppendFormat(&page, "… and %d more\n", rows.size() - shown);
  }
  return page;
}

}  // namespace hotline::server
