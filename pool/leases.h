// The operations on a lease, by its id.
#ifndef HOTLINE_POOL_LEASES_H_
#define HOTLINE_POOL_LEASES_H_

#include "base/lease_id.h"
#include "base/time.h"
#include "pool/pool.h"
#include "pool/records.h"
#include "pool/shard_state.h"

namespace hotline::pool {

// Implements Pool's operations on the leases of one shard. `target`, where it
// is an out parameter, is the target to settle afterwards; unchanged if there
// is none. `running` is set to the tag of the call that runs on the lease;
// unchanged if there is none. May be null.
//
// Not thread-safe: guarded by the shard's mutex.
class Leases {
 public:
  explicit Leases(ShardState* shard) : shard_(shard) {}
  Leases(const Leases&) = delete;
  Leases& operator=(const Leases&) = delete;

  LeaseStatus Release(const LeaseId& id, Outcome outcome, Instant now,
                      CallTag* running, Target** target);
  LeaseStatus Reclaim(const LeaseId& id, Instant now, CallTag* running,
                      Target** target);
  bool ReleaseIfUnused(const LeaseId& id, Instant now, Target** target);
  LeaseStatus StatusOf(const LeaseId& id, Instant now, Target** target);
  CallStart BeginCall(const LeaseId& id, CallTag call, Instant now,
                      Target** target);
  void EndCall(const LeaseId& id, Instant now, Target** target);
  RenewResult Renew(const LeaseId& id, Duration ttl, Instant now,
                    Target** target);
  void OnTimer(Lease* lease, Instant now, Target** target);

 private:
  // Finds the lease, expired or not.
  LeaseStatus Find(const LeaseId& id, Lease** lease) const;
  // Finds the lease unless it has ended; an expired lease is ended first. A
  // lease that was released during a call has ended for all but EndCall.
  LeaseStatus FindCurrent(const LeaseId& id, Instant now, Lease** lease,
                          Target** target);
  // Releases a lease on which a call runs: the slot stays with the call.
  void ReleaseBusy(Lease* lease, Outcome outcome, CallTag* running);
  void Expire(Lease* lease, Instant now, Target** target);
  void SetTimer(Lease* lease);

  ShardState* const shard_;
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_LEASES_H_
