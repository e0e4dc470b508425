#include "pool/shard.h"

#include <utility>

#include "pool/counters.h"
#include "pool/hot_path.h"

namespace hotline::pool {

Shard::Shard(PoolShared* shared, int index)
    : shared_(shared), index_(index), state_(shared, index), leases_(&state_) {}

Shard::~Shard() {
  // Targets unlink their records from lists in state_, so they are destroyed
  // first.
  MutexLock lock(&mu_);
  pools_.clear();
  for (auto& [name, target] : targets_) {
    target->Link<InEmpty>::Unlink();
    target->Link<InKnown>::Unlink();
  }
  targets_.clear();
}

// --- Draining ---

Shard::EventScope::EventScope(Shard* shard, Instant now)
    : shard_(shard), now_(now) {
  shard_->mu_.Lock();
}

Shard::EventScope::~EventScope() {
  const bool drain =
      (!shard_->state_.outbox.empty() || shard_->undone_) && !shard_->draining_;
  if (drain) shard_->draining_ = true;
  shard_->mu_.Unlock();
  if (drain) shard_->Drain(now_);
}

void Shard::Drain(Instant now) {
  int left = shared_->effects_per_turn;
  bool more = true;
  while (more) {
    {
      MutexLock lock(&mu_);
      if (!NextBatchLocked(left > 0)) {
        more = undone_ || !state_.outbox.empty();
        break;
      }
    }
    for (; left > 0 && done_ < batch_.size(); --left) {
      Perform(batch_[done_++]);
    }
    if (done_ < batch_.size()) continue;
    batch_.clear();
    done_ = 0;
  }
  if (more) shared_->transport->WakeAt(index_, now);
}

bool Shard::NextBatchLocked(bool may_go_on) {
  const bool some_left = done_ < batch_.size();
  if (may_go_on && (some_left || !state_.outbox.empty())) {
    if (!some_left) std::swap(batch_, state_.outbox);
    return true;
  }
  undone_ = some_left;
  draining_ = false;
  return false;
}

void Shard::Perform(Effect& effect) {
  struct Performer {
    PoolShared* shared;
    int shard;
    void operator()(DialEffect& e) {
      if (shared->on_event) {
        shared->on_event({.key = e.key, .conn = e.conn});  // kDialing.
      }
      shared->transport->Dial(e.conn, std::move(e.key), e.loop);
    }
    void operator()(ProbeEffect& e) {
      shared->transport->Probe(e.conn, std::move(e.key));
    }
    void operator()(CloseEffect& e) {
      shared->transport->Close(e.conn, e.reason);
    }
    void operator()(WakeEffect& e) { shared->transport->WakeAt(shard, e.when); }
    void operator()(GrantEffect& e) { e.waiter->OnGrant(e.grant); }
    void operator()(RejectEffect& e) {
      e.waiter->OnReject(std::move(*e.rejection));
    }
    void operator()(PoolEvent& e) { shared->on_event(e); }
  };
  std::visit(Performer{shared_, index_}, effect);
}

// --- Finding ---

HostPool* Shard::FindPoolLocked(const HostPoolKey& key, uint64_t hash) const {
  HostPool*& recent = recent_[RecentIndex(hash)];
  if (recent != nullptr && recent->Is(key, hash)) [[likely]]
    return recent;
  const auto found = pools_.find(PoolRef{key, hash});
  if (found == pools_.end()) return nullptr;
  recent = *found;
  return *found;
}

void Shard::RemovePoolLocked(HostPool* pool) {
  HostPool*& recent = recent_[RecentIndex(pool->hash())];
  if (recent == pool) recent = nullptr;
  pools_.erase(pool);
}

HostPool* Shard::FindOrAddPoolLocked(const HostPoolKey& key,
                                     const KeyHash& hash) {
  if (HostPool* pool = FindPoolLocked(key, hash.pool)) return pool;
  Target* target = FindOrAddTargetLocked(key.target);
  if (target == nullptr) return nullptr;
  // A new target has its default HostPool already, which may be this one.
  if (HostPool* pool = FindPoolLocked(key, hash.pool)) return pool;
  return AddPoolLocked(target, key, hash.pool);
}

HostPool* Shard::AddPoolLocked(Target* target, HostPoolKey key, uint64_t hash) {
  HostPool* pool = target->AddPool(
      std::make_shared<const HostPoolKey>(std::move(key)), hash);
  pools_.insert(pool);
  return pool;
}

Target* Shard::FindOrAddTargetLocked(const std::string& name) {
  const auto found = targets_.find(name);
  if (found != targets_.end()) return found->second.get();
  while (shared_->targets.fetch_add(1, std::memory_order_relaxed) >=
         shared_->max_targets.load(std::memory_order_relaxed)) {
    shared_->targets.fetch_sub(1, std::memory_order_relaxed);
    if (!EvictOneLocked()) return nullptr;
  }
  auto target = std::make_unique<Target>(&state_, name, next_arrival_++,
                                         shared_->target_config(name));
  Target* const raw = target.get();
  targets_.emplace(name, std::move(target));
  known_.PushBack(raw);
  const HostPoolKey key{name, {}, raw->config().default_mode};
  AddPoolLocked(raw, key, KeyHash(key, shared_->seed).pool);
  return raw;
}

ConnRecord* Shard::FindConnectionLocked(ConnId id) const {
  return state_.connections.Find(state_.ids.Index(id), state_.ids.Version(id));
}

bool Shard::EvictOne() {
  MutexLock lock(&mu_);
  return EvictOneLocked();
}

bool Shard::EvictOneLocked() {
  Target* target = empty_.front();
  if (target == nullptr) return false;
  for (Walk* walk : walks_) {
    if (walk->next == nullptr) continue;
    const bool to_come = target->arrival() >= walk->next->arrival() &&
                         target->arrival() < walk->end;
    if (to_come) AddCounters(target->counters(), &walk->evicted);
    if (walk->next == target) walk->next = known_.Next(target);
  }
  target->Link<InEmpty>::Unlink();
  target->Link<InKnown>::Unlink();
  AddCounters(target->counters(), &evicted_);
  for (const auto& pool : target->pools()) RemovePoolLocked(pool.get());
  targets_.erase(target->name());
  shared_->targets.fetch_sub(1, std::memory_order_relaxed);
  return true;
}

void Shard::CountRejected(RejectReason reason) {
  MutexLock lock(&mu_);
  ++evicted_.rejected[static_cast<int>(reason)];
}

// Ends an event: dials, rejects hopeless waiters, and removes what is not
// needed any more.
void Shard::FinishEventLocked(Target* target, Instant now) {
  target->Settle(now);
  target->RejectBarred(now);
  SweepLocked(target, now);
}

void Shard::SweepLocked(Target* target, Instant now) {
  for (size_t i = 0; i < target->pools().size();) {
    HostPool* pool = target->pools()[i].get();
    if (pool->Removable(now)) {
      RemovePoolLocked(pool);
      target->RemovePool(pool);
    } else {
      ++i;
    }
  }
  const bool listed = target->Link<InEmpty>::linked();
  if (target->Empty() == listed) return;
  if (listed) {
    target->Link<InEmpty>::Unlink();
  } else {
    empty_.PushBack(target);
  }
}

// --- Borrowing ---

inline bool Shard::LendLocked(HostPool* pool, const AcquireRequest& request,
                              Instant now, AcquireResult* result) {
  if (pool == nullptr || !request.request_id.empty() || state_.shutdown)
      [[unlikely]]
    return false;
  Home* const home = pool->HomeOf(request.loop);
  ConnRecord* conn =
      pool->FindLendable(request.reuse == Reuse::kForceNew, home, now);
  if (conn == nullptr || pool->target()->needs_settling() ||
      pool->WantsOwn(*conn, home)) [[unlikely]]
    return false;
  pool->target()->LendNow(pool, conn, request, now, result);
  return true;
}

bool Shard::Acquire(const AcquireRequest& request, const KeyHash& hash,
                    Instant now, AcquireResult* result) {
  EventScope scope(this, now);
  HostPool* pool = FindPoolLocked(*request.key, hash.pool);
  if (LendLocked(pool, request, now, result)) [[likely]]
    return state_.outbox.empty();
  AcquireLocked(pool, request, hash, now, result);
  return false;
}

bool Shard::AcquireIdle(const AcquireRequest& request, const KeyHash& hash,
                        Instant now, AcquireResult* result) {
  EventScope scope(this, now);
  return LendLocked(FindPoolLocked(*request.key, hash.pool), request, now,
                    result);
}

void Shard::AcquireLocked(HostPool* pool, const AcquireRequest& request,
                          const KeyHash& hash, Instant now,
                          AcquireResult* result) {
  if (pool == nullptr && !state_.shutdown) {
    pool = FindOrAddPoolLocked(*request.key, hash);
  }
  if (pool == nullptr) {
    result->rejection = std::make_unique<Rejection>();
    result->rejection->reason = state_.shutdown ? RejectReason::kShutdown
                                                : RejectReason::kTooManyTargets;
    result->rejection->retry_after = std::chrono::seconds(1);
    if (state_.shutdown) {
      ++evicted_.rejected[static_cast<int>(RejectReason::kShutdown)];
    }
    return;
  }
  Target* target = pool->target();
  if (state_.shutdown) {
    result->rejection =
        target->Explain(RejectReason::kShutdown, *pool, nullptr, now);
    return;
  }
  target->Acquire(pool, request, now, result);
  if (result->kind == AcquireResult::kQueued) {
    SweepLocked(target, now);  // Settled already; no longer empty.
  } else {
    FinishEventLocked(target, now);
  }
}

LeaseStatus Shard::Release(const LeaseId& id, Outcome outcome, Instant now,
                           CallTag* running, bool* follow_up) {
  EventScope scope(this, now);
  Target* target = nullptr;
  const LeaseStatus status =
      leases_.Release(id, outcome, now, running, &target);
  *follow_up = target != nullptr || !state_.outbox.empty();
  if (target != nullptr) FinishEventLocked(target, now);
  return status;
}

LeaseStatus Shard::ReleaseNamed(const std::string& target,
                                std::string_view request_id, Outcome outcome,
                                Instant now, LeaseId* lease, CallTag* running) {
  EventScope scope(this, now);
  const auto found = targets_.find(target);
  if (found == targets_.end()) return LeaseStatus::kEnded;
  Target* const owner = found->second.get();
  Target* unused = nullptr;  // `owner` is settled in any case.
  LeaseStatus status = LeaseStatus::kOk;
  if (owner->FindNamed(request_id, lease)) {
    status = leases_.Release(*lease, outcome, now, running, &unused);
  } else if (!owner->RejectNamed(request_id, now)) {
    status = LeaseStatus::kEnded;
  }
  FinishEventLocked(owner, now);
  return status;
}

LeaseStatus Shard::Reclaim(const LeaseId& id, Instant now, CallTag* running) {
  EventScope scope(this, now);
  Target* target = nullptr;
  const LeaseStatus status = leases_.Reclaim(id, now, running, &target);
  if (target != nullptr) FinishEventLocked(target, now);
  return status;
}

bool Shard::ReleaseIfUnused(const LeaseId& id, Instant now) {
  EventScope scope(this, now);
  Target* target = nullptr;
  const bool released = leases_.ReleaseIfUnused(id, now, &target);
  if (target != nullptr) FinishEventLocked(target, now);
  return released;
}

LeaseStatus Shard::StatusOf(const LeaseId& id, Instant now) {
  EventScope scope(this, now);
  Target* target = nullptr;
  const LeaseStatus status = leases_.StatusOf(id, now, &target);
  if (target != nullptr) FinishEventLocked(target, now);
  return status;
}

bool Shard::Cancel(WaiterId id, Instant now) {
  EventScope scope(this, now);
  Waiting* waiting =
      state_.waiting.Find(state_.ids.Index(id), state_.ids.Version(id));
  if (waiting == nullptr) return false;
  Target* target = waiting->pool->target();
  ++target->counters().cancelled;
  waiting->pool->Leave(waiting);
  FinishEventLocked(target, now);
  return true;
}

CallStart Shard::BeginCall(const LeaseId& id, CallTag call, Instant now) {
  EventScope scope(this, now);
  Target* target = nullptr;
  CallStart start = leases_.BeginCall(id, call, now, &target);
  if (target != nullptr) FinishEventLocked(target, now);
  return start;
}

void Shard::EndCall(const LeaseId& id, Instant now) {
  EventScope scope(this, now);
  Target* target = nullptr;
  leases_.EndCall(id, now, &target);
  if (target != nullptr) FinishEventLocked(target, now);
}

RenewResult Shard::Renew(const LeaseId& id, Duration ttl, Instant now) {
  EventScope scope(this, now);
  Target* target = nullptr;
  const RenewResult result = leases_.Renew(id, ttl, now, &target);
  if (target != nullptr) FinishEventLocked(target, now);
  return result;
}

}  // namespace hotline::pool
