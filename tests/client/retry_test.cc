#include "client/retry.h"

#include <chrono>
#include <optional>
#include <string>

#include "client/proto_time.h"
#include "client/status.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"

namespace hotline::client {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr int kUnavailable = 14;
constexpr int kResourceExhausted = 8;
const RetryOptions kOptions;

absl::Status Ours(int code, std::optional<Duration> retry_after = {},
                  const std::string& domain = "hotline") {
  google::rpc::Status status;
  google::rpc::ErrorInfo info;
  info.set_reason("SOME_REASON");
  info.set_domain(domain);
  status.add_details()->PackFrom(info);
  if (retry_after.has_value()) {
    google::rpc::RetryInfo retry;
    *retry.mutable_retry_delay() = ToProto(*retry_after);
    status.add_details()->PackFrom(retry);
  }
  return MakeStatus(code, "message", status.SerializeAsString());
}

TEST(RetryPause, RepeatsOurUnavailableEvenForAPost) {
  EXPECT_EQ(RetryPause(Ours(kUnavailable), /*harmless=*/false, 1, seconds(9),
                       0.5, kOptions),
            milliseconds(25));
}

TEST(RetryPause, RepeatsABareUnavailableOnlyIfThatIsHarmless) {
  const absl::Status bare = MakeStatus(kUnavailable, "refused", "");
  EXPECT_FALSE(RetryPause(bare, false, 1, seconds(9), 0.5, kOptions));
  EXPECT_TRUE(RetryPause(bare, true, 1, seconds(9), 0.5, kOptions));
}

TEST(RetryPause, TrustsNoOtherDomain) {
  EXPECT_FALSE(RetryPause(Ours(kUnavailable, {}, "elsewhere"), false, 1,
                          seconds(9), 0.5, kOptions));
}

TEST(RetryPause, RepeatsNoOtherCodeWhateverItCarries) {
  for (int code = 1; code <= 16; ++code) {
    if (code == kUnavailable) continue;
    EXPECT_FALSE(RetryPause(Ours(code, milliseconds(1)), true, 1, seconds(9),
                            0.5, kOptions))
        << code;
  }
}

TEST(RetryPause, EndsAfterTheLastAttempt) {
  EXPECT_TRUE(
      RetryPause(Ours(kUnavailable), true, 2, seconds(9), 0.5, kOptions));
  EXPECT_FALSE(
      RetryPause(Ours(kUnavailable), true, 3, seconds(9), 0.5, kOptions));
}

TEST(RetryPause, GrowsToItsCapAndIsJittered) {
  RetryOptions options;
  options.max_attempts = 100;
  const absl::Status status = Ours(kUnavailable);
  EXPECT_EQ(RetryPause(status, true, 1, seconds(9), 0.0, options), Duration(0));
  EXPECT_EQ(RetryPause(status, true, 3, seconds(9), 0.5, options),
            milliseconds(100));
  EXPECT_EQ(RetryPause(status, true, 90, seconds(9), 0.5, options),
            milliseconds(500));
}

TEST(RetryPause, IsNeverShorterThanRetryInfo) {
  EXPECT_EQ(RetryPause(Ours(kUnavailable, milliseconds(700)), true, 1,
                       seconds(9), 0.5, kOptions),
            milliseconds(700));
}

TEST(RetryPause, GivesUpWhenThePauseDoesNotFitIntoTheDeadline) {
  EXPECT_FALSE(RetryPause(Ours(kUnavailable, seconds(5)), true, 1, seconds(5),
                          0.5, kOptions));
  EXPECT_FALSE(
      RetryPause(Ours(kUnavailable), true, 1, Duration(-1), 0.0, kOptions));
}

TEST(HarmlessTwice, FollowsTheMethodUnlessTheCallerDecides) {
  v1::ExecuteRequest request;
  EXPECT_TRUE(HarmlessTwice(request)) << "GET by default";
  for (const char* method : {"GET", "HEAD", "OPTIONS", "PUT", "DELETE"}) {
    request.set_method(method);
    EXPECT_TRUE(HarmlessTwice(request)) << method;
  }
  for (const char* method : {"POST", "PATCH", "get", "LOCK"}) {
    request.set_method(method);
    EXPECT_FALSE(HarmlessTwice(request)) << method;
  }
  request.mutable_retry()->set_idempotent(true);
  EXPECT_TRUE(HarmlessTwice(request));
}

}  // namespace
}  // namespace hotline::client
