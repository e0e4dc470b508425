// What an operator does: pauses and drains targets, replaces and evicts
// connections, ends leases.
#include <algorithm>

#include "pool/hot_path.h"
#include "pool/pool_impl.h"
#include "pool/shard.h"

namespace hotline::pool {

// --- HostPool ---

bool HostPool::Evict(ConnRecord* conn, bool at_once) {
  if (conn->gone || conn->state == ConnState::kDialing ||
      conn->state == ConnState::kClosing) {
    return false;
  }
  if (at_once) {
    Close(conn, CloseReason::kOperator);
  } else if (conn->state != ConnState::kDraining) {
    Drain(conn, CloseReason::kOperator);
  }
  return true;
}

void HostPool::DrainAll(CloseReason reason) {
  ForEachConnection([this, reason](ConnRecord& conn) {
    if (conn.gone) return;
    if (conn.state == ConnState::kReady || conn.state == ConnState::kProbing) {
      Drain(&conn, reason);
    }
  });
}

void HostPool::LeaveUnchecked(ConnRecord* conn, Instant now) {
  const Duration idle_for = target_->health().idle_for();
  Instant due = SaturatingAdd(conn->idle_since, idle_for);
  if (due <= now) due = SaturatingAdd(now, idle_for);
  shard_->FireBy(&conn->timer, std::min(conn->retire_at, due));
}

ConnRecord* HostPool::NextToRenew() const {
  ConnRecord* next = nullptr;
  ForEachConnection([&](ConnRecord& conn) {
    const bool open = !conn.gone && (conn.state == ConnState::kReady ||
                                     conn.state == ConnState::kProbing);
    if (!open || conn.ready_since >= renew_before_) return;
    if (next == nullptr) {
      next = &conn;
      return;
    }
    const bool leased = conn.active > 0;
    const bool next_leased = next->active > 0;
    if (leased != next_leased ? next_leased
                              : conn.ready_since < next->ready_since) {
      next = &conn;
    }
  });
  return next;
}

int HostPool::StartRenewal(Instant now) {
  renew_before_ = now;
  renewed_ = 0;
  int open = 0;
  ForEachConnection([&](ConnRecord& conn) {
    open += !conn.gone &&
            (conn.state == ConnState::kReady ||
             conn.state == ConnState::kProbing) &&
            conn.ready_since < now;
  });
  renewing_ = open > 0;
  return open;
}

bool HostPool::StepRenewal(Instant now) {
  while (renewing_) {
    ConnRecord* const old = NextToRenew();
    if (old == nullptr) {
      renewing_ = renewed_ < 0;  // The last one's successor is missing.
      break;
    }
    if (renewed_ <= 0) {
      // An old one goes first only if that makes the room for its successor.
      const Budget& budget = shard_->shared->connections;
      const bool full = target_->total() >= target_->config().max_connections ||
                        budget.used() >= budget.max();
      const bool under_way = target_->count(ConnState::kDialing) +
                                 target_->count(ConnState::kClosing) +
                                 target_->count(ConnState::kDraining) >
                             0;
      if (!full || under_way || Numbers(now).backing_off) break;
    }
    --renewed_;
    Drain(old, CloseReason::kOperator);
  }
  return renewing_;
}

// --- Target ---

void Target::SetAdmission(Admission admission, Instant now) {
  if (admission == admission_) return;
  admission_ = admission;
  for (const auto& pool : pools_) {
    if (admission == Admission::kDrained) {
      pool->RejectAll(RejectReason::kDrained, now);
      pool->DrainAll(CloseReason::kOperator);
    } else {
      pool->Reconfigure(now);  // The slots that may be lent.
    }
  }
}

int Target::Reconnect(Instant now) {
  int open = 0;
  for (const auto& pool : pools_) open += pool->StartRenewal(now);
  renewing_ = open > 0;
  return open;
}

void Target::StepRenewals(Instant now) {
  renewing_ = false;
  for (const auto& pool : pools_) {
    if (pool->StepRenewal(now)) renewing_ = true;
  }
}

void Target::ForgiveDials(Instant now) {
  OnBreakerStep(health_.Forgive(), now);
  for (const auto& pool : pools_) pool->EndFailures();
}

// --- Shard ---

std::optional<Admission> Shard::SetAdmission(const std::string& name,
                                             Admission admission, Instant now) {
  EventScope scope(this, now);
  if (state_.shutdown) return std::nullopt;
  if (admission == Admission::kOpen && !targets_.contains(name)) {
    return admission;
  }
  Target* const target = FindOrAddTargetLocked(name);
  if (target == nullptr) return std::nullopt;
  const Admission before = target->admission();
  target->SetAdmission(admission, now);
  FinishEventLocked(target, now);
  return before;
}

std::optional<int> Shard::Reconnect(const std::string& name, Instant now) {
  EventScope scope(this, now);
  const auto found = targets_.find(name);
  if (found == targets_.end()) return std::nullopt;
  const int open = found->second->Reconnect(now);
  FinishEventLocked(found->second.get(), now);
  return open;
}

bool Shard::ForgiveDials(const std::string& name, Instant now) {
  EventScope scope(this, now);
  const auto found = targets_.find(name);
  if (found == targets_.end()) return false;
  found->second->ForgiveDials(now);
  FinishEventLocked(found->second.get(), now);
  return true;
}

bool Shard::Evict(ConnId id, bool at_once, Instant now) {
  EventScope scope(this, now);
  ConnRecord* const conn = FindConnectionLocked(id);
  if (conn == nullptr) return false;
  Target* const target = conn->pool->target();
  const bool evicted = conn->pool->Evict(conn, at_once);
  FinishEventLocked(target, now);
  return evicted;
}

LeaseStatus Shard::EndLease(uint64_t row_id, Instant now, LeaseId* lease,
                            CallTag* running) {
  EventScope scope(this, now);
  const Lease* const record =
      state_.leases.Find(state_.ids.Index(row_id), state_.ids.Version(row_id));
  if (record == nullptr) return LeaseStatus::kEnded;
  Grant grant;
  record->conn->pool->FillGrant(*record, &grant);
  *lease = grant.lease;
  Target* target = nullptr;
  const LeaseStatus status = leases_.Reclaim(*lease, now, running, &target);
  if (target != nullptr) FinishEventLocked(target, now);
  return status;
}

// --- Pool ---

std::optional<Admission> Pool::SetAdmission(const std::string& target,
                                            Admission admission, Instant now) {
  const KeyHash hash(target, impl_->shared().seed);
  const auto before = impl_->Of(hash).SetAdmission(target, admission, now);
  impl_->FollowUp(now);
  return before;
}

std::optional<int> Pool::Reconnect(const std::string& target, Instant now) {
  const KeyHash hash(target, impl_->shared().seed);
  const auto open = impl_->Of(hash).Reconnect(target, now);
  impl_->FollowUp(now);
  return open;
}

bool Pool::ForgiveDials(const std::string& target, Instant now) {
  const KeyHash hash(target, impl_->shared().seed);
  const bool known = impl_->Of(hash).ForgiveDials(target, now);
  impl_->FollowUp(now);
  return known;
}

bool Pool::Evict(ConnId conn, bool at_once, Instant now) {
  Shard* const shard = impl_->Of(conn);
  const bool evicted = shard != nullptr && shard->Evict(conn, at_once, now);
  impl_->FollowUp(now);
  return evicted;
}

LeaseStatus Pool::EndLease(uint64_t row_id, Instant now, LeaseId* lease,
                           CallTag* running) {
  *running = 0;
  Shard* const shard = impl_->Of(row_id);
  if (shard == nullptr) return LeaseStatus::kEnded;
  const LeaseStatus status = shard->EndLease(row_id, now, lease, running);
  impl_->FollowUp(now);
  return status;
}

}  // namespace hotline::pool
