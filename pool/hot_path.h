// The hot path: the functions of HostPool, Target and Leases that an Acquire
// and a Release execute when a connection is idle and no caller waits. All
// other functions of these classes are in their .cc files.
//
// They are inline, in a header of their own, because every request executes
// them under the shard's lock: as ordinary functions they cost 5 ns more of the
// 80 ns that a pair of Acquire and Release takes (P1 in bench/pool_bench.cc).
//
// Thread safety: none; guarded by the shard's mutex.
//
// Invariants:
//   1. Neither a grant from an idle connection nor a release for which no
//      caller waits appends to the outbox or allocates memory.
//   2. No timer is touched unless it has to fire earlier than it is set for.
#ifndef HOTLINE_POOL_HOT_PATH_H_
#define HOTLINE_POOL_HOT_PATH_H_

#include <algorithm>
#include <cassert>
#include <cstdint>

#include "pool/host_pool.h"
#include "pool/leases.h"
#include "pool/records.h"
#include "pool/shard_state.h"
#include "pool/target.h"
#include "pool/transport.h"

namespace hotline::pool {

// --- Lending ---

template <typename Tag>
inline ConnRecord* HostPool::FindIn(Lendable<Tag>* lists, bool new_only,
                                    Instant now) {
  if (!new_only) {
    if (ConnRecord* conn = lists->partial.front()) return conn;
    ConnRecord* conn = lists->idle.front();
    if (conn != nullptr) {
      if (now < conn->lend_until) [[likely]]
        return conn;
      if ((conn = FirstUsable(&lists->idle, now)) != nullptr) return conn;
    }
  }
  return FirstUsable(&lists->fresh, now);
}

inline ConnRecord* HostPool::FindLendable(bool new_only, Home* home,
                                          Instant now) {
  if (home != nullptr) {
    if (ConnRecord* conn = FindAtHome(home, new_only, now)) return conn;
  }
  return FindIn(&lendable_, new_only, now);
}

inline bool HostPool::WantsOwn(const ConnRecord& conn, const Home* home) const {
  if (home == nullptr || home == conn.home) [[likely]]
    return false;
  return conn.multiplexed && home->connections == 0 && target_->HasDialRoom();
}

inline Lease* HostPool::Lend(ConnRecord* conn, Duration ttl, uint64_t secret,
                             uint64_t owner, Home* home, Instant now) {
  assert(conn->state == ConnState::kReady && conn->active < conn->limit);
  Lease* lease = shard_->leases.Allocate();
  lease->conn = conn;
  lease->callers_home = nullptr;
  if (home != nullptr && home != conn->home) [[unlikely]]
    BeginCrossLoop(lease, home);
  lease->secret = secret;
  lease->owner = owner;
  lease->granted = now;
  lease->call = 0;
  lease->released = false;
  lease->used = false;
  lease->uses_before = conn->uses;
  lease->has_end = ttl > Duration(0);
  lease->expires = lease->leak_at = kNever;
  if (lease->has_end) {
    lease->expires = SaturatingAdd(now, ttl);
    lease->leak_at = SaturatingAdd(
        now,
        Duration(shard_->shared->leak_after.load(std::memory_order_relaxed)));
    shard_->FireBy(&lease->timer, std::min(lease->expires, lease->leak_at));
  }
  ++conn->uses;
  ++conn->active;
  Place(conn);
  target_->OnLent(lease);
  return lease;
}

inline void HostPool::FillGrant(const Lease& lease, Grant* grant) const {
  const ConnRecord& conn = *lease.conn;
  grant->lease.instance = shard_->shared->instance;
  grant->lease.shard = static_cast<uint16_t>(shard_->index);
  grant->lease.slot = lease.index;
  grant->lease.version = static_cast<uint32_t>(lease.version);
  grant->lease.secret = lease.secret;
  grant->lease.owner = lease.owner;
  grant->conn = shard_->ids.Encode(conn);
  grant->reused = lease.uses_before > 0;
  grant->uses = lease.uses_before;
  grant->ready_since = conn.ready_since;
  grant->expires = lease.expires;
}

inline Lease* Target::LendNow(HostPool* pool, ConnRecord* conn,
                              const AcquireRequest& request, Instant now,
                              AcquireResult* result) {
  Lease* lease = pool->Lend(conn, request.lease_ttl, request.secret,
                            request.owner, pool->HomeOf(request.loop), now);
  if (request.holder != nullptr) lease->holder = request.holder;
  counters_.wait.Record(Duration(0));
  result->kind = AcquireResult::kGranted;
  pool->FillGrant(*lease, &result->grant);
  return lease;
}

// --- Lists ---

inline void HostPool::Place(ConnRecord* conn, bool last) {
  conn->Link<InPool>::Unlink();
  const bool ready = conn->state == ConnState::kReady && !conn->gone;
  const bool idle = ready && conn->active == 0;
  ConnectionList* list = &unlendable_;
  if (ready && conn->active < conn->limit) {
    list = !idle            ? &lendable_.partial
           : conn->uses > 0 ? &lendable_.idle
                            : &lendable_.fresh;
  }
  if (last) {
    list->PushBack(conn);
  } else {
    list->PushFront(conn);
  }
  if (conn->home != nullptr) PlaceAtHome(conn, last);
  const bool was_idle = conn->Link<InIdleOrder>::linked();
  conn->Link<InIdleOrder>::Unlink();
  if (idle) {
    if (last) {
      shard_->idle_order.PushFront(conn);
    } else {
      shard_->idle_order.PushBack(conn);
    }
  }
  target_->OnIdle(static_cast<int>(idle) - static_cast<int>(was_idle));
}

// --- Taking back ---

inline void Target::OnEnded(Lease* lease, Instant now) {
  counters_.lease.Record(std::max(Duration(0), now - lease->granted));
  --lease_count_;
  lease->Link<InTarget>::Unlink();
  if (lease->named != nullptr) [[unlikely]] {
    EraseNamed(lease->named);
    lease->named = nullptr;
  }
  if (lease->holder != nullptr) lease->holder = nullptr;
  shard_->leases.Free(lease);
}

inline void HostPool::EndLease(Lease* lease, Outcome outcome, Instant now) {
  ConnRecord* conn = lease->conn;
  if (lease->callers_home != nullptr) [[unlikely]]
    EndCrossLoop(*lease);
  target_->OnEnded(lease, now);
  --conn->active;
  if (conn->gone) [[unlikely]] {
    if (conn->active == 0) Free(conn);
    return;
  }
  if (outcome != Outcome::kOk) [[unlikely]]
    ApplyOutcome(conn, outcome);
  SlotReturned(conn, now);
}

// A lease on the connection has ended.
inline void HostPool::SlotReturned(ConnRecord* conn, Instant now) {
  if (conn->state == ConnState::kReady) [[likely]] {
    if (conn->active > 0) {
      Place(conn);
    } else {
      conn->idle_since = now;
      MarkUsed(conn, now);
      Place(conn);
      if (!has_waiters() && !target_->OverLimit()) [[likely]] {
        BecomeIdle(conn, now);
        return;
      }
    }
    Offer(conn, now);
  } else if (conn->state == ConnState::kDraining && conn->active == 0) {
    Close(conn, conn->reason);
  }
}

// Lends its free slots to the waiters; if none takes one, it becomes idle.
inline void HostPool::Offer(ConnRecord* conn, Instant now) {
  if (conn->active == 0 && target_->OverLimit()) [[unlikely]] {
    Close(conn, CloseReason::kShrunk);
    return;
  }
  if (has_waiters()) Serve(now);
  if (IsIdle(*conn)) BecomeIdle(conn, now);
}

inline void HostPool::BecomeIdle(ConnRecord* conn, Instant now) {
  if (shard_->shared->connections.pressure() > 0) [[unlikely]] {
    if (CloseForBudget(conn)) return;
  }
  SetTimer(conn, now);
}

inline void HostPool::MarkUsed(ConnRecord* conn, Instant now) {
  conn->checked_at = now;
  conn->lend_until = std::min(conn->retire_at,
                              SaturatingAdd(now, target_->health().lend_for()));
}

inline void HostPool::SetTimer(ConnRecord* conn, Instant now) {
  const TargetHealth& health = target_->health();
  Instant due = conn->retire_at;
  if (IsIdle(*conn)) {
    Instant idle = SaturatingAdd(conn->idle_since, health.idle_for());
    // The warm floor keeps it, or it was checked meanwhile: try again later.
    if (idle <= now) idle = SaturatingAdd(now, health.idle_for());
    due = std::min(conn->lend_until, idle);
  } else if (conn->state == ConnState::kReady) {
    // Early enough, whenever it becomes idle.
    due = std::min(due, SaturatingAdd(now, std::min(health.idle_for(),
                                                    health.lend_for())));
  } else if (conn->state == ConnState::kProbing) {
    due = std::min(due, conn->recheck_at);
  }
  if (conn->on_probation) [[unlikely]]
    due = std::min(due, conn->ready_since + kProbation);
  shard_->FireBy(&conn->timer, due);
}

// --- Finding leases ---

inline LeaseStatus Leases::Find(const LeaseId& id, Lease** lease) const {
  Lease* record = shard_->leases.At(id.slot);
  if (record == nullptr || id.version == 0) return LeaseStatus::kUnknown;
  // Versions wrap around: a version is older if it is less than half behind.
  const auto ahead =
      static_cast<int32_t>(id.version - static_cast<uint32_t>(record->version));
  if (ahead < 0) return LeaseStatus::kEnded;
  if (ahead > 0 || !record->in_use || record->secret != id.secret) {
    return LeaseStatus::kUnknown;
  }
  if (record->owner != id.owner) return LeaseStatus::kNotYours;
  *lease = record;
  return LeaseStatus::kOk;
}

inline LeaseStatus Leases::FindCurrent(const LeaseId& id, Instant now,
                                       Lease** lease, Target** target) {
  const LeaseStatus status = Find(id, lease);
  if (status != LeaseStatus::kOk) return status;
  if ((*lease)->released) return LeaseStatus::kEnded;
  if (now < (*lease)->expires) [[likely]]
    return LeaseStatus::kOk;
  Expire(*lease, now, target);
  return LeaseStatus::kEnded;
}

inline LeaseStatus Leases::Release(const LeaseId& id, Outcome outcome,
                                   Instant now, CallTag* running,
                                   Target** target) {
  Lease* lease = nullptr;
  const LeaseStatus status = FindCurrent(id, now, &lease, target);
  if (status != LeaseStatus::kOk) return status;
  HostPool* pool = lease->conn->pool;
  if (lease->busy()) [[unlikely]] {
    ReleaseBusy(lease, outcome, running);
  } else {
    pool->EndLease(lease, outcome, now);
  }
  if (pool->target()->needs_settling()) *target = pool->target();
  return LeaseStatus::kOk;
}

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_HOT_PATH_H_
