// A policy that checked the target only.
//
// A rule allowed `https://public.test:*`. A caller requested that target with
// options.sni and options.remote_ip of a host that no rule allows: the TLS
// session, its certificate and the address were the forbidden host's, and only
// the target that the policy checked was the allowed one.
//
// Here a rule checks all three. An SNI or address that replaces the target's
// host must be allowed as a target would be, or be named by the rule. The same
// holds on a lease, however it was acquired.
#include <string>
#include <vector>

#include "tests/server/broker/broker_fixture.h"

namespace hotline::server {
namespace {

using testing::AlwaysAnswer;
using testing::OkResponse;
using testing::ScriptedPeer;

constexpr RpcMethod kExecute = RpcMethod::kExecute;
constexpr char kPublic[] = "https://public.test:443";

struct Row {
  Destination to;
  bool allowed;
};

void Expect(const PolicyRule& rule, const std::vector<Row>& rows) {
  PolicyRules rules;
  rules.rules = {rule};
  const Policy policy(rules);
  for (const Row& row : rows) {
    EXPECT_EQ(row.allowed, policy.Decide("uid:1", kExecute, row.to).allowed)
        << row.to.target << " " << row.to.sni << " " << row.to.remote_ip;
  }
}

TEST(PolicyDestinationTest, ARuleForOneTargetAllowsNoOtherSniOrAddress) {
  Expect({.identities = {"*"}, .targets = {"https://public.test:*"}},
         {{{kPublic, "", ""}, true},
          {{kPublic, "public.test", ""}, true},
          {{kPublic, "Public.Test", ""}, true},
          {{kPublic, "secret.test", ""}, false},
          {{kPublic, "SECRET.test", ""}, false},
          {{kPublic, "public.test.evil", ""}, false},
          {{kPublic, "", "10.0.0.1"}, false},
          {{kPublic, "", "::1"}, false},
          {{kPublic, "secret.test", "10.0.0.1"}, false},
          {{"https://public.test.:443", "", ""}, true},
          {{"https://public.test.:443", "public.test", ""}, true}});
}

TEST(PolicyDestinationTest, WhatMatchesTheTargetsAsAHostIsAllowed) {
  Expect({.identities = {"*"},
          .targets = {"https://*.public.test", "https://10.0.0.1:443",
                      "https://[2001:db8::1]:443", "http://b.test"}},
         {{{"https://a.public.test:443", "b.public.test", ""}, true},
          {{"https://a.public.test:443", "b.test", ""}, false},
          {{"https://a.public.test:443", "", "10.0.0.1"}, true},
          {{"https://a.public.test:443", "", "::ffff:10.0.0.1"}, true},
          {{"https://a.public.test:443", "", "10.0.0.2"}, false},
          {{"https://a.public.test:443", "", "2001:DB8:0::1"}, true},
          // Another port is another target.
          {{"https://a.public.test:8443", "", "10.0.0.1"}, false}});
}

TEST(PolicyDestinationTest, ARuleMayAllowOthersInSoManyWords) {
  Expect({.identities = {"*"},
          .targets = {kPublic},
          .snis = {"*.Inner.test"},
          .remote_ips = {"10.0.0.0/8", "2001:db8::/32", "192.0.2.7"}},
         {{{kPublic, "a.inner.test", ""}, true},
          {{kPublic, "A.INNER.test", "10.1.2.3"}, true},
          {{kPublic, "inner.test", ""}, false},
          {{kPublic, "secret.test", "10.1.2.3"}, false},
          {{kPublic, "a.inner.test", "11.0.0.1"}, false},
          {{kPublic, "", "::ffff:10.1.2.3"}, true},
          {{kPublic, "", "2001:db8:ff::1"}, true},
          {{kPublic, "", "2001:db9::1"}, false},
          {{kPublic, "", "192.0.2.7"}, true},
          {{kPublic, "", "192.0.2.8"}, false},
          {{"https://other.test:443", "a.inner.test", "10.1.2.3"}, false}});
  // A range of all IPv6 addresses has no IPv4 one.
  Expect({.identities = {"*"}, .targets = {kPublic}, .remote_ips = {"::/0"}},
         {{{kPublic, "", "2001:db8::1"}, true},
          {{kPublic, "", "10.0.0.1"}, false}});
}

TEST(PolicyDestinationTest, ARuleForEveryTargetAllowsEverySniAndAddress) {
  Expect({.identities = {"*"}}, {{{kPublic, "secret.test", "10.0.0.1"}, true}});
}

TEST(PolicyDestinationTest, TwoRulesDoNotCombine) {
  PolicyRules rules;
  rules.rules = {{.identities = {"*"}, .targets = {kPublic}},
                 {.identities = {"*"}, .targets = {"https://secret.test"}}};
  const Policy policy(rules);
  EXPECT_TRUE(policy.Decide("uid:1", kExecute, kPublic).allowed);
  EXPECT_TRUE(
      policy.Decide("uid:1", kExecute, "https://secret.test:443").allowed);
  EXPECT_FALSE(
      policy.Decide("uid:1", kExecute, {kPublic, "secret.test", ""}).allowed);
}

class PolicyDestinationBrokerTest : public BrokerTest {
 protected:
  void Allow(std::vector<PolicyRule> rules) {
    PolicyRules policy;
    policy.rules = std::move(rules);
    settings_.policy = std::make_shared<const Policy>(policy);
    broker_->Reconfigure(settings_);
  }

  std::string Get(const std::string& url, const std::string& remote,
                  const std::string& lease = "") {
    TestExecute call;
    call.request.set_url(url);
    call.request.set_lease_id(lease);
    call.request.mutable_options()->set_remote_ip(remote);
    return Go(&call)->Wait();
  }
};

TEST_F(PolicyDestinationBrokerTest, TheAddressIsAskedAboutForACallAndALease) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("x")));
  const std::string target =
      "http://public.test:" + std::to_string(peer.port());
  const PolicyRule narrow = {.identities = {"anonymous"}, .targets = {target}};
  PolicyRule wide = narrow;
  wide.remote_ips = {"127.0.0.0/8"};

  Allow({narrow});
  EXPECT_EQ("NO_IDENTITY", Get(target, "127.0.0.1"));
  TestAcquire refused;
  refused.request.set_target(target);
  refused.request.mutable_options()->set_remote_ip("127.0.0.1");
  EXPECT_EQ("NO_IDENTITY", Go(&refused)->Wait());
  EXPECT_EQ(0, peer.accepted());

  // Acquire may, Execute may not: the lease is no way around it.
  wide.rpcs = {"Acquire"};
  PolicyRule execute = narrow;
  execute.rpcs = {"Execute"};
  Allow({wide, execute});
  TestAcquire lease;
  lease.request.set_target(target);
  lease.request.mutable_options()->set_remote_ip("127.0.0.1");
  ASSERT_EQ("OK", Go(&lease)->Wait());
  const std::string id = lease.response.lease().lease_id();
  EXPECT_EQ("NO_IDENTITY", Get(target, "", id));

  wide.rpcs = {};
  Allow({wide});
  EXPECT_EQ("OK", Get(target, "", id));
  EXPECT_EQ("OK", Release(id));
  EXPECT_EQ("OK", Get(target, "127.0.0.1"));
}

}  // namespace
}  // namespace hotline::server
