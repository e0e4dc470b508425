// What time, the transport and the budgets bring to a shard, and looking at it.
#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

#include "pool/counters.h"
#include "pool/hot_path.h"
#include "pool/shard.h"

namespace hotline::pool {
namespace {

// Connections of a warm floor that a search for an idle one steps over at most.
// They move to the end, so that the next search sees others.
constexpr int kMaxStepsOverFloor = 64;
// Records that are looked at while the lock is held, for a snapshot.
constexpr size_t kRowsPerHold = 64;
constexpr uint32_t kSlotsPerHold = 256;

// Adds rows for the slab's records in use, some slots at a time: a record that
// is there throughout is looked at exactly once, whatever the others do.
// `add(record, page)` is called under the lock.
template <typename T, typename Row, typename Add>
void AddRows(Mutex* mu, const Slab<T>& slab, std::vector<Row>* rows,
             Add add) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  std::vector<Row> page;
  bool more = true;
  for (uint32_t slot = 0; more;) {
    page.clear();
    page.reserve(kSlotsPerHold);
    {
      MutexLock lock(mu);
      const uint32_t end = std::min(slab.slots(), slot + kSlotsPerHold);
      for (; slot < end; ++slot) {
        const T& record = *slab.At(slot);
        if (record.in_use) add(record, &page);
      }
      more = slot < slab.slots();
    }
    std::move(page.begin(), page.end(), std::back_inserter(*rows));
  }
}

}  // namespace

// --- Upkeep ---

void Shard::Warm(const std::string& name, const KeyHash& hash, Instant now) {
  Visit visit(this, now);
  if (state_.shutdown) return;
  Target* target = FindOrAddTargetLocked(name, hash.target);
  if (target == nullptr) return;
  SettleLocked(target, now);
}

PrewarmResult Shard::Prewarm(const HostPoolKey& key, const KeyHash& hash,
                             int connections, int most, Instant now) {
  Visit visit(this, now);
  if (state_.shutdown) return {0, connections};
  HostPool* pool = FindOrAddPoolLocked(key, hash);
  if (pool == nullptr) return {0, connections};
  Target* target = pool->target();
  PrewarmResult result;
  while (result.begun < most && target->DialForNobody(pool, connections, now)) {
    ++result.begun;
  }
  result.missing = std::max(0, connections - pool->standing());
  SettleLocked(target, now);
  return result;
}

int Shard::WarmDeficit(const std::string& name) const {
  MutexLock lock(&mu_);
  const auto found = targets_.find(name);
  return found == targets_.end() ? shared_->target_config(name).warm
                                 : found->second->WarmDeficit();
}

void Shard::Reconfigure(Instant now) {
  Visit visit(this, now);
  for (Target* target = known_.front(); target != nullptr;
       target = known_.Next(target)) {
    const TargetConfig config = shared_->target_config(target->name());
    if (config == target->config()) continue;
    target->Reconfigure(config, now);
    SweepLocked(target, now);
  }
}

void Shard::Shutdown(Instant now) {
  Visit visit(this, now);
  state_.shutdown = true;
  for (Target* target = known_.front(); target != nullptr;
       target = known_.Next(target)) {
    target->Shutdown(now);
    SweepLocked(target, now);
  }
}

void Shard::Tick(Instant now) {
  Visit visit(this, now);
  if (now < state_.announced) {
    // Asked for before the last tick, and told after it. The transport may have
    // taken the two for one: it is asked again.
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
  if (auto* const* conn = std::get_if<Connection*>(&timer->owner)) {
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
    if ((*pool)->BackingOff(now)) (*pool)->WakeBy((*pool)->backoff_until());
    if (target->breaker().state(now) == BreakerState::kOpen) {
      (*pool)->WakeBy(target->breaker().until());
    }
  }
  if (auto* const* owner = std::get_if<Target*>(&timer->owner)) {
    target = *owner;
    target->OnTimer(now);
  }
  if (target != nullptr) SettleLocked(target, now);
}

// --- The transport's events ---

template <typename Event>
void Shard::OnConnection(ConnId id, Instant now, Event&& event) {
  Visit visit(this, now);
  Connection* conn = FindConnectionLocked(id);
  if (conn == nullptr) return;
  HostPool* pool = conn->pool;
  Target* target = pool->target();
  event(*conn, *pool);
  SettleLocked(target, now);
}

void Shard::Dialed(ConnId id, const Established& established, Instant now) {
  OnConnection(id, now, [&](Connection& conn, HostPool& pool) {
    if (conn.state == ConnState::kDialing) {
      pool.Dialed(&conn, established, now);
    }
  });
}

void Shard::DialFailed(ConnId id, const DialError& error,
                       const DialTimings& /*timings*/, Instant now) {
  OnConnection(id, now, [&](Connection& conn, HostPool& pool) {
    if (conn.state != ConnState::kDialing) return;
    pool.target()->OnDialFailed(error, conn.dial_began, now);
    pool.DialFailed(&conn, error, now);
  });
}

void Shard::Closed(ConnId id, CloseReason reason, const DialError* early,
                   Instant now) {
  OnConnection(id, now, [&](Connection& conn, HostPool& pool) {
    pool.Closed(&conn, reason, early, now);
  });
}

void Shard::Served(ConnId id, Instant now) {
  OnConnection(id, now, [](Connection& conn, HostPool& pool) {
    if (conn.state != ConnState::kDialing) pool.Prove(&conn);
  });
}

void Shard::Probed(ConnId id, bool passed, Instant now) {
  OnConnection(id, now, [&](Connection& conn, HostPool& pool) {
    pool.Probed(&conn, passed, now);
  });
}

void Shard::ConcurrencyChanged(ConnId id, int max_streams, Instant now) {
  OnConnection(id, now, [&](Connection& conn, HostPool& pool) {
    pool.ConcurrencyChanged(&conn, max_streams, now);
  });
}

void Shard::GoAway(ConnId id, const DialError* early, Instant now) {
  OnConnection(id, now, [&](Connection& conn, HostPool& pool) {
    pool.GoAway(&conn, early, now);
  });
}

void Shard::KeepAliveSaid(ConnId id, Duration timeout, Instant now) {
  OnConnection(id, now, [&](Connection&, HostPool& pool) {
    pool.target()->OnKeepAliveSaid(timeout, now);
  });
}

void Shard::ErrorCounted(ConnId id, Instant now) {
  OnConnection(id, now, [](Connection& conn, HostPool& pool) {
    pool.ErrorCounted(&conn);
  });
}

// --- Over the budgets ---

void Shard::BudgetGranted(const Budget* budget, Target* target, Instant now) {
  Visit visit(this, now);
  target->BudgetGranted(budget, now);
  SweepLocked(target, now);
}

Connection* Shard::OldestIdleLocked(bool floors) {
  for (int steps = 0; steps < kMaxStepsOverFloor; ++steps) {
    Connection* conn = state_.idle_order.front();
    if (conn == nullptr || floors || !conn->pool->AtFloor()) return conn;
    conn->Link<InIdleOrder>::Unlink();
    state_.idle_order.PushBack(conn);
  }
  return nullptr;
}

Instant Shard::OldestIdle(bool floors) {
  MutexLock lock(&mu_);
  const Connection* conn = OldestIdleLocked(floors);
  return conn == nullptr ? kNever : conn->idle_since;
}

void Shard::ReclaimOldest(bool floors, Instant now) {
  Visit visit(this, now);
  Connection* conn = OldestIdleLocked(floors);
  if (conn == nullptr) return;
  const Budget::Claim claim =
      shared_->connections.ClaimIdle(conn->pool->AtFloor());
  if (claim == Budget::Claim::kNo) return;
  Target* target = conn->pool->target();
  conn->pool->Close(conn,
                    claim == Budget::Claim::kOverCap ? CloseReason::kShrunk
                                                     : CloseReason::kReclaimed,
                    /*claimed=*/true);
  SettleLocked(target, now);
}

// --- Looking ---

void Shard::AddTo(const SnapshotRequest& request, Instant now,
                  Snapshot* snapshot) const {
  const auto wanted = [&request](const Connection& conn) {
    return request.target.empty() ||
           conn.pool->target()->name() == request.target;
  };
  AddTargets(request, now, snapshot);
  if (request.connections) {
    AddRows(&mu_, state_.connections, &snapshot->connections,
            [&](const Connection& conn, std::vector<ConnectionRow>* page) {
              if (!conn.gone && wanted(conn)) {
                page->push_back(conn.pool->target()->RowOf(conn, now));
              }
            });
  }
  if (request.leases) {
    AddRows(&mu_, state_.leases, &snapshot->leases,
            [&](const Lease& lease, std::vector<LeaseRow>* page) {
              if (wanted(*lease.conn)) {
                page->push_back(lease.conn->pool->target()->RowOf(lease, now));
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
    AddCounters(forgotten_, &snapshot->forgotten);
    if (!request.targets) return;
    if (!request.target.empty()) {
      const auto found = targets_.find(request.target);
      if (found != targets_.end()) {
        snapshot->targets.push_back(found->second->Row(now));
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
        page.push_back(walk.next->Row(now));
        walk.next = known_.Next(walk.next);
      }
      more = page.size() == kRowsPerHold;
      if (!more) std::erase(walks_, &walk);
    }
    std::move(page.begin(), page.end(), std::back_inserter(snapshot->targets));
  }
  AddCounters(walk.forgotten, &snapshot->forgotten);
}

}  // namespace hotline::pool
