// The pool's insides, for pool.cc and the tests' Inspector.
#ifndef HOTLINE_POOL_POOL_IMPL_H_
#define HOTLINE_POOL_POOL_IMPL_H_

#include <memory>
#include <utility>
#include <vector>

#include "pool/budget.h"
#include "pool/one_at_a_time.h"
#include "pool/pool.h"
#include "pool/shard.h"
#include "pool/shard_state.h"

namespace hotline::pool {

// Finds the shard, and does what goes across shards.
class Pool::Impl {
 public:
  Impl(const PoolConfig& config, TargetConfigFn target_config,
       Transport* transport, LeakFn on_leak, BreakerFn on_breaker)
      : shared_(config, std::move(target_config), transport, std::move(on_leak),
                std::move(on_breaker)) {
    shards_.reserve(config.shards);
    for (int i = 0; i < config.shards; ++i) {
      shards_.push_back(std::make_unique<Shard>(&shared_, i));
    }
  }

  PoolShared& shared() { return shared_; }
  const PoolShared& shared() const { return shared_; }
  const std::vector<std::unique_ptr<Shard>>& shards() const { return shards_; }

  Shard& Of(const KeyHash& hash) {
    const uint64_t index = ((hash.target >> 32) * shards_.size()) >> 32;
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
  // to close for those who still wait. One thread at a time does it; what it
  // cannot do in one turn is left to the next event or tick.
  void Follow(Instant now) {
    if (!HasWork()) [[likely]]
      return;
    int left = shared_.effects_per_turn;
    following_.Run([&] { return left > 0 && HasWork(); },
                   [&] {
                     Carry(&shared_.connections, now, &left);
                     Carry(&shared_.dials, now, &left);
                     Reclaim(now, &left);
                   });
    if (left <= 0 && HasWork()) shared_.transport->WakeAt(0, now);
  }

  // When it was not simply granted: makes room for a new target at another
  // shard's cost, and carries on.
  void AfterAcquire(const AcquireRequest& request, const KeyHash& hash,
                    Instant now, AcquireResult* result) {
    Shard& shard = Of(hash);
    if (HadNoRoom(*result) && ForgetSomeTarget(&shard)) {
      *result = AcquireResult{};
      shard.Acquire(request, hash, now, result);
    }
    if (HadNoRoom(*result)) shard.CountRejected(RejectReason::kTooManyTargets);
    Follow(now);
  }

 private:
  static bool HadNoRoom(const AcquireResult& result) {
    return result.kind == AcquireResult::kRejected &&
           result.rejection->reason == RejectReason::kTooManyTargets;
  }

  bool ForgetSomeTarget(const Shard* except) {
    for (const auto& shard : shards_) {
      if (shard.get() != except && shard->ForgetOne()) return true;
    }
    return false;
  }

  bool HasWork() const {
    return shared_.connections.has_deliveries() ||
           shared_.dials.has_deliveries() ||
           shared_.connections.search_wanted();
  }

  // `*left`: steps of this turn.
  void Carry(Budget* budget, Instant now, int* left) {
    while (*left > 0) {
      const auto delivery = budget->TakeDelivery();
      if (!delivery) return;
      --*left;
      shards_[delivery->shard]->BudgetGranted(budget, delivery->target, now);
    }
  }

  void Reclaim(Instant now, int* left) {
    Budget& budget = shared_.connections;
    if (*left <= 0 || !budget.TakeSearch()) return;
    for (int tries = budget.pressure(); tries > 0; --tries) {
      if (--*left < 0) return budget.SearchAgain();
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
  OneAtATime following_;
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_POOL_IMPL_H_
