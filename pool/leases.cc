#include "pool/leases.h"

#include <algorithm>
#include <cassert>

#include "pool/host_pool.h"
#include "pool/hot_path.h"
#include "pool/target.h"

namespace hotline::pool {

void Leases::ReleaseBusy(Lease* lease, Outcome outcome, CallTag* running) {
  if (running != nullptr) *running = lease->call;
  HostPool* pool = lease->conn->pool;
  lease->released = true;
  if (lease->named != nullptr) {
    pool->target()->EraseNamed(lease->named);
    lease->named = nullptr;
  }
  if (outcome != Outcome::kOk) pool->ApplyOutcome(lease->conn, outcome);
}

LeaseStatus Leases::Reclaim(const LeaseId& id, Instant now, CallTag* running,
                            Target** target) {
  Lease* lease = nullptr;
  const LeaseStatus status = FindCurrent(id, now, &lease, target);
  if (status != LeaseStatus::kOk) return status;
  HostPool* pool = lease->conn->pool;
  *target = pool->target();
  ++pool->target()->counters().leases_reclaimed;
  pool->Report(PoolEvent::Kind::kLeaseReclaimed, *lease, now);
  if (lease->busy()) {
    // On a multiplexed connection the other streams stay; the caller resets the
    // stream of this call.
    ReleaseBusy(lease,
                lease->conn->multiplexed ? Outcome::kOk : Outcome::kDiscard,
                running);
  } else {
    pool->EndLease(lease, Outcome::kOk, now);
  }
  return LeaseStatus::kOk;
}

bool Leases::ReleaseIfUnused(const LeaseId& id, Instant now, Target** target) {
  Lease* lease = nullptr;
  if (FindCurrent(id, now, &lease, target) != LeaseStatus::kOk || lease->used) {
    return false;
  }
  HostPool* pool = lease->conn->pool;
  *target = pool->target();
  ++pool->target()->counters().leases_reclaimed;
  pool->Report(PoolEvent::Kind::kLeaseReclaimed, *lease, now);
  pool->EndLease(lease, Outcome::kOk, now);
  return true;
}

LeaseStatus Leases::StatusOf(const LeaseId& id, Instant now, Target** target) {
  Lease* lease = nullptr;
  return FindCurrent(id, now, &lease, target);
}

CallStart Leases::BeginCall(const LeaseId& id, CallTag call, Instant now,
                            Target** target) {
  assert(call != 0);
  CallStart start;
  Lease* lease = nullptr;
  start.status = FindCurrent(id, now, &lease, target);
  if (start.status != LeaseStatus::kOk) return start;
  if (lease->busy()) {
    start.status = LeaseStatus::kBusy;
    return start;
  }
  lease->call = call;
  lease->used = true;
  if (lease->has_end) lease->left = lease->expires - now;
  lease->expires = kNever;
  const ConnRecord& conn = *lease->conn;
  start.conn = shard_->ids.Encode(conn);
  start.uses = lease->uses_before;
  start.ready_since = conn.ready_since;
  start.key = conn.pool->shared_key();
  return start;
}

void Leases::EndCall(const LeaseId& id, Instant now, Target** target) {
  Lease* lease = nullptr;
  if (Find(id, &lease) != LeaseStatus::kOk || !lease->busy()) return;
  lease->call = 0;
  HostPool* pool = lease->conn->pool;
  if (lease->released) {
    pool->EndLease(lease, Outcome::kOk, now);
    if (pool->target()->needs_settling()) *target = pool->target();
    return;
  }
  if (!lease->has_end) return;
  lease->expires = SaturatingAdd(now, lease->left);
  SetTimer(lease);
}

RenewResult Leases::Renew(const LeaseId& id, Duration ttl, Instant now,
                          Target** target) {
  RenewResult result;
  Lease* lease = nullptr;
  result.status = FindCurrent(id, now, &lease, target);
  if (result.status != LeaseStatus::kOk) return result;
  lease->used = true;
  const Instant end = SaturatingAdd(now, ttl);
  if (!lease->has_end) {
    lease->has_end = true;
    const Duration leak_after(
        shard_->shared->leak_after.load(std::memory_order_relaxed));
    lease->leak_at = SaturatingAdd(lease->granted, leak_after);
  }
  if (lease->busy()) {
    lease->left = ttl;
  } else {
    lease->expires = end;
  }
  SetTimer(lease);
  result.expires = end;
  return result;
}

void Leases::SetTimer(Lease* lease) {
  shard_->FireBy(&lease->timer, std::min(lease->expires, lease->leak_at));
}

void Leases::Expire(Lease* lease, Instant now, Target** target) {
  HostPool* pool = lease->conn->pool;
  pool->Expire(lease, now);
  *target = pool->target();
}

void Leases::OnTimer(Lease* lease, Instant now, Target** target) {
  // The timer may have been set for an earlier lease in this record.
  if (!lease->in_use) return;
  if (now >= lease->leak_at) {
    lease->leak_at = kNever;
    HostPool* pool = lease->conn->pool;
    ++pool->target()->counters().leases_leaked;
    pool->Report(PoolEvent::Kind::kLeaseLeaked, *lease, now);
  }
  if (now >= lease->expires) {
    Expire(lease, now, target);
  } else {
    SetTimer(lease);
  }
}

}  // namespace hotline::pool
