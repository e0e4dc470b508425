// TimerWheel, compared with a model that scans all timers.
#include "base/timer_wheel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <random>
#include <vector>

namespace hotline {
namespace {

using Wheel = TimerWheel<struct TestTimer>;

struct TestTimer : Timer {
  // The model's data.
  std::optional<Instant> due;
  Instant counts_from{};  // `due`, or when it was scheduled if that is later.
};

constexpr Duration kTick = Wheel::kTick;

Instant At(Duration since_zero) { return Instant{} + since_zero; }

std::vector<TestTimer*> Advance(Wheel* wheel, Instant now) {
  std::vector<TestTimer*> fired;
  wheel->Advance(now, [&](TestTimer* timer) { fired.push_back(timer); });
  return fired;
}

TEST(TimerWheelTest, FiresNeverEarlyAndAtMostATickLate) {
  for (const int64_t ns :
       {int64_t{1}, kTick.count() - 1, kTick.count(), kTick.count() + 1,
        64 * kTick.count(), 64 * 64 * kTick.count() - 1,
        int64_t{3600} * 1'000'000'000}) {
    Wheel wheel;
    TestTimer timer;
    wheel.Schedule(&timer, At(Duration(ns)));
    EXPECT_TRUE(Advance(&wheel, At(Duration(ns - 1))).empty()) << ns;
    EXPECT_EQ(Advance(&wheel, At(Duration(ns) + kTick)).size(), 1u) << ns;
    EXPECT_FALSE(timer.scheduled());
    EXPECT_EQ(wheel.size(), 0u);
    EXPECT_EQ(wheel.NextDue(), kNever);
  }
}

TEST(TimerWheelTest, NeverIsNotScheduled) {
  Wheel wheel;
  TestTimer timer;
  wheel.Schedule(&timer, At(kTick));
  wheel.Schedule(&timer, kNever);
  EXPECT_FALSE(timer.scheduled());
  EXPECT_EQ(wheel.size(), 0u);
}

TEST(TimerWheelTest, ThePastFiresAtTheNextTick) {
  Wheel wheel;
  Advance(&wheel, At(1000 * kTick));
  TestTimer timer;
  wheel.Schedule(&timer, At(3 * kTick));
  EXPECT_TRUE(Advance(&wheel, At(1000 * kTick)).empty());
  EXPECT_EQ(Advance(&wheel, At(1001 * kTick)).size(), 1u);
}

TEST(TimerWheelTest, ATimerThatFiresMayScheduleItselfAndCancelOthers) {
  Wheel wheel;
  TestTimer one;
  TestTimer two;
  wheel.Schedule(&one, At(kTick));
  wheel.Schedule(&two, At(kTick));
  int fired = 0;
  wheel.Advance(At(kTick), [&](TestTimer* timer) {
    ++fired;
    wheel.Cancel(timer == &one ? &two : &one);
    wheel.Schedule(timer, At(kTick));
  });
  EXPECT_EQ(fired, 1);
  EXPECT_EQ(wheel.size(), 1u);
  EXPECT_EQ(Advance(&wheel, At(2 * kTick)).size(), 1u);
}

TEST(TimerWheelTest, FiresInTheOrderOfTheTicks) {
  Wheel wheel;
  std::deque<TestTimer> timers(300);
  for (size_t i = 0; i < timers.size(); ++i) {
    wheel.Schedule(&timers[(i * 7) % 300],
                   At(((i * 7) % 300 + 1) * 37 * kTick));
  }
  const std::vector<TestTimer*> fired =
      Advance(&wheel, At(std::chrono::hours(1)));
  ASSERT_EQ(fired.size(), timers.size());
  for (size_t i = 0; i < fired.size(); ++i) EXPECT_EQ(fired[i], &timers[i]);
}

// Compares a wheel with the data in its timers.
class Model {
 public:
  explicit Model(uint64_t seed) : random_(seed), timers_(200) {}

  void Run(int steps) {
    for (int i = 0; i < steps && !::testing::Test::HasFailure(); ++i) Step();
  }

  uint64_t fired() const { return fired_; }

 private:
  int64_t Below(int64_t limit) {
    return std::uniform_int_distribution<int64_t>(0, limit - 1)(random_);
  }

  // From a few ticks to a few days, each magnitude equally likely.
  Duration AnyTime() { return Duration(Below(int64_t{1} << (1 + Below(49)))); }

  TestTimer* AnyTimer() { return &timers_[Below(timers_.size())]; }

  void Schedule(TestTimer* timer) {
    // Sometimes in the past.
    Instant when = now_ + AnyTime();
    if (Below(10) == 0) when = std::max(Instant{}, now_ - AnyTime());
    wheel_.Schedule(timer, when);
    timer->due = when;
    timer->counts_from = std::max(when, now_);
  }

  void Cancel(TestTimer* timer) {
    wheel_.Cancel(timer);
    timer->due.reset();
  }

  void Fire(TestTimer* timer) {
    ++fired_;
    ASSERT_TRUE(timer->due.has_value()) << "it was cancelled";
    EXPECT_GE(now_, *timer->due) << "early";
    EXPECT_FALSE(timer->scheduled());
    timer->due.reset();
    if (Below(3) == 0) Schedule(AnyTimer());
    if (Below(8) == 0) Cancel(AnyTimer());
  }

  void Advance() {
    now_ += AnyTime();
    wheel_.Advance(now_, [this](TestTimer* timer) { Fire(timer); });
    for (const TestTimer& timer : timers_) {
      if (!timer.due.has_value()) continue;
      EXPECT_GT(timer.counts_from + kTick, now_) << "it was forgotten";
    }
  }

  void Step() {
    const int64_t what = Below(10);
    if (what < 5) {
      Schedule(AnyTimer());
    } else if (what < 7) {
      Cancel(AnyTimer());
    } else {
      Advance();
    }
    size_t scheduled = 0;
    Instant first = kNever;
    for (const TestTimer& timer : timers_) {
      EXPECT_EQ(timer.scheduled(), timer.due.has_value());
      if (!timer.due.has_value()) continue;
      ++scheduled;
      first = std::min(first, *timer.due);
    }
    EXPECT_EQ(wheel_.size(), scheduled);
    EXPECT_EQ(wheel_.NextDue() == kNever, scheduled == 0);
    if (scheduled == 0) return;
    const Instant latest = std::max(first, now_) + kTick;
    EXPECT_LE(wheel_.NextDue(), latest);
    EXPECT_LE(wheel_.Earliest(), latest);
    EXPECT_GE(wheel_.Earliest(), first);
  }

  std::mt19937_64 random_;
  Wheel wheel_;
  std::deque<TestTimer> timers_;
  Instant now_{};
  uint64_t fired_ = 0;
};

TEST(TimerWheelTest, AgreesWithTheModel) {
  uint64_t fired = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    Model model(seed);
    model.Run(5000);
    ASSERT_FALSE(HasFailure()) << "seed " << seed;
    fired += model.fired();
  }
  EXPECT_GT(fired, 10'000u);
}

}  // namespace
}  // namespace hotline
