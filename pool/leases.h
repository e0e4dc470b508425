// What the holder of a lease can do with it, by its id.
#ifndef HOTLINE_POOL_LEASES_H_
#define HOTLINE_POOL_LEASES_H_

#include "base/lease_id.h"
#include "base/time.h"
#include "pool/pool.h"
#include "pool/records.h"
#include "pool/shard_state.h"

namespace hotline::pool {

// Not thread-safe: guarded by the shard's mutex. `target`, where it is an out
// parameter, is the one to settle afterwards; null if there is nothing to.
class Leases {
 public:
  explicit Leases(ShardState* shard) : shard_(shard) {}
  Leases(const Leases&) = delete;
  Leases& operator=(const Leases&) = delete;

  LeaseStatus Release(const LeaseId& id, Outcome outcome, Instant now,
                      Target** target);
  LeaseStatus Reclaim(const LeaseId& id, Instant now, bool* busy,
                      Target** target);
  LeaseStatus Look(const LeaseId& id, Instant now, Target** target);
  CallStart BeginCall(const LeaseId& id, Instant now, Target** target);
  void EndCall(const LeaseId& id, Instant now, Target** target);
  RenewResult Renew(const LeaseId& id, Duration ttl, Instant now,
                    Target** target);
  void OnTimer(Lease* lease, Instant now, Target** target);

 private:
  // The lease by that name, whether it is over or not by the clock.
  LeaseStatus Find(const LeaseId& id, Lease** lease) const;
  // The same; one whose time is up is ended first. One given back already, but
  // for the call that runs on it, is over for everybody but EndCall.
  LeaseStatus FindLive(const LeaseId& id, Instant now, Lease** lease,
                       Target** target);
  // Its connection may close now; it ends with the call that runs on it.
  void ReleaseBusy(Lease* lease, Outcome outcome);
  void Expire(Lease* lease, Instant now, Target** target);
  void SetTimer(Lease* lease);

  ShardState* const shard_;
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_LEASES_H_
