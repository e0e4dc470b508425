// Limits retries to a share of the requests, so that a failing upstream does
// not get a multiple of its load.
//
// Thread safety: thread-safe and lock-free.
#ifndef HOTLINE_SERVER_BROKER_RETRY_BUDGET_H_
#define HOTLINE_SERVER_BROKER_RETRY_BUDGET_H_

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "base/time.h"

namespace hotline::server {

// Each request adds `percent` hundredths of a retry, each retry subtracts one.
// Ten seconds after the last refill the balance is raised to at least three, so
// that a target with few requests can retry at all.
class RetryBudget {
 public:
  static constexpr int64_t kRetry = 100;  // One retry, in hundredths.
  static constexpr int64_t kFloor = 3 * kRetry;
  static constexpr int64_t kMost = 100 * kRetry;  // Bounds bursts.
  static constexpr Duration kRefill = std::chrono::seconds(10);

  void OnRequest(int percent) {
    if (balance_.load(std::memory_order_relaxed) < kMost) {
      balance_.fetch_add(percent, std::memory_order_relaxed);
    }
  }

  // Subtracts one retry; false: there is none left.
  bool TryRetry(Instant now) {
    Refill(now);
    int64_t balance = balance_.load(std::memory_order_relaxed);
    while (balance >= kRetry) {
      if (balance_.compare_exchange_weak(balance, balance - kRetry,
                                         std::memory_order_relaxed)) {
        return true;
      }
    }
    return false;
  }

 private:
  void Refill(Instant now) {
    const int64_t ns = now.time_since_epoch().count();
    int64_t last = refilled_.load(std::memory_order_relaxed);
    if (ns - last < kRefill.count()) return;
    if (!refilled_.compare_exchange_strong(last, ns,
                                           std::memory_order_relaxed)) {
      return;
    }
    int64_t balance = balance_.load(std::memory_order_relaxed);
    while (balance < kFloor &&
           !balance_.compare_exchange_weak(balance, kFloor,
                                           std::memory_order_relaxed)) {
    }
  }

  std::atomic<int64_t> balance_{kFloor};
  std::atomic<int64_t> refilled_{0};
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_RETRY_BUDGET_H_
