#include "server/broker/overload.h"

#include <chrono>
#include <string>

#include "gtest/gtest.h"

namespace hotline::server {
namespace {

constexpr int64_t kMiB = 1 << 20;

class OverloadTest : public ::testing::Test {
 protected:
  // Returns "OK", or the error's reason and limit.
  std::string Enter(Overload* overload, int64_t bytes = 0) {
    const ErrorPtr error = overload->Enter(bytes, now_);
    if (error == nullptr) return "OK";
    EXPECT_EQ(error->code, absl::StatusCode::kResourceExhausted);
    EXPECT_EQ(error->retry_after, std::chrono::seconds(1));
    return error->reason + " " + error->metadata.at(0).second;
  }

  Instant now_{std::chrono::hours(1)};
  int64_t memory_ = 0;
  int looks_ = 0;
};

TEST_F(OverloadTest, AdmitsCallsUpToTheLimit) {
  Overload overload({0, 2}, nullptr);
  EXPECT_EQ(Enter(&overload), "OK");
  EXPECT_EQ(Enter(&overload), "OK");
  EXPECT_EQ(Enter(&overload), "OVERLOADED calls");
  EXPECT_EQ(overload.calls(), 2);
  overload.Leave();
  EXPECT_EQ(Enter(&overload), "OK");
  EXPECT_EQ(overload.shed(Shed::kCalls), 1u);
  overload.Reconfigure({0, 3});
  EXPECT_EQ(Enter(&overload), "OK");
}

TEST_F(OverloadTest, MemoryAboveTheLimitShedsUntilItIsBelow) {
  Overload overload({100 * kMiB, 1000}, [this] { return memory_; });
  memory_ = 99 * kMiB;
  for (int i = 0; i < 8; ++i) EXPECT_EQ(Enter(&overload), "OK");
  memory_ = 101 * kMiB;
  now_ += std::chrono::milliseconds(100);
  EXPECT_EQ(Enter(&overload), "OVERLOADED memory");
  EXPECT_EQ(Enter(&overload), "OVERLOADED memory");
  EXPECT_EQ(overload.shed(Shed::kMemory), 2u);
  EXPECT_EQ(overload.calls(), 8);
  memory_ = 50 * kMiB;
  now_ += std::chrono::milliseconds(100);
  EXPECT_EQ(Enter(&overload), "OK");
}

TEST_F(OverloadTest, ManyBytesAreSampledSooner) {
  Overload overload({64 * kMiB, 100'000}, [this] {
    ++looks_;
    return memory_;
  });
  for (int i = 0; i < 20; ++i) Enter(&overload);
  EXPECT_EQ(looks_, 1);
  // Three MiB are more than a 64th of the limit.
  memory_ = 65 * kMiB;
  EXPECT_EQ(Enter(&overload, 3 * kMiB), "OVERLOADED memory");
  EXPECT_EQ(looks_, 3);  // Once more after the allocator returned memory.
}

TEST_F(OverloadTest, AFewCallsMayAlwaysRun) {
  Overload overload({1 * kMiB, 1000}, [] { return 100 * kMiB; });
  for (int i = 0; i < 8; ++i) EXPECT_EQ(Enter(&overload), "OK");
  EXPECT_EQ(Enter(&overload), "OVERLOADED memory");
  overload.Leave();
  EXPECT_EQ(Enter(&overload), "OK");
}

TEST(MemoryTest, ResidentMemoryIsWithinTheCgroupsLimit) {
  EXPECT_GT(ResidentBytes(), kMiB);
  const int64_t limit = CgroupMemoryLimit();
  EXPECT_TRUE(limit == 0 || limit > ResidentBytes()) << limit;
}

}  // namespace
}  // namespace hotline::server
