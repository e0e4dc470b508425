// The pool decides which caller may use which connection, and which connections
// to dial or close for that. It never touches the network.
//
// A Pool consists of shards; a Shard is one mutex and its Targets; a Target
// owns the limits over its HostPools; a HostPool holds interchangeable
// connections and the line of callers that wait for one. Everything below the
// Pool is plain, single-threaded state that takes events, with the time in
// them, and appends effects to the shard's outbox (host_pool.h). The Pool locks
// the shard, lets the event be decided in one step, unlocks, and carries the
// effects out in order through the Transport. One thread at a time drains a
// shard's outbox, and at most PoolConfig::effects_per_turn effects of it, its
// own or others'; the next thread that comes continues, or the tick that was
// asked for.
//
// A borrower, leaving out errors:
//
//   AcquireRequest request;
//   request.key = &key;
//   request.deadline = now + std::chrono::seconds(1);
//   request.secret = RandomBits();
//   request.waiter = this;  // OnGrant or OnReject follows kQueued.
//   AcquireResult result = pool.Acquire(request, now);
//   if (result.kind == AcquireResult::kGranted) {
//     SlotLease slot(&pool, result.grant, Outcome::kOk, &MonotonicNow);
//     ...  // Use the connection; ~SlotLease gives the slot back.
//   }
//
// Thread safety: every method may be called from any thread. None blocks, but
// for the shard's mutex, which is held for a bounded number of steps.
//
// Invariants, checked after every event by the simulation (tests/sim):
//   1. No barging: while a caller waits in a HostPool, none of its Ready
//      connections has a free slot that could serve that caller.
//   2. Conservation: the leases on a connection equal its active count;
//      connections stay within the limits; every waiter is resolved exactly
//      once; every Dial and Probe is answered exactly once; budget tokens equal
//      connections plus reservations.
//   3. A slot is reserved in the same step in which it is granted.
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

// A slot that was lent. A plain value: its receiver must release it exactly
// once. SlotLease (slot_lease.h) does that.
struct Grant {
  LeaseId lease;
  ConnId conn = 0;
  bool reused = false;    // The connection has served a caller before.
  uint64_t uses = 0;      // Leases on it before this one.
  Instant ready_since{};  // When the connection was established.
  Instant expires = kNever;
  // Of the dial of this connection, if this caller waited for it.
  DialTimings dial;
  WaitInfo wait;
};

struct Rejection {
  RejectReason reason = RejectReason::kWaitTimeout;
  DialError dial_error;         // With kDialFailed.
  std::string last_dial_error;  // The target's, if it failed since a success.
  WaitInfo wait;
  std::vector<HeldFor> oldest_holders;  // At most five.
  Duration retry_after{0};              // When to try again, from now.
};

// Receives the end of a wait, by exactly one of the two methods. Called from
// any thread, without a lock held; must not block. Must stay alive until then,
// or until Cancel has returned true.
class Waiter {
 public:
  virtual ~Waiter() = default;
  virtual void OnGrant(const Grant& grant) = 0;
  virtual void OnReject(Rejection rejection) = 0;
};

// Identifies a place in line. 0 means none.
using WaiterId = uint64_t;

struct AcquireRequest {
  // Must be valid during the call only.
  const HostPoolKey* key = nullptr;
  Reuse reuse = Reuse::kPrefer;
  // False: answer at once, after starting a dial if the limits allow it.
  bool may_wait = true;
  // Of the wait; absolute.
  Instant deadline = kNever;
  // Time to live of the lease. Zero: it ends only by Release.
  Duration lease_ttl{0};
  // The lease's secret: 64 random, unpredictable bits.
  uint64_t secret = 0;
  // Owner of the lease: only a LeaseId with the same owner is accepted. 0: a
  // caller without an identity.
  uint64_t owner = 0;
  // The loop that the caller runs on: of the connections that could be lent,
  // one that lives there is lent first, and a dial for this caller is placed
  // there.
  LoopIndex loop = kNoLoop;
  // May be null. Dropped when the lease or the wait ends.
  std::shared_ptr<const Holder> holder;
  // Makes the Acquire repeatable; empty: it is not. Must be unique within the
  // target, so it includes the caller's identity where there is one.
  std::string_view request_id;
  // Receives the end of the wait after kQueued. May be null if !may_wait.
  Waiter* waiter = nullptr;
};

struct AcquireResult {
  enum Kind { kGranted, kQueued, kRejected };
  Kind kind = kRejected;
  Grant grant;                           // With kGranted.
  WaiterId waiter = 0;                   // With kQueued.
  std::unique_ptr<Rejection> rejection;  // With kRejected.
};

// The state of the lease that a LeaseId names.
enum class LeaseStatus : uint8_t {
  kOk,
  kEnded,          // Released or expired.
  kUnknown,        // It never existed, or the secret is wrong.
  kNotYours,       // It has another owner.
  kOtherInstance,  // It was made by another process.
  kBusy,           // A call runs on it (BeginCall only).
};

// The connection of a lease, for a call on it.
struct CallStart {
  LeaseStatus status = LeaseStatus::kUnknown;
  ConnId conn = 0;
  uint64_t uses = 0;
  Instant ready_since{};
  // The connection's key: a call must be for its target.
  std::shared_ptr<const HostPoolKey> key;
};

struct PrewarmResult {
  int begun = 0;    // Dials started by this call.
  int missing = 0;  // Of the connections wanted, those not ready yet.
};

struct RenewResult {
  LeaseStatus status = LeaseStatus::kUnknown;
  Instant expires = kNever;
};

// Returns a target's settings. Called when the target is first seen and after
// Reconfigure, under a shard's lock: it must be a pure look-up.
using TargetConfigFn = std::function<TargetConfig(const std::string& target)>;

// What happens to a target's connections and leases, for operators. No call
// that goes well is an event.
struct PoolEvent {
  enum class Kind : uint8_t {
    kDialing,
    kDialFailed,      // Or the connection ended on probation.
    kReady,           // A connection was established.
    kClosed,          // A connection is gone.
    kBreaker,         // It opened (also again, after a trial) or closed.
    kQuarantine,      // It began.
    kLeaseLeaked,     // Held longer than leak_after. Once per lease.
    kLeaseExpired,    // It was not released in time.
    kLeaseReclaimed,  // Its holder is gone, or an operator ended it.
  };
  Kind kind = Kind::kDialing;
  // The connection's. Of kBreaker and kQuarantine: of any HostPool of the
  // target.
  std::shared_ptr<const HostPoolKey> key = nullptr;
  ConnId conn = 0;
  CloseReason closed = CloseReason::kError;      // Of kClosed.
  BreakerState breaker = BreakerState::kClosed;  // Of kBreaker: or kOpen.
  const char* reason = "";  // Of kDialFailed: DialError::reason.
  std::string error = {};   // Of kDialFailed; of kBreaker, open: the last one.
  int failures = 0;         // Of kBreaker, open: dials in a row.
  uint64_t uses = 0;        // Of kClosed: leases that it served.
  // Of kReady: the dial's. Of kClosed: the connection's age. Of kBreaker, open,
  // and kQuarantine: how long it lasts. Of a lease: how long it was held.
  Duration length{0};
  std::shared_ptr<const Holder> holder = nullptr;  // Of a lease; may be null.
  uint64_t owner = 0;                              // Of a lease.
};

// Called for each event, without a lock held, in the order of the shard's
// decisions.
using EventFn = std::function<void(const PoolEvent& event)>;

class Pool final : public TransportEvents {
 public:
  // `transport` must outlive the pool, and may report events only while the
  // pool exists.
  Pool(const PoolConfig& config, TargetConfigFn target_config,
       Transport* transport, EventFn on_event = nullptr);
  ~Pool() override;
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // --- Borrowing ---

  // Borrows a slot. With kQueued the waiter is called later, possibly before
  // this returns.
  AcquireResult Acquire(const AcquireRequest& request, Instant now);

  // Borrows a slot if one is available at once, no caller waits for it and
  // nothing has to be dialled; the result is then that of Acquire. Otherwise
  // returns false and neither changes nor counts anything. Always false with a
  // request_id.
  bool AcquireIdle(const AcquireRequest& request, Instant now,
                   AcquireResult* result);

  // Leaves the line. True: the waiter will not be called. False: it has been
  // called or will be soon; if it is a grant, the caller must release it.
  bool Cancel(WaiterId waiter, Instant now);

  // --- Leases ---

  // Ends a lease. If a call runs on it, the slot stays with the call until
  // EndCall, but the outcome applies to the connection at once: a connection
  // with a single slot is closed by kBroken and kDiscard; one with more stays
  // open for the others, so the caller of Release should end that call itself.
  // `running`, if not null, is set to the call's tag, or to 0 if none runs.
  LeaseStatus Release(const LeaseId& lease, Outcome outcome, Instant now,
                      CallTag* running = nullptr);

  // Ends what the Acquire with this request_id left: its lease, as Release
  // does, or its wait, whose waiter is rejected with kSuperseded. kEnded: there
  // is neither. `lease` is set if there was one.
  LeaseStatus ReleaseNamed(const std::string& target,
                           std::string_view request_id, Outcome outcome,
                           Instant now, LeaseId* lease, CallTag* running);

  // Ends and counts a lease whose holder is gone. Between calls this is a
  // Release with kOk. If a call runs on it, the state of the connection is
  // unknown: a connection with a single slot is closed; of others only this
  // slot ends, with its call. `running`: as above.
  LeaseStatus Reclaim(const LeaseId& lease, Instant now, CallTag* running);

  // Ends and counts a lease as Reclaim does, unless it was used: a call began
  // on it, it was renewed, or a repeated Acquire was answered with it. For an
  // answer that its caller never took. Returns whether it was ended.
  bool ReleaseIfUnused(const LeaseId& lease, Instant now);

  // Returns kOk if the lease has not ended.
  LeaseStatus StatusOf(const LeaseId& lease, Instant now);

  // Reserves a lease for one call and stops its clock. kOk must be followed by
  // exactly one EndCall. `call` identifies the call to Release and Reclaim.
  // REQUIRES: call != 0.
  CallStart BeginCall(const LeaseId& lease, CallTag call, Instant now);

  // Ends the call. The lease's clock continues with the time that was left; a
  // lease that was released meanwhile ends now.
  void EndCall(const LeaseId& lease, Instant now);

  // Sets the lease's end to now + ttl.
  RenewResult Renew(const LeaseId& lease, Duration ttl, Instant now);

  // --- Maintenance ---

  // Dials for the target's warm floor without waiting for a caller.
  void Warm(const std::string& target, Instant now);

  // Starts speculative dials, at most `most` and within the limits, until
  // `connections` of this key are ready. They do not count towards the warm
  // floor; unused connections idle out normally.
  PrewarmResult Prewarm(const HostPoolKey& key, int connections, int most,
                        Instant now);

  // Returns the connections missing to the target's warm floor. An unknown
  // target misses its whole floor.
  int WarmDeficit(const std::string& target) const;

  // Re-reads all targets' settings from target_config, and takes the pool-wide
  // limits (max_connections, max_dials, max_targets, leak_after) from `config`.
  void Reconfigure(const PoolConfig& config, Instant now);

  // Stops granting: waiters are rejected with kShutdown, idle connections are
  // closed, leased ones when they are released. Idempotent.
  void Shutdown(Instant now);

  // --- What an operator does ---

  // Opens, pauses or drains a target, known or not, and returns what it was
  // before. It stays so until the next call; a drained or paused target is not
  // evicted. Nothing: there is no room for a new target (max_targets), or the
  // pool is shutting down.
  std::optional<Admission> SetAdmission(const std::string& target,
                                        Admission admission, Instant now);

  // Replaces every connection of the target that is open now, in each HostPool
  // one after the other: a new one is dialled first, within the limits, then an
  // old one is closed, or drained if it is leased. Without room for another
  // connection an old one is closed first. While dials fail, the old ones stay.
  // Returns how many are to be replaced; nothing: the target is unknown.
  std::optional<int> Reconnect(const std::string& target, Instant now);

  // Forgets a target's failed dials: closes the breaker, ends back-offs. False:
  // the target is unknown.
  bool ForgiveDials(const std::string& target, Instant now);

  // Closes a connection, when its last lease ends or `at_once`, which aborts
  // the calls on it. False: no open connection has this id.
  bool Evict(ConnId conn, bool at_once, Instant now);

  // Ends the lease of this LeaseRow::id as Reclaim does. kEnded: there is none.
  // `lease` is set if there was one.
  LeaseStatus EndLease(uint64_t row_id, Instant now, LeaseId* lease,
                       CallTag* running);

  // Fires a shard's timers. See Transport::WakeAt.
  void Tick(int shard, Instant now);

  // --- TransportEvents ---

  void Dialed(ConnId id, const Established& established, Instant now) override;
  void DialFailed(ConnId id, const DialError& error, Instant now) override;
  void Closed(ConnId id, CloseReason reason, const DialError* early,
              Instant now) override;
  void Served(ConnId id, Instant now) override;
  void Probed(ConnId id, bool passed, Instant now) override;
  void ConcurrencyChanged(ConnId id, int max_streams, Instant now) override;
  void GoAway(ConnId id, const DialError* early, Instant now) override;
  void KeepAliveSaid(ConnId id, Duration timeout, Instant now) override;
  void ErrorCounted(ConnId id, Instant now) override;

  // --- Inspection ---

  // Visits the shards one after the other. See snapshot.h for its consistency.
  Snapshot TakeSnapshot(const SnapshotRequest& request, Instant now) const;

  int shards() const;

 private:
  friend class Inspector;  // Checks the invariants, in tests.
  class Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_POOL_H_
