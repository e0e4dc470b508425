#include "upstream/deadline_queue.h"

#include <gtest/gtest.h>

#include <vector>

namespace hotline::upstream {
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

}  // namespace
}  // namespace hotline::upstream
