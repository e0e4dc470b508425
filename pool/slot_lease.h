// Ownership of a slot: a SlotLease gives back, exactly once, what the pool
// lent.
//
//   SlotLease slot(&pool, grant, /*dropped=*/Outcome::kOk, &MonotonicNow);
//   upstream.StartCall(slot.conn(), ...);
//   ...
//   slot.Release(Outcome::kOk, now);  // Or leave it to the destructor.
//
// It owns one of two things:
//   - a slot granted by Acquire, which it ends with Pool::Release; or
//   - a call begun by BeginCall on a lease that a remote holder keeps, which it
//     ends with Pool::EndCall. The lease itself goes on, so the outcome has no
//     effect.
//
// The pool reads no clock, and a destructor takes no argument. So the owner
// names, at construction, the outcome and the clock that the destructor uses:
// the clock is read only if Release was not called. A time stored at
// construction would not do: it would serve waiters past their deadlines.
//
// Thread safety: as any value; the Pool it refers to is thread-safe. No lock of
// a Waiter may be held when it ends the slot: that may call other waiters.
//
// Invariants:
//   1. The slot is given back exactly once: by Release, by the destructor, or,
//      after Detach, by the receiver of the lease.
//   2. A moved-from, released, detached or default-constructed SlotLease owns
//      nothing; Release on it does nothing.
#ifndef HOTLINE_POOL_SLOT_LEASE_H_
#define HOTLINE_POOL_SLOT_LEASE_H_

#include <cstdint>
#include <utility>

#include "base/lease_id.h"
#include "base/time.h"
#include "pool/pool.h"
#include "pool/types.h"

namespace hotline::pool {

class SlotLease {
 public:
  using Clock = Instant (*)();

  SlotLease() = default;

  // Owns the slot of `grant`.
  SlotLease(Pool* pool, const Grant& grant, Outcome dropped, Clock clock)
      : SlotLease(pool, clock, grant.lease, grant) {
    dropped_ = dropped;
  }

  // Owns the call that `start` began on `lease`. REQUIRES: start.status is kOk.
  SlotLease(Pool* pool, const LeaseId& lease, const CallStart& start,
            Clock clock)
      : SlotLease(pool, clock, lease, start) {
    is_call_ = true;
  }

  SlotLease(SlotLease&& other) noexcept : SlotLease(std::as_const(other)) {
    other.pool_ = nullptr;
  }
  SlotLease& operator=(SlotLease&& other) noexcept {
    if (this == &other) return *this;
    Drop();
    *this = std::as_const(other);
    other.pool_ = nullptr;
    return *this;
  }
  ~SlotLease() { Drop(); }

  // Gives the slot back, or ends the call.
  void Release(Outcome outcome, Instant now) {
    Pool* const pool = std::exchange(pool_, nullptr);
    if (pool == nullptr) return;
    if (is_call_) {
      pool->EndCall(lease_, now);
    } else {
      pool->Release(lease_, outcome, now);
    }
  }

  // Hands the lease over to the caller, who must release it.
  LeaseId Detach() {
    pool_ = nullptr;
    return lease_;
  }

  bool owns() const { return pool_ != nullptr; }
  // It is a call on a lease that goes on afterwards.
  bool is_call() const { return is_call_; }

  // Facts of the slot. They stay readable after its end.
  const LeaseId& lease() const { return lease_; }
  ConnId conn() const { return conn_; }
  // Leases on the connection before this one.
  uint64_t uses() const { return uses_; }
  Instant ready_since() const { return ready_since_; }

 private:
  // For moves.
  SlotLease(const SlotLease&) = default;
  SlotLease& operator=(const SlotLease&) = default;

  template <typename Source>
  SlotLease(Pool* pool, Clock clock, const LeaseId& lease, const Source& source)
      : pool_(pool),
        clock_(clock),
        lease_(lease),
        conn_(source.conn),
        uses_(source.uses),
        ready_since_(source.ready_since) {}

  void Drop() {
    if (pool_ != nullptr) Release(dropped_, clock_());
  }

  Pool* pool_ = nullptr;  // Null: owns nothing.
  Clock clock_ = nullptr;
  LeaseId lease_;
  ConnId conn_ = 0;
  uint64_t uses_ = 0;
  Instant ready_since_{};
  Outcome dropped_ = Outcome::kOk;
  bool is_call_ = false;
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_SLOT_LEASE_H_
