#include "net/http2/flood_account.h"

#include <nghttp2/nghttp2.h>

#include <chrono>

#include "gtest/gtest.h"

namespace hotline::net {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr FloodAccount::Limits kSmall = {.max_useless_frames = 10,
                                         .useless_frames_per_second = 0,
                                         .max_continuations = 3,
                                         .max_stray_bytes = 100};
constexpr Instant kStart = Instant{} + seconds(1000);

FrameHead HeadOf(uint8_t type) { return {.type = type, .stream = 1}; }

TEST(TokenBucketTest, IsFullAtFirstAndOverdrawnBelowZero) {
  TokenBucket bucket(3);
  EXPECT_TRUE(bucket.Pay(3));
  EXPECT_FALSE(bucket.overdrawn());
  EXPECT_FALSE(bucket.Pay(1));
  EXPECT_TRUE(bucket.overdrawn());
}

TEST(TokenBucketTest, EarnsUpToItsCapacity) {
  TokenBucket bucket(3);
  bucket.Pay(2);
  bucket.Earn(100);
  EXPECT_TRUE(bucket.Pay(3));
  EXPECT_FALSE(bucket.Pay(1));
}

TEST(TokenBucketTest, TimeRefillsItUpToItsCapacity) {
  TokenBucket bucket(10, /*per_second=*/10);
  bucket.Refill(kStart);
  bucket.Pay(10);
  bucket.Refill(kStart + milliseconds(250));
  EXPECT_TRUE(bucket.Pay(2));
  EXPECT_FALSE(bucket.Pay(1));
  // It was overdrawn by one.
  bucket.Refill(kStart + seconds(3600));
  EXPECT_TRUE(bucket.Pay(9));
  EXPECT_FALSE(bucket.Pay(1));
}

TEST(TokenBucketTest, PartsOfAStepAreNotLost) {
  TokenBucket bucket(10, /*per_second=*/10);
  bucket.Refill(kStart);
  bucket.Pay(10);
  for (int i = 1; i <= 5; ++i) bucket.Refill(kStart + milliseconds(60 * i));
  EXPECT_TRUE(bucket.Pay(3));
  EXPECT_FALSE(bucket.Pay(1));
}

TEST(TokenBucketTest, WithoutARateTimeAddsNothing) {
  TokenBucket bucket(1);
  bucket.Pay(2);
  bucket.Refill(kStart + seconds(3600));
  EXPECT_TRUE(bucket.overdrawn());
}

TEST(FloodAccountTest, UselessFramesAreAllowedUpToTheLimit) {
  FloodAccount account(kSmall);
  account.Charge(10);
  EXPECT_EQ(account.Check(), nullptr);
  account.Charge(1);
  EXPECT_STREQ(account.Check(), "too many frames of no use");
}

TEST(FloodAccountTest, CreditEarnedIsCappedAtTheLimit) {
  FloodAccount account(kSmall);
  account.Earn(1000);
  account.Charge(11);
  EXPECT_NE(account.Check(), nullptr);
  account.Earn(1);
  EXPECT_EQ(account.Check(), nullptr);
}

TEST(FloodAccountTest, TimeAddsCreditAtTheGivenRate) {
  FloodAccount::Limits limits = kSmall;
  limits.useless_frames_per_second = 2;
  FloodAccount account(limits);
  account.Refill(kStart);
  account.Charge(11);
  account.Refill(kStart + milliseconds(500));
  EXPECT_EQ(account.Check(), nullptr);
  account.Charge(1);
  EXPECT_NE(account.Check(), nullptr);
}

TEST(FloodAccountTest, ContinuationsOfOneHeadAreLimited) {
  FloodAccount account(kSmall);
  for (int head = 0; head < 3; ++head) {
    EXPECT_EQ(account.CountContinuation(HeadOf(NGHTTP2_HEADERS)), nullptr);
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(account.CountContinuation(HeadOf(NGHTTP2_CONTINUATION)),
                nullptr);
    }
  }
  EXPECT_STREQ(account.CountContinuation(HeadOf(NGHTTP2_CONTINUATION)),
               "a head in too many frames");
}

TEST(FloodAccountTest, StrayDataIsFreeAsFarAsItIsAllowed) {
  FloodAccount account(kSmall);
  EXPECT_FALSE(account.CoverStray(1));
  account.AllowStray(60);
  EXPECT_FALSE(account.CoverStray(0));
  EXPECT_TRUE(account.CoverStray(50));
  EXPECT_FALSE(account.CoverStray(11));
  EXPECT_TRUE(account.CoverStray(10));
}

TEST(FloodAccountTest, StrayDataIsLimitedOverAllResets) {
  FloodAccount account(kSmall);
  for (int i = 0; i < 5; ++i) account.AllowStray(60);
  EXPECT_FALSE(account.CoverStray(101));
  EXPECT_TRUE(account.CoverStray(100));
}

TEST(FloodAccountTest, DataSentPaysForItsWindowUpdates) {
  FloodAccount account(kSmall);
  EXPECT_FALSE(account.OnWindowUpdate(0, 1));
  account.OnDataSent(5);
  EXPECT_FALSE(account.OnWindowUpdate(0, 0));
  EXPECT_TRUE(account.OnWindowUpdate(0, 2));
  EXPECT_TRUE(account.OnWindowUpdate(0, 3));
  EXPECT_FALSE(account.OnWindowUpdate(0, 1));
  // Streams have a window of their own.
  EXPECT_FALSE(account.OnWindowUpdate(7, 6));
  EXPECT_FALSE(account.OnWindowUpdate(7, 1)) << "all paid for";
}

TEST(FloodAccountTest, RepliesThatAreNotReadAreLimited) {
  FloodAccount account(kSmall);
  account.OnWritten(0, 50);
  for (int i = 0; i < 10; ++i) account.OnReply();
  EXPECT_EQ(account.Check(), nullptr);
  account.OnReply();
  EXPECT_STREQ(account.Check(), "it does not read what it asks for");
  account.OnWritten(49, 80);
  EXPECT_NE(account.Check(), nullptr);
  account.OnWritten(50, 80);
  EXPECT_EQ(account.Check(), nullptr);
}

}  // namespace
}  // namespace hotline::net
