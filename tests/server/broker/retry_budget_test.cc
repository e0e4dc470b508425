#include "server/broker/retry_budget.h"

#include "gtest/gtest.h"

namespace hotline::server {
namespace {

constexpr Instant kStart{std::chrono::hours(1)};

int RetriesLeft(RetryBudget* budget, Instant now) {
  int retries = 0;
  while (retries < 1000 && budget->TryRetry(now)) ++retries;
  return retries;
}

TEST(RetryBudgetTest, ATargetWithoutRequestsHasThreeRetries) {
  RetryBudget budget;
  EXPECT_EQ(RetriesLeft(&budget, kStart), 3);
}

TEST(RetryBudgetTest, RequestsAddTheirShare) {
  RetryBudget budget;
  EXPECT_EQ(RetriesLeft(&budget, kStart), 3);
  for (int i = 0; i < 50; ++i) budget.OnRequest(20);
  EXPECT_EQ(RetriesLeft(&budget, kStart), 10);
}

TEST(RetryBudgetTest, ASpentBudgetIsRefilledToThreeAfterTenSeconds) {
  RetryBudget budget;
  EXPECT_EQ(RetriesLeft(&budget, kStart), 3);
  EXPECT_EQ(RetriesLeft(&budget, kStart + std::chrono::seconds(9)), 0);
  EXPECT_EQ(RetriesLeft(&budget, kStart + std::chrono::seconds(10)), 3);
}

TEST(RetryBudgetTest, ABurstIsBounded) {
  RetryBudget budget;
  for (int i = 0; i < 1'000'000; ++i) budget.OnRequest(20);
  EXPECT_LE(RetriesLeft(&budget, kStart), 101);
}

TEST(RetryBudgetTest, RequestsAddNothingAtZeroPercent) {
  RetryBudget budget;
  for (int i = 0; i < 1000; ++i) budget.OnRequest(0);
  EXPECT_EQ(RetriesLeft(&budget, kStart), 3);
}

}  // namespace
}  // namespace hotline::server
