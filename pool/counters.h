// Adds TargetCounters up.
#ifndef HOTLINE_POOL_COUNTERS_H_
#define HOTLINE_POOL_COUNTERS_H_

#include "pool/snapshot.h"

namespace hotline::pool {

void AddCounters(const TargetCounters& from, TargetCounters* into);

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_COUNTERS_H_
