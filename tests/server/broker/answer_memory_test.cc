#include "server/broker/answer_memory.h"

#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace hotline::server {
namespace {

using std::chrono::milliseconds;
using Caller = AnswerMemory::Caller;
using Hold = AnswerMemory::Hold;

class TestWaiter : public AnswerWaiter {
 public:
  void OnRoom() override { ++rooms; }
  void OnNoRoom() override { ++refusals; }

  std::atomic<int> rooms{0};
  std::atomic<int> refusals{0};
};

// An AnswerMemory of 1000 bytes, whose timer the test fires.
class AnswerMemoryTest : public testing::Test {
 protected:
  std::unique_ptr<Hold> HoldOf(const AnswerMemory::CallerPtr& caller) {
    return std::make_unique<Hold>(&memory_, caller);
  }
  // Returns true if there was room at once.
  bool Grow(Hold* hold, int64_t bytes) {
    return hold->Grow(bytes, waiter_, MonotonicNow());
  }
  // Fires the timer.
  void Fire() {
    auto due = std::exchange(due_, {});
    for (auto& work : due) work();
  }

  std::vector<absl::AnyInvocable<void()>> due_;
  AnswerMemory memory_{1000, [this](Instant, absl::AnyInvocable<void()> work) {
                         due_.push_back(std::move(work));
                       }};
  AnswerMemory::CallerPtr one_ = std::make_shared<Caller>();
  AnswerMemory::CallerPtr two_ = std::make_shared<Caller>();
  std::shared_ptr<TestWaiter> waiter_ = std::make_shared<TestWaiter>();
};

TEST_F(AnswerMemoryTest, ACallerMayHoldAsMuchAsItLeavesForOthers) {
  auto first = HoldOf(one_);
  auto second = HoldOf(one_);
  EXPECT_TRUE(Grow(first.get(), 300));
  EXPECT_TRUE(Grow(second.get(), 200));
  auto third = HoldOf(one_);
  EXPECT_FALSE(Grow(third.get(), 300));
  auto other = HoldOf(two_);
  EXPECT_TRUE(Grow(other.get(), 500));
  EXPECT_EQ(memory_.used(), 1000);
}

TEST_F(AnswerMemoryTest, ASingleAnswerMayTakeAllThatIsLeft) {
  auto first = HoldOf(one_);
  EXPECT_TRUE(Grow(first.get(), 900));
}

TEST_F(AnswerMemoryTest, AnAnswerThatIsReadMakesRoomForTheNextOfItsCaller) {
  auto first = HoldOf(one_);
  ASSERT_TRUE(Grow(first.get(), 500));
  first->Offer(500);
  auto second = HoldOf(one_);
  ASSERT_FALSE(Grow(second.get(), 400));
  EXPECT_EQ(memory_.waiting(), 1);
  first.reset();
  EXPECT_EQ(waiter_->rooms, 1);
  EXPECT_EQ(memory_.waiting(), 0);
  EXPECT_EQ(memory_.used(), 400);
}

TEST_F(AnswerMemoryTest, AnswersOfACallerGetRoomInTheirOrder) {
  auto first = HoldOf(one_);
  ASSERT_TRUE(Grow(first.get(), 500));
  first->Offer(500);
  auto large = HoldOf(one_);
  auto small = HoldOf(one_);
  ASSERT_FALSE(Grow(large.get(), 501));
  ASSERT_FALSE(Grow(small.get(), 1));
  EXPECT_EQ(memory_.used(), 500);
}

TEST_F(AnswerMemoryTest, AHoldDestroyedWhileItWaitsIsNotCalled) {
  auto first = HoldOf(one_);
  ASSERT_TRUE(Grow(first.get(), 500));
  auto second = HoldOf(one_);
  ASSERT_FALSE(Grow(second.get(), 400));
  second.reset();
  first.reset();
  EXPECT_EQ(waiter_->rooms, 0);
  EXPECT_EQ(memory_.waiting(), 0);
  EXPECT_EQ(memory_.used(), 0);
}

TEST_F(AnswerMemoryTest, AStalledCallersAnswersAndCallsAreRefused) {
  auto first = HoldOf(one_);
  ASSERT_TRUE(Grow(first.get(), 600));
  first->Offer(600);
  auto second = HoldOf(one_);
  const Instant begun = MonotonicNow();
  ASSERT_FALSE(second->Grow(400, waiter_, begun - AnswerMemory::kStall));
  first->Took(begun - 2 * AnswerMemory::kStall);
  Fire();
  EXPECT_EQ(waiter_->refusals, 1);
  EXPECT_FALSE(memory_.Admit(*one_, MonotonicNow()));
  EXPECT_TRUE(memory_.Admit(*two_, MonotonicNow()));
  first.reset();
  EXPECT_TRUE(memory_.Admit(*one_, MonotonicNow()));
}

TEST_F(AnswerMemoryTest, ACallerThatReadsIsNotStalled) {
  auto first = HoldOf(one_);
  ASSERT_TRUE(Grow(first.get(), 600));
  first->Offer(600);
  auto second = HoldOf(one_);
  ASSERT_FALSE(
      second->Grow(400, waiter_, MonotonicNow() - 5 * AnswerMemory::kStall));
  first->Took(MonotonicNow());
  Fire();
  EXPECT_EQ(waiter_->refusals, 0);
  EXPECT_TRUE(memory_.Admit(*one_, MonotonicNow()));
}

TEST_F(AnswerMemoryTest, SmallAnswersFarPastTheShareRefuseNewCalls) {
  auto many = HoldOf(one_);
  many->Offer(600);
  many->Took(MonotonicNow());
  EXPECT_TRUE(memory_.Admit(*one_, MonotonicNow()));
  many->Offer(800);
  EXPECT_FALSE(memory_.Admit(*one_, MonotonicNow()));
}

TEST_F(AnswerMemoryTest, OfAnswersThatWaitForEachOtherOneMayPassTheLimit) {
  std::vector<std::unique_ptr<Hold>> holds;
  for (int i = 0; i < 5; ++i) {
    holds.push_back(HoldOf(one_));
    ASSERT_TRUE(Grow(holds.back().get(), 100));
  }
  for (auto& hold : holds) ASSERT_FALSE(Grow(hold.get(), 600));
  Fire();
  EXPECT_EQ(waiter_->rooms, 1);
  EXPECT_EQ(memory_.used(), 1000);
  holds.erase(holds.begin());
  EXPECT_EQ(waiter_->rooms, 2);
}

TEST_F(AnswerMemoryTest, ACallersOwnLimitHolds) {
  const auto session = std::make_shared<Caller>(100);
  auto first = HoldOf(session);
  auto second = HoldOf(session);
  ASSERT_TRUE(Grow(first.get(), 60));
  EXPECT_FALSE(Grow(second.get(), 60));
}

TEST_F(AnswerMemoryTest, ARaisedLimitServesWaitingAnswers) {
  auto first = HoldOf(one_);
  ASSERT_TRUE(Grow(first.get(), 500));
  auto second = HoldOf(one_);
  ASSERT_FALSE(Grow(second.get(), 500));
  memory_.SetLimit(2000);
  EXPECT_EQ(waiter_->rooms, 1);
}

// Many threads with random answers. Afterwards nothing is held, no answer
// waits, and every wait has ended exactly once.
TEST(AnswerMemoryStressTest, EveryWaitEndsOnceAndNothingRemains) {
  std::mutex mu;
  std::vector<absl::AnyInvocable<void()>> due;
  AnswerMemory memory(1000, [&](Instant, absl::AnyInvocable<void()> work) {
    std::lock_guard lock(mu);
    due.push_back(std::move(work));
  });
  std::atomic<int> working{4};
  std::atomic<int64_t> waits{0}, ends{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      const auto caller = std::make_shared<Caller>();
      for (int i = 0; i < 3000; ++i) {
        Hold hold(&memory, caller);
        Hold other(&memory, caller);
        other.Offer(random() % 100);
        const auto waiter = std::make_shared<TestWaiter>();
        if (hold.Grow(1 + random() % 900, waiter, MonotonicNow())) continue;
        ++waits;
        if (random() % 4 == 0) {
          ++ends;
          continue;  // Destroys the hold while it waits.
        }
        while (waiter->rooms + waiter->refusals == 0) {
          other.Offer(random() % 100);
          std::this_thread::yield();
        }
        EXPECT_EQ(waiter->rooms + waiter->refusals, 1);
        ++ends;
      }
      --working;
    });
  }
  while (working > 0) {
    std::vector<absl::AnyInvocable<void()>> now;
    {
      std::lock_guard lock(mu);
      now.swap(due);
    }
    for (auto& work : now) work();
    std::this_thread::yield();
  }
  for (auto& thread : threads) thread.join();
  EXPECT_GT(waits, 0);
  EXPECT_EQ(waits, ends);
  EXPECT_EQ(memory.used(), 0);
  EXPECT_EQ(memory.waiting(), 0);
}

}  // namespace
}  // namespace hotline::server
