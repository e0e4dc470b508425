// Certificate verification switched off.
//
// The ancestor dialed with verification disabled ("to be hardened later"), and
// that stayed so: anyone on the path could read and answer every request.
//
// Here nothing in the code, the configuration or the protocol can turn it off.
// A connection that fails verification is not pooled, and no byte of a request
// is sent on it.
#include <atomic>
#include <string>

#include "absl/strings/match.h"
#include "hotline/v1/config.pb.h"
#include "tests/server/broker/broker_fixture.h"

namespace hotline::server {
namespace {

using testing::CertFiles;
using testing::OkResponse;
using testing::PeerConnection;
using testing::ScriptedPeer;
using testing::TestCa;

class CertificateTest : public BrokerTest {
 protected:
  CertificateTest() { upstream_options_.ca_file = Ca().cert(); }

  static const TestCa& Ca() {
    static const auto* const ca = new TestCa("trusted");
    return *ca;
  }

  // What becomes of a POST to a server with this certificate.
  std::string Post(const CertFiles& cert) {
    requests_ = 0;
    ScriptedPeer::Options options;
    options.tls = cert;
    ScriptedPeer peer(options, [this](PeerConnection& connection) {
      while (!connection.ReadSome().empty()) {
        ++requests_;
        connection.Write(OkResponse("x"));
      }
    });
    auto call = Execute(peer, "POST");
    const std::string outcome = call->Wait();
    if (outcome == "TLS_VERIFY_FAILED") {
      EXPECT_EQ(call->error().code, absl::StatusCode::kFailedPrecondition);
    }
    return outcome;
  }

  std::atomic<int> requests_{0};
};

TEST_F(CertificateTest, OnlyAGoodOneIsAccepted) {
  EXPECT_EQ(Post(Ca().Issue("good", "DNS:localhost")), "OK");
  EXPECT_EQ(requests_, 1);

  const TestCa stranger("stranger");
  const CertFiles bad[] = {
      Ca().IssueExpired("expired", "DNS:localhost"),
      Ca().Issue("other-name", "DNS:elsewhere.test"),
      Ca().Issue("by-address", "IP:127.0.0.1"),
      Ca().SelfSigned("self", "DNS:localhost"),
      stranger.Issue("foreign", "DNS:localhost"),
  };
  for (const CertFiles& cert : bad) {
    SCOPED_TRACE(cert.cert);
    EXPECT_EQ(Post(cert), "TLS_VERIFY_FAILED");
    EXPECT_EQ(requests_, 0);
  }
  uint64_t opened = 0;
  for (const pool::TargetRow& row : Look().targets) {
    opened += row.counters.opened;
  }
  EXPECT_EQ(opened, 1u);
}

// Every field of every message, by name.
void ExpectNoSwitch(const google::protobuf::Descriptor& message) {
  for (int i = 0; i < message.field_count(); ++i) {
    const std::string& name = message.field(i)->name();
    for (const char* word : {"verify", "skip", "trust", "insecure"}) {
      // Listen.insecure is about our own listener.
      if (message.name() == "Listen") continue;
      EXPECT_FALSE(absl::StrContains(name, word))
          << message.full_name() << "." << name;
    }
  }
}

TEST_F(CertificateTest, ThereIsNoSwitchForIt) {
  for (const auto* file : {v1::Config::descriptor()->file(),
                           v1::AcquireRequest::descriptor()->file()}) {
    for (int i = 0; i < file->message_type_count(); ++i) {
      ExpectNoSwitch(*file->message_type(i));
    }
  }
}

}  // namespace
}  // namespace hotline::server
