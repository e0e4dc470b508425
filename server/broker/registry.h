// The calls and sessions that are under way: so that a drain can wait for them,
// and end those that remain.
#ifndef HOTLINE_SERVER_BROKER_REGISTRY_H_
#define HOTLINE_SERVER_BROKER_REGISTRY_H_

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "base/mutex.h"
#include "server/broker/broker.h"

namespace hotline::server {

// Split over a few locks; adding and removing cost a few dozen nanoseconds.
class Broker::Registry {
 public:
  void Add(Call* call);
  void Remove(Call* call);
  bool empty() const;
  std::vector<std::shared_ptr<Call>> All() const;
  // The call with this tag if it is under way, else null.
  std::shared_ptr<Call> Find(pool::CallTag tag);

  uint64_t AddSession(OpenSession* session);
  void RemoveSession(OpenSession* session);
  size_t sessions() const;
  // Those that are open; whoever comes later is told of the drain at once.
  std::vector<std::shared_ptr<OpenSession>> Drain();

  // Also here, for want of a better shard: what the broker keeps per target.
  std::shared_ptr<RetryBudget> BudgetOf(const std::string& target);

 private:
  static constexpr size_t kStripes = 16;
  // Targets beyond it (per stripe) share one budget.
  static constexpr size_t kMostBudgets = 8192;

  struct alignas(64) Stripe {
    mutable Mutex mu;
    absl::flat_hash_set<Call*> calls ABSL_GUARDED_BY(mu);
    absl::flat_hash_map<std::string, std::shared_ptr<RetryBudget>> budgets
        ABSL_GUARDED_BY(mu);
  };

  Stripe& StripeOf(const Call* call) {
    return stripes_[(reinterpret_cast<uintptr_t>(call) >> 7) % kStripes];
  }

  mutable Mutex sessions_mu_;
  absl::flat_hash_set<OpenSession*> sessions_ ABSL_GUARDED_BY(sessions_mu_);
  uint64_t last_session_ ABSL_GUARDED_BY(sessions_mu_) = 0;
  bool draining_ ABSL_GUARDED_BY(sessions_mu_) = false;

  std::array<Stripe, kStripes> stripes_;
  const std::shared_ptr<RetryBudget> shared_budget_ =
      std::make_shared<RetryBudget>();
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_REGISTRY_H_
