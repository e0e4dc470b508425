#include "server/broker/stats_view.h"

#include <algorithm>
#include <numeric>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/text.h"
#include "server/broker/connection_options.h"
#include "server/broker/proto_time.h"

namespace hotline::server {
namespace {

constexpr int kDefaultPage = 100;

struct Executes {
  uint64_t all = 0;
  uint64_t failed = 0;
};

Executes Count(const CallMetrics::Row& row) {
  Executes out;
  out.all =
      std::accumulate(row.results.begin(), row.results.end(), uint64_t{0});
  for (size_t i = 0; i < row.results.size(); ++i) {
    if (kExecuteResults[i] != "ok") out.failed += row.results[i];
  }
  return out;
}

template <typename Array>
uint64_t Sum(const Array& array) {
  return std::accumulate(array.begin(), array.end(), uint64_t{0});
}

void Add(const pool::TargetCounters& in, v1::Counters* out) {
  const uint64_t refused = Sum(in.rejected) + in.cancelled;
  const uint64_t failed = Sum(in.dials_failed);
  out->set_acquires(out->acquires() + in.granted + refused);
  out->set_reused(out->reused() + in.reused);
  out->set_acquire_failures(out->acquire_failures() + refused);
  out->set_dials(out->dials() + in.dials_ok + failed);
  out->set_dial_failures(out->dial_failures() + failed);
  out->set_opened(out->opened() + in.opened);
  out->set_closed(out->closed() + Sum(in.closed));
  out->set_leases_expired(out->leases_expired() + in.leases_expired);
  out->set_leases_reclaimed(out->leases_reclaimed() + in.leases_reclaimed);
}

void Add(const Executes& in, v1::Counters* out) {
  out->set_executes(out->executes() + in.all);
  out->set_execute_failures(out->execute_failures() + in.failed);
}

void Add(const pool::TargetRow& row, v1::ConnectionCounts* out) {
  using pool::ConnState;
  const auto in_state = [&row](ConnState state) {
    return row.connections[static_cast<int>(state)];
  };
  out->set_dialing(out->dialing() + in_state(ConnState::kDialing));
  out->set_idle(out->idle() + row.idle);
  out->set_leased(out->leased() + in_state(ConnState::kReady) - row.idle);
  out->set_probing(out->probing() + in_state(ConnState::kProbing));
  out->set_draining(out->draining() + in_state(ConnState::kDraining) +
                    in_state(ConnState::kClosing));
}

void FillBreaker(const pool::TargetRow& row, v1::Breaker* out) {
  const std::string_view state = ToString(row.breaker);
  out->set_state(absl::AsciiStrToUpper({state.data(), state.size()}));
  out->set_failures(row.failures_in_a_row);
  out->set_opened(row.counters.breaker_opened);
  if (row.breaker_open_for > Duration(0)) {
    FillDuration(row.breaker_open_for, out->mutable_open_for());
  }
}

void FillKeepAlive(const pool::TargetRow& row, v1::KeepAlive* out) {
  if (row.keep_alive_said != Duration::max()) {
    FillDuration(row.keep_alive_said, out->mutable_said());
  }
  if (row.keep_alive_learned != Duration::max()) {
    FillDuration(row.keep_alive_learned, out->mutable_learned());
  }
  FillDuration(row.idle_for, out->mutable_idle_for());
}

void FillFloor(const pool::TargetRow& row, v1::WarmFloor* out) {
  out->set_connections(row.floor);
  out->set_missing(row.warm_deficit);
  out->set_arrivals_per_second(row.arrivals_per_second);
  FillDuration(row.dial_time, out->mutable_dial_time());
}

void FillTarget(const pool::TargetRow& row, const Executes& executes,
                v1::TargetStats* out) {
  out->set_target(ToUtf8(row.target));
  Add(row, out->mutable_connections());
  out->set_max_connections(row.max_connections);
  out->set_waiters(row.waiters);
  FillDuration(row.oldest_wait, out->mutable_oldest_wait());
  out->set_leases(row.leases);
  Add(row.counters, out->mutable_counters());
  Add(executes, out->mutable_counters());
  out->set_last_dial_error(Printable(row.last_dial_error));
  FillBreaker(row, out->mutable_breaker());
  FillKeepAlive(row, out->mutable_keep_alive());
  FillFloor(row, out->mutable_warm_floor());
  if (row.no_reuse_for > Duration(0)) {
    FillDuration(row.no_reuse_for,
                 out->mutable_desync()->mutable_no_reuse_for());
  }
  v1::Quantiles* wait = out->mutable_acquire_wait();
  wait->set_count(row.counters.wait.total());
  FillDuration(row.counters.wait.Quantile(0.5), wait->mutable_p50());
  FillDuration(row.counters.wait.Quantile(0.9), wait->mutable_p90());
  FillDuration(row.counters.wait.Quantile(0.99), wait->mutable_p99());
  FillDuration(Histogram::Bound(0), wait->mutable_least());
}

void FillConnection(const pool::ConnectionRow& row, v1::ConnectionStats* out) {
  out->set_connection_id(row.id);
  out->set_target(ToUtf8(row.key.target));
  FillOptions(row.key.options, out->mutable_options());
  if (const std::string& validate = row.key.options.validate;
      !validate.empty()) {
    FillCheck(validate, out->mutable_validate());
  }
  out->set_mode(row.key.mode == pool::Mode::kExclusive ? v1::MODE_EXCLUSIVE
                                                       : v1::MODE_SHARED);
  const std::string_view state = ToString(row.state);
  out->set_state(absl::AsciiStrToUpper({state.data(), state.size()}));
  out->set_active(row.active);
  out->set_limit(row.limit);
  FillDuration(row.age, out->mutable_age());
  if (row.idle.has_value()) FillDuration(*row.idle, out->mutable_idle());
  out->set_uses(row.uses);
  out->set_errors(row.errors);
}

void FillLeaseRow(const pool::LeaseRow& row, v1::LeaseStats* out) {
  out->set_target(ToUtf8(row.target));
  out->set_connection_id(row.conn);
  out->set_mode(row.mode == pool::Mode::kExclusive ? v1::MODE_EXCLUSIVE
                                                   : v1::MODE_SHARED);
  FillHolder(row.holder, out->mutable_holder());
  FillDuration(row.age, out->mutable_age());
  if (row.remaining.has_value()) {
    FillDuration(*row.remaining, out->mutable_remaining());
  }
  out->set_busy(row.busy);
  out->set_session(row.holder.session);
}

// The rows of one page: positions in the list of all rows.
struct Page {
  std::vector<size_t> rows;
  std::string next_token;
};

// Tokens name the view, so that a token of another view is detected.
std::string TokenFor(v1::StatsView view, const std::string& key) {
  return absl::StrCat(static_cast<int>(view), ".", absl::BytesToHexString(key));
}

bool KeyFrom(const std::string& token, v1::StatsView view, std::string* key) {
  const std::string prefix = absl::StrCat(static_cast<int>(view), ".");
  if (token.compare(0, prefix.size(), prefix) != 0) return false;
  const std::string hex = token.substr(prefix.size());
  if (hex.empty() || hex.size() % 2 != 0 ||
      hex.find_first_not_of("0123456789abcdef") != std::string::npos) {
    return false;
  }
  *key = absl::HexStringToBytes(hex);
  return true;
}

ErrorPtr CutPage(const v1::StatsRequest& request,
                 const std::vector<std::string>& keys, Page* page) {
  std::string after;
  if (!request.page_token().empty() &&
      !KeyFrom(request.page_token(), request.view(), &after)) {
    return FromInput(
        {"BAD_PAGE_TOKEN", "page_token", "not a next_page_token of this view"});
  }
  std::vector<size_t> order(keys.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&keys](size_t a, size_t b) { return keys[a] < keys[b]; });
  auto first = std::upper_bound(
      order.begin(), order.end(), after,
      [&keys](const std::string& key, size_t row) { return key < keys[row]; });
  if (request.page_token().empty()) first = order.begin();
  const size_t size =
      request.page_size() > 0 ? request.page_size() : kDefaultPage;
  const size_t left = order.end() - first;
  page->rows.assign(first, first + std::min(size, left));
  if (left > size) {
    page->next_token = TokenFor(request.view(), keys[page->rows.back()]);
  }
  return nullptr;
}

template <typename Rows, typename KeyFn, typename FillFn>
ErrorPtr FillPage(const v1::StatsRequest& request, const Rows& rows, KeyFn key,
                  FillFn fill, v1::StatsResponse* response) {
  std::vector<std::string> keys;
  keys.reserve(rows.size());
  for (const auto& row : rows) keys.push_back(key(row));
  Page page;
  if (ErrorPtr error = CutPage(request, keys, &page)) return error;
  for (size_t row : page.rows) fill(rows[row]);
  response->set_next_page_token(page.next_token);
  return nullptr;
}

using ExecutesByTarget = absl::flat_hash_map<std::string, Executes>;

void FillTotals(const pool::Snapshot& snapshot, const std::string& target,
                const ExecutesByTarget& executes, v1::Totals* totals) {
  totals->set_targets(snapshot.targets.size());
  totals->set_max_connections(snapshot.max_connections);
  int64_t waiters = 0;
  for (const pool::TargetRow& row : snapshot.targets) {
    Add(row, totals->mutable_connections());
    Add(row.counters, totals->mutable_counters());
    waiters += row.waiters;
  }
  totals->set_waiters(waiters);
  if (target.empty()) Add(snapshot.forgotten, totals->mutable_counters());
  for (const auto& [name, count] : executes) {
    if (target.empty() || name == target) {
      Add(count, totals->mutable_counters());
    }
  }
}

}  // namespace

ErrorPtr FillStats(const v1::StatsRequest& request, const std::string& target,
                   const pool::Snapshot& snapshot,
                   const std::vector<CallMetrics::Row>& rows,
                   v1::StatsResponse* response) {
  ExecutesByTarget executes;
  for (const auto& row : rows) executes[row.target] = Count(row);
  FillTotals(snapshot, target, executes, response->mutable_totals());
  switch (request.view()) {
    case v1::STATS_VIEW_SUMMARY:
      return nullptr;
    case v1::STATS_VIEW_CONNECTIONS:
      return FillPage(
          request, snapshot.connections,
          [](const auto& row) { return absl::StrFormat("%016x", row.id); },
          [response](const auto& row) {
            FillConnection(row, response->add_connections());
          },
          response);
    case v1::STATS_VIEW_LEASES:
      return FillPage(
          request, snapshot.leases,
          // Leases acquired by one message have the same start.
          [](const auto& row) {
            return absl::StrFormat(
                "%016x%016x", row.granted.time_since_epoch().count(), row.id);
          },
          [response](const auto& row) {
            FillLeaseRow(row, response->add_leases());
          },
          response);
    default:
      return FillPage(
          request, snapshot.targets, [](const auto& row) { return row.target; },
          [response, &executes](const auto& row) {
            FillTarget(row, executes[row.target], response->add_targets());
          },
          response);
  }
}

std::string InstanceName(uint32_t instance) {
  return absl::StrFormat("%08x", instance);
}

}  // namespace hotline::server
