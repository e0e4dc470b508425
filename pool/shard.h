// One mutex and the targets behind it.
#ifndef HOTLINE_POOL_SHARD_H_
#define HOTLINE_POOL_SHARD_H_

#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "base/mutex.h"
#include "pool/host_pool.h"
#include "pool/key_hash.h"
#include "pool/leases.h"
#include "pool/pool.h"
#include "pool/shard_state.h"
#include "pool/snapshot.h"
#include "pool/target.h"

namespace hotline::pool {

// A Shard locks, lets HostPool, Target and Leases decide, unlocks, and carries
// out what they put into the outbox: in the order in which it was decided,
// because only one thread at a time drains it. A thread that finds another one
// draining leaves its effects to it and goes. One that has carried out its
// share goes, too, and asks for a tick; whoever comes first takes over.
//
// Thread safety: every method may be called from any thread. After each of them
// the pool must look at the budgets (Pool::Impl::Follow): a token may be
// waiting for its carrier.
class alignas(128) Shard {
 public:
  Shard(PoolShared* shared, int index);
  ~Shard();
  Shard(const Shard&) = delete;
  Shard& operator=(const Shard&) = delete;

  // True: granted, and there is nothing to follow up. Rejected with
  // kTooManyTargets, uncounted, when the target is new and there is no room for
  // it.
  bool Acquire(const AcquireRequest& request, const KeyHash& hash, Instant now,
               AcquireResult* result);
  // True: granted. False: nothing is changed.
  bool AcquireIdle(const AcquireRequest& request, const KeyHash& hash,
                   Instant now, AcquireResult* result);
  // `quiet`: there is nothing to follow up.
  LeaseStatus Release(const LeaseId& id, Outcome outcome, Instant now,
                      bool* quiet);

  LeaseStatus Reclaim(const LeaseId& id, Instant now, bool* busy);
  LeaseStatus Look(const LeaseId& id, Instant now);
  bool Cancel(WaiterId waiter, Instant now);
  CallStart BeginCall(const LeaseId& id, Instant now);
  void EndCall(const LeaseId& id, Instant now);
  RenewResult Renew(const LeaseId& id, Duration ttl, Instant now);
  void Warm(const std::string& target, const KeyHash& hash, Instant now);
  PrewarmResult Prewarm(const HostPoolKey& key, const KeyHash& hash,
                        int connections, int most, Instant now);
  int WarmDeficit(const std::string& target) const;
  void Reconfigure(Instant now);
  void Shutdown(Instant now);
  void Tick(Instant now);

  void Dialed(ConnId id, const Established& established, Instant now);
  void DialFailed(ConnId id, const DialError& error, const DialTimings& timings,
                  Instant now);
  void Closed(ConnId id, CloseReason reason, const DialError* early,
              Instant now);
  void Served(ConnId id, Instant now);
  void Probed(ConnId id, bool passed, Instant now);
  void ConcurrencyChanged(ConnId id, int max_streams, Instant now);
  void GoAway(ConnId id, const DialError* early, Instant now);
  void KeepAliveSaid(ConnId id, Duration timeout, Instant now);
  void ErrorCounted(ConnId id, Instant now);

  // Carries a budget's delivery to its target.
  void BudgetGranted(const Budget* budget, Target* target, Instant now);
  // Since when the oldest idle connection above its warm floor (or any one,
  // with `floors`) is idle. kNever: there is none.
  Instant OldestIdle(bool floors);
  // Closes that one if the budget still wants it.
  void ReclaimOldest(bool floors, Instant now);
  // Forgets the target that has been empty for longest. False: none is empty.
  bool ForgetOne();
  void CountRejected(RejectReason reason);

  // Adds to what is there. Holds the lock for a bounded number of rows at a
  // time.
  void AddTo(const SnapshotRequest& request, Instant now,
             Snapshot* snapshot) const;

 private:
  friend class Inspector;

  // Holds the lock for a scope; at its end drains what is in the outbox, unless
  // another thread is doing it.
  class ABSL_SCOPED_LOCKABLE Visit {
   public:
    Visit(Shard* shard, Instant now) ABSL_EXCLUSIVE_LOCK_FUNCTION(shard->mu_);
    ~Visit() ABSL_UNLOCK_FUNCTION();
    Visit(const Visit&) = delete;
    Visit& operator=(const Visit&) = delete;

   private:
    Shard* const shard_;
    const Instant now_;
  };

  // A walk over the known targets that lets go of the lock in between. A target
  // that is forgotten before the walk has come to it is counted all the same.
  struct Walk {
    const Target* next = nullptr;
    uint64_t end = 0;  // Targets that arrived later are not walked over.
    TargetCounters forgotten;
  };

  struct PoolRef {
    const HostPoolKey& key;
    uint64_t hash;
  };
  struct HashOfPool {
    using is_transparent = void;
    size_t operator()(const HostPool* pool) const { return pool->hash(); }
    size_t operator()(const PoolRef& ref) const { return ref.hash; }
  };
  struct SamePool {
    using is_transparent = void;
    bool operator()(const HostPool* a, const HostPool* b) const {
      return a == b;
    }
    bool operator()(const HostPool* a, const PoolRef& b) const {
      return a->Is(b.key, b.hash);
    }
    bool operator()(const PoolRef& a, const HostPool* b) const {
      return (*this)(b, a);
    }
  };

  // Lends what is there to be lent at once, if that is all there is to do.
  bool LendLocked(HostPool* pool, const AcquireRequest& request, Instant now,
                  AcquireResult* result) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void AcquireLocked(HostPool* pool, const AcquireRequest& request,
                     const KeyHash& hash, Instant now, AcquireResult* result)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  HostPool* FindPoolLocked(const HostPoolKey& key, uint64_t hash) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void RemovePoolLocked(HostPool* pool) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  HostPool* FindOrAddPoolLocked(const HostPoolKey& key, const KeyHash& hash)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  HostPool* AddPoolLocked(Target* target, HostPoolKey key, uint64_t hash)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Target* FindOrAddTargetLocked(const std::string& name, uint64_t hash)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool ForgetOneLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void SettleLocked(Target* target, Instant now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void SweepLocked(Target* target, Instant now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void FireLocked(PoolTimer* timer, Instant now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Connection* OldestIdleLocked(bool floors) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Connection* FindConnectionLocked(ConnId id) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void AddTargets(const SnapshotRequest& request, Instant now,
                  Snapshot* snapshot) const;
  void Drain(Instant now) ABSL_LOCKS_EXCLUDED(mu_);
  // The next effects to carry out are in batch_; false: there are none, or no
  // more may be (`may_go_on`), and somebody else may drain.
  bool NextBatchLocked(bool may_go_on) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Perform(Effect& effect) ABSL_LOCKS_EXCLUDED(mu_);

  // Runs `event(Connection&, HostPool&)` and all that follows, if `id` still
  // names a connection.
  template <typename Event>
  void OnConnection(ConnId id, Instant now, Event&& event)
      ABSL_LOCKS_EXCLUDED(mu_);

  static size_t RecentSlot(uint64_t hash) { return hash % kRecent; }

  // HostPools found lately, by hash: what is hot is found without a search.
  static constexpr size_t kRecent = 256;

  PoolShared* const shared_;
  const int index_;
  mutable Mutex mu_;
  ShardState state_ ABSL_GUARDED_BY(mu_);
  Leases leases_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_set<HostPool*, HashOfPool, SamePool> pools_
      ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<std::string, std::unique_ptr<Target>> targets_
      ABSL_GUARDED_BY(mu_);
  mutable std::array<HostPool*, kRecent> recent_ ABSL_GUARDED_BY(mu_){};
  List<Target, Known> known_ ABSL_GUARDED_BY(mu_);
  uint64_t next_arrival_ ABSL_GUARDED_BY(mu_) = 0;
  mutable std::vector<Walk*> walks_ ABSL_GUARDED_BY(mu_);
  List<Target, Empties> empty_ ABSL_GUARDED_BY(mu_);
  TargetCounters forgotten_ ABSL_GUARDED_BY(mu_);
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  // Nobody is draining, and some of batch_ is not carried out yet.
  bool undone_ ABSL_GUARDED_BY(mu_) = false;
  // These belong to whoever is draining.
  Outbox batch_;
  size_t done_ = 0;  // Of batch_.
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_SHARD_H_
