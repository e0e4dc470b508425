// Signatures that can be forged.
//
// A chain was accepted if its signatures were valid, whatever the algorithm:
// SHA-1, for which collisions are known, or an RSA key of 1024 bits. An
// attacker who can forge one certificate of the chain can impersonate the
// upstream.
//
// Here such a leaf or intermediate is refused, unless the TLS profile
// explicitly allows it; no built-in one does. The operator answers for the
// strength of the trusted authorities.
#include <string>

#include "tests/server/broker/broker_fixture.h"

namespace hotline::server {
namespace {

using testing::AlwaysAnswer;
using testing::CertFiles;
using testing::CertStrength;
using testing::OkResponse;
using testing::ScriptedPeer;
using testing::TestCa;

constexpr char kName[] = "DNS:localhost";

class WeakCertificateTest : public BrokerTest {
 protected:
  WeakCertificateTest() { Trust(Rsa()); }

  static const TestCa& Rsa() {
    static const auto* const ca = new TestCa("rsa", {.key = "rsa:2048"});
    return *ca;
  }
  static const TestCa& Ec() {
    static const auto* const ca = new TestCa("ec");
    return *ca;
  }

  void Trust(const TestCa& ca) {
    upstream_options_.ca_file = ca.cert();
    net::TlsProfile lax;
    lax.name = "lax";
    lax.allow_weak_certificates = true;
    settings_.tls_profiles = {"lax", "compatible"};
    upstream_options_.tls_profiles = {lax};
    if (upstream_ != nullptr) {
      ASSERT_TRUE(upstream_->Reconfigure(upstream_options_).ok());
    }
  }

  // How an Execute by the profile ends.
  std::string Get(const CertFiles& cert, const std::string& profile = "") {
    ScriptedPeer peer({.tls = cert}, AlwaysAnswer(OkResponse("x")));
    TestExecute call;
    call.request.set_url(peer.target() + "/");
    call.request.mutable_options()->set_tls_profile(profile);
    const std::string outcome = Go(&call)->Wait();
    if (outcome != "OK") message_ = call.error().message;
    return outcome;
  }

  void ExpectRefused(const CertFiles& cert, const std::string& why) {
    for (const char* profile : {"", "compatible"}) {
      EXPECT_EQ("TLS_VERIFY_FAILED", Get(cert, profile)) << profile;
      EXPECT_NE(std::string::npos, message_.find(why)) << message_;
    }
    EXPECT_EQ("OK", Get(cert, "lax")) << message_;
  }

  std::string message_;
};

TEST_F(WeakCertificateTest, ALeafOfSha1IsRefused) {
  ExpectRefused(Rsa().Issue("sha1", kName, {.digest = "sha1"}), "SHA-1");
  Trust(Ec());
  ExpectRefused(Ec().Issue("sha1", kName, {.digest = "sha1"}), "SHA-1");
}

TEST_F(WeakCertificateTest, ALeafWithAShortRsaKeyIsRefused) {
  ExpectRefused(Rsa().Issue("short", kName, {.key = "rsa:1024"}), "2048");
  ExpectRefused(Rsa().Issue("nearly", kName, {.key = "rsa:2040"}), "2048");
}

TEST_F(WeakCertificateTest, AWeakIntermediateIsRefused) {
  const TestCa sha1 = Rsa().Intermediate("below-sha1", {.digest = "sha1"});
  ExpectRefused(sha1.Issue("a", kName), "an intermediate certificate");
  const TestCa brief = Rsa().Intermediate("below-short", {.key = "rsa:1024"});
  ExpectRefused(brief.Issue("a", kName), "an intermediate certificate");
  // However far from the leaf.
  const TestCa last = sha1.Intermediate("last", {});
  EXPECT_EQ("TLS_VERIFY_FAILED", Get(last.Issue("a", kName)));
}

TEST_F(WeakCertificateTest, AStrongChainIsAccepted) {
  EXPECT_EQ("OK", Get(Rsa().Issue("rsa", kName, {.key = "rsa:2048"})));
  EXPECT_EQ("OK", Get(Rsa().Issue("pss", kName, {.pss = true}))) << message_;
  EXPECT_EQ("OK", Get(Rsa().Issue("384", kName, {.digest = "sha384"})));
  const TestCa below = Rsa().Intermediate("below", {.key = "rsa:2048"});
  EXPECT_EQ("OK", Get(below.Issue("a", kName))) << message_;
}

TEST_F(WeakCertificateTest, APssSignatureWithSha1IsRefused) {
  EXPECT_EQ("TLS_VERIFY_FAILED",
            Get(Rsa().Issue("pss1", kName, {.digest = "sha1", .pss = true})));
}

TEST_F(WeakCertificateTest, ATrustedAuthoritysOwnSignatureDoesNotCount) {
  const TestCa old("old", {.key = "rsa:2048", .digest = "sha1"});
  Trust(old);
  EXPECT_EQ("OK", Get(old.Issue("a", kName))) << message_;
}

}  // namespace
}  // namespace hotline::server
