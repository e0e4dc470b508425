// Shard: maintenance, the events of transport, timers and budgets, snapshots.
#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

#include "pool/counters.h"
#include "pool/hot_path.h"
#include "pool/rows.h"
#include "pool/shard.h"

namespace hotline::pool {
namespace {

// How many connections of warm floors a search for an idle one skips at most.
// They move to the end of the list, so that the next search finds others.
constexpr int kMaxStepsOverFloor = 64;
// How much a snapshot reads each time it holds the lock.
constexpr size_t kRowsPerHold = 64;
constexpr uint32_t kRecordsPerHold = 256;

// Adds rows for the slab's records in use, a page at a time. A record that
// exists throughout is visited exactly once. `add(record, page)` is called
// under the lock.
template <typename T, typename Row, typename Add>
void AddRows(Mutex* mu, const Slab<T>& slab, std::vector<Row>* rows,
             Add add) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  std::vector<Row> page;
  bool more = true;
  for (uint32_t index = 0; more;) {
    page.clear();
    page.reserve(kRecordsPerHold);
    {
      MutexLock lock(mu);
      const uint32_t end = std::min(slab.size(), index + kRecordsPerHold);
      for (; index < end; ++index) {
        const T& record = *slab.At(index);
        if (record.in_use) add(record, &page);
      }
      more = index < slab.size();
    }
    std::move(page.begin(), page.end(), std::back_inserter(*rows));
  }
}

}  // namespace

// --- Maintenance ---

void Shard::Warm(const std::string& name, Instant now) {
  EventScope scope(this, now);
  if (state_.shutdown) return;
  Target* target = FindOrAddTargetLocked(name);
  if (target == nullptr) return;
  FinishEventLocked(target, now);
}

PrewarmResult Shard::Prewarm(const HostPoolKey& key, const KeyHash& hash,
                             int connections, int most, Instant now) {
  EventScope scope(this, now);
  if (state_.shutdown) return {0, connections};
  HostPool* pool = FindOrAddPoolLocked(key, hash);
  if (pool == nullptr) return {0, connections};
  Target* target = pool->target();
  PrewarmResult result;
  while (result.begun < most &&
         target->DialSpeculatively(pool, connections, nullptr, now)) {
    ++result.begun;
  }
  result.missing = std::max(0, connections - pool->standing());
  FinishEventLocked(target, now);
  return result;
}

int Shard::WarmDeficit(const std::string& name) const {
  MutexLock lock(&mu_);
  const auto found = targets_.find(name);
  return found == targets_.end() ? shared_->target_config(name).warm
                                 : found->second->WarmDeficit();
}

void Shard::Reconfigure(Instant now) {
  EventScope scope(this, now);
  for (Target* target = known_.front(); target != nullptr;
       target = known_.Next(target)) {
    const TargetConfig config = shared_->target_config(target->name());
    if (config == target->config()) continue;
    target->Reconfigure(config, now);
    SweepLocked(target, now);
  }
}

void Shard::Shutdown(Instant now) {
  EventScope scope(this, now);
  state_.shutdown = true;
  for (Target* target = known_.front(); target != nullptr;
       target = known_.Next(target)) {
    target->Shutdown(now);
    SweepLocked(target, now);
  }
}

void Shard::Tick(Instant now) {
  EventScope scope(this, now);
  if (now < state_.announced) {
    // The WakeAt for this tick was decided before the last tick and carried out
    // after it. The transport may have merged the two, so it is asked again.
    if (state_.announced != kNever) {
      state_.outbox.push_back(WakeEffect{state_.announced});
    }
    return;
  }
  state_.timers.Advance(
      now, [&](PoolTimer* timer)
               ABSL_NO_THREAD_SAFETY_ANALYSIS { FireLocked(timer, now); });
  const Instant next = state_.timers.NextDue();
  state_.announced = next;
  if (next != kNever) state_.outbox.push_back(WakeEffect{next});
}

void Shard::FireLocked(PoolTimer* timer, Instant now) {
  Target* target = nullptr;
  if (auto* const* conn = std::get_if<ConnRecord*>(&timer->owner)) {
    target = (*conn)->pool->target();
    (*conn)->pool->OnTimer(*conn, now);
  } else if (auto* const* lease = std::get_if<Lease*>(&timer->owner)) {
    leases_.OnTimer(*lease, now, &target);
  } else if (auto* const* waiting = std::get_if<Waiting*>(&timer->owner)) {
    HostPool* pool = (*waiting)->pool;
    if (now < (*waiting)->deadline) {
      state_.FireBy(timer, (*waiting)->deadline);
      return;
    }
    target = pool->target();
    pool->Reject(*waiting, RejectReason::kWaitTimeout, now);
  } else if (auto* const* pool = std::get_if<HostPool*>(&timer->owner)) {
    target = (*pool)->target();
    const DialBackoff& backoff = (*pool)->backoff();
    if (backoff.active(now)) (*pool)->WakeBy(backoff.until());
    const Breaker& breaker = target->health().breaker();
    if (breaker.state(now) == BreakerState::kOpen) {
      (*pool)->WakeBy(breaker.until());
    }
  }
  if (auto* const* owner = std::get_if<Target*>(&timer->owner)) {
    target = *owner;
    target->OnTimer(now);
  }
  if (target != nullptr) FinishEventLocked(target, now);
}

// --- The transport's events ---

template <typename Event>
void Shard::OnConnection(ConnId id, Instant now, Event&& event) {
  EventScope scope(this, now);
  ConnRecord* conn = FindConnectionLocked(id);
  if (conn == nullptr) return;
  HostPool* pool = conn->pool;
  Target* target = pool->target();
  event(*conn, *pool);
  FinishEventLocked(target, now);
}

void Shard::Dialed(ConnId id, const Established& established, Instant now) {
  OnConnection(id, now, [&](ConnRecord& conn, HostPool& pool) {
    if (conn.state == ConnState::kDialing) {
      pool.Dialed(&conn, established, now);
    }
  });
}

void Shard::DialFailed(ConnId id, const DialError& error, Instant now) {
  OnConnection(id, now, [&](ConnRecord& conn, HostPool& pool) {
    if (conn.state == ConnState::kDialing) pool.DialFailed(&conn, error, now);
  });
}

void Shard::Closed(ConnId id, CloseReason reason, const DialError* early,
                   Instant now) {
  OnConnection(id, now, [&](ConnRecord& conn, HostPool& pool) {
    pool.Closed(&conn, reason, early, now);
  });
}

void Shard::Served(ConnId id, Instant now) {
  OnConnection(id, now, [&](ConnRecord& conn, HostPool& pool) {
    if (conn.state != ConnState::kDialing) pool.Prove(&conn, now);
  });
}

void Shard::Probed(ConnId id, bool passed, Instant now) {
  OnConnection(id, now, [&](ConnRecord& conn, HostPool& pool) {
    pool.Probed(&conn, passed, now);
  });
}

void Shard::ConcurrencyChanged(ConnId id, int max_streams, Instant now) {
  OnConnection(id, now, [&](ConnRecord& conn, HostPool& pool) {
    pool.ConcurrencyChanged(&conn, max_streams, now);
  });
}

void Shard::GoAway(ConnId id, const DialError* early, Instant now) {
  OnConnection(id, now, [&](ConnRecord& conn, HostPool& pool) {
    pool.GoAway(&conn, early, now);
  });
}

void Shard::KeepAliveSaid(ConnId id, Duration timeout, Instant now) {
  OnConnection(id, now, [&](ConnRecord&, HostPool& pool) {
    pool.target()->OnKeepAliveSaid(timeout, now);
  });
}

void Shard::ErrorCounted(ConnId id, Instant now) {
  OnConnection(id, now, [](ConnRecord& conn, HostPool& pool) {
    pool.ErrorCounted(&conn);
  });
}

// --- Budgets ---

void Shard::BudgetGranted(const Budget* budget, Target* target, Instant now) {
  EventScope scope(this, now);
  target->BudgetGranted(budget, now);
  SweepLocked(target, now);
}

ConnRecord* Shard::OldestIdleLocked(bool floors) {
  for (int steps = 0; steps < kMaxStepsOverFloor; ++steps) {
    ConnRecord* conn = state_.idle_order.front();
    if (conn == nullptr || floors || !conn->pool->AtFloor()) return conn;
    conn->Link<InIdleOrder>::Unlink();
    state_.idle_order.PushBack(conn);
  }
  return nullptr;
}

Instant Shard::OldestIdle(bool floors) {
  MutexLock lock(&mu_);
  const ConnRecord* conn = OldestIdleLocked(floors);
  return conn == nullptr ? kNever : conn->idle_since;
}

void Shard::ReclaimOldest(bool floors, Instant now) {
  EventScope scope(this, now);
  ConnRecord* conn = OldestIdleLocked(floors);
  if (conn == nullptr) return;
  const Budget::Claim claim =
      shared_->connections.ClaimIdle(conn->pool->AtFloor());
  if (claim == Budget::Claim::kNo) return;
  Target* target = conn->pool->target();
  conn->pool->Close(conn,
                    claim == Budget::Claim::kOverCap ? CloseReason::kShrunk
                                                     : CloseReason::kReclaimed,
                    /*claimed=*/true);
  FinishEventLocked(target, now);
}

// --- Snapshots ---

void Shard::AddTo(const SnapshotRequest& request, Instant now,
                  Snapshot* snapshot) const {
  const auto wanted = [&request](const ConnRecord& conn) {
    return request.target.empty() ||
           conn.pool->target()->name() == request.target;
  };
  const IdCodec ids = [this] {
    MutexLock lock(&mu_);
    return state_.ids;
  }();
  AddTargets(request, now, snapshot);
  if (request.connections) {
    AddRows(&mu_, state_.connections, &snapshot->connections,
            [&](const ConnRecord& conn, std::vector<ConnectionRow>* page) {
              if (!conn.gone && wanted(conn)) {
                page->push_back(RowOf(conn, ids, now));
              }
            });
  }
  if (request.leases) {
    AddRows(&mu_, state_.leases, &snapshot->leases,
            [&](const Lease& lease, std::vector<LeaseRow>* page) {
              if (wanted(*lease.conn)) {
                page->push_back(RowOf(lease, ids, now));
              }
            });
  }
}

void Shard::AddTargets(const SnapshotRequest& request, Instant now,
                       Snapshot* snapshot) const {
  std::vector<TargetRow> page;
  Walk walk;
  {
    MutexLock lock(&mu_);
    AddCounters(evicted_, &snapshot->forgotten);
    if (!request.targets) return;
    if (!request.target.empty()) {
      const auto found = targets_.find(request.target);
      if (found != targets_.end()) {
        snapshot->targets.push_back(RowOf(*found->second, now));
      }
      return;
    }
    walk.next = known_.front();
    walk.end = next_arrival_;
    walks_.push_back(&walk);
  }
  for (bool more = true; more;) {
    page.clear();
    page.reserve(kRowsPerHold);
    {
      MutexLock lock(&mu_);
      while (walk.next != nullptr && walk.next->arrival() < walk.end &&
             page.size() < kRowsPerHold) {
        page.push_back(RowOf(*walk.next, now));
        walk.next = known_.Next(walk.next);
      }
      more = page.size() == kRowsPerHold;
      if (!more) std::erase(walks_, &walk);
    }
    std::move(page.begin(), page.end(), std::back_inserter(snapshot->targets));
  }
  AddCounters(walk.evicted, &snapshot->forgotten);
}

}  // namespace hotline::pool
