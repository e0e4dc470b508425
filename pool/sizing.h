// How many connections to dial, how many to keep warm, and how long a caller
// will wait: pure functions over named numbers.
#ifndef HOTLINE_POOL_SIZING_H_
#define HOTLINE_POOL_SIZING_H_

#include <cstdint>

#include "base/time.h"

namespace hotline::pool {

struct SizingNumbers {
  int waiters = 0;           // That any connection of the HostPool can serve.
  int new_only_waiters = 0;  // That only an unused connection can serve.
  int floor_missing = 0;     // Below the warm floor, dials not counted.
  int dialing = 0;           // Dials of this HostPool under way.
  // Slots a new connection will have; 0: unknown.
  int streams = 1;
  int connection_room = 0;  // Below the target's limit on connections.
  int dial_room = 0;        // Below the target's limit on dials.
  bool backing_off = false;
};

// Returns the dials wanted if there were no limits: enough slots for the
// waiters that the dials under way do not cover. While `streams` is unknown, a
// single dial is made to learn it.
int ConnectionsWanted(const SizingNumbers& n);

// Returns the dials to begin now, within the limits.
int ConnectionsToDial(const SizingNumbers& n);

struct FloorNumbers {
  int least = 0;
  int most = 0;                    // If not above `least`, the floor is fixed.
  double arrivals_per_second = 0;  // Of acquires.
  Duration dial_time{0};           // From its start to ready.
  int streams = 1;                 // Slots of a connection; 0: unknown.
};

// Little's law: while a connection is being established, arrivals x dial time
// callers arrive. That many slots are kept ready to serve them meanwhile.
int AdaptiveFloor(const FloorNumbers& n);

struct WaitNumbers {
  int place = 1;           // In line: 1 is next.
  int dialing = 0;         // Dials under way.
  int dials_to_come = 0;   // Dials to begin now, this caller's included.
  int streams = 1;         // Slots of each new connection; 0: unknown.
  Duration dial_time{0};   // Zero: unknown.
  int lent = 0;            // Slots in use, which will be released.
  Duration lease_time{0};  // Mean duration of a lease.
};

// Estimates how long a caller will wait: for a dial if one will serve it, else
// for released slots to serve the callers before it and itself. Zero: unknown.
Duration EstimatedWait(const WaitNumbers& n);

// An exponentially weighted rate: after `kMemory` an old value weighs 1/e.
class MovingRate {
 public:
  static constexpr Duration kMemory = std::chrono::seconds(10);

  // `count`: the total so far.
  void Sample(uint64_t count, Instant now);
  double per_second() const { return per_second_; }

 private:
  uint64_t count_ = 0;
  Instant at_{};  // Of the last sample; Instant{}: none.
  double per_second_ = 0;
};

// An exponentially weighted mean: each new duration weighs a fifth.
class MovingDuration {
 public:
  void Add(Duration one) {
    mean_ = mean_ == Duration(0) ? one : mean_ + (one - mean_) / 5;
  }
  Duration mean() const { return mean_; }

 private:
  Duration mean_{0};
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_SIZING_H_
