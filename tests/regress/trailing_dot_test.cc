// An absolute name that was resolved with the search list.
//
// "https://api.example.test." was treated as "https://api.example.test": the
// dot was dropped before resolution. If the system's resolv.conf has a search
// list and a high `ndots` (as in a Kubernetes pod), the absolute name was first
// looked up below every domain of that list, and led wherever the first match
// led.
//
// Now such a name is resolved as it is. It is a target of its own, because it
// may have other addresses. Configuration and policy by name apply to both
// spellings, and Host, SNI and the certificate's name have no dot.
#include <cstdlib>
#include <mutex>
#include <string>
#include <vector>

#include "base/url.h"
#include "server/broker/policy.h"
#include "server/config/config.h"
#include "tests/fakes/scripted_dns.h"
#include "tests/fakes/test_certs.h"
#include "tests/server/broker/broker_fixture.h"

namespace hotline::server {
namespace {

using testing::CertFiles;
using testing::OkResponse;
using testing::PeerConnection;
using testing::ScriptedDns;
using testing::ScriptedPeer;
using testing::TestCa;
using Names = std::vector<std::string>;

class TrailingDotTest : public BrokerTest {
 protected:
  TrailingDotTest() {
    // As a pod's resolv.conf would say.
    setenv("LOCALDOMAIN", "search.test", 1);
    setenv("RES_OPTIONS", "ndots:5", 1);
    upstream_options_.dns_servers = {dns_.address()};
    upstream_options_.ca_file = Ca().cert();
  }
  ~TrailingDotTest() override {
    unsetenv("LOCALDOMAIN");
    unsetenv("RES_OPTIONS");
  }

  static const TestCa& Ca() {
    static const auto* const ca = new TestCa("dots");
    return *ca;
  }
  ScriptedPeer::Options Tls() const {
    ScriptedPeer::Options options;
    options.tls = Ca().Issue("api", "DNS:api.example.test");
    return options;
  }
  ScriptedPeer::Script Serve() {
    return [this](PeerConnection& connection) {
      for (;;) {
        const std::string request = connection.ReadRequest();
        if (request.empty()) return;
        {
          std::lock_guard lock(mu_);
          heads_.push_back(request);
        }
        connection.Write(OkResponse("x"));
      }
    };
  }
  std::string Get(const std::string& url) {
    TestExecute call;
    call.request.set_url(url);
    const std::string outcome = Go(&call)->Wait();
    if (outcome != "OK") message_ = call.error().message;
    return outcome;
  }
  std::string LastHead() {
    std::lock_guard lock(mu_);
    return heads_.empty() ? "" : heads_.back();
  }

  ScriptedDns dns_{{
      {"api.example.test", {.addresses = {"127.0.0.1"}}},
      {"api.example.test.search.test", {.addresses = {"127.0.0.2"}}},
      {"only.search.test", {.addresses = {"127.0.0.2"}}},
  }};
  std::mutex mu_;
  std::vector<std::string> heads_;
  std::string message_;
};

TEST_F(TrailingDotTest, AbsoluteNameIsLookedUpAsItIs) {
  ScriptedPeer peer(Tls(), Serve());
  const std::string port = std::to_string(peer.port());
  ASSERT_EQ(Get("https://api.example.test.:" + port + "/"), "OK") << message_;
  EXPECT_EQ(dns_.names(), Names{"api.example.test"});
  EXPECT_EQ(peer.last_sni(), "api.example.test");
  EXPECT_NE(LastHead().find("\r\nHost: api.example.test:" + port + "\r\n"),
            std::string::npos)
      << LastHead();
}

TEST_F(TrailingDotTest, AbsoluteNameThatDoesNotExistIsNotSearchedFor) {
  EXPECT_EQ(Get("http://only.:81/"), "DNS_FAILED");
  EXPECT_EQ(dns_.names(), Names{"only"});
}

TEST_F(TrailingDotTest, OtherNamesAreLookedUpAsTheSystemSays) {
  ScriptedPeer peer(Serve());
  const std::string port = std::to_string(peer.port());
  // The search list comes first, for want of dots, and leads elsewhere.
  Get("http://api.example.test:" + port + "/");
  EXPECT_EQ(dns_.names(), Names{"api.example.test.search.test"});
  // The other spelling has been told apart.
  EXPECT_EQ(Get("http://api.example.test.:" + port + "/"), "OK");
  EXPECT_EQ(dns_.names().back(), "api.example.test");
}

class FewDotsTest : public TrailingDotTest {
 protected:
  FewDotsTest() { setenv("RES_OPTIONS", "ndots:1", 1); }
};

TEST_F(FewDotsTest, WithDotsEnoughTheNameItselfComesFirst) {
  ScriptedPeer peer(Serve());
  ASSERT_EQ(Get("http://api.example.test:" + std::to_string(peer.port()) + "/"),
            "OK");
  EXPECT_EQ(dns_.names(), Names{"api.example.test"});
}

TEST_F(FewDotsTest, WithTooFewTheSearchListDoes) {
  Get("http://only:81/");
  EXPECT_EQ(dns_.names(), Names{"only.search.test"});
}

TEST_F(FewDotsTest, NameThatDoesNotExistIsSearchedFor) {
  EXPECT_EQ(Get("http://no.where:81/"), "DNS_FAILED");
  EXPECT_EQ(dns_.names(), (Names{"no.where", "no.where.search.test"}));
}

// A server in trouble is no reason to try another host.
TEST_F(TrailingDotTest, FailureEndsTheSearch) {
  dns_.Set("api.example.test.search.test", {.addresses = {},
                                            .v4 = ScriptedDns::Manner::kFails,
                                            .v6 = ScriptedDns::Manner::kFails});
  EXPECT_EQ(Get("http://api.example.test:81/"), "DNS_FAILED");
  EXPECT_EQ(dns_.names(), Names{"api.example.test.search.test"});
}

class DeniedNameTest : public TrailingDotTest {
 protected:
  DeniedNameTest() { upstream_options_.egress.deny = {"*.example.test"}; }
};

TEST_F(DeniedNameTest, EgressRulesByNameHoldForBothSpellings) {
  EXPECT_EQ(Get("http://api.example.test.:81/"), "EGRESS_DENIED");
  EXPECT_EQ(Get("http://api.example.test:81/"), "EGRESS_DENIED");
}

TEST_F(TrailingDotTest, HostMayBeGivenInEitherSpelling) {
  ScriptedPeer peer(Serve());
  const std::string port = std::to_string(peer.port());
  for (const std::string host :
       {"api.example.test.:", "api.example.test:", "API.example.test.:"}) {
    TestExecute call;
    call.request.set_url("http://api.example.test.:" + port + "/");
    v1::Header* const header = call.request.add_headers();
    header->set_name("host");
    header->set_value(host + port);
    EXPECT_EQ(Go(&call)->Wait(), "OK") << host;
    EXPECT_NE(LastHead().find("\r\nHost: api.example.test:" + port + "\r\n"),
              std::string::npos)
        << LastHead();
  }
}

TEST(TrailingDot, PolicyMeansBothSpellings) {
  PolicyRules rules;
  rules.rules.push_back(
      {.identities = {"anonymous"}, .targets = {"https://*.example.test"}});
  rules.rules.push_back(
      {.identities = {"uid:1"}, .targets = {"https://a.example.test."}});
  const Policy policy(rules);
  for (const char* target :
       {"https://a.example.test:443", "https://a.example.test.:443"}) {
    EXPECT_TRUE(policy.Decide("", RpcMethod::kExecute, target).allowed);
    EXPECT_TRUE(policy.Decide("uid:1", RpcMethod::kExecute, target).allowed);
  }
  EXPECT_FALSE(policy.Decide("", RpcMethod::kExecute, "https://other.test.:443")
                   .allowed);
}

TEST(TrailingDot, SettingsOfOneSpellingHoldForTheOther) {
  const auto settings = ParseConfig(
      "targets:\n"
      "- {target: 'https://a.test', max_connections: 3, warm: 2}\n"
      "- {target: 'https://b.test.', max_connections: 4, warm: 1}\n"
      "- {target: 'https://c.test', max_connections: 5}\n"
      "- {target: 'https://c.test.', max_connections: 6}\n",
      "t");
  ASSERT_TRUE(settings.ok()) << settings.status();
  const auto limit = [&](const char* target) {
    return settings->PoolFor(target).max_connections;
  };
  EXPECT_EQ(limit("https://a.test:443"), 3);
  EXPECT_EQ(limit("https://a.test.:443"), 3);
  EXPECT_EQ(limit("https://b.test:443"), 4);
  EXPECT_EQ(limit("https://b.test.:443"), 4);
  EXPECT_EQ(limit("https://c.test:443"), 5);
  EXPECT_EQ(limit("https://c.test.:443"), 6);
  // A floor is kept where it was asked for.
  EXPECT_EQ(settings->PoolFor("https://a.test:443").warm, 2);
  EXPECT_EQ(settings->PoolFor("https://a.test.:443").warm, 0);
  EXPECT_EQ(settings->PoolFor("https://b.test.:443").warm, 1);
}

TEST(TrailingDot, OtherSpellingIsOfNamesOnly) {
  EXPECT_EQ(OtherSpelling("https://a.test:443"), "https://a.test.:443");
  EXPECT_EQ(OtherSpelling("https://a.test.:443"), "https://a.test:443");
  EXPECT_EQ(OtherSpelling("https://192.0.2.1:443"), "");
  EXPECT_EQ(OtherSpelling("https://[2001:db8::1]:443"), "");
}

}  // namespace
}  // namespace hotline::server
