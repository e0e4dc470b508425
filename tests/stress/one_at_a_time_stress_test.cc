// Tokens that are returned by two threads at the same moment.
//
// One thread at a time delivers tokens; a thread that finds another one at work
// leaves its token to that one. If the flag for this were cleared by a plain
// store, the processor could check for more work before the store is visible.
// Then one thread could miss the other's token while the other still sees the
// flag set: neither delivers the token, and its caller waits until the next
// event of the pool.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <thread>

#include "base/time.h"
#include "pool/one_at_a_time.h"

namespace hotline::pool {
namespace {

constexpr auto kTime = std::chrono::seconds(5);

// The work of one thread, and its progress.
struct alignas(128) Side {
  std::atomic<uint64_t> work{0};  // The round that added it; 0: done.
  // The round whose Run has returned.
  alignas(128) std::atomic<uint64_t> left{0};
  uint64_t rounds = 0;
};

class OneAtATimeStress : public ::testing::Test {
 protected:
  // The side has left Run, and its work is not done. Called outside of Run,
  // when the other thread is outside, too.
  static bool IsLost(const Side& side) {
    const uint64_t round = side.work.load();
    return round != 0 && side.left.load() == round && side.work.load() == round;
  }

  // The sides do not wait for each other, only for work left to the other side.
  // So they race whenever both have a processor, even on a busy machine.
  uint64_t Play(Side* mine, const Side& other) {
    constexpr int kChecks =
        6;  // Before the next round, which would do the work.
    uint64_t lost = 0;
    while (!over_.load(std::memory_order_relaxed)) {
      mine->work.store(++mine->rounds, std::memory_order_release);
      if (mine->rounds % 1024 == 0 && MonotonicNow() > end_) over_ = true;
      one_.Run(
          [this] {
            return sides_[0].work.load(std::memory_order_acquire) != 0 ||
                   sides_[1].work.load(std::memory_order_acquire) != 0;
          },
          [this] {
            for (Side& side : sides_) side.work.exchange(0);
          });
      mine->left.store(mine->rounds);
      bool found = false;
      for (int checks = 1;
           !over_ && (checks <= kChecks || mine->work.load() != 0); ++checks) {
        found = found || IsLost(other);
        // Both can be lost; then only the next round helps.
        if (found && checks > kChecks) break;
        if (checks % 4096 == 0) std::this_thread::yield();
      }
      lost += found;
    }
    return lost;
  }

  OneAtATime one_;
  std::array<Side, 2> sides_;
  const Instant end_ = MonotonicNow() + kTime;
  std::atomic<bool> over_{false};
};

TEST_F(OneAtATimeStress, NoWorkIsLeftAfterRunReturns) {
  std::array<uint64_t, 2> lost{};
  std::array<std::thread, 2> threads;
  for (int i = 0; i < 2; ++i) {
    threads[i] =
        std::thread([&, i] { lost[i] = Play(&sides_[i], sides_[1 - i]); });
  }
  for (std::thread& thread : threads) thread.join();
  const uint64_t rounds = sides_[0].rounds + sides_[1].rounds;
  std::printf("%llu rounds, %llu lost\n",
              static_cast<unsigned long long>(rounds),
              static_cast<unsigned long long>(lost[0] + lost[1]));
  EXPECT_GT(rounds, 1000u);
  EXPECT_EQ(lost[0] + lost[1], 0u);
}

}  // namespace
}  // namespace hotline::pool
