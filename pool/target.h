// A Target is one upstream (scheme, host, port): the limits, counters and
// health that its HostPools share.
//
// A Target decides which of its HostPools may dial: the one whose first waiter
// has waited longest, within the target's limits and the pool's budgets. Every
// event of a HostPool ends in Settle of its Target:
//
//   pool->Closed(conn, reason, nullptr, now);  // A place came free.
//   pool->target()->Settle(now);               // Dials for the next waiter.
//
// It stays in a budget's line only while a waiter could use the token. It holds
// at most one unused token: the connection's, while it is in line for the
// dial's.
//
// Thread safety: none; guarded by the shard's mutex.
//
// Invariants, between events:
//   1. total() is the number of connections of all HostPools that count against
//      max_connections: all but those that are gone. It exceeds max_connections
//      only after that was lowered, and then never grows.
//   2. The counts by state are the sums over the HostPools.
//   3. While a waiter wants a dial, a limit, the back-off or the breaker
//      forbids it, or the target is in line for a token.
//   4. Without waiters, no token is held and no budget's line is joined.
#ifndef HOTLINE_POOL_TARGET_H_
#define HOTLINE_POOL_TARGET_H_

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/node_hash_map.h"
#include "base/time.h"
#include "pool/host_pool.h"
#include "pool/list.h"
#include "pool/pool.h"
#include "pool/records.h"
#include "pool/shard_state.h"
#include "pool/snapshot.h"
#include "pool/target_health.h"
#include "pool/token_claim.h"

namespace hotline::pool {

// Tags of lists.
struct InEmpty;  // Targets that can be evicted, longest empty first.
struct InKnown;  // All targets of a shard, in order of arrival.

class Target : public Link<InEmpty>, public Link<InKnown> {
 public:
  // `arrival`: its position among the shard's targets.
  Target(ShardState* shard, std::string name, uint64_t arrival,
         const TargetConfig& config);
  ~Target();
  Target(const Target&) = delete;
  Target& operator=(const Target&) = delete;

  const std::string& name() const { return name_; }
  uint64_t arrival() const { return arrival_; }
  const TargetConfig& config() const { return config_; }
  const TargetHealth& health() const { return health_; }

  // --- Events ---

  // Serves, queues or rejects a request for `pool`.
  void Acquire(HostPool* pool, const AcquireRequest& request, Instant now,
               AcquireResult* result);
  // Lends a slot of `conn` to a caller that did not have to wait.
  Lease* LendNow(HostPool* pool, ConnRecord* conn,
                 const AcquireRequest& request, Instant now,
                 AcquireResult* result);
  // Whether the Acquire with this request_id has a lease. Sets `lease` to it.
  bool FindNamed(std::string_view request_id, LeaseId* lease) const;
  // Rejects the Acquire with this request_id with kSuperseded, if it waits.
  bool RejectNamed(std::string_view request_id, Instant now);
  // A token arrived from a budget's line.
  void BudgetGranted(const Budget* budget, Instant now);
  // Ends every event: starts the dials that are wanted and possible, makes room
  // for those that are not, and leaves the budgets' lines if no waiter needs a
  // token.
  void Settle(Instant now);
  // Returns true if something changed that Settle has to act on.
  bool needs_settling() const { return changed_ || waiters_ > 0; }
  // While the breaker bars dials: rejects the waiters that only a dial could
  // serve. Not a part of Settle, which has to leave a new waiter in line.
  void RejectBarred(Instant now) {
    if (waiters_ > 0 && health_.breaker().Bars(now)) [[unlikely]] {
      for (const auto& pool : pools_) pool->RejectHopeless(now);
    }
  }
  // Starts a speculative dial, if the limits allow one and fewer than `wanted`
  // connections of `pool` are ready or being dialled. (0: one more than its
  // waiters need.) `home`: see HostPool::BeginDial.
  bool DialSpeculatively(HostPool* pool, int wanted, Home* home, Instant now);
  void Reconfigure(const TargetConfig& config, Instant now);
  void Shutdown(Instant now);

  // --- What an operator does (operations.cc) ---

  void SetAdmission(Admission admission, Instant now);
  Admission admission() const { return admission_; }
  // Starts to replace every connection that is open now. Returns how many.
  int Reconnect(Instant now);
  bool renewing() const { return renewing_; }
  // Forgets failed dials: closes the breaker and ends back-offs.
  void ForgiveDials(Instant now);

  // Samples the arrivals and moves the warm floor.
  void OnTimer(Instant now);

  // --- Reports of the HostPools ---

  void OnStateChange(ConnState from, ConnState to) {
    --counts_[static_cast<int>(from)];
    ++counts_[static_cast<int>(to)];
    changed_ = true;
  }
  void OnAdded(ConnState state) {
    ++counts_[static_cast<int>(state)];
    ++total_;
  }
  void OnRemoved(ConnState state) {
    --counts_[static_cast<int>(state)];
    --total_;
    changed_ = true;
  }
  void OnRecords(int change) {
    records_ += change;
    changed_ = true;
  }
  void OnIdle(int change) { idle_ += change; }
  void OnWaiters(int change) {
    waiters_ += change;
    changed_ = true;
  }
  void OnLent(Lease* lease) {
    leases_.PushBack(lease);
    ++lease_count_;
    ++counters_.granted;
    counters_.reused += lease->uses_before > 0 ? 1 : 0;
  }
  // Counts the end of a lease and frees its record.
  void OnEnded(Lease* lease, Instant now);
  void OnDialBegun(Instant now);
  void OnDialed(const HostPoolKey& key, const Established& established,
                Instant now);
  // The dial began at `began`; `early`: its connection ended on probation.
  void OnDialFailed(const DialError& error, bool early, Instant began,
                    Instant now);
  // A connection passed its probation.
  void OnProved(Instant now);
  void EraseNamed(NamedAcquire* named);
  // The upstream closed a connection that had been idle for `idle`.
  void OnClosedIdle(Duration idle, Instant now);
  // The upstream sent bytes outside of an answer.
  void OnUnsolicited(Instant now);
  void OnKeepAliveSaid(Duration timeout, Instant now);

  // --- Numbers ---

  TargetCounters& counters() { return counters_; }
  const TargetCounters& counters() const { return counters_; }
  const std::array<int, kConnStates>& counts() const { return counts_; }
  int count(ConnState state) const { return counts_[static_cast<int>(state)]; }
  int total() const { return total_; }
  int idle() const { return idle_; }
  int waiters() const { return waiters_; }
  int leases() const { return lease_count_; }
  // More connections than allowed, not counting those that will close anyway.
  bool OverLimit() const {
    return total_ - count(ConnState::kClosing) - count(ConnState::kDraining) >
           config_.max_connections;
  }
  // Its own limits allow another dial.
  bool HasDialRoom() const {
    return total_ < config_.max_connections &&
           count(ConnState::kDialing) < config_.max_dials;
  }
  // Slots of a connection not established yet; 0: unknown.
  int ExpectedStreams(const HostPoolKey& key) const;
  // Places that waiters need beyond those that are about to come free.
  int PlacesShort(Instant now) const;
  // At the limit: whether a HostPool without any connection has a waiter older
  // than `waiting`. Without this rule, a HostPool whose connections are never
  // idle would keep it out for ever.
  bool OwesPlaceBefore(const Waiting& waiting, Instant now) const;
  // Connections missing to the warm floor.
  int WarmDeficit() const;
  // No connection, lease, waiter or token: it can be evicted.
  bool Empty() const;

  // Counts and explains a rejection. `waiting` is null if it never waited.
  std::unique_ptr<Rejection> Explain(RejectReason reason, const HostPool& pool,
                                     const Waiting* waiting, Instant now);

  HostPool* AddPool(std::shared_ptr<const HostPoolKey> key, uint64_t hash);
  void RemovePool(HostPool* pool);
  const std::vector<std::unique_ptr<HostPool>>& pools() const { return pools_; }

 private:
  friend class Inspector;
  using NamedAcquires = absl::node_hash_map<std::string, NamedAcquire>;

  NamedAcquire* Named(std::string_view request_id) const;
  void Refuse(RejectReason reason, const HostPool& pool, Instant now,
              AcquireResult* result);
  // Why a request that no connection can serve now is rejected; none: it waits.
  std::optional<RejectReason> WhyNotQueue(const HostPool& pool,
                                          const AcquireRequest& request,
                                          Instant now) const;
  void Queue(HostPool* pool, const AcquireRequest& request, Instant now,
             AcquireResult* result);
  bool AnswerRepeated(HostPool* pool, const AcquireRequest& request,
                      Instant now, AcquireResult* result);
  void TakeOverPlace(Waiting* waiting, const AcquireRequest& request,
                     Instant now, AcquireResult* result);
  NamedAcquire* AddNamed(HostPool* pool, const AcquireRequest& request);
  HostPool* NextToDial(Instant now) const;
  bool TakeTokens(HostPool* pool, Instant now);
  void MakeRoom(Instant now);
  void MakeRoomAmongShared();
  ConnRecord* OldestIdle() const;
  void ApplyIdleTimes(Instant now);
  void OnBreakerStep(TargetHealth::BreakerStep step, Instant now);
  void Report(PoolEvent event);
  bool adaptive() const { return config_.warm_max > config_.warm; }
  uint64_t Arrivals() const;
  void WatchFloor(Instant now);
  void MoveFloor();
  void StepRenewals(Instant now);
  Duration ExpectedWait(const HostPool& pool, bool new_only, Instant now) const;
  WaitInfo WaitInfoNow(const HostPool& pool, int place, Instant now) const;
  Duration RetryAfter(RejectReason reason, const HostPool& pool,
                      Instant now) const;

  // Members that Acquire and Release touch come first.
  ShardState* const shard_;
  TargetConfig config_;
  TargetHealth health_{&config_};
  int total_ = 0;  // Connections that count against the limit.
  int waiters_ = 0;
  int idle_ = 0;
  int records_ = 0;
  int lease_count_ = 0;
  bool changed_ = false;  // Since the last Settle.
  Admission admission_ = Admission::kOpen;
  bool renewing_ = false;  // Some HostPool is.
  std::array<int, kConnStates> counts_{};
  List<Lease, InTarget> leases_;
  TargetCounters counters_;

  const std::string name_;
  const uint64_t arrival_;
  std::vector<std::unique_ptr<HostPool>> pools_;
  int known_streams_ = 0;  // Of the last connection; 0: none yet.
  PoolTimer timer_{this};  // Set while the floor can move.
  TokenClaim connection_;
  TokenClaim dial_;
  // Null until a request_id is used.
  std::unique_ptr<NamedAcquires> named_;
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_TARGET_H_
