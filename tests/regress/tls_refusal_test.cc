// A missing client certificate that looked like a lost request.
//
// In TLS 1.3 the client finishes the handshake before the server has checked
// its certificate. A server that refuses it sends an alert when the request is
// already on its way: the call ended as if the connection had been lost after
// the request was sent (ABORTED, SENT_UNKNOWN), so that it could not be
// retried, and the error did not mention certificates.
//
// A server that has not finished the handshake has not processed the data
// behind it. So this is a TLS failure as in TLS 1.2: TLS_FAILED, with the
// alert's name.
#include <atomic>
#include <string>
#include <thread>

#include "tests/fakes/test_certs.h"
#include "tests/server/broker/broker_fixture.h"
#include "tests/upstream/upstream_fixture.h"

namespace hotline::server {
namespace {

using absl::StatusCode;
using testing::CertFiles;
using testing::OkResponse;
using testing::PeerConnection;
using testing::ScriptedPeer;
using testing::TestCa;

const TestCa& Ca() {
  static const auto* const ca = new TestCa("servers");
  return *ca;
}
const TestCa& ClientCa() {
  static const auto* const ca = new TestCa("clients");
  return *ca;
}

ScriptedPeer::Options Strict(const std::string& alpn,
                             const std::string& version) {
  static const auto* const cert =
      new CertFiles(Ca().Issue("strict", "DNS:localhost"));
  ScriptedPeer::Options options;
  options.tls = *cert;
  options.alpn = alpn;
  options.tls_version = version;
  options.client_ca = ClientCa().cert();
  return options;
}

class TlsRefusalTest : public BrokerTest {
 protected:
  TlsRefusalTest() {
    upstream_options_.ca_file = Ca().cert();
    const CertFiles stranger = Ca().Issue("stranger", "DNS:client");
    upstream_options_.tls_profiles.push_back({.name = "stranger",
                                              .alpn = {"h2", "http/1.1"},
                                              .cert_file = stranger.cert,
                                              .key_file = stranger.key});
    const CertFiles member = ClientCa().Issue("member", "DNS:client");
    upstream_options_.tls_profiles.push_back({.name = "member",
                                              .alpn = {"h2", "http/1.1"},
                                              .cert_file = member.cert,
                                              .key_file = member.key});
    settings_.tls_profiles = {"stranger", "member"};
  }

  ScriptedPeer::Script Count() {
    return [this](PeerConnection& connection) {
      while (!connection.ReadRequest().empty()) {
        ++requests_;
        connection.Write(OkResponse("x"));
      }
    };
  }
  std::unique_ptr<TestExecute> Call(const ScriptedPeer& peer,
                                    const std::string& method,
                                    const std::string& profile = "") {
    auto call = std::make_unique<TestExecute>();
    call->request.set_url(peer.target() + "/");
    call->request.set_method(method);
    if (method == "POST") call->request.set_body("payload");
    call->request.mutable_options()->set_tls_profile(profile);
    Go(call.get());
    return call;
  }
  void ExpectRefused(TestExecute* call, const std::string& alert) {
    ASSERT_EQ(call->Wait(), "TLS_FAILED") << call->error().message;
    EXPECT_EQ(call->error().code, StatusCode::kUnavailable);
    EXPECT_NE(call->error().message.find("\"" + alert + "\""),
              std::string::npos)
        << call->error().message;
  }

  std::atomic<int> requests_{0};
};

TEST_F(TlsRefusalTest, MissingCertificateIsAFailureOfTls) {
  for (const char* alpn : {"http/1.1", "h2"}) {
    for (const char* method : {"GET", "POST"}) {
      SCOPED_TRACE(std::string(alpn) + " " + method);
      ScriptedPeer peer(Strict(alpn, "1.3"), Count());
      auto call = Call(peer, method);
      ExpectRefused(call.get(), "certificate required");
      const std::string verdict = call->metadata("verdict");
      EXPECT_TRUE(verdict.empty() || verdict == "REFUSED_BY_PEER" ||
                  verdict == "NOT_SENT")
          << verdict;
      // As often as a handshake that fails while it is dialled.
      EXPECT_LE(peer.accepted(), settings_.max_attempts);
    }
  }
  EXPECT_EQ(requests_, 0);
}

TEST_F(TlsRefusalTest, SoIsACertificateOfTheWrongAuthority) {
  ScriptedPeer peer(Strict("http/1.1", "1.3"), Count());
  ExpectRefused(Call(peer, "POST", "stranger").get(), "unknown CA");
  EXPECT_EQ(requests_, 0);
}

TEST_F(TlsRefusalTest, InTls12TheAlertHasItsNameToo) {
  ScriptedPeer peer(Strict("http/1.1", "1.2"), Count());
  ExpectRefused(Call(peer, "POST", "stranger").get(), "unknown CA");
  EXPECT_EQ(requests_, 0);
}

TEST_F(TlsRefusalTest, TheRightCertificateIsServed) {
  ScriptedPeer peer(Strict("http/1.1", "1.3"), Count());
  EXPECT_EQ(Call(peer, "POST", "member")->Wait(), "OK");
  EXPECT_EQ(requests_, 1);
}

// A body that is still being sent when the alert comes.
TEST_F(TlsRefusalTest, HalfSentBodyWasNotLookedAtEither) {
  ScriptedPeer peer(Strict("http/1.1", "1.3"), Count());
  TestExecute call;
  call.request.set_url(peer.target() + "/");
  call.request.set_method("POST");
  call.request.set_body(std::string(3 << 20, 'x'));
  Go(&call);
  ExpectRefused(&call, "certificate required");
  EXPECT_EQ(requests_, 0);
}

// A validation would not have been looked at, either.
class ValidatedTest : public TlsRefusalTest {
 protected:
  ValidatedTest() {
    upstream_options_.target_policy = [](const std::string&) {
      upstream::TargetPolicy policy;
      policy.validate.path = "/";
      return policy;
    };
  }
};

TEST_F(ValidatedTest, ValidationDoesNotHideIt) {
  ScriptedPeer peer(Strict("http/1.1", "1.3"), Count());
  ExpectRefused(Call(peer, "GET").get(), "certificate required");
  const pool::Snapshot look = Look();
  ASSERT_EQ(look.targets.size(), 1u);
  const auto& failed = look.targets[0].counters.dials_failed;
  EXPECT_GE(failed[static_cast<int>(pool::FailureClass::kTls)], 1u);
  EXPECT_EQ(failed[static_cast<int>(pool::FailureClass::kValidation)], 0u);
}

}  // namespace
}  // namespace hotline::server

namespace hotline::upstream {
namespace {

// A tunnel's end of it.
class Listening final : public StreamHandler {
 public:
  void OnHead(int, std::vector<Header>) override {}
  void OnBody(std::string) override {}
  void OnTrailers(std::vector<Header>) override {}
  void OnSendable() override {}
  void OnDone(CallResult result) override { done_.OnDone(std::move(result)); }
  const CallResult& Await() { return done_.Await(); }

 private:
  Ending done_;
};

using TlsRefusedTunnelTest = UpstreamTest;

TEST_F(TlsRefusedTunnelTest, TunnelEndsByTheRefusalAsWell) {
  std::atomic<bool> got{false};
  ScriptedPeer::Options options;
  options.tls = LocalhostCert();
  options.tls_version = "1.3";
  options.client_ca = SharedCa().cert();
  ScriptedPeer peer(options, [&](PeerConnection& c) {
    got = true;
    c.AwaitClose();
  });
  CallResult result;
  do {  // The refusal may be quicker than the tunnel, which then never began.
    const pool::ConnId conn =
        Connect("tls://localhost:" + std::to_string(peer.port()));
    Listening tunnel;
    upstream().OpenStream(conn, {}, /*end=*/false, &tunnel, MonotonicNow());
    upstream().SendBody(conn, tunnel.call(), "EHLO", /*end=*/false);
    result = tunnel.Await();
  } while (result.error == CallError::kConnectionGone &&
           result.message == "the connection is gone");
  EXPECT_EQ(result.error, CallError::kTlsRefused) << result.message;
  EXPECT_TRUE(result.verdict == Verdict::kRefusedByPeer ||
              result.verdict == Verdict::kNotSent);
  EXPECT_NE(result.message.find("certificate required"), std::string::npos)
      << result.message;
  EXPECT_FALSE(got);
  EXPECT_EQ(AwaitClosed(), pool::CloseReason::kError);
}

}  // namespace
}  // namespace hotline::upstream
