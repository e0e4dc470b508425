#include "pool/sizing.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace hotline::pool {

int ConnectionsWanted(const SizingNumbers& n) {
  if (n.backing_off) return 0;
  int64_t wanted = n.new_only_waiters;
  if (n.streams == 0) {
    wanted = std::min<int64_t>(1, wanted + n.waiters + n.floor_missing);
  } else {
    // A connection made for a caller that wants it unused also has slots for
    // the others.
    const int64_t beside = wanted * (n.streams - 1);
    const int64_t uncovered = std::max<int64_t>(0, n.waiters - beside);
    wanted += (uncovered + n.streams - 1) / n.streams;
    wanted = std::max<int64_t>(wanted, n.floor_missing);
  }
  return static_cast<int>(std::max<int64_t>(0, wanted - n.dialing));
}

int ConnectionsToDial(const SizingNumbers& n) {
  const int room = std::min(n.connection_room, n.dial_room);
  return std::max(0, std::min(ConnectionsWanted(n), room));
}

int AdaptiveFloor(const FloorNumbers& n) {
  if (n.most <= n.least) return n.least;
  const double callers = n.arrivals_per_second * ToSeconds(n.dial_time);
  // Rounded to the nearest: rare callers do not justify a warm connection.
  const double connections = std::floor(callers / std::max(1, n.streams) + 0.5);
  return static_cast<int>(std::clamp<double>(connections, n.least, n.most));
}

Duration EstimatedWait(const WaitNumbers& n) {
  const int dialled = (n.dialing + n.dials_to_come) * std::max(1, n.streams);
  if (n.place <= dialled) return n.dial_time;
  if (n.lent <= 0) return Duration(0);
  // Released slots serve the callers in rounds.
  const int before = n.place - dialled;
  const int rounds = (before + n.lent - 1) / n.lent;
  return n.lease_time * rounds;
}

void MovingRate::Sample(uint64_t count, Instant now) {
  if (at_ != Instant{} && now > at_) {
    const double seconds = ToSeconds(now - at_);
    const double rate = static_cast<double>(count - count_) / seconds;
    per_second_ +=
        (rate - per_second_) * (1 - std::exp(-seconds / ToSeconds(kMemory)));
  }
  count_ = count;
  at_ = now;
}

}  // namespace hotline::pool
