#include "server/broker/policy.h"

#include <string>
#include <string_view>
#include <vector>

#include "gtest/gtest.h"

namespace hotline::server {
namespace {

constexpr RpcMethod kAcquire = RpcMethod::kAcquire;
constexpr RpcMethod kExecute = RpcMethod::kExecute;
constexpr RpcMethod kRelease = RpcMethod::kRelease;
constexpr RpcMethod kRenew = RpcMethod::kRenew;
constexpr RpcMethod kStats = RpcMethod::kStats;

// Rules for three teams, for one guest, and for all others.
PolicyRules Rules(bool allow_by_default) {
  PolicyRules rules;
  rules.allow_by_default = allow_by_default;
  rules.rules = {
      {.identities = {"spiffe://prod/pay/*"},
       .targets = {"https://bank.test", "https://*.bank.test:8443"},
       .rpcs = {"Acquire", "Execute"},
       .quota = {.max_leases = 2, .max_waiters = 0, .requests_per_second = 0}},
      {.identities = {"spiffe://prod/pay/batch"},
       .targets = {"https://files.test"},
       .rpcs = {"Execute"},
       .quota = {.max_leases = 0, .max_waiters = 7, .requests_per_second = 0}},
      {.identities = {"dns:ops.test", "uid:0"}, .all_leases = true},
      {.identities = {"anonymous"}, .targets = {}, .rpcs = {"Stats"}},
  };
  return rules;
}

struct Row {
  std::string_view identity;
  RpcMethod rpc;
  std::string_view target;
  bool allowed;
};

// Identity x target x RPC; the default is to allow.
constexpr Row kMatrix[] = {
    // The first rule, and targets just outside it.
    {"spiffe://prod/pay/web", kAcquire, "https://bank.test:443", true},
    {"spiffe://prod/pay/web", kExecute, "https://bank.test:443", true},
    {"spiffe://prod/pay/web", kExecute, "https://eu.bank.test:8443", true},
    {"spiffe://prod/pay/web", kExecute, "https://eu.bank.test:443", false},
    {"spiffe://prod/pay/web", kExecute, "https://bank.test:8443", false},
    {"spiffe://prod/pay/web", kExecute, "http://bank.test:80", false},
    {"spiffe://prod/pay/web", kExecute, "https://bank.test.evil:443", false},
    {"spiffe://prod/pay/web", kExecute, "https://xbank.test:443", false},
    {"spiffe://prod/pay/web", kExecute, "https://files.test:443", false},
    {"spiffe://prod/pay/web", kStats, "", false},
    {"spiffe://prod/pay/web", kRenew, "", true},    // With Acquire.
    {"spiffe://prod/pay/web", kRelease, "", true},  // Always.
    // Rules add up, but the parts of two rules do not combine.
    {"spiffe://prod/pay/batch", kExecute, "https://files.test:443", true},
    {"spiffe://prod/pay/batch", kExecute, "https://bank.test:443", true},
    {"spiffe://prod/pay/batch", kAcquire, "https://files.test:443", false},
    // A rule that allows everything.
    {"dns:ops.test", kStats, "", true},
    {"dns:ops.test", kAcquire, "http://10.0.0.1:80", true},
    {"uid:0", kExecute, "https://bank.test:443", true},
    // Callers without an identity.
    {"", kStats, "", true},
    {"", kRelease, "", true},
    {"", kExecute, "https://bank.test:443", false},
    {"", kAcquire, "https://bank.test:443", false},
    // Names that almost match a pattern.
    {"spiffe://prod/payx", kExecute, "https://files.test:443", true},
    {"uid:00", kExecute, "https://files.test:443", true},
    {"dns:ops.test.evil", kStats, "", true},
};

TEST(PolicyTest, AdminIsAllowedOnlyWhereARuleListsIt) {
  constexpr RpcMethod kAdmin = RpcMethod::kAdmin;
  PolicyRules rules = Rules(/*allow_by_default=*/true);
  // A rule without `rpcs` allows those of the Broker; no default applies.
  EXPECT_FALSE(Policy(rules).Decide("uid:0", kAdmin, "").allowed);
  EXPECT_FALSE(Policy(rules).Decide("uid:5", kAdmin, "").allowed);
  EXPECT_FALSE(Policy(rules).Decide("", kAdmin, "").allowed);
  rules.rules.push_back({.identities = {"uid:1"}, .rpcs = {"Admin"}});
  rules.rules.push_back({.identities = {"uid:2"},
                         .targets = {"https://bank.test"},
                         .rpcs = {"Admin"}});
  const Policy policy(rules);
  EXPECT_TRUE(policy.Decide("uid:1", kAdmin, "").allowed);
  EXPECT_TRUE(policy.Decide("uid:1", kAdmin, "https://a.test:443").allowed);
  EXPECT_FALSE(policy.Decide("uid:1", kExecute, "https://a.test:443").allowed);
  EXPECT_TRUE(policy.Decide("uid:2", kAdmin, "https://bank.test:443").allowed);
  EXPECT_FALSE(policy.Decide("uid:2", kAdmin, "https://a.test:443").allowed);
  // What concerns the whole broker.
  EXPECT_FALSE(policy.Decide("uid:2", kAdmin, "").allowed);
}

TEST(PolicyTest, DecidesByIdentityRpcAndTarget) {
  const Policy policy(Rules(/*allow_by_default=*/true));
  for (const Row& row : kMatrix) {
    EXPECT_EQ(policy.Decide(row.identity, row.rpc, row.target).allowed,
              row.allowed)
        << row.identity << " " << kRpcMethods[static_cast<int>(row.rpc)] << " "
        << row.target;
  }
}

TEST(PolicyTest, TheDefaultAppliesToCallersThatNoRuleNames) {
  const Policy allow(Rules(true));
  const Policy deny(Rules(false));
  for (const RpcMethod rpc : {kAcquire, kExecute, kRelease, kRenew, kStats}) {
    EXPECT_TRUE(allow.Decide("cn:stranger", rpc, "").allowed);
    EXPECT_FALSE(deny.Decide("cn:stranger", rpc, "").allowed);
  }
  for (const Row& row : kMatrix) {
    if (row.identity == "spiffe://prod/payx" || row.identity == "uid:00" ||
        row.identity == "dns:ops.test.evil") {
      continue;
    }
    EXPECT_EQ(deny.Decide(row.identity, row.rpc, row.target).allowed,
              row.allowed);
  }
}

TEST(PolicyTest, TheQuotaIsThatOfTheFirstRuleThatAllows) {
  const Policy policy(Rules(true));
  const auto quota = [&](std::string_view target) {
    return policy.Decide("spiffe://prod/pay/batch", kExecute, target).quota;
  };
  EXPECT_EQ(quota("https://bank.test:443").max_leases, 2);
  EXPECT_EQ(quota("https://files.test:443").max_waiters, 7);
  EXPECT_EQ(policy.Decide("cn:stranger", kExecute, "").quota, Quota());
}

TEST(PolicyTest, OnlyARuleWithAllLeasesShowsAllLeases) {
  const Policy policy(Rules(true));
  EXPECT_TRUE(policy.SeesAllLeases("uid:0"));
  EXPECT_FALSE(policy.SeesAllLeases("uid:1"));
  EXPECT_FALSE(policy.SeesAllLeases("spiffe://prod/pay/web"));
  EXPECT_FALSE(policy.SeesAllLeases(""));
}

TEST(PolicyTest, AStarMatchesEveryIdentityButAnonymous) {
  PolicyRules rules;
  rules.rules = {{.identities = {"*"}, .rpcs = {"Stats"}}};
  const Policy policy(rules);
  EXPECT_FALSE(policy.Decide("uid:1", kExecute, "").allowed);
  EXPECT_FALSE(policy.Decide("anonymous", kExecute, "").allowed);
  EXPECT_TRUE(policy.Decide("", kExecute, "").allowed);  // The default.
}

TEST(PolicyTest, AStarMatchesAnyCharacters) {
  EXPECT_TRUE(MatchesPattern("", ""));
  EXPECT_FALSE(MatchesPattern("", "a"));
  EXPECT_TRUE(MatchesPattern("*", ""));
  EXPECT_TRUE(MatchesPattern("a*c", "abbc"));
  EXPECT_TRUE(MatchesPattern("a*b*c", "axbxbxc"));
  EXPECT_FALSE(MatchesPattern("a*b*c", "axcxb"));
  EXPECT_FALSE(MatchesPattern("abc", "abcd"));
  EXPECT_FALSE(MatchesPattern("a.c", "abc"));
  // Matching takes no exponential time.
  std::string pattern;
  for (int i = 0; i < 500; ++i) pattern += "*a";
  EXPECT_FALSE(MatchesPattern(pattern + "b", std::string(2000, 'a')));
}

TEST(PolicyTest, MalformedPatternsAreReported) {
  for (const char* good :
       {"spiffe://a/*", "dns:*.test", "cn:A B", "uid:1000", "*", "anonymous"}) {
    EXPECT_EQ(CheckIdentityPattern(good), "") << good;
  }
  for (const char* bad : {"", "root", "1000", "Anonymous", "user:a"}) {
    EXPECT_NE(CheckIdentityPattern(bad), "") << bad;
  }
  for (const char* good :
       {"https://a.test", "HTTPS://*.A.test:*", "http://[::1]:8080",
        "http://[::1]", "*://*:*", "tcp://a:1", "https://10.0.0.1"}) {
    EXPECT_EQ(CheckTargetPattern(good), "") << good;
  }
  for (const char* bad :
       {"", "a.test", "https://", "https://a/b", "ftp://a", "tcp://a",
        "https://a:", "https://a:x", "https://u@a", "*"}) {
    EXPECT_NE(CheckTargetPattern(bad), "") << bad;
  }
  EXPECT_EQ(CheckRpcName("Acquire"), "");
  EXPECT_NE(CheckRpcName("acquire"), "");
  EXPECT_NE(CheckRpcName("Everything"), "");
}

}  // namespace
}  // namespace hotline::server
