// How many connections to begin, and how many to keep: pure functions over
// named numbers.
#ifndef HOTLINE_POOL_SIZING_H_
#define HOTLINE_POOL_SIZING_H_

#include <cstdint>

#include "base/time.h"

namespace hotline::pool {

struct SizingNumbers {
  int waiters = 0;           // Served by any connection of the HostPool.
  int new_only_waiters = 0;  // Served by an unused one alone.
  int floor_missing = 0;     // Short of the warm floor, dials not counted.
  int dialing = 0;           // On their way to this HostPool.
  // Slots a new connection will have; 0 while nobody knows.
  int streams = 1;
  int connection_room = 0;  // Until the target's limit on connections.
  int dial_room = 0;        // Until the target's limit on dials.
  bool backing_off = false;
};

// Dials wanted now, were there no limits: one for each waiter not yet covered
// by a dial on its way, counting the slots each will bring. While `streams` is
// unknown one is enough: it is dialled to learn.
int ConnectionsWanted(const SizingNumbers& n);

// Dials to begin now.
int ConnectionsToDial(const SizingNumbers& n);

struct FloorNumbers {
  int least = 0;
  int most = 0;  // Not above `least`: the floor does not move.
  double arrivals_per_second = 0;  // Connections asked for.
  Duration dial_time{0};           // From the beginning to ready.
  int streams = 1;                 // Slots of a connection; 0: not known yet.
};

// Little's law: while a connection is being made, arrivals x dial time callers
// come. So many slots kept ready serve them meanwhile.
int AdaptiveFloor(const FloorNumbers& n);

struct WaitNumbers {
  int place = 1;           // In line: 1 is next.
  int dialing = 0;         // Connections on their way.
  int dials_to_come = 0;   // That may begin now, this caller's included.
  int streams = 1;         // Slots that each of these brings; 0: not known yet.
  Duration dial_time{0};   // Zero: not known.
  int lent = 0;            // Slots that will come back.
  Duration lease_time{0};  // For how long they are lent, as a rule.
};

// How long a caller will wait, for all that is known: for a dial, where one
// will reach it, else for those before it and itself to be served by what comes
// back. Zero: nothing is known.
Duration EstimatedWait(const WaitNumbers& n);

// A mean in which what is long ago counts little: after `kMemory` a third.
class MovingRate {
 public:
  static constexpr Duration kMemory = std::chrono::seconds(10);

  // `count` ever so far.
  void Sample(uint64_t count, Instant now);
  double per_second() const { return per_second_; }

 private:
  uint64_t count_ = 0;
  Instant at_{};  // Instant{}: no sample yet.
  double per_second_ = 0;
};

// The same of single durations: each new one counts a fifth.
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
