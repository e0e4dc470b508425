#include "server/broker/registry.h"

#include "absl/hash/hash.h"

namespace hotline::server {

void Broker::Registry::Add(Call* call) {
  Stripe& stripe = StripeOf(call);
  MutexLock lock(&stripe.mu);
  stripe.calls.insert(call);
}

void Broker::Registry::Remove(Call* call) {
  Stripe& stripe = StripeOf(call);
  MutexLock lock(&stripe.mu);
  stripe.calls.erase(call);
}

bool Broker::Registry::empty() const {
  for (const Stripe& stripe : stripes_) {
    MutexLock lock(&stripe.mu);
    if (!stripe.calls.empty()) return false;
  }
  return true;
}

std::vector<std::shared_ptr<Call>> Broker::Registry::All() const {
  std::vector<std::shared_ptr<Call>> all;
  for (const Stripe& stripe : stripes_) {
    MutexLock lock(&stripe.mu);
    for (Call* call : stripe.calls) all.push_back(call->shared_from_this());
  }
  return all;
}

std::shared_ptr<Call> Broker::Registry::Find(pool::CallTag tag) {
  auto* const call = reinterpret_cast<Call*>(tag);
  Stripe& stripe = StripeOf(call);
  MutexLock lock(&stripe.mu);
  return stripe.calls.contains(call) ? call->shared_from_this() : nullptr;
}

uint64_t Broker::Registry::AddSession(OpenSession* session) {
  uint64_t number;
  bool draining;
  {
    MutexLock lock(&sessions_mu_);
    sessions_.insert(session);
    number = ++last_session_;
    draining = draining_;
  }
  if (draining) session->OnDrain();
  return number;
}

void Broker::Registry::RemoveSession(OpenSession* session) {
  MutexLock lock(&sessions_mu_);
  sessions_.erase(session);
}

size_t Broker::Registry::sessions() const {
  MutexLock lock(&sessions_mu_);
  return sessions_.size();
}

std::vector<std::shared_ptr<OpenSession>> Broker::Registry::Drain() {
  std::vector<std::shared_ptr<OpenSession>> all;
  MutexLock lock(&sessions_mu_);
  draining_ = true;
  // One that is being destroyed is on its way out of the set.
  for (OpenSession* session : sessions_) {
    if (auto alive = session->weak_from_this().lock()) {
      all.push_back(std::move(alive));
    }
  }
  return all;
}

std::shared_ptr<RetryBudget> Broker::Registry::BudgetOf(
    const std::string& target) {
  Stripe& stripe = stripes_[absl::HashOf(target) % kStripes];
  MutexLock lock(&stripe.mu);
  auto it = stripe.budgets.find(target);
  if (it != stripe.budgets.end()) return it->second;
  if (stripe.budgets.size() >= kMostBudgets) return shared_budget_;
  auto budget = std::make_shared<RetryBudget>();
  stripe.budgets.emplace(target, budget);
  return budget;
}

}  // namespace hotline::server
