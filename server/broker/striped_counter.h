// A counter that many threads increment: split into stripes, chosen by core, so
// that threads that run at the same moment do not share a cache line.
//
// Thread safety: thread-safe. Without a lock.
#ifndef HOTLINE_SERVER_BROKER_STRIPED_COUNTER_H_
#define HOTLINE_SERVER_BROKER_STRIPED_COUNTER_H_

#include <sched.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace hotline::server {

inline constexpr size_t kStripes = 8;

// The stripe of the core that this thread runs on.
inline size_t MyStripe() {
  return static_cast<size_t>(std::max(sched_getcpu(), 0)) % kStripes;
}

class StripedCounter {
 public:
  void Add() {
    stripes_[MyStripe()].count.fetch_add(1, std::memory_order_relaxed);
  }
  uint64_t Read() const {
    uint64_t sum = 0;
    for (const Stripe& stripe : stripes_) {
      sum += stripe.count.load(std::memory_order_relaxed);
    }
    return sum;
  }

 private:
  struct alignas(64) Stripe {
    std::atomic<uint64_t> count{0};
  };
  std::array<Stripe, kStripes> stripes_;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_STRIPED_COUNTER_H_
