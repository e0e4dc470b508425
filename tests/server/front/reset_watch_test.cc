#include "server/front/reset_watch.h"

#include <chrono>

#include "gtest/gtest.h"

namespace hotline::server {
namespace {

using std::chrono::milliseconds;

constexpr int kLimit = 1000;

// Streams that have all ended.
StreamCounts Ended(uint64_t failed, uint64_t succeeded) {
  return {failed + succeeded, failed, succeeded};
}

// Samples, ten times a second, a connection with this many resets and answers
// in between. Returns the number of samples until it is over the limit, or 0.
int LooksUntilOver(int resets, int answers, int looks) {
  ResetAccount account;
  Instant now{std::chrono::hours(1)};
  uint64_t failed = 0;
  uint64_t succeeded = 0;
  EXPECT_FALSE(account.Add(Ended(failed, succeeded), kLimit, now));
  for (int i = 1; i <= looks; ++i) {
    now += milliseconds(100);
    failed += resets;
    succeeded += answers;
    if (account.Add(Ended(failed, succeeded), kLimit, now)) return i;
  }
  return 0;
}

TEST(ResetAccountTest, WhoResetsFastIsFoundSoon) {
  EXPECT_EQ(LooksUntilOver(1600, 0, 100), 1);
  EXPECT_EQ(LooksUntilOver(1300, 0, 100), 2);
  EXPECT_EQ(LooksUntilOver(400, 0, 100), 5);
  EXPECT_EQ(LooksUntilOver(150, 0, 100), 26);
}

TEST(ResetAccountTest, WhoKeepsBelowTheLimitIsNot) {
  EXPECT_EQ(LooksUntilOver(100, 0, 600), 0);
  EXPECT_EQ(LooksUntilOver(0, 1000, 600), 0);
}

TEST(ResetAccountTest, WhoIsAnsweredMoreOftenThanItResetsIsNot) {
  // A caller that sends two requests at a time and cancels the slower one.
  EXPECT_EQ(LooksUntilOver(500, 500, 600), 0);
  EXPECT_EQ(LooksUntilOver(300, 600, 600), 0);
}

TEST(ResetAccountTest, OneBurstIsEnoughHoweverFastItWas) {
  ResetAccount account;
  EXPECT_TRUE(
      account.Add(Ended(20'000, 0), kLimit, Instant(std::chrono::hours(1))));
}

TEST(ResetAccountTest, GoodDeedsOfLongAgoDoNotCoverForALongTime) {
  ResetAccount account;
  Instant now{std::chrono::hours(1)};
  EXPECT_FALSE(account.Add(Ended(0, 50'000'000), kLimit, now));
  uint64_t failed = 0;
  int looks = 0;
  do {
    now += milliseconds(100);
    failed += 1300;
    ++looks;
  } while (!account.Add(Ended(failed, 50'000'000), kLimit, now));
  EXPECT_LE(looks, 10);
}

TEST(ResetAccountTest, ABurstNowAndThenIsForgiven) {
  ResetAccount account;
  Instant now{std::chrono::hours(1)};
  EXPECT_FALSE(account.Add(Ended(0, 0), kLimit, now));
  now += milliseconds(100);
  EXPECT_FALSE(account.Add(Ended(900, 0), kLimit, now));
  now += std::chrono::seconds(1);
  EXPECT_FALSE(account.Add(Ended(1800, 0), kLimit, now));
}

// gRPC counts a stream as failed only after it has processed its input.
TEST(ResetAccountTest, ABurstIsFoundWhileItIsWorkedOff) {
  ResetAccount account;
  const Instant now{std::chrono::hours(1)};
  EXPECT_FALSE(account.Add({2524, 0, 0}, kLimit, now));
  EXPECT_TRUE(account.Add({2525, 0, 0}, kLimit, now));
}

TEST(ResetAccountTest, AsManyAsCanBeOpenAreNotReset) {
  ResetAccount account;
  Instant now{std::chrono::hours(1)};
  uint64_t answered = 0;
  for (int i = 0; i < 600; ++i) {
    now += milliseconds(100);
    answered += 2000;
    EXPECT_FALSE(account.Add({answered + 1024, 0, answered}, kLimit, now));
  }
}

TEST(ResetAccountTest, CountsThatAreReadOneAfterTheOtherDoNoHarm) {
  ResetAccount account;
  const Instant now{std::chrono::hours(1)};
  EXPECT_FALSE(account.Add({5, 0, 10}, kLimit, now));
  EXPECT_FALSE(account.Add({0, 0, 2000}, kLimit, now));
}

}  // namespace
}  // namespace hotline::server
