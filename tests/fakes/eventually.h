// Waits for a condition that signals nothing. The only place where a C++ test
// sleeps; where an event can be awaited, prefer it.
//
//   EXPECT_TRUE(Eventually([&] { return peer.accepted() == 2; }));
#ifndef HOTLINE_TESTS_FAKES_EVENTUALLY_H_
#define HOTLINE_TESTS_FAKES_EVENTUALLY_H_

#include <chrono>
#include <thread>

namespace hotline {

// Whether `condition` holds within 20 s; returns as soon as it does.
template <typename Condition>
bool Eventually(Condition condition) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point end = Clock::now() + std::chrono::seconds(20);
  while (!condition()) {
    if (Clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

}  // namespace hotline

#endif  // HOTLINE_TESTS_FAKES_EVENTUALLY_H_
