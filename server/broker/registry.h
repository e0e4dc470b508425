// The calls and sessions under way: a drain waits for them and finally ends
// those that remain.
//
// Thread safety: every method may be called from any thread. The locks are
// leaves, split into stripes.
//
// Invariant: a Call is registered from Add to Remove, which comes before its
// destruction.
#ifndef HOTLINE_SERVER_BROKER_REGISTRY_H_
#define HOTLINE_SERVER_BROKER_REGISTRY_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "base/mutex.h"
#include "pool/types.h"
#include "server/broker/call.h"

namespace hotline::server {

// A session, as far as the broker needs to know it.
class OpenSession : public std::enable_shared_from_this<OpenSession> {
 public:
  virtual ~OpenSession() = default;
  // No new leases: ends as soon as no lease is held and nothing runs.
  virtual void OnDrain() = 0;
  // Another process serves callers: what is not begun is left to it, without a
  // result. Follows OnDrain.
  virtual void OnLeave() = 0;
  // Ends now; what still runs is aborted and answered first.
  virtual void OnAbort() = 0;
};

class Registry {
 public:
  void Add(Call* call);
  void Remove(Call* call);
  bool empty() const;
  std::vector<std::shared_ptr<Call>> All() const;
  // The call with this tag if it is under way, else null.
  std::shared_ptr<Call> Find(pool::CallTag tag) const;

  // Calls that All and Find have returned since the start.
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
  };

  static size_t IndexOf(pool::CallTag tag) { return (tag >> 7) % kStripes; }

  std::array<Stripe, kStripes> stripes_;
  mutable std::atomic<uint64_t> visited_{0};

  mutable Mutex sessions_mu_;
  absl::flat_hash_set<OpenSession*> sessions_ ABSL_GUARDED_BY(sessions_mu_);
  uint64_t last_session_ ABSL_GUARDED_BY(sessions_mu_) = 0;
  bool draining_ ABSL_GUARDED_BY(sessions_mu_) = false;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_REGISTRY_H_
