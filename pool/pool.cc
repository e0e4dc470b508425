#include "pool/pool.h"

#include <algorithm>
#include <utility>

#include "pool/budget.h"
#include "pool/shard.h"
#include "pool/shard_state.h"

namespace hotline::pool {

class Pool::Impl {
 public:
  Impl(const PoolConfig& config, TargetConfigFn target_config,
       Transport* transport, LeakFn on_leak)
      : shared_(config, std::move(target_config), transport,
                std::move(on_leak)) {
    shards_.reserve(config.shards);
    for (int i = 0; i < config.shards; ++i) {
      shards_.push_back(std::make_unique<Shard>(&shared_, i));
    }
  }

  PoolShared& shared() { return shared_; }
  const PoolShared& shared() const { return shared_; }
  const std::vector<std::unique_ptr<Shard>>& shards() const { return shards_; }

  Shard& Of(const KeyHash& hash) {
    const uint64_t index =
        ((static_cast<uint64_t>(hash.target) >> 32) * shards_.size()) >> 32;
    return *shards_[index];
  }

  // Null when `id` cannot be one of ours.
  Shard* Of(uint64_t id) {
    const uint64_t index =
        IdCodec::ShardOf(id, static_cast<int>(shards_.size()));
    return index < shards_.size() ? shards_[index].get() : nullptr;
  }

  // The shard of a lease, or why there is none.
  LeaseStatus Of(const LeaseId& lease, Shard** shard) {
    if (lease.instance != shared_.instance) return LeaseStatus::kOtherInstance;
    if (lease.shard >= shards_.size()) return LeaseStatus::kUnknown;
    *shard = shards_[lease.shard].get();
    return LeaseStatus::kOk;
  }

  // Carries tokens to those they were reserved for, and finds idle connections
  // to close for those who still wait. One thread at a time does it; the others
  // leave it to that one, so that it never nests however deep the calls do.
  void Follow(Instant now) {
    while (HasWork()) {
      if (following_.exchange(true, std::memory_order_acq_rel)) return;
      Carry(&shared_.connections, now);
      Carry(&shared_.dials, now);
      Reclaim(now);
      following_.store(false, std::memory_order_release);
    }
  }

  bool ForgetSomeTarget(const Shard* except) {
    for (const auto& shard : shards_) {
      if (shard.get() != except && shard->ForgetOne()) return true;
    }
    return false;
  }

 private:
  bool HasWork() const {
    return shared_.connections.has_deliveries() ||
           shared_.dials.has_deliveries() ||
           shared_.connections.search_wanted();
  }

  void Carry(Budget* budget, Instant now) {
    while (const auto delivery = budget->TakeDelivery()) {
      shards_[delivery->shard]->BudgetGranted(budget, delivery->target, now);
    }
  }

  void Reclaim(Instant now) {
    Budget& budget = shared_.connections;
    if (!budget.TakeSearch()) return;
    for (int tries = budget.pressure(); tries > 0; --tries) {
      const bool floors = budget.over_cap();
      Shard* best = nullptr;
      Instant oldest = kNever;
      for (const auto& shard : shards_) {
        const Instant since = shard->OldestIdle(floors);
        if (since >= oldest) continue;
        oldest = since;
        best = shard.get();
      }
      if (best == nullptr) return;
      best->ReclaimOldest(floors, now);
    }
  }

  PoolShared shared_;
  std::vector<std::unique_ptr<Shard>> shards_;
  std::atomic<bool> following_{false};
};

namespace {

PoolConfig Checked(PoolConfig config) {
  config.shards = std::clamp(config.shards, 1, 65536);
  return config;
}

}  // namespace

Pool::Pool(const PoolConfig& config, TargetConfigFn target_config,
           Transport* transport, LeakFn on_leak)
    : impl_(std::make_unique<Impl>(Checked(config), std::move(target_config),
                                   transport, std::move(on_leak))) {}

Pool::~Pool() = default;

int Pool::shards() const { return static_cast<int>(impl_->shards().size()); }

// --- Borrowing ---

AcquireResult Pool::Acquire(const AcquireRequest& request, Instant now) {
  const KeyHash hash(*request.key);
  Shard& shard = impl_->Of(hash);
  bool quiet = false;
  AcquireResult result = shard.Acquire(request, hash, now, &quiet);
  if (quiet) return result;
  if (result.kind == AcquireResult::kRejected &&
      result.rejection->reason == RejectReason::kTooManyTargets) {
    if (impl_->ForgetSomeTarget(&shard)) {
      result = shard.Acquire(request, hash, now, &quiet);
    }
    if (result.kind == AcquireResult::kRejected &&
        result.rejection->reason == RejectReason::kTooManyTargets) {
      shard.CountRejected(RejectReason::kTooManyTargets);
    }
  }
  impl_->Follow(now);
  return result;
}

bool Pool::Cancel(WaiterId waiter, Instant now) {
  Shard* shard = impl_->Of(waiter);
  if (shard == nullptr) return false;
  const bool left = shard->Cancel(waiter, now);
  impl_->Follow(now);
  return left;
}

LeaseStatus Pool::Release(const LeaseId& lease, Outcome outcome, Instant now) {
  Shard* shard = nullptr;
  LeaseStatus status = impl_->Of(lease, &shard);
  if (status != LeaseStatus::kOk) return status;
  bool quiet = false;
  status = shard->Release(lease, outcome, now, &quiet);
  if (!quiet) impl_->Follow(now);
  return status;
}

CallStart Pool::BeginCall(const LeaseId& lease, Instant now) {
  CallStart start;
  Shard* shard = nullptr;
  start.status = impl_->Of(lease, &shard);
  if (start.status != LeaseStatus::kOk) return start;
  start = shard->BeginCall(lease, now);
  impl_->Follow(now);
  return start;
}

void Pool::EndCall(const LeaseId& lease, Instant now) {
  Shard* shard = nullptr;
  if (impl_->Of(lease, &shard) != LeaseStatus::kOk) return;
  shard->EndCall(lease, now);
  impl_->Follow(now);
}

RenewResult Pool::Renew(const LeaseId& lease, Duration ttl, Instant now) {
  RenewResult result;
  Shard* shard = nullptr;
  result.status = impl_->Of(lease, &shard);
  if (result.status != LeaseStatus::kOk) return result;
  result = shard->Renew(lease, ttl, now);
  impl_->Follow(now);
  return result;
}

// --- Upkeep ---

void Pool::Warm(const std::string& target, Instant now) {
  const KeyHash hash(target);
  impl_->Of(hash).Warm(target, hash, now);
  impl_->Follow(now);
}

void Pool::Reconfigure(const PoolConfig& config, Instant now) {
  PoolShared& shared = impl_->shared();
  shared.max_targets.store(config.max_targets, std::memory_order_relaxed);
  shared.leak_after.store(config.leak_after.count(), std::memory_order_relaxed);
  shared.connections.SetMax(config.max_connections);
  shared.dials.SetMax(config.max_dials);
  for (const auto& shard : impl_->shards()) shard->Reconfigure(now);
  impl_->Follow(now);
}

void Pool::Shutdown(Instant now) {
  for (const auto& shard : impl_->shards()) shard->Shutdown(now);
  impl_->Follow(now);
}

void Pool::Tick(int shard, Instant now) {
  if (shard < 0 || shard >= shards()) return;
  impl_->shards()[shard]->Tick(now);
  impl_->Follow(now);
}

// --- The transport's events ---

void Pool::Dialed(ConnId id, const Established& established, Instant now) {
  if (Shard* shard = impl_->Of(id)) shard->Dialed(id, established, now);
  impl_->Follow(now);
}

void Pool::DialFailed(ConnId id, const DialError& error,
                      const DialTimings& timings, Instant now) {
  if (Shard* shard = impl_->Of(id)) {
    shard->DialFailed(id, error, timings, now);
  }
  impl_->Follow(now);
}

void Pool::Closed(ConnId id, CloseReason reason, Instant now) {
  if (Shard* shard = impl_->Of(id)) shard->Closed(id, reason, now);
  impl_->Follow(now);
}

void Pool::Probed(ConnId id, bool passed, Instant now) {
  if (Shard* shard = impl_->Of(id)) shard->Probed(id, passed, now);
  impl_->Follow(now);
}

void Pool::ConcurrencyChanged(ConnId id, int max_streams, Instant now) {
  if (Shard* shard = impl_->Of(id)) {
    shard->ConcurrencyChanged(id, max_streams, now);
  }
  impl_->Follow(now);
}

void Pool::GoAway(ConnId id, Instant now) {
  if (Shard* shard = impl_->Of(id)) shard->GoAway(id, now);
  impl_->Follow(now);
}

void Pool::ErrorCounted(ConnId id, Instant now) {
  if (Shard* shard = impl_->Of(id)) shard->ErrorCounted(id, now);
  impl_->Follow(now);
}

// --- Looking ---

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
