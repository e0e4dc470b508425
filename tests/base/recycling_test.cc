#include "base/recycling.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <thread>
#include <vector>

namespace hotline {
namespace {

struct Base {
  virtual ~Base() = default;
};

struct Object final : Base, Recycled<Object> {
  explicit Object(int* alive) : alive(alive) { ++*alive; }
  ~Object() override { --*alive; }
  int* alive;
  char rest[2000];
};

TEST(RecyclingTest, ObjectsAliveHaveBlocksOfTheirOwn) {
  int alive = 0;
  for (int round = 0; round < 3; ++round) {
    std::vector<std::unique_ptr<Base>> objects;
    std::set<const Base*> distinct;
    // More than are kept.
    for (int i = 0; i < 3 * RecyclingAllocator<Object>::kKept; ++i) {
      objects.push_back(std::make_unique<Object>(&alive));
      distinct.insert(objects.back().get());
    }
    EXPECT_EQ(objects.size(), distinct.size());
    EXPECT_EQ(static_cast<int>(objects.size()), alive);
    objects.clear();
    EXPECT_EQ(0, alive);
  }
}

#ifndef __SANITIZE_ADDRESS__
TEST(RecyclingTest, ABlockIsUsedAgain) {
  int alive = 0;
  auto first = std::make_unique<Object>(&alive);
  const Object* const block = first.get();
  first.reset();
  EXPECT_EQ(block, std::make_unique<Object>(&alive).get());
}
#endif

TEST(RecyclingTest, AnotherThreadMayFree) {
  int alive = 0;
  const auto make = [&alive] {
    return std::allocate_shared<Object>(RecyclingAllocator<Object>(), &alive);
  };
  std::vector<std::shared_ptr<Object>> objects;
  for (int i = 0; i < 100; ++i) objects.push_back(make());
  std::thread([&] { objects.clear(); }).join();
  EXPECT_EQ(0, alive);
  EXPECT_NE(nullptr, make());
}

TEST(RecyclingTest, AnObjectMayOutliveItsThread) {
  int alive = 0;
  std::shared_ptr<Object> object;
  std::thread([&] {
    object = std::allocate_shared<Object>(RecyclingAllocator<Object>(), &alive);
  }).join();
  EXPECT_EQ(1, alive);
  object.reset();
  EXPECT_EQ(0, alive);
}

}  // namespace
}  // namespace hotline
