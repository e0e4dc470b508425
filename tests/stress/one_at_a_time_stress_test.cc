// Tokens that come free in two threads at the same moment.
//
// One thread at a time carries tokens to those they were reserved for; a thread
// that finds another one at it leaves its own to that one. The flag that says
// so was once cleared by a plain store, followed by a look for more work, which
// a processor may do the other way round. Then the one had looked before the
// other's token was there, and the other had seen the flag before it was
// cleared: the token was carried by neither, and the caller it was reserved for
// waited until the next event of the pool, if there was one.
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

// What one thread brings, and how far it has got.
struct alignas(128) Side {
  std::atomic<uint64_t> work{0};  // The round that brought it; 0: done.
  // The round whose Run has returned.
  alignas(128) std::atomic<uint64_t> left{0};
  uint64_t rounds = 0;
};

class OneAtATimeStress : public ::testing::Test {
 protected:
  // The side is out of Run, and its work is undone. Asked from outside of Run,
  // where else nobody is then.
  static bool IsLost(const Side& side) {
    const uint64_t round = side.work.load();
    return round != 0 && side.left.load() == round && side.work.load() == round;
  }

  // The sides do not wait for each other, but for what was left to the other
  // side. So they race whenever both have a processor, however busy it is here.
  uint64_t Play(Side* mine, const Side& other) {
    constexpr int kLooks = 6;  // Before the next round, which would help it.
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
      for (int looks = 1; !over_ && (looks <= kLooks || mine->work.load() != 0);
           ++looks) {
        found = found || IsLost(other);
        // Both can be lost: then the next round helps.
        if (found && looks > kLooks) break;
        if (looks % 4096 == 0) std::this_thread::yield();
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

TEST_F(OneAtATimeStress, WorkIsDoneBeforeBothHaveLeft) {
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
