// Mutual TLS: which callers are served, and how refused ones are counted.
#include "net/tls/server.h"
#include "server/front/certificates.h"
#include "tests/fakes/test_certs.h"
#include "tests/server/front/front_fixture.h"

namespace hotline::server {
namespace {

using testing::CertFiles;
using testing::TestCa;

constexpr char kCheck[] = "/grpc.health.v1.Health/Check";

// Shared by all tests, because making certificates takes time.
struct Certs {
  TestCa ca{"front-ca"};
  TestCa foreign{"front-foreign"};
  CertFiles server = ca.Issue("server", "DNS:localhost");
  CertFiles caller = ca.Issue("caller", "DNS:caller");
  CertFiles expired = ca.IssueExpired("expired", "DNS:caller");
  CertFiles stranger = foreign.Issue("stranger", "DNS:caller");
};
const Certs& All() {
  static const Certs* const all = new Certs;
  return *all;
}

class FrontTlsTest : public FrontTest {
 protected:
  void SetUp() override {
    FrontTest::SetUp();
    auto certificates = Certificates::Load(
        {All().server.cert, All().server.key, All().ca.cert()});
    ASSERT_TRUE(certificates.ok()) << certificates.status();
    certificates_ = *std::move(certificates);
    parts_.tls = &certificates_->contexts();
    parts_.identities = &identities_;
  }

  static std::unique_ptr<net::TlsEngine> Engine(
      const CertFiles& cert, const std::string& alpn = "h2") {
    net::TlsProfile profile;
    profile.cert_file = cert.cert;
    profile.key_file = cert.key;
    std::string error;
    std::vector<net::TlsFault> faults;
    auto authorities = net::TlsAuthorities::Load(All().ca.cert(), &error);
    EXPECT_NE(authorities, nullptr) << error;
    const auto context = net::TlsContext::Create(
        profile, std::move(authorities), net::TlsSessions::Create(0),
        /*session_seconds=*/0, &faults);
    EXPECT_NE(context, nullptr);
    return net::TlsEngine::Create(context, "localhost", {alpn});
  }
  std::unique_ptr<RawCaller> TlsCaller(const CertFiles& cert,
                                       const std::string& alpn = "h2") {
    return Caller(Listener::Kind::kReachable, Engine(cert, alpn));
  }

  std::unique_ptr<Certificates> certificates_;
  IdentityTable identities_;
};

TEST_F(FrontTlsTest, ACallerWithACertificateIsServedAndKnown) {
  auto caller = TlsCaller(All().caller);
  ASSERT_TRUE(caller->Handshake());
  caller->Connect();
  for (uint32_t stream = 1; stream < 21; stream += 2) {
    caller->Send(RawCaller::Call(stream, kCheck, Prefixed("")));
    EXPECT_EQ(caller->Await(stream).status, "0");
  }
  EXPECT_EQ(identities_.size(), 1u);
  identities_.Get("dns:caller");
  EXPECT_EQ(identities_.size(), 1u) << "it was that one";
}

TEST_F(FrontTlsTest, RefusedHandshakesAreCountedByCause) {
  const struct {
    CertFiles cert;
    net::TlsFailure cause;
  } rows[] = {{{}, net::TlsFailure::kNoCertificate},
              {All().expired, net::TlsFailure::kExpired},
              {All().stranger, net::TlsFailure::kUnknownCa}};
  for (const auto& row : rows) {
    SCOPED_TRACE(net::TlsFailureName(row.cause));
    auto caller = TlsCaller(row.cert);
    // In TLS 1.3 the caller finishes its handshake before it is refused.
    if (caller->Handshake()) caller->ReadToEnd();
    EXPECT_TRUE(hotline::Eventually(
        [&] { return Refused(RefusalOf(row.cause)) == 1; }));
  }
  auto http1 = TlsCaller(All().caller, "http/1.1");
  EXPECT_FALSE(http1->Handshake());
  EXPECT_TRUE(hotline::Eventually(
      [&] { return Refused(RefusalOf(net::TlsFailure::kNoH2)) == 1; }));
  auto plain = Caller(Listener::Kind::kReachable);
  plain->Connect();
  plain->ReadToEnd();
  EXPECT_EQ(Refused(RefusalOf(net::TlsFailure::kNotTls)), 1u);
  EXPECT_EQ(identities_.size(), 0u);
}

TEST_F(FrontTlsTest, ABurstOfHandshakesIsServed) {
  constexpr int kCallers = 20;
  std::vector<std::unique_ptr<RawCaller>> callers;
  for (int i = 0; i < kCallers; ++i) callers.push_back(TlsCaller(All().caller));
  for (const auto& caller : callers) {
    ASSERT_TRUE(caller->Handshake());
    caller->Connect();
    caller->Send(RawCaller::Call(1, kCheck, Prefixed("")));
  }
  for (const auto& caller : callers) EXPECT_EQ(caller->Await(1).status, "0");
}

TEST_F(FrontTlsTest, LoopbackIsServedWithoutTls) {
  auto caller = Connected();
  caller->Send(RawCaller::Call(1, kCheck, Prefixed("")));
  EXPECT_EQ(caller->Await(1).status, "0");
}

}  // namespace
}  // namespace hotline::server
