// The calls and sessions under way: a drain waits for them and finally ends
// those that remain.
//
// Calls on a lease that their caller presented are also indexed by the lease:
// when it is given back as unfit, or its holder is gone, the attempt on it is
// found without a look at any other call.
//
// Thread safety: every method may be called from any thread. The locks are
// leaves, split into stripes.
//
// Invariants:
//   1. A Call is registered from Add to Remove, which come before its end.
//   2. At most one attempt is bound to a lease: the pool lets one call at a
//      time run on it.
#ifndef HOTLINE_SERVER_BROKER_REGISTRY_H_
#define HOTLINE_SERVER_BROKER_REGISTRY_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "base/lease_id.h"
#include "base/mutex.h"
#include "server/broker/attempt.h"
#include "server/broker/call.h"

namespace hotline::server {

// A session, as far as the broker needs to know it.
class OpenSession : public std::enable_shared_from_this<OpenSession> {
 public:
  virtual ~OpenSession() = default;
  // No new leases: ends as soon as no lease is held and nothing runs.
  virtual void OnDrain() = 0;
  // Ends now; what still runs is aborted and answered first.
  virtual void OnAbort() = 0;
};

struct LeaseIdHash {
  // Secrets are random.
  size_t operator()(const LeaseId& id) const { return id.secret; }
};

class Registry {
 public:
  void Add(Call* call);
  void Remove(Call* call);
  bool empty() const;
  std::vector<std::shared_ptr<Call>> All() const;

  // The attempt runs on `lease`, which the caller presented.
  void Bind(const LeaseId& lease, std::weak_ptr<Attempt> attempt);
  // Before the lease can carry another call.
  void Unbind(const LeaseId& lease);
  // Null: none is bound.
  std::shared_ptr<Attempt> AttemptOn(const LeaseId& lease) const;

  // Calls and attempts that All and AttemptOn have looked at since the start.
  uint64_t visited() const { return visited_.load(std::memory_order_relaxed); }

  // Returns the session's number, from 1. Calls OnDrain at once when a drain
  // has begun.
  uint64_t AddSession(OpenSession* session);
  void RemoveSession(OpenSession* session);
  size_t sessions() const;
  // Begins a drain. Returns the sessions that are open.
  std::vector<std::shared_ptr<OpenSession>> Drain();

 private:
  static constexpr size_t kStripes = 16;

  struct alignas(64) Stripe {
    mutable Mutex mu;
    absl::flat_hash_set<Call*> calls ABSL_GUARDED_BY(mu);
    absl::flat_hash_map<LeaseId, std::weak_ptr<Attempt>, LeaseIdHash> attempts
        ABSL_GUARDED_BY(mu);
  };

  // Of the stripe.
  static size_t IndexOf(const Call* call) {
    return (reinterpret_cast<uintptr_t>(call) >> 7) % kStripes;
  }
  // The tables in the stripes use the lower bits.
  static size_t IndexOf(const LeaseId& lease) {
    return (lease.secret >> 32) % kStripes;
  }

  std::array<Stripe, kStripes> stripes_;
  mutable std::atomic<uint64_t> visited_{0};

  mutable Mutex sessions_mu_;
  absl::flat_hash_set<OpenSession*> sessions_ ABSL_GUARDED_BY(sessions_mu_);
  uint64_t last_session_ ABSL_GUARDED_BY(sessions_mu_) = 0;
  bool draining_ ABSL_GUARDED_BY(sessions_mu_) = false;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_REGISTRY_H_
