#include "pool/sizing.h"

#include <algorithm>
#include <cstdint>

namespace hotline::pool {

int ConnectionsWanted(const SizingNumbers& n) {
  if (n.backing_off) return 0;
  int64_t wanted = n.new_only_waiters;
  if (n.streams == 0) {
    wanted = std::min<int64_t>(1, wanted + n.waiters + n.floor_missing);
  } else {
    // Each connection made for somebody who wants it unused brings slots for
    // the others, too.
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

}  // namespace hotline::pool
