#include "server/broker/named_waits.h"

#include "server/broker/pooled_call.h"

namespace hotline::server {
namespace {

std::pair<std::string, std::string> NameOf(const PooledCall& call) {
  const CallTerms& terms = call.terms();
  return {terms.key.target, std::string(terms.acquire.request_id)};
}

}  // namespace

void NamedWaits::Add(PooledCall* call) {
  Name name = NameOf(*call);
  MutexLock lock(&mu_);
  calls_.emplace(std::move(name), call);
}

void NamedWaits::Remove(PooledCall* call) {
  const Name name = NameOf(*call);
  MutexLock lock(&mu_);
  const auto [first, last] = calls_.equal_range(name);
  for (auto at = first; at != last; ++at) {
    if (at->second != call) continue;
    calls_.erase(at);
    return;
  }
}

std::vector<std::shared_ptr<PooledCall>> NamedWaits::Find(
    const std::string& target, std::string_view request_id) const {
  const Name name(target, request_id);
  std::vector<std::shared_ptr<PooledCall>> found;
  MutexLock lock(&mu_);
  const auto [first, last] = calls_.equal_range(name);
  for (auto at = first; at != last; ++at) {
    found.push_back(
        std::static_pointer_cast<PooledCall>(at->second->shared_from_this()));
  }
  return found;
}

}  // namespace hotline::server
