#include "server/broker/registry.h"

#include <utility>

namespace hotline::server {

void Registry::Add(Call* call) {
  Stripe& stripe = stripes_[IndexOf(call->tag())];
  MutexLock lock(&stripe.mu);
  stripe.calls.insert(call);
}

void Registry::Remove(Call* call) {
  Stripe& stripe = stripes_[IndexOf(call->tag())];
  MutexLock lock(&stripe.mu);
  stripe.calls.erase(call);
}

bool Registry::empty() const {
  for (const Stripe& stripe : stripes_) {
    MutexLock lock(&stripe.mu);
    if (!stripe.calls.empty()) return false;
  }
  return true;
}

std::vector<std::shared_ptr<Call>> Registry::All() const {
  std::vector<std::shared_ptr<Call>> all;
  for (const Stripe& stripe : stripes_) {
    MutexLock lock(&stripe.mu);
    for (Call* call : stripe.calls) all.push_back(call->shared_from_this());
  }
  visited_.fetch_add(all.size(), std::memory_order_relaxed);
  return all;
}

std::shared_ptr<Call> Registry::Find(pool::CallTag tag) const {
  auto* const call = reinterpret_cast<Call*>(tag);
  const Stripe& stripe = stripes_[IndexOf(tag)];
  MutexLock lock(&stripe.mu);
  if (!stripe.calls.contains(call)) return nullptr;
  visited_.fetch_add(1, std::memory_order_relaxed);
  return call->shared_from_this();
}

uint64_t Registry::AddSession(OpenSession* session) {
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

void Registry::RemoveSession(OpenSession* session) {
  MutexLock lock(&sessions_mu_);
  sessions_.erase(session);
}

size_t Registry::sessions() const {
  MutexLock lock(&sessions_mu_);
  return sessions_.size();
}

std::vector<std::shared_ptr<OpenSession>> Registry::Drain() {
  std::vector<std::shared_ptr<OpenSession>> all;
  MutexLock lock(&sessions_mu_);
  draining_ = true;
  // A session that is being destroyed is about to remove itself.
  for (OpenSession* session : sessions_) {
    if (auto alive = session->weak_from_this().lock()) {
      all.push_back(std::move(alive));
    }
  }
  return all;
}

}  // namespace hotline::server
