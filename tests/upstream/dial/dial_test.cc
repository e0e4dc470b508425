// Dials: what they check, in which order, and what they say when they fail.
#include <fstream>

#include "tests/fakes/scripted_dns.h"
#include "tests/upstream/upstream_fixture.h"

namespace hotline::upstream {
namespace {

using std::chrono::milliseconds;

class DialTest : public UpstreamTest {
 protected:
  // The reason of a dial to a TLS peer that has this certificate.
  std::string DialTo(const CertFiles& cert, const std::string& sni = "") {
    ScriptedPeer peer({.tls = cert}, AlwaysAnswer(OkResponse("hi")));
    return DialReason(peer.target(), sni);
  }
  bool MessageHas(const std::string& part) const {
    return message_.find(part) != std::string::npos;
  }
};

TEST_F(DialTest, CertificateOfAStrangerIsRefused) {
  const TestCa stranger("stranger");
  EXPECT_EQ("TLS_VERIFY_FAILED",
            DialTo(stranger.Issue("localhost", "DNS:localhost")));
  EXPECT_TRUE(MessageHas("unable to get local issuer certificate")) << message_;
  EXPECT_TRUE(MessageHas("localhost (127.0.0.1:")) << message_;
}

TEST_F(DialTest, ExpiredCertificateIsRefused) {
  EXPECT_EQ("TLS_VERIFY_FAILED",
            DialTo(SharedCa().IssueExpired("expired", "DNS:localhost")));
  EXPECT_TRUE(MessageHas("certificate has expired")) << message_;
}

TEST_F(DialTest, SelfSignedCertificateIsRefused) {
  EXPECT_EQ("TLS_VERIFY_FAILED",
            DialTo(SharedCa().SelfSigned("self", "DNS:localhost")));
  EXPECT_TRUE(MessageHas("self signed certificate")) << message_;
}

TEST_F(DialTest, CertificateOfAnotherNameIsRefused) {
  const CertFiles cert = SharedCa().Issue("other", "DNS:other.example");
  EXPECT_EQ("TLS_VERIFY_FAILED", DialTo(cert));
  EXPECT_TRUE(MessageHas("ostname mismatch")) << message_;
  // The same certificate is right for whoever asks for that name.
  EXPECT_EQ("", DialTo(cert, "other.example"));
}

TEST_F(DialTest, WildcardCoversOneLabel) {
  const CertFiles cert = SharedCa().Issue("wild", "DNS:*.example.com");
  EXPECT_EQ("", DialTo(cert, "api.example.com"));
  EXPECT_EQ("TLS_VERIFY_FAILED", DialTo(cert, "a.b.example.com"));
  EXPECT_EQ("TLS_VERIFY_FAILED", DialTo(cert, "example.com"));
}

TEST_F(DialTest, CommonNameAloneIsNoName) {
  EXPECT_EQ("TLS_VERIFY_FAILED",
            DialTo(SharedCa().Issue("localhost", "DNS:elsewhere.example")));
}

TEST_F(DialTest, AddressIsMatchedWithTheCertificatesAddresses) {
  ScriptedPeer right({.tls = SharedCa().Issue("ip", "IP:127.0.0.1")},
                     AlwaysAnswer(OkResponse("hi")));
  const std::string port = std::to_string(right.port());
  EXPECT_EQ("", DialReason("https://127.0.0.1:" + port)) << message_;
  EXPECT_EQ("", right.last_sni());
  ScriptedPeer wrong({.tls = LocalhostCert()}, AlwaysAnswer(OkResponse("hi")));
  EXPECT_EQ("TLS_VERIFY_FAILED",
            DialReason("https://127.0.0.1:" + std::to_string(wrong.port())));
  EXPECT_TRUE(MessageHas("IP address mismatch")) << message_;
}

TEST_F(DialTest, PeerThatChoosesNoProtocolIsTaken) {
  ScriptedPeer peer({.tls = LocalhostCert(), .alpn = ""},
                    AlwaysAnswer(OkResponse("hi")));
  EXPECT_EQ("", DialReason(peer.target())) << message_;
}

TEST_F(DialTest, PeerThatChoosesAnotherProtocolIsNot) {
  for (const std::string wanted : {"h2", "http/1.1"}) {
    const std::string other = wanted == "h2" ? "http/1.1" : "h2";
    alpn_ = wanted;
    ScriptedPeer peer({.tls = LocalhostCert(), .alpn = other},
                      AlwaysAnswer(OkResponse("hi")));
    EXPECT_EQ("ALPN_MISMATCH", DialReason(peer.target()));
    EXPECT_TRUE(MessageHas(other)) << message_;
  }
}

TEST_F(DialTest, PeerThatChoosesNothingDoesNotSpeakHttp2) {
  alpn_ = "h2";
  ScriptedPeer peer({.tls = LocalhostCert(), .alpn = ""},
                    AlwaysAnswer(OkResponse("hi")));
  EXPECT_EQ("ALPN_MISMATCH", DialReason(peer.target()));
  EXPECT_TRUE(MessageHas("\"h2\"")) << message_;
}

TEST_F(DialTest, PeerThatChoosesWhatWasNotOfferedIsRefused) {
  ScriptedPeer peer({.tls = LocalhostCert(), .alpn = "spdy/3"},
                    AlwaysAnswer(OkResponse("hi")));
  EXPECT_EQ("ALPN_MISMATCH", DialReason(peer.target())) << message_;
}

TEST_F(DialTest, PeerThatDoesNotSpeakTlsIsReported) {
  ScriptedPeer peer([](PeerConnection& c) {
    c.ReadSome();
    c.Write("HTTP/1.1 400 Bad Request\r\n\r\n");
    c.AwaitClose();
  });
  const std::string port = std::to_string(peer.port());
  EXPECT_EQ("TLS_FAILED", DialReason("https://localhost:" + port));
  EXPECT_TRUE(MessageHas("does not speak TLS")) << message_;
}

TEST_F(DialTest, PeerThatClosesInTheHandshakeIsReported) {
  ScriptedPeer peer([](PeerConnection& c) { c.ReadSome(); });
  const std::string port = std::to_string(peer.port());
  EXPECT_EQ("TLS_FAILED", DialReason("https://localhost:" + port));
  EXPECT_TRUE(MessageHas("closed the connection")) << message_;
}

TEST_F(DialTest, SilentPeerMeetsTheTlsTimeout) {
  options_.tls_timeout = milliseconds(50);
  ScriptedPeer peer({.tls = LocalhostCert(), .handshake = false}, nullptr);
  EXPECT_EQ("TLS_FAILED", DialReason(peer.target()));
  EXPECT_TRUE(MessageHas("within 50 ms")) << message_;
}

TEST_F(DialTest, ConnectTimeoutBoundsAllPhases) {
  options_.connect_timeout = milliseconds(50);
  ScriptedPeer peer({.tls = LocalhostCert(), .handshake = false}, nullptr);
  const Instant start = MonotonicNow();
  EXPECT_EQ("TLS_FAILED", DialReason(peer.target()));
  EXPECT_LT(MonotonicNow() - start, std::chrono::seconds(5));
}

TEST_F(DialTest, RefusedPortIsReported) {
  int port = 0;
  { port = ScriptedPeer(AlwaysAnswer("")).port(); }
  const std::string at = "127.0.0.1:" + std::to_string(port);
  EXPECT_EQ("CONNECT_FAILED", DialReason("http://" + at));
  EXPECT_TRUE(MessageHas(at)) << message_;
  EXPECT_TRUE(MessageHas("Connection refused")) << message_;
}

TEST_F(DialTest, NextAddressIsTriedWhenOneRefuses) {
  // localhost is 127.0.0.1 and then ::1; only the second listens.
  ScriptedPeer peer({.address = "::1"}, AlwaysAnswer(OkResponse("six")));
  const pool::ConnId conn =
      Connect("http://localhost:" + std::to_string(peer.port()));
  EXPECT_EQ("six", Run(conn).response.body);
}

TEST_F(DialTest, NextAddressIsTriedWhenOneIsDenied) {
  options_.egress.deny = {"127.0.0.1"};
  ScriptedPeer peer({.address = "::1"}, AlwaysAnswer(OkResponse("six")));
  const pool::ConnId conn =
      Connect("http://localhost:" + std::to_string(peer.port()));
  EXPECT_EQ("six", Run(conn).response.body);
}

TEST_F(DialTest, DeniedAddressIsNeverConnectedTo) {
  options_.egress = {};
  ScriptedPeer peer(AlwaysAnswer(OkResponse("hi")));
  const DialOutcome outcome = Dial(peer.target());
  EXPECT_STREQ("EGRESS_DENIED", outcome.error.reason);
  EXPECT_EQ(pool::FailureClass::kPolicy, outcome.error.failure_class);
  EXPECT_EQ(0, outcome.timings.connect.count());
  EXPECT_EQ(0, peer.accepted());
}

TEST_F(DialTest, MetadataServicesAreDeniedInEveryDisguise) {
  options_.egress.allow = {"0.0.0.0/0", "::/0"};
  for (const char* address :
       {"169.254.169.254", "[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]",
        "[2002:a9fe:a9fe::1]", "[fd00:ec2::254]"}) {
    EXPECT_EQ("EGRESS_DENIED",
              DialReason(std::string("http://") + address + ":80"))
        << address;
  }
}

TEST_F(DialTest, NameIsResolvedAndItsAddressChecked) {
  hotline::testing::ScriptedDns dns({
      {"up.test", {{"127.0.0.1"}, 60}},
      {"rebound.test", {{"169.254.169.254"}, 60}},
  });
  options_.dns_servers = {dns.address()};
  ScriptedPeer peer({.tls = SharedCa().Issue("up", "DNS:up.test")},
                    AlwaysAnswer(OkResponse("hi")));
  const std::string port = std::to_string(peer.port());
  const DialOutcome outcome = Dial("https://up.test:" + port);
  ASSERT_TRUE(outcome) << outcome.error.message;
  EXPECT_GT(outcome.timings.resolve.count(), 0);
  EXPECT_EQ("EGRESS_DENIED", DialReason("http://rebound.test:" + port));
  EXPECT_TRUE(MessageHas("rebound.test (169.254.169.254:")) << message_;
  EXPECT_EQ("DNS_FAILED", DialReason("http://nowhere.test:" + port));
  EXPECT_TRUE(MessageHas("nowhere.test")) << message_;
}

TEST_F(DialTest, SilentDnsMeetsTheConnectTimeout) {
  hotline::testing::ScriptedDns dns({{"mute.test", {{}, 0, true}}});
  options_.dns_servers = {dns.address()};
  options_.connect_timeout = milliseconds(60);
  EXPECT_EQ("DNS_FAILED", DialReason("http://mute.test:80"));
  EXPECT_TRUE(MessageHas("no answer about mute.test within")) << message_;
}

TEST_F(DialTest, NothingIsATargetButTheTwoSchemes) {
  for (const char* target :
       {"", "http://", "ftp://localhost:1", "http://localhost",
        "http://localhost:0", "http://localhost:65536", "http://:80"}) {
    EXPECT_EQ("CONNECT_FAILED", DialReason(target)) << target;
  }
}

TEST_F(DialTest, ValidationPassesWithAStatusInRange) {
  policy_.validate = {.path = "/healthz"};
  std::string seen;
  ScriptedPeer peer({.tls = LocalhostCert()}, [&](PeerConnection& c) {
    seen = c.ReadRequest();
    c.Write("HTTP/1.1 204 No Content\r\n\r\n");
    c.ReadRequest();
    c.Write(OkResponse("hi"));
    c.AwaitClose();
  });
  const DialOutcome outcome = Dial(peer.target());
  ASSERT_TRUE(outcome) << outcome.error.message;
  EXPECT_GT(outcome.timings.validate.count(), 0);
  EXPECT_EQ("hi", Run(outcome.conn).response.body);
  EXPECT_EQ(0u, seen.find("HEAD /healthz HTTP/1.1\r\nHost: localhost:" +
                          std::to_string(peer.port()) + "\r\n"))
      << seen;
}

TEST_F(DialTest, ValidationFailsWithAnotherStatus) {
  policy_.validate = {.path = "/healthz"};
  ScriptedPeer peer(
      AlwaysAnswer("HTTP/1.1 503 No\r\nContent-Length: 9\r\n\r\n"));
  const DialOutcome outcome = Dial(peer.target());
  EXPECT_STREQ("VALIDATION_FAILED", outcome.error.reason);
  EXPECT_EQ(pool::FailureClass::kValidation, outcome.error.failure_class);
  EXPECT_NE(std::string::npos, outcome.error.message.find("503"))
      << outcome.error.message;
  EXPECT_EQ(0, pool_.closes(last_id_));
}

TEST_F(DialTest, TheEdgesOfTheRangeAreEachOnTheirSide) {
  const auto passes = [this](int status, int least, int most) {
    policy_.validate = {.path = "/", .min_status = least, .max_status = most};
    ScriptedPeer peer(AlwaysAnswer("HTTP/1.1 " + std::to_string(status) +
                                   " X\r\nContent-Length: 0\r\n\r\n"));
    return static_cast<bool>(Dial(peer.target()));
  };
  EXPECT_TRUE(passes(200, 200, 399));
  EXPECT_TRUE(passes(399, 200, 399));
  EXPECT_FALSE(passes(400, 200, 399));
  EXPECT_FALSE(passes(300, 301, 399));
  EXPECT_TRUE(passes(301, 301, 399));
  EXPECT_TRUE(passes(599, 200, 599));
}

TEST_F(DialTest, BelowTheRangeAnAnswerIsAnAnnouncementOfOneThatDoesNotCome) {
  policy_.validate = {.path = "/"};
  options_.connect_timeout = milliseconds(200);
  ScriptedPeer peer(AlwaysAnswer("HTTP/1.1 199 X\r\n\r\n"));
  EXPECT_EQ("VALIDATION_FAILED", DialReason(peer.target()));
}

TEST_F(DialTest, ValidationFailsWhenThePeerCloses) {
  policy_.validate = {.path = "/healthz"};
  ScriptedPeer peer([](PeerConnection& c) { c.ReadRequest(); });
  EXPECT_EQ("VALIDATION_FAILED", DialReason(peer.target()));
}

TEST_F(DialTest, ValidationIsBoundedByTheConnectTimeout) {
  policy_.validate = {.path = "/healthz"};
  options_.connect_timeout = milliseconds(60);
  ScriptedPeer peer([](PeerConnection& c) { c.AwaitClose(); });
  EXPECT_EQ("VALIDATION_FAILED", DialReason(peer.target()));
}

TEST_F(DialTest, StopAnswersDialsUnderWay) {
  ScriptedPeer silent({.tls = LocalhostCert(), .handshake = false}, nullptr);
  policy_.validate = {.path = "/never"};
  ScriptedPeer mute([](PeerConnection& c) { c.AwaitClose(); });
  std::vector<pool::ConnId> ids;
  for (int i = 0; i < 10; ++i) {
    ids.push_back(BeginDial(silent.target()));
    ids.push_back(BeginDial(mute.target()));
  }
  upstream().Stop();
  for (const pool::ConnId id : ids) {
    EXPECT_EQ(1, pool_.answers(id));
    EXPECT_EQ(0, pool_.closes(id));
  }
}

TEST_F(DialTest, ReconfigureAppliesToTheNextDial) {
  ScriptedPeer peer({.tls = LocalhostCert()}, AlwaysAnswer(OkResponse("hi")));
  EXPECT_EQ("", DialReason(peer.target()));
  Options other = options_;
  const TestCa stranger("another");
  other.ca_file = stranger.cert();
  EXPECT_TRUE(upstream().Reconfigure(other).ok());
  EXPECT_EQ("TLS_VERIFY_FAILED", DialReason(peer.target()));
  other = options_;
  other.egress.deny = {"127.0.0.1/33"};
  const absl::Status refused = upstream().Reconfigure(other);
  EXPECT_EQ(absl::StatusCode::kInvalidArgument, refused.code());
  EXPECT_NE(absl::string_view::npos, refused.message().find("127.0.0.1/33"));
  // All or nothing: the authorities are still the stranger's.
  EXPECT_EQ("TLS_VERIFY_FAILED", DialReason(peer.target()));
}

TEST(UpstreamCreate, NamesWhatIsWrong) {
  const auto message = [](const Options& options) {
    const auto made = Upstream::Create(options);
    EXPECT_EQ(absl::StatusCode::kInvalidArgument, made.status().code());
    return std::string(made.status().message());
  };
  EXPECT_NE(std::string::npos,
            message({.ca_file = "/no/such.pem"}).find("/no/such.pem"));
  EXPECT_NE(std::string::npos,
            message({.dns_servers = {"1.2.3.4:x"}}).find("1.2.3.4:x"));
  EXPECT_NE(std::string::npos,
            message({.egress = {.allow = {"no good"}}}).find("no good"));
  const std::string empty = hotline::testing::TestDirectory() + "/empty.pem";
  std::ofstream(empty) << "";
  EXPECT_NE(std::string::npos, message({.ca_file = empty}).find(empty));
}

}  // namespace
}  // namespace hotline::upstream
