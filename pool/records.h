// The records a shard keeps: connections, leases, and those who wait. Plain
// state, guarded by the shard's mutex; HostPool and Leases say what happens to
// it.
#ifndef HOTLINE_POOL_RECORDS_H_
#define HOTLINE_POOL_RECORDS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <variant>

#include "base/time.h"
#include "base/timer_wheel.h"
#include "pool/list.h"
#include "pool/pool.h"
#include "pool/slab.h"
#include "pool/types.h"

namespace hotline::pool {

class HostPool;
class Target;
struct Connection;
struct Lease;
struct Waiting;
struct Request;

// A timer may be set too early (the deadline moved on meanwhile): when it
// fires, the real deadline is looked at and the timer set again. So nothing
// needs to be done to it when a connection is used or a lease given back.
struct PoolTimer : Timer {
  template <typename Owner>
  explicit PoolTimer(Owner* owner_in) : owner(owner_in) {}
  const std::variant<Connection*, Lease*, Waiting*, HostPool*, Target*> owner;
};

// Tags of lists.
struct InPool;       // By what a connection can be used for.
struct InIdleOrder;  // The shard's idle connections, longest idle first.
struct InTarget;     // The target's leases, oldest first.
struct InLine;       // Those who wait, first come first.

struct Connection : SlabEntry, Link<InPool>, Link<InIdleOrder> {
  HostPool* pool = nullptr;
  ConnState state = ConnState::kDialing;
  // It closed while leases were out: kept until they end, and counted nowhere.
  bool gone = false;
  // Has had more than one slot: what one borrower does must not cost the
  // others their streams.
  bool multiplexed = false;
  bool close_asked = false;
  // On probation: whether its dial succeeded is not settled yet.
  bool unproven = false;
  // Why it drains or closes, once the pool has decided that.
  CloseReason reason = CloseReason::kError;
  int limit = 0;         // Slots: at most as many are lent.
  int active = 0;        // Slots lent.
  int peer_streams = 0;  // What the peer allows.
  int errors = 0;
  int checks_failed = 0;  // In a row, or before the passed ones.
  int checks_passed = 0;  // In a row, since one failed.
  // kProbing: the next check of one that is in doubt; kNever: one runs.
  Instant recheck_at = kNever;
  uint64_t uses = 0;
  Handle handle = 0;
  Instant idle_since{};  // When the last slot came back.
  Instant lend_until{};  // Idle past it, it needs a probe, or is too old.
  Instant ready_since{};
  Instant retire_at{};
  Instant checked_at{};  // Last probed, or used.
  Instant dial_began{};
  DialTimings timings;
  PoolTimer timer{this};
};

struct Lease : SlabEntry, Link<InTarget> {
  Connection* conn = nullptr;
  uint64_t secret = 0;
  uint64_t owner = 0;
  Instant granted{};
  // When it ends by itself. While busy, the clock stands still: see `left`.
  Instant expires = kNever;
  Duration left{0};
  Instant leak_at = kNever;
  bool busy = false;
  bool has_end = false;      // It has a time to live.
  bool released = false;     // Given back during a call; ends with it.
  uint64_t uses_before = 0;  // Of its connection.
  std::shared_ptr<const Holder> holder;
  Request* request = nullptr;
  PoolTimer timer{this};
};

// What a lease will be like.
struct LeaseTerms {
  Duration ttl{0};
  uint64_t secret = 0;
  uint64_t owner = 0;
  std::shared_ptr<const Holder> holder;
  Request* request = nullptr;
};

struct Waiting : SlabEntry, Link<InLine> {
  HostPool* pool = nullptr;
  Waiter* waiter = nullptr;
  bool new_only = false;
  uint64_t order = 0;  // Over the shard: smaller came earlier.
  Instant arrived{};
  Instant deadline = kNever;
  LeaseTerms terms;
  WaitInfo info;
  PoolTimer timer{this};
};

// A repeatable Acquire, for as long as its waiter or lease lives.
struct Request {
  const std::string* name = nullptr;
  HostPool* pool = nullptr;
  Reuse reuse = Reuse::kPrefer;
  Duration ttl{0};
  Waiting* waiting = nullptr;
  Lease* lease = nullptr;
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_RECORDS_H_
