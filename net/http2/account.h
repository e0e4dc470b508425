// The account that a peer's costly frames are paid from.
#ifndef HOTLINE_NET_HTTP2_ACCOUNT_H_
#define HOTLINE_NET_HTTP2_ACCOUNT_H_

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "base/time.h"

namespace hotline::net {

// A token bucket that useful work also fills. Not thread-safe.
class Account {
 public:
  // Full at first. `per_second`: how much time alone adds.
  Account(int64_t capacity, int64_t per_second)
      : balance_(capacity), capacity_(capacity), per_second_(per_second) {}

  void Refill(Instant now) {
    if (balance_ >= capacity_ || per_second_ <= 0) {
      refilled_ = now;
      return;
    }
    const Duration step = std::chrono::nanoseconds(1'000'000'000 / per_second_);
    const int64_t steps = std::max<int64_t>((now - refilled_) / step, 0);
    if (steps == 0) return;
    refilled_ += steps * step;
    Earn(std::min(steps, capacity_));
  }

  void Earn(int64_t amount) {
    balance_ = std::min(balance_ + amount, capacity_);
  }

  // False: it is overdrawn.
  bool Pay(int64_t amount) {
    balance_ -= amount;
    return balance_ >= 0;
  }

 private:
  int64_t balance_;
  const int64_t capacity_;
  const int64_t per_second_;
  Instant refilled_{};
};

}  // namespace hotline::net

#endif  // HOTLINE_NET_HTTP2_ACCOUNT_H_
