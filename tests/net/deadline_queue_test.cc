#include "net/deadline_queue.h"

#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <vector>

#include "net/loop.h"

namespace hotline::net {
namespace {

Instant At(int64_t nanoseconds) { return Instant{} + Duration(nanoseconds); }

class DeadlineQueueTest : public ::testing::Test {
 protected:
  void Add(int64_t when, int name) {
    queue_.Add(At(when), [this, name] { ran_.push_back(name); });
  }
  std::vector<int> RunDue(int64_t now, size_t limit = 100) {
    ran_.clear();
    for (auto& work : queue_.TakeDue(At(now), limit)) work();
    return ran_;
  }

  DeadlineQueue queue_;
  std::vector<int> ran_;
};

TEST_F(DeadlineQueueTest, EmptyQueueIsDueNever) {
  EXPECT_EQ(kNever, queue_.earliest());
  EXPECT_TRUE(RunDue(1000).empty());
}

TEST_F(DeadlineQueueTest, EarliestComesFirstAndEqualsInOrder) {
  Add(30, 1);
  Add(10, 2);
  Add(20, 3);
  Add(10, 4);
  EXPECT_EQ(At(10), queue_.earliest());
  EXPECT_EQ((std::vector{2, 4, 3}), RunDue(20));
  EXPECT_EQ(At(30), queue_.earliest());
  EXPECT_EQ((std::vector{1}), RunDue(30));
  EXPECT_EQ(0u, queue_.size());
}

TEST_F(DeadlineQueueTest, NothingIsTakenBeforeItsTime) {
  Add(10, 1);
  EXPECT_TRUE(RunDue(9).empty());
  EXPECT_EQ((std::vector{1}), RunDue(10));
}

TEST_F(DeadlineQueueTest, LimitLeavesTheRestDue) {
  for (int i = 0; i < 5; ++i) Add(1, i);
  EXPECT_EQ((std::vector{0, 1}), RunDue(5, 2));
  EXPECT_EQ((std::vector{2, 3, 4}), RunDue(5));
}

TEST_F(DeadlineQueueTest, WhatIsRemovedIsGoneWithWhatItHolds) {
  auto held = std::make_shared<int>(1);
  const std::weak_ptr<int> watch = held;
  const auto token = queue_.Add(At(10), [held = std::move(held)] {});
  Add(20, 1);
  EXPECT_NE(nullptr, queue_.Remove(token));
  EXPECT_TRUE(watch.expired());
  EXPECT_EQ(nullptr, queue_.Remove(token));
  EXPECT_EQ(nullptr, queue_.Remove({}));
  EXPECT_EQ(At(20), queue_.earliest());
  EXPECT_EQ(1u, queue_.size());
  EXPECT_EQ((std::vector{1}), RunDue(30));
}

TEST_F(DeadlineQueueTest, AMillionThatWereRemovedLeaveNothing) {
  for (int i = 0; i < 1'000'000; ++i) {
    queue_.Remove(queue_.Add(At(1000 + i), [] {}));
    ASSERT_LE(queue_.size(), 1u);
  }
  EXPECT_EQ(kNever, queue_.earliest());
}

TEST(LoopTest, ACancelledDeadlineLeavesTheLoop) {
  Loop loop;
  loop.Start();
  std::promise<void> ran;
  const Instant now = MonotonicNow();
  const auto cancelled =
      loop.RunAt(now + std::chrono::hours(1), [] { FAIL(); });
  loop.RunAt(now + std::chrono::milliseconds(5), [&] { ran.set_value(); });
  EXPECT_EQ(2u, loop.deadlines());
  loop.Cancel(cancelled);
  ran.get_future().wait();
  EXPECT_EQ(0u, loop.deadlines());
  loop.Cancel(cancelled);
  loop.Cancel({});
}

}  // namespace
}  // namespace hotline::net
