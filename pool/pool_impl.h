// The implementation of Pool, for pool.cc and the tests' Inspector.
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

// Finds the shard of an event, and does the work across shards: it delivers
// tokens and closes idle connections of one shard for another.
class Pool::Impl {
 public:
  Impl(const PoolConfig& config, TargetConfigFn target_config,
       Transport* transport, EventFn on_event)
      : shared_(config, std::move(target_config), transport,
                std::move(on_event)) {
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

  // Returns null if `id` names no shard.
  Shard* Of(uint64_t id) {
    const uint64_t index =
        IdCodec::ShardOf(id, static_cast<int>(shards_.size()));
    return index < shards_.size() ? shards_[index].get() : nullptr;
  }

  // Finds the shard of a lease, or returns why there is none.
  LeaseStatus Of(const LeaseId& lease, Shard** shard) {
    if (lease.instance != shared_.instance) return LeaseStatus::kOtherInstance;
    if (lease.shard >= shards_.size()) return LeaseStatus::kUnknown;
    *shard = shards_[lease.shard].get();
    return LeaseStatus::kOk;
  }

  // Delivers reserved tokens to their targets, and closes idle connections for
  // the targets still in line. One thread at a time does this, a bounded number
  // of steps; the next event or tick continues.
  void FollowUp(Instant now) {
    if (!HasWork()) [[likely]]
      return;
    int left = shared_.effects_per_turn;
    follow_up_.Run([&] { return left > 0 && HasWork(); },
                   [&] {
                     Deliver(&shared_.connections, now, &left);
                     Deliver(&shared_.dials, now, &left);
                     CloseIdle(now, &left);
                   });
    if (left <= 0 && HasWork()) shared_.transport->WakeAt(0, now);
  }

  // Continues an Acquire that was not simply granted. If there was no room for
  // its target, evicts one of another shard and tries again.
  void AfterAcquire(const AcquireRequest& request, const KeyHash& hash,
                    Instant now, AcquireResult* result) {
    Shard& shard = Of(hash);
    if (HadNoRoom(*result) && EvictFromOtherShard(&shard)) {
      *result = AcquireResult{};
      shard.Acquire(request, hash, now, result);
    }
    if (HadNoRoom(*result)) shard.CountRejected(RejectReason::kTooManyTargets);
    FollowUp(now);
  }

 private:
  static bool HadNoRoom(const AcquireResult& result) {
    return result.kind == AcquireResult::kRejected &&
           result.rejection->reason == RejectReason::kTooManyTargets;
  }

  bool EvictFromOtherShard(const Shard* except) {
    for (const auto& shard : shards_) {
      if (shard.get() != except && shard->EvictOne()) return true;
    }
    return false;
  }

  bool HasWork() const {
    return shared_.connections.has_deliveries() ||
           shared_.dials.has_deliveries() ||
           shared_.connections.search_wanted();
  }

  // `*left`: the steps that remain of this turn.
  void Deliver(Budget* budget, Instant now, int* left) {
    while (*left > 0) {
      const auto delivery = budget->TakeDelivery();
      if (!delivery) return;
      --*left;
      shards_[delivery->shard]->BudgetGranted(budget, delivery->target, now);
    }
  }

  void CloseIdle(Instant now, int* left) {
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
  OneAtATime follow_up_;
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_POOL_IMPL_H_
