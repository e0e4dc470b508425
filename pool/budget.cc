#include "pool/budget.h"

#include <algorithm>
#include <cassert>

namespace hotline::pool {

bool Budget::TryTake() {
  MutexLock lock(&mu_);
  if (waiting_ > 0 || used_ >= max_) return false;
  ++used_;
  return true;
}

bool Budget::TakeOrJoin(Ticket* ticket, bool holds_none) {
  MutexLock lock(&mu_);
  assert(!ticket->linked());
  if (waiting_ == 0 && used_ < max_) {
    ++used_;
    return true;
  }
  (holds_none ? first_ : second_).PushBack(ticket);
  ++waiting_;
  PublishLocked();
  if (pressure() > 0) search_.store(true, std::memory_order_release);
  return false;
}

bool Budget::Leave(Ticket* ticket) {
  MutexLock lock(&mu_);
  if (!ticket->linked()) return false;
  ticket->Unlink();
  --waiting_;
  PublishLocked();
  return true;
}

void Budget::Return(bool expected) {
  MutexLock lock(&mu_);
  assert(used_ > 0);
  --used_;
  if (expected) --returning_;
  ServeLineLocked();
}

void Budget::ExpectReturn() {
  MutexLock lock(&mu_);
  ++returning_;
  PublishLocked();
}

Budget::Claim Budget::ClaimIdle(bool floor) {
  MutexLock lock(&mu_);
  const int over = used_ - returning_ - max_;
  const int wanted = std::max(0, used_ - max_) + waiting_ - returning_;
  if (wanted <= 0) return Claim::kNo;
  if (floor && over <= 0) return Claim::kNo;
  ++returning_;
  PublishLocked();
  return over > 0 ? Claim::kOverCap : Claim::kForLine;
}

std::optional<Budget::Delivery> Budget::TakeDelivery() {
  MutexLock lock(&mu_);
  if (deliveries_.empty()) return std::nullopt;
  const Delivery delivery = deliveries_.front();
  deliveries_.pop_front();
  deliveries_pending_.store(static_cast<int>(deliveries_.size()),
                            std::memory_order_release);
  return delivery;
}

void Budget::SetMax(int max) {
  MutexLock lock(&mu_);
  max_ = max;
  max_published_.store(max, std::memory_order_relaxed);
  ServeLineLocked();
  if (pressure() > 0) search_.store(true, std::memory_order_release);
}

int Budget::used() const {
  MutexLock lock(&mu_);
  return used_;
}

bool Budget::over_cap() const {
  MutexLock lock(&mu_);
  return used_ - returning_ > max_;
}

int Budget::waiting() const {
  MutexLock lock(&mu_);
  return waiting_;
}

void Budget::ServeLineLocked() {
  while (waiting_ > 0 && used_ < max_) {
    Ticket* head = first_.empty() ? second_.front() : first_.front();
    head->Unlink();
    --waiting_;
    ++used_;
    deliveries_.push_back({head->shard, head->target});
  }
  deliveries_pending_.store(static_cast<int>(deliveries_.size()),
                            std::memory_order_release);
  PublishLocked();
}

void Budget::PublishLocked() {
  const int wanted = waiting_ + std::max(0, used_ - max_) - returning_;
  pressure_.store(std::max(0, wanted), std::memory_order_relaxed);
}

}  // namespace hotline::pool
