// What Acquire and Release do when a connection is idle and all is well: twice
// for each request, so inline. The rest of the same classes is in their .cc
// files.
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

inline Connection* HostPool::FindLendable(bool new_only, Instant now) {
  if (!new_only) {
    if (Connection* conn = partial_.front()) return conn;
    Connection* conn = idle_.front();
    if (conn != nullptr) {
      if (now < conn->lend_until) [[likely]]
        return conn;
      if ((conn = FirstFit(&idle_, now)) != nullptr) return conn;
    }
  }
  return FirstFit(&fresh_, now);
}

inline Lease* HostPool::Lend(Connection* conn, Duration ttl, uint64_t secret,
                             uint64_t owner, Instant now) {
  assert(conn->state == ConnState::kReady && conn->active < conn->limit);
  Lease* lease = shard_->leases.Allocate();
  lease->conn = conn;
  lease->secret = secret;
  lease->owner = owner;
  lease->granted = now;
  lease->busy = false;
  lease->released = false;
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
  const Connection& conn = *lease.conn;
  grant->lease.instance = shard_->shared->instance;
  grant->lease.shard = static_cast<uint16_t>(shard_->index);
  grant->lease.slot = lease.slot;
  grant->lease.version = static_cast<uint32_t>(lease.version);
  grant->lease.secret = lease.secret;
  grant->lease.owner = lease.owner;
  grant->conn = shard_->ids.Encode(conn);
  grant->handle = conn.handle;
  grant->reused = lease.uses_before > 0;
  grant->uses = lease.uses_before;
  grant->ready_since = conn.ready_since;
  grant->expires = lease.expires;
}

inline Lease* Target::LendNow(HostPool* pool, Connection* conn,
                              const AcquireRequest& request, Instant now,
                              AcquireResult* result) {
  Lease* lease =
      pool->Lend(conn, request.lease_ttl, request.secret, request.owner, now);
  if (request.holder != nullptr) lease->holder = request.holder;
  counters_.wait.Record(Duration(0));
  result->kind = AcquireResult::kGranted;
  pool->FillGrant(*lease, &result->grant);
  return lease;
}

// --- Lists ---

inline void HostPool::Place(Connection* conn, bool last) {
  conn->Link<InPool>::Unlink();
  const bool ready = conn->state == ConnState::kReady && !conn->gone;
  const bool idle = ready && conn->active == 0;
  ConnectionList* list = &rest_;
  if (ready && conn->active < conn->limit) {
    list = !idle ? &partial_ : conn->uses > 0 ? &idle_ : &fresh_;
  }
  if (last) {
    list->PushBack(conn);
  } else {
    list->PushFront(conn);
  }
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
  if (lease->request != nullptr) [[unlikely]] {
    ForgetRequest(lease->request);
    lease->request = nullptr;
  }
  if (lease->holder != nullptr) lease->holder = nullptr;
  shard_->leases.Free(lease);
}

inline void HostPool::EndLease(Lease* lease, Outcome outcome, Instant now) {
  Connection* conn = lease->conn;
  target_->OnEnded(lease, now);
  --conn->active;
  if (conn->gone) [[unlikely]] {
    if (conn->active == 0) Free(conn);
    return;
  }
  if (outcome != Outcome::kOk) [[unlikely]]
    Judge(conn, outcome);
  Back(conn, now);
}

// A slot came free, or a connection became Ready.
inline void HostPool::Back(Connection* conn, Instant now) {
  if (conn->state == ConnState::kReady) [[likely]] {
    if (conn->active > 0) {
      Place(conn);
    } else {
      conn->idle_since = now;
      UseChecked(conn, now);
      Place(conn);
      if (!has_waiters() && !target_->OverLimit()) [[likely]] {
        Rest(conn, now);
        return;
      }
    }
    Offer(conn, now);
  } else if (conn->state == ConnState::kDraining && conn->active == 0) {
    Close(conn, conn->reason);
  }
}

// To the waiters; if nobody takes it, it rests.
inline void HostPool::Offer(Connection* conn, Instant now) {
  if (conn->active == 0 && target_->OverLimit()) [[unlikely]] {
    Close(conn, CloseReason::kShrunk);
    return;
  }
  if (has_waiters()) Serve(now);
  if (IsIdle(*conn)) Rest(conn, now);
}

inline void HostPool::Rest(Connection* conn, Instant now) {
  if (shard_->shared->connections.pressure() > 0) [[unlikely]] {
    if (GiveUp(conn)) return;
  }
  SetTimer(conn, now);
}

// It was found fit at `checked_at`.
inline void HostPool::UseChecked(Connection* conn, Instant checked_at) {
  conn->checked_at = checked_at;
  conn->lend_until =
      std::min(conn->retire_at, SaturatingAdd(checked_at, target_->lend_for()));
}

inline void HostPool::SetTimer(Connection* conn, Instant now) {
  Instant due = conn->retire_at;
  if (IsIdle(*conn)) {
    Instant idle = SaturatingAdd(conn->idle_since, target_->rest_for());
    // Kept by the warm floor, or checked meanwhile: look again later.
    if (idle <= now) idle = SaturatingAdd(now, target_->rest_for());
    due = std::min(conn->lend_until, idle);
  } else if (conn->state == ConnState::kReady) {
    // Soon enough for whenever it comes back.
    due = std::min(due, SaturatingAdd(now, std::min(target_->rest_for(),
                                                    target_->lend_for())));
  } else if (conn->state == ConnState::kProbing) {
    due = std::min(due, conn->recheck_at);
  }
  if (conn->unproven) [[unlikely]]
    due = std::min(due, conn->ready_since + kProbation);
  shard_->FireBy(&conn->timer, due);
}

// --- Finding leases ---

inline LeaseStatus Leases::Find(const LeaseId& id, Lease** lease) const {
  Lease* record = shard_->leases.At(id.slot);
  if (record == nullptr || id.version == 0) return LeaseStatus::kUnknown;
  // Versions wrap around: older means behind by less than half of them.
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

inline LeaseStatus Leases::FindLive(const LeaseId& id, Instant now,
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
                                   Instant now, Target** target) {
  Lease* lease = nullptr;
  const LeaseStatus status = FindLive(id, now, &lease, target);
  if (status != LeaseStatus::kOk) return status;
  HostPool* pool = lease->conn->pool;
  if (lease->busy) {
    ReleaseBusy(lease, outcome);
  } else {
    pool->EndLease(lease, outcome, now);
  }
  if (pool->target()->unsettled()) *target = pool->target();
  return LeaseStatus::kOk;
}

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_HOT_PATH_H_
