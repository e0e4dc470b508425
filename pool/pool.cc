#include "pool/pool.h"

#include <algorithm>
#include <utility>

#include "pool/pool_impl.h"

namespace hotline::pool {

namespace {

PoolConfig Checked(PoolConfig config) {
  config.shards = std::clamp(config.shards, 1, 65536);
  config.loops = std::clamp<int>(config.loops, 1, kNoLoop);
  // A tick that continues a drain adds an effect itself, the next WakeAt.
  config.effects_per_turn = std::max(config.effects_per_turn, 2);
  return config;
}

}  // namespace

Pool::Pool(const PoolConfig& config, TargetConfigFn target_config,
           Transport* transport, EventFn on_event)
    : impl_(std::make_unique<Impl>(Checked(config), std::move(target_config),
                                   transport, std::move(on_event))) {}

Pool::~Pool() = default;

int Pool::shards() const { return static_cast<int>(impl_->shards().size()); }

// --- Borrowing ---

AcquireResult Pool::Acquire(const AcquireRequest& request, Instant now) {
  AcquireResult result;
  const KeyHash hash(*request.key, impl_->shared().seed);
  Shard& shard = impl_->Of(hash);
  if (!shard.Acquire(request, hash, now, &result)) {
    impl_->AfterAcquire(request, hash, now, &result);
  }
  return result;
}

bool Pool::AcquireIdle(const AcquireRequest& request, Instant now,
                       AcquireResult* result) {
  const KeyHash hash(*request.key, impl_->shared().seed);
  if (!impl_->Of(hash).AcquireIdle(request, hash, now, result)) return false;
  impl_->FollowUp(now);
  return true;
}

bool Pool::Cancel(WaiterId waiter, Instant now) {
  Shard* shard = impl_->Of(waiter);
  if (shard == nullptr) return false;
  const bool left = shard->Cancel(waiter, now);
  impl_->FollowUp(now);
  return left;
}

LeaseStatus Pool::Release(const LeaseId& lease, Outcome outcome, Instant now,
                          CallTag* running) {
  if (running != nullptr) *running = 0;
  Shard* shard = nullptr;
  LeaseStatus status = impl_->Of(lease, &shard);
  if (status != LeaseStatus::kOk) return status;
  bool follow_up = true;
  status = shard->Release(lease, outcome, now, running, &follow_up);
  if (follow_up) impl_->FollowUp(now);
  return status;
}

LeaseStatus Pool::ReleaseNamed(const std::string& target,
                               std::string_view request_id, Outcome outcome,
                               Instant now, LeaseId* lease, CallTag* running) {
  *running = 0;
  const KeyHash hash(target, impl_->shared().seed);
  const LeaseStatus status = impl_->Of(hash).ReleaseNamed(
      target, request_id, outcome, now, lease, running);
  impl_->FollowUp(now);
  return status;
}

LeaseStatus Pool::Reclaim(const LeaseId& lease, Instant now, CallTag* running) {
  *running = 0;
  Shard* shard = nullptr;
  LeaseStatus status = impl_->Of(lease, &shard);
  if (status != LeaseStatus::kOk) return status;
  status = shard->Reclaim(lease, now, running);
  impl_->FollowUp(now);
  return status;
}

bool Pool::ReleaseIfUnused(const LeaseId& lease, Instant now) {
  Shard* shard = nullptr;
  if (impl_->Of(lease, &shard) != LeaseStatus::kOk) return false;
  const bool released = shard->ReleaseIfUnused(lease, now);
  impl_->FollowUp(now);
  return released;
}

LeaseStatus Pool::StatusOf(const LeaseId& lease, Instant now) {
  Shard* shard = nullptr;
  LeaseStatus status = impl_->Of(lease, &shard);
  if (status != LeaseStatus::kOk) return status;
  status = shard->StatusOf(lease, now);
  impl_->FollowUp(now);
  return status;
}

CallStart Pool::BeginCall(const LeaseId& lease, CallTag call, Instant now) {
  CallStart start;
  Shard* shard = nullptr;
  start.status = impl_->Of(lease, &shard);
  if (start.status != LeaseStatus::kOk) return start;
  start = shard->BeginCall(lease, call, now);
  impl_->FollowUp(now);
  return start;
}

void Pool::EndCall(const LeaseId& lease, Instant now) {
  Shard* shard = nullptr;
  if (impl_->Of(lease, &shard) != LeaseStatus::kOk) return;
  shard->EndCall(lease, now);
  impl_->FollowUp(now);
}

RenewResult Pool::Renew(const LeaseId& lease, Duration ttl, Instant now) {
  RenewResult result;
  Shard* shard = nullptr;
  result.status = impl_->Of(lease, &shard);
  if (result.status != LeaseStatus::kOk) return result;
  result = shard->Renew(lease, ttl, now);
  impl_->FollowUp(now);
  return result;
}

// --- Maintenance ---

void Pool::Warm(const std::string& target, Instant now) {
  const KeyHash hash(target, impl_->shared().seed);
  impl_->Of(hash).Warm(target, now);
  impl_->FollowUp(now);
}

PrewarmResult Pool::Prewarm(const HostPoolKey& key, int connections, int most,
                            Instant now) {
  const KeyHash hash(key, impl_->shared().seed);
  const PrewarmResult result =
      impl_->Of(hash).Prewarm(key, hash, connections, most, now);
  impl_->FollowUp(now);
  return result;
}

int Pool::WarmDeficit(const std::string& target) const {
  const KeyHash hash(target, impl_->shared().seed);
  return impl_->Of(hash).WarmDeficit(target);
}

void Pool::Reconfigure(const PoolConfig& config, Instant now) {
  PoolShared& shared = impl_->shared();
  shared.max_targets.store(config.max_targets, std::memory_order_relaxed);
  shared.leak_after.store(config.leak_after.count(), std::memory_order_relaxed);
  shared.connections.SetMax(config.max_connections);
  shared.dials.SetMax(config.max_dials);
  for (const auto& shard : impl_->shards()) shard->Reconfigure(now);
  impl_->FollowUp(now);
}

void Pool::Shutdown(Instant now) {
  for (const auto& shard : impl_->shards()) shard->Shutdown(now);
  impl_->FollowUp(now);
}

void Pool::Tick(int shard, Instant now) {
  if (shard < 0 || shard >= shards()) return;
  impl_->shards()[shard]->Tick(now);
  impl_->FollowUp(now);
}

// --- TransportEvents ---

void Pool::Dialed(ConnId id, const Established& established, Instant now) {
  if (Shard* shard = impl_->Of(id)) shard->Dialed(id, established, now);
  impl_->FollowUp(now);
}

void Pool::DialFailed(ConnId id, const DialError& error, Instant now) {
  if (Shard* shard = impl_->Of(id)) shard->DialFailed(id, error, now);
  impl_->FollowUp(now);
}

void Pool::Closed(ConnId id, CloseReason reason, const DialError* early,
                  Instant now) {
  if (Shard* shard = impl_->Of(id)) shard->Closed(id, reason, early, now);
  impl_->FollowUp(now);
}

void Pool::Served(ConnId id, Instant now) {
  if (Shard* shard = impl_->Of(id)) shard->Served(id, now);
  impl_->FollowUp(now);
}

void Pool::Probed(ConnId id, bool passed, Instant now) {
  if (Shard* shard = impl_->Of(id)) shard->Probed(id, passed, now);
  impl_->FollowUp(now);
}

void Pool::ConcurrencyChanged(ConnId id, int max_streams, Instant now) {
  if (Shard* shard = impl_->Of(id)) {
    shard->ConcurrencyChanged(id, max_streams, now);
  }
  impl_->FollowUp(now);
}

void Pool::GoAway(ConnId id, const DialError* early, Instant now) {
  if (Shard* shard = impl_->Of(id)) shard->GoAway(id, early, now);
  impl_->FollowUp(now);
}

void Pool::KeepAliveSaid(ConnId id, Duration timeout, Instant now) {
  if (Shard* shard = impl_->Of(id)) shard->KeepAliveSaid(id, timeout, now);
  impl_->FollowUp(now);
}

void Pool::ErrorCounted(ConnId id, Instant now) {
  if (Shard* shard = impl_->Of(id)) shard->ErrorCounted(id, now);
  impl_->FollowUp(now);
}

// --- Inspection ---

Snapshot Pool::TakeSnapshot(const SnapshotRequest& request, Instant now) const {
  Snapshot snapshot;
  const PoolShared& shared = impl_->shared();
  snapshot.max_connections = shared.connections.max();
  snapshot.connections_reserved = shared.connections.used();
  snapshot.budget_waiters =
      shared.connections.waiting() + shared.dials.waiting();
  for (const auto& shard : impl_->shards()) {
    shard->AddTo(request, now, &snapshot);
  }
  return snapshot;
}

}  // namespace hotline::pool
