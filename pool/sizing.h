// How many connections to begin: a pure function over named numbers.
#ifndef HOTLINE_POOL_SIZING_H_
#define HOTLINE_POOL_SIZING_H_

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

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_SIZING_H_
