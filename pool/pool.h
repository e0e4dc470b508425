// The pool: who may use which connection, and what must be dialled or closed
// for it.
//
// A Pool is shards; a Shard is one mutex and its Targets; a Target owns the
// limits over its HostPools; a HostPool holds interchangeable connections and
// the line of those who wait for one. Everything below the Pool is plain,
// single-threaded state that takes events with the time in them and appends
// effects to the shard's outbox (see host_pool.h). The Pool locks, lets the
// event be decided in one step, unlocks, and carries the effects out in order
// through the Transport: one drainer per shard at a time, never under a lock. A
// thread carries out PoolConfig::effects_per_turn of them at most, its own or
// others'; the next thread that comes goes on, or the tick it has asked for.
//
// Thread safety: every method may be called from any thread. None blocks but
// for the shard's mutex, which is held for a bounded number of steps.
//
// Invariants, checked after every event by the simulation (tests/sim):
//   1. No barging: while somebody waits in a HostPool, none of its Ready
//      connections has free capacity that could be lent.
//   2. Conservation: leases on a connection equal its active count; connections
//      stay within the limits; every waiter is resolved exactly once; every
//      Dial and Probe is answered exactly once; budget tokens equal connections
//      plus reservations.
//   3. A connection is reserved in the same step in which it is granted.
//   4. FIFO within a HostPool; deadlines are absolute and never re-armed.
//   5. A probing or draining connection is never granted.
//   6. After everything is released and drained nothing is left: no lease,
//      waiter, connection, timer or token.
#ifndef HOTLINE_POOL_POOL_H_
#define HOTLINE_POOL_POOL_H_

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/lease_id.h"
#include "base/time.h"
#include "pool/snapshot.h"
#include "pool/transport.h"
#include "pool/types.h"

namespace hotline::pool {

// A slot on a connection, lent. Plain value: whoever got it must Release it
// exactly once (the Broker's scoped types see to that).
struct Grant {
  LeaseId lease;
  ConnId conn = 0;
  Handle handle = 0;
  bool reused = false;    // It has served somebody before.
  uint64_t uses = 0;      // How many, before this one.
  Instant ready_since{};  // When the connection became ready.
  Instant expires = kNever;
  // Of the dial that made this connection, when this caller waited for it.
  DialTimings dial;
  WaitInfo wait;
};

struct Rejection {
  RejectReason reason = RejectReason::kWaitTimeout;
  DialError dial_error;         // With kDialFailed.
  std::string last_dial_error;  // Of the target, if one since its last success.
  WaitInfo wait;
  std::vector<HeldFor> oldest_holders;  // At most five.
  // When trying again makes sense, from now.
  Duration retry_after{0};
};

// Told once how a wait ended, without any lock held, from any thread. Must not
// block. It must stay alive until then, or until Cancel has returned true.
class Waiter {
 public:
  virtual ~Waiter() = default;
  virtual void OnGrant(const Grant& grant) = 0;
  virtual void OnReject(Rejection rejection) = 0;
};

// Names a place in a line. 0 names none.
using WaiterId = uint64_t;

struct AcquireRequest {
  // Must stay valid during the call only.
  const HostPoolKey* key = nullptr;
  Reuse reuse = Reuse::kPrefer;
  // False: answered at once (NO_WAIT), after beginning a dial if allowed.
  bool may_wait = true;
  // Of the wait. Absolute.
  Instant deadline = kNever;
  // Of the lease; zero: it ends only by Release (for a single call).
  Duration lease_ttl{0};
  // 64 random bits, unpredictable: the lease's secret.
  uint64_t secret = 0;
  // Whose the lease will be: only a LeaseId with this owner is good for it. 0:
  // of those who have no identity.
  uint64_t owner = 0;
  // May be null. Let go of when the lease ends, or was not to be.
  std::shared_ptr<const Holder> holder;
  // Empty: not repeatable. With the identity before it, where there is one.
  std::string_view request_id;
  // Told how it ends when the answer is kQueued. May be null with may_wait
  // false.
  Waiter* waiter = nullptr;
};

struct AcquireResult {
  enum Kind { kGranted, kQueued, kRejected };
  Kind kind = kRejected;
  Grant grant;                           // kGranted.
  WaiterId waiter = 0;                   // kQueued.
  std::unique_ptr<Rejection> rejection;  // kRejected.
};

// What a lease id turned out to be.
enum class LeaseStatus : uint8_t {
  kOk,
  kEnded,          // It was one; it is over (released or expired).
  kUnknown,        // It never was one, or the secret is wrong.
  kNotYours,       // Somebody else owns it.
  kOtherInstance,  // Another process made it.
  kBusy,           // A call runs on it (BeginCall only).
};

// A lease's connection, for a call on it.
struct CallStart {
  LeaseStatus status = LeaseStatus::kUnknown;
  Handle handle = 0;
  ConnId conn = 0;
  uint64_t uses = 0;
  Instant ready_since{};
  // Whose connection it is; what a URL must match.
  std::shared_ptr<const HostPoolKey> key;
};

struct PrewarmResult {
  int begun = 0;    // Dials, by this call.
  int missing = 0;  // Connections that are not ready yet, of those wanted.
};

struct RenewResult {
  LeaseStatus status = LeaseStatus::kUnknown;
  Instant expires = kNever;
};

// Asked for a target's numbers when the target is first seen and after
// Reconfigure. Called under a shard's lock: pure look-up, no blocking.
using TargetConfigFn = std::function<TargetConfig(const std::string& target)>;

// Told once of each lease held for longer than leak_after. No lock held.
using LeakFn = std::function<void(const HostPoolKey& key, ConnId conn,
                                  const Holder& holder, Duration age)>;

// A target's circuit breaker opened (again), or closed.
struct BreakerChange {
  BreakerState state = BreakerState::kClosed;  // kClosed or kOpen.
  int failures = 0;                            // Dials in a row, when open.
  Duration open_for{0};                        // When open.
  std::string last_dial_error;                 // When open.
};

// Told of each. No lock held.
using BreakerFn =
    std::function<void(const std::string& target, const BreakerChange& change)>;

class Pool final : public TransportEvents {
 public:
  // `transport` must outlive the pool and may answer only while it lives.
  Pool(const PoolConfig& config, TargetConfigFn target_config,
       Transport* transport, LeakFn on_leak = nullptr,
       BreakerFn on_breaker = nullptr);
  ~Pool() override;
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // Borrows a slot. With kQueued the waiter is told later, maybe before this
  // returns.
  AcquireResult Acquire(const AcquireRequest& request, Instant now);

  // Borrows a slot if one is there to be lent now, in line behind nobody: as
  // Acquire does, then. Otherwise false, and nothing was changed or counted.
  // Never with a request_id.
  bool AcquireIdle(const AcquireRequest& request, Instant now,
                   AcquireResult* result);

  // Leaves the line. True: the waiter will never be told anything. False: it
  // has been told, or soon will be; a grant is then the caller's to release.
  bool Cancel(WaiterId waiter, Instant now);

  // Ends a lease. While a call runs on it: kOk takes effect at EndCall, the
  // others close the connection at once.
  LeaseStatus Release(const LeaseId& lease, Outcome outcome, Instant now);

  // Ends a lease whose holder is gone, and counts it. Between calls it is as
  // kOk; while one runs on it nobody knows what will become of the connection:
  // of one with a single slot it is closed, of others only this slot ends when
  // the call does. `busy`: that it was so.
  LeaseStatus Reclaim(const LeaseId& lease, Instant now, bool* busy);

  // Whether the lease is one still.
  LeaseStatus Look(const LeaseId& lease, Instant now);

  // Marks a lease as busy, and stops its clock, for one call. Each kOk is
  // followed by one EndCall.
  CallStart BeginCall(const LeaseId& lease, Instant now);

  // The call is over. The lease's clock runs on with what was left; a lease
  // released meanwhile ends now.
  void EndCall(const LeaseId& lease, Instant now);

  // Sets the end to now + ttl.
  RenewResult Renew(const LeaseId& lease, Duration ttl, Instant now);

  // Makes the target's warm floor without waiting for a caller.
  void Warm(const std::string& target, Instant now);

  // Begins dials for nobody, `most` at most, as far as the limits allow: until
  // `connections` of this key are ready. Those are no floor: unused, they go as
  // others do.
  PrewarmResult Prewarm(const HostPoolKey& key, int connections, int most,
                        Instant now);

  // Connections missing to the target's warm floor. A target that is not known
  // has its whole floor missing.
  int WarmDeficit(const std::string& target) const;

  // Asks target_config anew for all targets and takes the pool-wide caps
  // (max_connections, max_dials, max_targets, leak_after) from `config`.
  void Reconfigure(const PoolConfig& config, Instant now);

  // No more grants: waiters are rejected with kShutdown, idle connections
  // closed, leased ones as they come back. Idempotent.
  void Shutdown(Instant now);

  // Does what is due in a shard. See Transport::WakeAt.
  void Tick(int shard, Instant now);

  // TransportEvents:
  void Dialed(ConnId id, const Established& established, Instant now) override;
  void DialFailed(ConnId id, const DialError& error, const DialTimings& timings,
                  Instant now) override;
  void Closed(ConnId id, CloseReason reason, const DialError* early,
              Instant now) override;
  void Served(ConnId id, Instant now) override;
  void Probed(ConnId id, bool passed, Instant now) override;
  void ConcurrencyChanged(ConnId id, int max_streams, Instant now) override;
  void GoAway(ConnId id, const DialError* early, Instant now) override;
  void KeepAliveSaid(ConnId id, Duration timeout, Instant now) override;
  void ErrorCounted(ConnId id, Instant now) override;

  // Looks at the shards one after the other, a page of rows at a time, so that
  // no lock is held for long. See Snapshot for what that means.
  Snapshot TakeSnapshot(const SnapshotRequest& request, Instant now) const;

  int shards() const;

 private:
  friend class Inspector;  // Checks the invariants, in tests.
  class Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_POOL_H_
