// One upstream (scheme, host, port): the limits over its HostPools.
#ifndef HOTLINE_POOL_TARGET_H_
#define HOTLINE_POOL_TARGET_H_

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/node_hash_map.h"
#include "base/time.h"
#include "pool/breaker.h"
#include "pool/budget.h"
#include "pool/host_pool.h"
#include "pool/idle_limit.h"
#include "pool/list.h"
#include "pool/pool.h"
#include "pool/quarantine.h"
#include "pool/records.h"
#include "pool/shard_state.h"
#include "pool/snapshot.h"

namespace hotline::pool {

// Tags of lists.
struct Empties;  // Targets that could be forgotten, longest empty first.
struct Known;    // All targets of a shard, in the order of their arrival.

// A Target decides which of its HostPools may dial: the one whose first waiter
// is the oldest, within the target's limits and the pool's budgets. It keeps
// what is counted and remembered over all of them.
//
// A place in a budget's line is held only while somebody waits who could use
// the token. At most one token of each kind is held unused: the connection's,
// while the target is in line for the dial's.
//
// Not thread-safe: guarded by the shard's mutex.
class Target : public Link<Empties>, public Link<Known> {
 public:
  // `arrival`: its place in the order in which a shard's targets came.
  Target(ShardState* shard, std::string name, uint64_t hash, uint64_t arrival,
         const TargetConfig& config);
  ~Target();
  Target(const Target&) = delete;
  Target& operator=(const Target&) = delete;

  const std::string& name() const { return name_; }
  uint64_t hash() const { return hash_; }
  uint64_t arrival() const { return arrival_; }
  const TargetConfig& config() const { return config_; }

  // --- Events ---

  // All of Acquire but for finding the HostPool.
  void Acquire(HostPool* pool, const AcquireRequest& request, Instant now,
               AcquireResult* result);
  // Lends a slot of `conn` to a caller that did not have to wait.
  Lease* LendNow(HostPool* pool, Connection* conn,
                 const AcquireRequest& request, Instant now,
                 AcquireResult* result);
  // A token arrived from a budget's line.
  void BudgetGranted(const Budget* budget, Instant now);
  // After every event: begins the dials that are wanted and possible, makes
  // room for those that are not, and leaves the lines nobody needs.
  void Settle(Instant now);
  // While the breaker bars dials: rejects who could be served by one only. Not
  // a part of Settle, which must leave a newcomer in the line.
  void TurnAway(Instant now) {
    if (waiters_ > 0 && breaker_.Bars(now)) [[unlikely]]
      RejectHopeless(now);
  }
  // Begins a dial whose result nobody waits for, if the limits allow one and
  // less than `wanted` connections of `pool` are there or on their way. (0: one
  // more than wait for a connection now.)
  bool DialForNobody(HostPool* pool, int wanted, Instant now);
  void Reconfigure(const TargetConfig& config, Instant now);
  void Shutdown(Instant now);

  // Looks at the arrivals of late, and moves the warm floor.
  void OnTimer(Instant now);

  // Whether something changed that Settle should look at.
  bool unsettled() const { return touched_ || waiters_ > 0; }

  // --- Told by the HostPools ---

  void OnStateChange(ConnState from, ConnState to) {
    --counts_[static_cast<int>(from)];
    ++counts_[static_cast<int>(to)];
    touched_ = true;
  }
  void OnAdded(ConnState state) {
    ++counts_[static_cast<int>(state)];
    ++total_;
  }
  void OnRemoved(ConnState state) {
    --counts_[static_cast<int>(state)];
    --total_;
    touched_ = true;
  }
  void OnRecords(int change) {
    records_ += change;
    touched_ = true;
  }
  void OnIdle(int change) { idle_ += change; }
  void OnWaiters(int change) {
    waiters_ += change;
    touched_ = true;
  }
  void OnLent(Lease* lease) {
    leases_.PushBack(lease);
    ++lease_count_;
    ++counters_.granted;
    counters_.reused += lease->uses_before > 0 ? 1 : 0;
  }
  // The lease is over: counts it and frees the record.
  void OnEnded(Lease* lease, Instant now);
  void OnDialBegun(Instant now);
  void OnDialed(const HostPoolKey& key, const Established& established,
                Instant now);
  // The dial that has failed began at `began`.
  void OnDialFailed(const DialError& error, Instant began, Instant now);
  // It had made a connection, which has ended early.
  void OnEndedEarly(const DialError& error, Instant began, Instant now);
  // A dial that made a connection counts as successful from now on.
  void OnProved();
  void ForgetRequest(Request* request);
  // The upstream closed a connection that had been idle for so long.
  void OnClosedIdle(Duration idle, Instant now);
  // It sent what nobody had asked for.
  void OnUnsolicited(Instant now);
  // The upstream said how long it keeps one.
  void OnKeepAliveSaid(Duration timeout, Instant now);

  // --- Numbers ---

  TargetCounters& counters() { return counters_; }
  const TargetCounters& counters() const { return counters_; }
  int count(ConnState state) const { return counts_[static_cast<int>(state)]; }
  int total() const { return total_; }
  int waiters() const { return waiters_; }
  const Breaker& breaker() const { return breaker_; }
  // The warm floor of the default HostPool, as it is now.
  int floor() const { return floor_; }
  // In quarantine: what has served is not lent again.
  bool no_reuse() const { return no_reuse_; }
  // How long an idle connection is of use, for all that is known of the
  // upstream's patience; Duration::max(): nothing.
  Duration usable_idle() const { return usable_idle_; }
  // How long it is lent after its last use or check, …
  Duration lend_for() const { return lend_for_; }
  // … and how long it may rest.
  Duration rest_for() const { return rest_for_; }
  int records() const { return records_; }
  // More connections than allowed, not counting those that are going anyway.
  bool OverLimit() const {
    return total_ - count(ConnState::kClosing) - count(ConnState::kDraining) >
           config_.max_connections;
  }
  // Slots of a connection to come; 0: unknown.
  int ExpectedStreams(const HostPoolKey& key) const;
  // Places that waiters could use and that nothing on its way will free.
  int PlacesShort(Instant now) const;
  // Whether, at the limit, a HostPool that holds nothing has somebody in line
  // who came before `waiting`. Connections that are never idle, because there
  // is always somebody to take them, would keep such a one out for ever.
  bool OwesPlaceBefore(const Waiting& waiting, Instant now) const;
  // Connections missing to the warm floor.
  int WarmDeficit() const;
  // No connection, lease, waiter or token: it can be forgotten.
  bool Empty() const;

  // Counts a rejection and explains it.
  std::unique_ptr<Rejection> Explain(RejectReason reason, const HostPool& pool,
                                     const Waiting* waiting, Instant now);
  WaitInfo WaitInfoNow(const HostPool& pool, int place, Instant now) const;
  TargetRow Row(Instant now) const;
  ConnectionRow RowOf(const Connection& conn, Instant now) const;
  LeaseRow RowOf(const Lease& lease, Instant now) const;

  HostPool* AddPool(std::shared_ptr<const HostPoolKey> key, uint64_t hash);
  void RemovePool(HostPool* pool);
  const std::vector<std::unique_ptr<HostPool>>& pools() const { return pools_; }
  const List<Lease, InTarget>& leases() const { return leases_; }
  int lease_count() const { return lease_count_; }

 private:
  friend class Inspector;

  // Being in a budget's line, and what came of it.
  struct Claim {
    Claim(Budget* budget_in, int shard, Target* target)
        : budget(budget_in), ticket(shard, target) {}
    Budget* const budget;
    Budget::Ticket ticket;
    bool in_line = false;  // Or its Delivery is on its way.
    bool joined_poor = false;
    bool holds = false;  // A token, not used yet.
  };

  void Refuse(RejectReason reason, const HostPool& pool, Instant now,
              AcquireResult* result);
  bool Repeat(HostPool* pool, const AcquireRequest& request, Instant now,
              AcquireResult* result);
  void Queue(HostPool* pool, const AcquireRequest& request, Instant now,
             AcquireResult* result);
  HostPool* NextToDial(Instant now) const;
  bool TakeTokens(HostPool* pool, Instant now);
  Request* Remember(HostPool* pool, const AcquireRequest& request);
  bool Take(Claim* claim, bool may_join);
  void Release(Claim* claim);
  void MakeRoom(Instant now);
  void MakeRoomAmongShared();
  // What was learned may have changed.
  void UseIdleLimit();
  void UseIdleLimitEverywhere(Instant now);
  // What is over by now is dropped.
  void Forget(Instant now);
  Duration ExpectedWait(const HostPool& pool, bool new_only, Instant now) const;
  bool adaptive() const { return config_.warm_max > config_.warm; }
  uint64_t Arrivals() const;
  void WatchFloor(Instant now);
  void MoveFloor();
  void OnBreakerOpened(Instant now);
  void CloseBreaker();
  void EndFailures();
  void RejectHopeless(Instant now);
  Connection* OldestIdle() const;
  Duration RetryAfter(RejectReason reason, const HostPool& pool,
                      Instant now) const;

  // What Acquire and Release touch comes first.
  ShardState* const shard_;
  TargetConfig config_;
  Duration lend_for_{0};
  Duration rest_for_{0};
  Duration usable_idle_ = IdleLimit::kNone;
  bool no_reuse_ = false;
  int total_ = 0;  // Connections that count against the limit.
  int waiters_ = 0;
  int idle_ = 0;
  int records_ = 0;
  int lease_count_ = 0;
  bool touched_ = false;
  std::array<int, kConnStates> counts_{};
  List<Lease, InTarget> leases_;
  TargetCounters counters_;

  const std::string name_;
  const uint64_t hash_;
  const uint64_t arrival_;
  std::vector<std::unique_ptr<HostPool>> pools_;
  int known_streams_ = 0;  // Learned; 0: not yet.
  std::string last_dial_error_;
  Breaker breaker_;
  bool ended_early_ = false;  // As HostPool's.
  IdleLimit idle_limit_;
  Quarantine quarantine_;
  int floor_;
  MovingRate arrivals_;
  MovingDuration dial_time_;
  PoolTimer timer_{this};  // While the floor can move.
  Claim connection_;
  Claim dial_;
  // Null until somebody names a request.
  using Requests = absl::node_hash_map<std::string, Request>;
  std::unique_ptr<Requests> requests_;
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_TARGET_H_
