#include "server/broker/gatekeeper.h"

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "base/log.h"
#include "gtest/gtest.h"

namespace hotline::server {
namespace {

constexpr RpcMethod kExecute = RpcMethod::kExecute;
constexpr char kTarget[] = "https://a.test:443";

class GatekeeperTest : public ::testing::Test {
 protected:
  GatekeeperTest() {
    SetLogSink(
        [this](LogLevel, std::string_view line) { lines_.emplace_back(line); });
  }
  ~GatekeeperTest() override { SetLogSink(nullptr); }

  // Returns "OK", or the error's reason.
  std::string Check(const Policy& policy, const IdentityPtr& who,
                    RpcMethod rpc = kExecute) {
    last_ = gatekeeper_.Check(policy, rpc, who, kTarget, now_, &quota_);
    return last_ == nullptr ? "OK" : last_->reason;
  }

  static Policy With(Quota quota) {
    PolicyRules rules;
    rules.rules = {{.identities = {"*", "anonymous"}, .quota = quota}};
    return Policy(rules);
  }
  static Policy Denying() {
    PolicyRules rules;
    rules.allow_by_default = false;
    return Policy(rules);
  }

  IdentityTable identities_;
  Gatekeeper gatekeeper_;
  Instant now_{std::chrono::hours(1)};
  Quota quota_;
  ErrorPtr last_;
  std::vector<std::string> lines_;
};

TEST_F(GatekeeperTest,
       ANamedCallerIsForbiddenAndAnAnonymousOneUnauthenticated) {
  const Policy policy = Denying();
  EXPECT_EQ(Check(policy, identities_.Get("uid:7")), "NOT_AUTHORIZED");
  EXPECT_EQ(last_->code, absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(last_->message, "uid:7 may not call Execute on https://a.test:443");
  EXPECT_EQ(Check(policy, nullptr), "NO_IDENTITY");
  EXPECT_EQ(last_->code, absl::StatusCode::kUnauthenticated);
  EXPECT_EQ(gatekeeper_.denials(kExecute, Denial::kNotAuthorized), 1u);
  EXPECT_EQ(gatekeeper_.denials(kExecute, Denial::kNoIdentity), 1u);
  EXPECT_EQ(gatekeeper_.denials(RpcMethod::kStats, Denial::kNoIdentity), 0u);
}

TEST_F(GatekeeperTest, CallsAndDenialsAreCountedByIdentity) {
  const IdentityPtr named = identities_.Get("uid:7");
  Check(Denying(), named);
  Check(Denying(), nullptr);
  Check(Denying(), nullptr);
  gatekeeper_.NoteCall(named);
  gatekeeper_.NoteCall(nullptr);
  EXPECT_EQ(named->calls.Read(), 1u);
  EXPECT_EQ(named->denials, 1u);
  EXPECT_EQ(gatekeeper_.anonymous().name, "anonymous");
  EXPECT_EQ(gatekeeper_.anonymous().calls, 1u);
  EXPECT_EQ(gatekeeper_.anonymous().denials, 2u);
}

TEST_F(GatekeeperTest, DenialsAreCountedAndLoggedAtALimitedRate) {
  const Policy policy = Denying();
  // An earlier test may have logged in the limiter's current interval.
  uint64_t denied = 0;
  for (; denied < 1000 || (lines_.empty() && denied < 1'000'000'000);
       ++denied) {
    Check(policy, identities_.Get("uid:7"));
  }
  ASSERT_FALSE(lines_.empty());
  EXPECT_LT(lines_.size(), denied / 10);
  EXPECT_NE(lines_[0].find("denied identity=uid:7 method=Execute "
                           "target=https://a.test:443 reason=not_authorized"),
            std::string::npos)
      << lines_[0];
  EXPECT_EQ(gatekeeper_.denials(kExecute, Denial::kNotAuthorized), denied);
}

TEST_F(GatekeeperTest, ARateAllowsABurstOfOneSecondAndThenItsShare) {
  const Policy policy = With({.requests_per_second = 10});
  const IdentityPtr a = identities_.Get("uid:1");
  const IdentityPtr b = identities_.Get("uid:2");
  int passed = 0;
  for (int i = 0; i < 100; ++i) passed += Check(policy, a) == "OK";
  EXPECT_EQ(passed, 10);
  EXPECT_EQ(last_->reason, "QUOTA");
  EXPECT_EQ(last_->code, absl::StatusCode::kResourceExhausted);
  ASSERT_TRUE(last_->retry_after.has_value());
  EXPECT_EQ(*last_->retry_after, std::chrono::milliseconds(100));
  // Each caller has a quota of its own; callers without an identity share one.
  EXPECT_EQ(Check(policy, b), "OK");
  EXPECT_EQ(Check(policy, nullptr), "OK");
  // Releases are never limited.
  EXPECT_EQ(Check(policy, a, RpcMethod::kRelease), "OK");
  now_ += std::chrono::milliseconds(100);
  EXPECT_EQ(Check(policy, a), "OK");
  EXPECT_EQ(Check(policy, a), "QUOTA");
  now_ += std::chrono::seconds(60);
  passed = 0;
  for (int i = 0; i < 100; ++i) passed += Check(policy, a) == "OK";
  EXPECT_EQ(passed, 10);
}

TEST_F(GatekeeperTest, ARateOfOneIsOneASecond) {
  const Policy policy = With({.requests_per_second = 1});
  const IdentityPtr a = identities_.Get("uid:1");
  EXPECT_EQ(Check(policy, a), "OK");
  EXPECT_EQ(Check(policy, a), "QUOTA");
  now_ += std::chrono::seconds(1);
  EXPECT_EQ(Check(policy, a), "OK");
}

TEST_F(GatekeeperTest, ATokenCountsUntilItIsDestroyed) {
  const IdentityPtr a = identities_.Get("uid:1");
  {
    QuotaToken one;
    QuotaToken two;
    QuotaToken three;
    EXPECT_TRUE(one.Take(a, &a->leases, 2));
    EXPECT_TRUE(two.Take(a, &a->leases, 2));
    EXPECT_FALSE(three.Take(a, &a->leases, 2));
    EXPECT_EQ(a->leases, 2);
    const QuotaToken moved = std::move(one);
    EXPECT_EQ(a->leases, 2);
    two = QuotaToken();
    EXPECT_EQ(a->leases, 1);
    EXPECT_TRUE(three.Take(a, &a->leases, 2));
  }
  EXPECT_EQ(a->leases, 0);
}

TEST_F(GatekeeperTest, UseOfAnotherCallersLeaseIsAuditedAndOtherErrorsAreNot) {
  const IdentityPtr a = identities_.Get("uid:1");
  gatekeeper_.Note(kExecute, a, *FromLeaseStatus(pool::LeaseStatus::kNotYours));
  gatekeeper_.Note(kExecute, a, *FromLeaseStatus(pool::LeaseStatus::kEnded));
  EXPECT_EQ(gatekeeper_.denials(kExecute, Denial::kNotYours), 1u);
}

}  // namespace
}  // namespace hotline::server
