#include "pool/counters.h"

#include <cstddef>

namespace hotline::pool {

void AddCounters(const TargetCounters& from, TargetCounters* into) {
  into->granted += from.granted;
  into->reused += from.reused;
  into->cross_loop += from.cross_loop;
  for (size_t i = 0; i < from.rejected.size(); ++i) {
    into->rejected[i] += from.rejected[i];
  }
  into->cancelled += from.cancelled;
  into->dials_ok += from.dials_ok;
  for (size_t i = 0; i < from.dials_failed.size(); ++i) {
    into->dials_failed[i] += from.dials_failed[i];
  }
  into->breaker_opened += from.breaker_opened;
  into->quarantines += from.quarantines;
  into->opened += from.opened;
  for (size_t i = 0; i < from.closed.size(); ++i) {
    into->closed[i] += from.closed[i];
  }
  into->probes_passed += from.probes_passed;
  into->probes_failed += from.probes_failed;
  into->errors_counted += from.errors_counted;
  into->leases_expired += from.leases_expired;
  into->leases_reclaimed += from.leases_reclaimed;
  into->leases_leaked += from.leases_leaked;
  into->wait.Merge(from.wait);
  into->lease.Merge(from.lease);
  into->dial_resolve.Merge(from.dial_resolve);
  into->dial_connect.Merge(from.dial_connect);
  into->dial_tls.Merge(from.dial_tls);
  into->dial_validate.Merge(from.dial_validate);
  into->age.Merge(from.age);
  into->uses.Merge(from.uses);
}

}  // namespace hotline::pool
