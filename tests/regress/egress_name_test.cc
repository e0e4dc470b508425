// An allowed name that opened every address.
//
// egress.allow contained "api.example.test", meant for the addresses in DNS.
// With options.remote_ip a caller chose another address, and the rule for the
// name let it through: one allowed name gave access to loopback and every
// private network. Behind a proxy it was the reverse: with an address instead
// of the name, egress.deny for the name was not checked.
//
// Here an allowed name covers the addresses that DNS returns for it, and no
// others; a denied name is denied with any address, as host and as SNI.
#include <string>
#include <vector>

#include "tests/server/broker/broker_fixture.h"
#include "upstream/address/egress.h"

namespace hotline::server {
namespace {

using testing::AlwaysAnswer;
using testing::OkResponse;
using testing::ScriptedPeer;
using upstream::EgressPolicy;
using upstream::EgressRules;

IpAddress At(const std::string& text) { return *IpAddress::Parse(text); }

EgressPolicy Made(const EgressRules& rules) {
  return *EgressPolicy::Create(rules);
}

TEST(EgressNameTest, AnAllowedNameCoversItsDnsAddressesOnly) {
  const EgressPolicy policy =
      Made({.default_public = false, .allow = {"api.test", "10.1.0.0/16"}});
  EXPECT_TRUE(policy.Check("api.test", At("127.0.0.1")).allowed);
  for (const char* chosen : {"127.0.0.1", "::1", "10.2.0.1", "8.8.8.8",
                             "::ffff:127.0.0.1", "64:ff9b::127.0.0.1"}) {
    EXPECT_FALSE(policy.CheckChosen("api.test", At(chosen)).allowed) << chosen;
    EXPECT_FALSE(policy.CheckBehindProxy("api.test", At(chosen)).allowed)
        << chosen;
  }
  EXPECT_TRUE(policy.CheckChosen("api.test", At("10.1.0.1")).allowed);
  EXPECT_TRUE(policy.CheckBehindProxy("api.test", At("10.1.0.1")).allowed);
  EXPECT_TRUE(policy.CheckBehindProxy("api.test").allowed);

  const EgressPolicy open =
      Made({.default_public = true, .allow = {"api.test"}});
  EXPECT_TRUE(open.CheckChosen("api.test", At("8.8.8.8")).allowed);
  EXPECT_FALSE(open.CheckChosen("api.test", At("192.168.0.1")).allowed);
}

TEST(EgressNameTest, ADeniedNameIsDeniedWhateverTheAddress) {
  const EgressPolicy policy = Made({.default_public = true,
                                    .allow = {"10.0.0.0/8"},
                                    .deny = {"*.bad.test"}});
  for (const char* name : {"a.bad.test", "A.Bad.Test", "a.bad.test."}) {
    for (const char* address : {"10.0.0.1", "8.8.8.8"}) {
      EXPECT_FALSE(policy.Check(name, At(address)).allowed);
      EXPECT_FALSE(policy.CheckChosen(name, At(address)).allowed);
      EXPECT_FALSE(policy.CheckBehindProxy(name, At(address)).allowed);
    }
    EXPECT_TRUE(policy.DeniesName(name));
  }
  EXPECT_FALSE(policy.DeniesName("bad.test"));
  EXPECT_TRUE(policy.CheckBehindProxy("good.test", At("10.0.0.1")).allowed);
}

class EgressNameBrokerTest : public BrokerTest {
 protected:
  EgressNameBrokerTest() {
    upstream_options_.target_policy = [this](const std::string&) {
      upstream::TargetPolicy policy;
      policy.proxy = proxy_;
      return policy;
    };
  }

  // How an Execute with these options ends.
  std::string Get(const std::string& url, const std::string& remote,
                  const std::string& sni = "") {
    TestExecute call;
    call.request.set_url(url);
    call.request.mutable_options()->set_remote_ip(remote);
    call.request.mutable_options()->set_sni(sni);
    call.request.mutable_retry()->set_max_attempts(1);
    return Go(&call)->Wait();
  }

  std::string proxy_;
};

TEST_F(EgressNameBrokerTest, AnAllowedNameOpensNoAddressOfTheCallersChoice) {
  upstream_options_.egress = {.default_public = false, .allow = {"api.test"}};
  ASSERT_TRUE(upstream_->Reconfigure(upstream_options_).ok());
  ScriptedPeer peer(AlwaysAnswer(OkResponse("x")));
  const std::string url =
      "http://api.test:" + std::to_string(peer.port()) + "/";
  EXPECT_EQ("EGRESS_DENIED", Get(url, "127.0.0.1"));
  EXPECT_EQ("EGRESS_DENIED", Get(url, "::ffff:127.0.0.1"));
  EXPECT_EQ(0, peer.accepted());

  // With an allow of its own it may be reached by any name that is not denied.
  upstream_options_.egress.allow.push_back("127.0.0.1");
  upstream_options_.egress.deny = {"bad.test"};
  ASSERT_TRUE(upstream_->Reconfigure(upstream_options_).ok());
  EXPECT_EQ("OK", Get(url, "127.0.0.1"));
  const std::string port = std::to_string(peer.port());
  EXPECT_EQ("EGRESS_DENIED", Get("http://bad.test:" + port, "127.0.0.1"));
  EXPECT_EQ("EGRESS_DENIED",
            Get("https://api.test:" + port, "127.0.0.1", "bad.test"));
  EXPECT_EQ("EGRESS_DENIED",
            Get("https://api.test:" + port, "127.0.0.1", "BAD.test"));
  EXPECT_EQ(1, peer.accepted());
}

TEST_F(EgressNameBrokerTest, BehindAProxyBothTheNameAndTheAddressCount) {
  ScriptedPeer proxy(
      AlwaysAnswer("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"));
  proxy_ = "http://127.0.0.1:" + std::to_string(proxy.port());
  upstream_options_.egress = {.default_public = false,
                              .allow = {"127.0.0.1", "api.test"},
                              .deny = {"bad.test"}};
  ASSERT_TRUE(upstream_->Reconfigure(upstream_options_).ok());
  EXPECT_EQ("EGRESS_DENIED", Get("http://bad.test/", "127.0.0.1"));
  EXPECT_EQ("EGRESS_DENIED", Get("http://api.test/", "127.0.0.2"));
  EXPECT_EQ("EGRESS_DENIED", Get("http://other.test/", ""));
  EXPECT_EQ("EGRESS_DENIED", Get("https://api.test/", "", "bad.test"));
  EXPECT_EQ("EGRESS_DENIED", Get("http://metadata.google.internal/", ""));
  EXPECT_EQ(0, proxy.accepted());
  EXPECT_EQ("PROXY_REFUSED", Get("http://api.test/", "127.0.0.1"));
  EXPECT_EQ("PROXY_REFUSED", Get("http://api.test/", ""));
}

}  // namespace
}  // namespace hotline::server
