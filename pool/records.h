// The records that a shard keeps: connections, leases and waiters. Plain state,
// guarded by the shard's mutex; HostPool and Leases decide what happens to it.
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
struct ConnRecord;
struct Home;
struct Lease;
struct Waiting;
struct NamedAcquire;

// Timers are lazy: a timer may fire before its owner's deadline, because that
// has moved on meanwhile. The owner then compares the times and sets the timer
// again. So using a connection or ending a lease touches no timer.
struct PoolTimer : Timer {
  template <typename Owner>
  explicit PoolTimer(Owner* owner_in) : owner(owner_in) {}
  const std::variant<ConnRecord*, Lease*, Waiting*, HostPool*, Target*> owner;
};

// Tags of lists.
struct InPool;       // A HostPool's connections, by what they can be used for.
struct AtHome;       // Those of one loop that can be lent.
struct InIdleOrder;  // The shard's idle connections, longest idle first.
struct InTarget;     // The target's leases, oldest first.
struct InLine;       // Waiters, oldest first.

struct ConnRecord : SlabEntry, Link<InPool>, Link<AtHome>, Link<InIdleOrder> {
  HostPool* pool = nullptr;
  // Of the loop that it lives on, or is to. Null: undecided, or there is only
  // one loop.
  Home* home = nullptr;
  ConnState state = ConnState::kDialing;
  // It closed while it was leased: it counts against no limit any more, and is
  // kept until its last lease ends.
  bool gone = false;
  // It has had more than one slot: one borrower must not cost the others their
  // streams.
  bool multiplexed = false;
  bool close_asked = false;
  bool on_probation = false;  // See kProbation.
  // Why it drains or closes, once the pool has decided that.
  CloseReason reason = CloseReason::kError;
  int limit = 0;         // Slots that may be lent.
  int active = 0;        // Slots lent; above `limit` after it was lowered.
  int peer_streams = 0;  // Streams the peer allows.
  int errors = 0;
  int checks_failed = 0;  // In a row, or before `checks_passed`.
  int checks_passed = 0;  // In a row, since one failed.
  // In kProbing: when to check again after a failed check; kNever while a check
  // is under way.
  Instant recheck_at = kNever;
  uint64_t uses = 0;     // Leases so far.
  Instant idle_since{};  // When the last slot was given back.
  Instant lend_until{};  // While idle, it is lent only before this time.
  Instant ready_since{};
  Instant retire_at{};   // End of its lifetime.
  Instant checked_at{};  // Last checked, or used.
  Instant dial_began{};
  DialTimings timings;
  PoolTimer timer{this};
};

// Connections with a free slot, in the order in which they are lent.
template <typename Tag>
struct Lendable {
  List<ConnRecord, Tag> partial;  // Multiplexed, some slots lent.
  List<ConnRecord, Tag> idle;     // Have served; last used first.
  List<ConnRecord, Tag> fresh;    // Have never served.

  bool empty() const {
    return partial.empty() && idle.empty() && fresh.empty();
  }
};

// One loop, as a HostPool sees it.
struct Home {
  LoopIndex loop = 0;
  Lendable<AtHome> lendable;
  int connections = 0;  // Being dialled, ready or being checked.
  int dialing = 0;      // Of them.
  int waiters = 0;      // Callers on this loop.
  // Leases of its callers on other loops' connections, and the reverse.
  int leases_elsewhere = 0;
  int foreign_leases = 0;
};

struct Lease : SlabEntry, Link<InTarget> {
  bool busy() const { return call != 0; }

  ConnRecord* conn = nullptr;
  Home* callers_home = nullptr;  // If the connection has another one.
  uint64_t secret = 0;
  uint64_t owner = 0;
  Instant granted{};
  // When it expires; kNever while a call runs, which has then `left`.
  Instant expires = kNever;
  Duration left{0};
  Instant leak_at = kNever;
  CallTag call = 0;          // The call that runs on it; 0: none.
  bool has_end = false;      // It has a time to live.
  bool released = false;     // Released during a call; ends with the call.
  bool used = false;         // See Pool::ReleaseIfUnused.
  uint64_t uses_before = 0;  // Of its connection.
  std::shared_ptr<const Holder> holder;
  NamedAcquire* named = nullptr;
  PoolTimer timer{this};
};

// What a waiter's lease will have.
struct LeaseTerms {
  Duration ttl{0};
  uint64_t secret = 0;
  uint64_t owner = 0;
  std::shared_ptr<const Holder> holder;
  NamedAcquire* named = nullptr;
};

struct Waiting : SlabEntry, Link<InLine> {
  HostPool* pool = nullptr;
  Waiter* waiter = nullptr;
  Home* home = nullptr;  // Null: its caller names no loop.
  bool new_only = false;
  uint64_t order = 0;  // Of arrival, over the shard.
  Instant arrived{};
  Instant deadline = kNever;
  LeaseTerms terms;
  WaitInfo info;
  PoolTimer timer{this};
};

// An Acquire with a request_id, for as long as its waiter or lease exists.
struct NamedAcquire {
  const std::string* name = nullptr;
  HostPool* pool = nullptr;
  Reuse reuse = Reuse::kPrefer;
  Duration ttl{0};
  Waiting* waiting = nullptr;
  Lease* lease = nullptr;
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_RECORDS_H_
