// A Shard is one mutex and the targets that it guards.
#ifndef HOTLINE_POOL_SHARD_H_
#define HOTLINE_POOL_SHARD_H_

#include <array>
#include <cstddef>
#include <memory>
#include <optional>
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
// out the effects that they appended to the outbox. One thread at a time drains
// the outbox, so effects are carried out in the order of the decisions. A
// thread that finds another one draining leaves its effects to that one. A
// thread that has carried out its share stops and asks for a tick; the next
// event or the tick continues.
//
// Thread safety: every method may be called from any thread. After each of them
// the pool must check the budgets (Pool::Impl::FollowUp): a token may have to
// be delivered.
class alignas(128) Shard {
 public:
  Shard(PoolShared* shared, int index);
  ~Shard();
  Shard(const Shard&) = delete;
  Shard& operator=(const Shard&) = delete;

  // Returns true if it was granted and nothing is to be followed up. Rejects
  // with kTooManyTargets, uncounted, if the target is new and there is no room
  // for it.
  bool Acquire(const AcquireRequest& request, const KeyHash& hash, Instant now,
               AcquireResult* result);
  // Returns true if it was granted; otherwise nothing has changed.
  bool AcquireIdle(const AcquireRequest& request, const KeyHash& hash,
                   Instant now, AcquireResult* result);
  // `*follow_up`: whether anything is to be followed up.
  LeaseStatus Release(const LeaseId& id, Outcome outcome, Instant now,
                      CallTag* running, bool* follow_up);

  LeaseStatus ReleaseNamed(const std::string& target,
                           std::string_view request_id, Outcome outcome,
                           Instant now, LeaseId* lease, CallTag* running);
  LeaseStatus Reclaim(const LeaseId& id, Instant now, CallTag* running);
  bool ReleaseIfUnused(const LeaseId& id, Instant now);
  LeaseStatus StatusOf(const LeaseId& id, Instant now);
  bool Cancel(WaiterId waiter, Instant now);
  CallStart BeginCall(const LeaseId& id, CallTag call, Instant now);
  void EndCall(const LeaseId& id, Instant now);
  RenewResult Renew(const LeaseId& id, Duration ttl, Instant now);
  void Warm(const std::string& target, Instant now);
  PrewarmResult Prewarm(const HostPoolKey& key, const KeyHash& hash,
                        int connections, int most, Instant now);
  int WarmDeficit(const std::string& target) const;
  void Reconfigure(Instant now);
  void Shutdown(Instant now);
  void Tick(Instant now);

  std::optional<Admission> SetAdmission(const std::string& target,
                                        Admission admission, Instant now);
  std::optional<int> Reconnect(const std::string& target, Instant now);
  bool ForgiveDials(const std::string& target, Instant now);
  bool Evict(ConnId id, bool at_once, Instant now);
  LeaseStatus EndLease(uint64_t row_id, Instant now, LeaseId* lease,
                       CallTag* running);

  void Dialed(ConnId id, const Established& established, Instant now);
  void DialFailed(ConnId id, const DialError& error, Instant now);
  void Closed(ConnId id, CloseReason reason, const DialError* early,
              Instant now);
  void Served(ConnId id, Instant now);
  void Probed(ConnId id, bool passed, Instant now);
  void ConcurrencyChanged(ConnId id, int max_streams, Instant now);
  void GoAway(ConnId id, const DialError* early, Instant now);
  void KeepAliveSaid(ConnId id, Duration timeout, Instant now);
  void ErrorCounted(ConnId id, Instant now);

  // Delivers a budget's token to its target.
  void BudgetGranted(const Budget* budget, Target* target, Instant now);
  // Returns when the longest idle connection became idle; kNever if there is
  // none. Connections of warm floors count only with `floors`.
  Instant OldestIdle(bool floors);
  // Closes that connection if the budget still needs its token.
  void ReclaimOldest(bool floors, Instant now);
  // Evicts the target that has been empty for longest. False: none is empty.
  bool EvictOne();
  void CountRejected(RejectReason reason);

  // Appends the shard's rows. Holds the lock for a bounded number of rows at a
  // time.
  void AddTo(const SnapshotRequest& request, Instant now,
             Snapshot* snapshot) const;

 private:
  friend class Inspector;

  // Holds the lock for the scope of one event. At its end drains the outbox,
  // unless another thread does.
  class ABSL_SCOPED_LOCKABLE EventScope {
   public:
    EventScope(Shard* shard, Instant now)
        ABSL_EXCLUSIVE_LOCK_FUNCTION(shard->mu_);
    ~EventScope() ABSL_UNLOCK_FUNCTION();
    EventScope(const EventScope&) = delete;
    EventScope& operator=(const EventScope&) = delete;

   private:
    Shard* const shard_;
    const Instant now_;
  };

  // A walk over the known targets that releases the lock in between. It also
  // counts the targets that are evicted before it reaches them.
  struct Walk {
    const Target* next = nullptr;
    uint64_t end = 0;  // Of arrivals: later targets are skipped.
    TargetCounters evicted;
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

  // Lends a slot if one is available and nothing else is to be done.
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
  Target* FindOrAddTargetLocked(const std::string& name)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool EvictOneLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void FinishEventLocked(Target* target, Instant now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void SweepLocked(Target* target, Instant now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void FireLocked(PoolTimer* timer, Instant now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  ConnRecord* OldestIdleLocked(bool floors) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  ConnRecord* FindConnectionLocked(ConnId id) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void AddTargets(const SnapshotRequest& request, Instant now,
                  Snapshot* snapshot) const;
  void Drain(Instant now) ABSL_LOCKS_EXCLUDED(mu_);
  // Puts the next effects to carry out into batch_. False: there are none, or
  // `may_go_on` is false; another thread may drain from now on.
  bool NextBatchLocked(bool may_go_on) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Perform(Effect& effect) ABSL_LOCKS_EXCLUDED(mu_);

  // Runs `event(ConnRecord&, HostPool&)` and finishes the event, if `id` names
  // an existing connection.
  template <typename Event>
  void OnConnection(ConnId id, Instant now, Event&& event)
      ABSL_LOCKS_EXCLUDED(mu_);

  static size_t RecentIndex(uint64_t hash) { return hash % kRecent; }

  // A cache of HostPools by hash, so that the busy ones are found without a
  // search.
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
  List<Target, InKnown> known_ ABSL_GUARDED_BY(mu_);
  uint64_t next_arrival_ ABSL_GUARDED_BY(mu_) = 0;
  mutable std::vector<Walk*> walks_ ABSL_GUARDED_BY(mu_);
  List<Target, InEmpty> empty_ ABSL_GUARDED_BY(mu_);
  TargetCounters evicted_ ABSL_GUARDED_BY(mu_);
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  // No thread is draining, and a part of batch_ is not carried out yet.
  bool undone_ ABSL_GUARDED_BY(mu_) = false;
  // These belong to the draining thread.
  Outbox batch_;
  size_t done_ = 0;  // Effects of batch_ carried out.
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_SHARD_H_
