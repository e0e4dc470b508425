#include "net/tls/sessions.h"

#include <iterator>
#include <utility>

namespace hotline::net {

void Sessions::SetCapacity(size_t capacity) {
  std::lock_guard lock(mu_);
  capacity_ = capacity;
  TrimLocked();
}

size_t Sessions::size() const {
  std::lock_guard lock(mu_);
  return order_.size();
}

void Sessions::Put(const std::string& key,
                   bssl::UniquePtr<SSL_SESSION> session) {
  std::lock_guard lock(mu_);
  order_.push_front({key, std::move(session)});
  index_.emplace(key, order_.begin());
  const auto [oldest, end] = index_.equal_range(key);
  if (std::distance(oldest, end) > static_cast<ptrdiff_t>(kMostAlike)) {
    EraseLocked(oldest);
  }
  TrimLocked();
}

bssl::UniquePtr<SSL_SESSION> Sessions::Take(const std::string& key) {
  std::lock_guard lock(mu_);
  const auto [first, end] = index_.equal_range(key);
  if (first == end) return nullptr;
  const auto newest = std::prev(end);
  const auto entry = newest->second;
  auto session = bssl::UpRef(entry->session);
  if (SSL_SESSION_should_be_single_use(session.get())) {
    EraseLocked(newest);
  } else {
    order_.splice(order_.begin(), order_, entry);
  }
  return session;
}

void Sessions::Forget(const std::string& key, const SSL_SESSION* session) {
  std::lock_guard lock(mu_);
  const auto [first, end] = index_.equal_range(key);
  for (auto at = first; at != end; ++at) {
    if (at->second->session.get() == session) return EraseLocked(at);
  }
}

void Sessions::ForgetAll(std::string_view prefix) {
  std::lock_guard lock(mu_);
  auto at = index_.lower_bound(prefix);
  while (at != index_.end() &&
         std::string_view(at->first).starts_with(prefix)) {
    EraseLocked(at++);
  }
}

void Sessions::EraseLocked(Index::iterator at) {
  order_.erase(at->second);
  index_.erase(at);
}

void Sessions::TrimLocked() {
  while (order_.size() > capacity_) {
    const auto last = std::prev(order_.end());
    const auto [first, end] = index_.equal_range(last->key);
    auto at = first;
    while (at != end && at->second != last) ++at;
    EraseLocked(at);
  }
}

std::shared_ptr<TlsSessions> TlsSessions::Create(size_t capacity) {
  return std::make_shared<Sessions>(capacity);
}

}  // namespace hotline::net
