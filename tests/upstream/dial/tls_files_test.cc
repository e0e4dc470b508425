// Certificates: the client's own, those it pins, and files that change.
#include <cstdlib>

#include "net/tls/tls.h"
#include "tests/upstream/upstream_fixture.h"

namespace hotline::upstream {
namespace {

using ::hotline::testing::ReadFile;
using ::hotline::testing::TestDirectory;
using ::hotline::testing::WriteFile;

class TlsFilesTest : public UpstreamTest {
 protected:
  TlsFilesTest() {
    profile().name = "mine";
    tls_profile_ = "mine";
  }

  net::TlsProfile& profile() {
    if (options_.tls_profiles.empty()) options_.tls_profiles.emplace_back();
    return options_.tls_profiles[0];
  }

  // A peer that insists on a certificate by the shared authority.
  static ScriptedPeer::Options Asking(const std::string& version = "") {
    ScriptedPeer::Options options;
    options.tls = LocalhostCert();
    options.tls_version = version;
    options.client_ca = SharedCa().cert();
    return options;
  }

  // Replaces a file as a careful administrator does.
  static void Replace(const std::string& path, const std::string& text) {
    WriteFile(path + ".new", text);
    ASSERT_EQ(0, rename((path + ".new").c_str(), path.c_str()));
  }
  void Present(const CertFiles& identity) {
    profile().cert_file = TestDirectory() + "/client.pem";
    profile().key_file = TestDirectory() + "/client.key";
    Replace(profile().cert_file, ReadFile(identity.cert));
    Replace(profile().key_file, ReadFile(identity.key));
  }
  bool Refresh() {
    const auto changed = upstream().RefreshTlsFiles();
    error_ = std::string(changed.status().message());
    return changed.value_or(false);
  }

  std::string error_;  // Of the last Refresh.
};

// "sha256/…" of a PEM certificate's key.
std::string PinOf(const std::string& cert) {
  const std::string out = TestDirectory() + "/pin";
  const std::string command =
      "openssl x509 -in " + cert +
      " -noout -pubkey | openssl pkey -pubin -outform DER | "
      "openssl dgst -sha256 -binary | base64 > " +
      out;
  EXPECT_EQ(0, std::system(command.c_str()));
  std::string text = ReadFile(out);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return "sha256/" + text;
}

TEST_F(TlsFilesTest, ThePinnedKeyMayBeTheServersOrItsAuthoritys) {
  ScriptedPeer::Options peer_options;
  peer_options.tls = LocalhostCert();
  ScriptedPeer peer(peer_options, AlwaysAnswer(OkResponse("hello")));
  const std::string wrong =
      PinOf(SharedCa().Issue("another", "DNS:another").cert);
  for (const std::string& cert : {LocalhostCert().cert, SharedCa().cert()}) {
    profile().pins = {wrong, PinOf(cert)};
    ASSERT_TRUE(upstream().Reconfigure(options_).ok());
    EXPECT_EQ("", DialReason(peer.target())) << cert;
  }
  profile().pins = {wrong};
  ASSERT_TRUE(upstream().Reconfigure(options_).ok());
  EXPECT_EQ("TLS_VERIFY_FAILED", DialReason(peer.target()));
  EXPECT_NE(std::string::npos,
            message_.find("none of the keys in its chain is pinned"))
      << message_;
}

TEST_F(TlsFilesTest, APinReplacesNoOtherCheck) {
  const CertFiles stranger =
      TestCa("stranger").Issue("localhost", "DNS:localhost");
  ScriptedPeer::Options peer_options;
  peer_options.tls = stranger;
  ScriptedPeer peer(peer_options, AlwaysAnswer(OkResponse("hello")));
  profile().pins = {PinOf(stranger.cert)};
  EXPECT_EQ("TLS_VERIFY_FAILED", DialReason(peer.target()));
}

TEST_F(TlsFilesTest, TheClientsCertificateIsShownToWhoAsks) {
  Present(SharedCa().Issue("alice", "DNS:alice"));
  ScriptedPeer peer(Asking(), AlwaysAnswer(OkResponse("hello")));
  EXPECT_EQ(CallError::kNone, Run(Connect(peer)).error);
  EXPECT_EQ("alice", peer.last_client());
}

TEST_F(TlsFilesTest, WhoInsistsOnOneRefusesAClientWithout) {
  ScriptedPeer peer(Asking("1.2"), AlwaysAnswer(OkResponse("hello")));
  EXPECT_EQ("TLS_FAILED", DialReason(peer.target()));
}

TEST_F(TlsFilesTest, NewConnectionsShowTheNewCertificate) {
  Present(SharedCa().Issue("alice", "DNS:alice"));
  ScriptedPeer peer(Asking(), AlwaysAnswer(OkResponse("hello")));
  const pool::ConnId first = Connect(peer);
  EXPECT_EQ(CallError::kNone, Run(first).error);
  EXPECT_FALSE(Refresh());
  Present(SharedCa().Issue("bob", "DNS:bob"));
  EXPECT_TRUE(Refresh());
  EXPECT_EQ("", error_);
  EXPECT_FALSE(Refresh());
  EXPECT_EQ(CallError::kNone, Run(Connect(peer)).error);
  EXPECT_EQ("bob", peer.last_client());
  EXPECT_EQ(0, peer.resumed());
  // The old connection lives on.
  EXPECT_EQ(CallError::kNone, Run(first).error);
}

TEST_F(TlsFilesTest, BadNewFilesLeaveTheOldOnesInUse) {
  Present(SharedCa().Issue("alice", "DNS:alice"));
  ScriptedPeer peer(Asking(), AlwaysAnswer(OkResponse("hello")));
  EXPECT_EQ(CallError::kNone, Run(Connect(peer)).error);
  const CertFiles bob = SharedCa().Issue("bob", "DNS:bob");
  // Half of the change.
  Replace(profile().cert_file, ReadFile(bob.cert));
  for (int i = 0; i < 2; ++i) {
    EXPECT_FALSE(Refresh());
    EXPECT_EQ("TLS profile \"mine\": client_certificate: the key in " +
                  profile().key_file + " does not fit the certificate in " +
                  profile().cert_file +
                  " (CERTIFICATE_AND_PRIVATE_KEY_MISMATCH)",
              error_);
  }
  EXPECT_EQ(CallError::kNone, Run(Connect(peer)).error);
  EXPECT_EQ("alice", peer.last_client());
  Replace(profile().key_file, ReadFile(bob.key));
  EXPECT_TRUE(Refresh());
  EXPECT_EQ("", error_);
  EXPECT_EQ(CallError::kNone, Run(Connect(peer)).error);
  EXPECT_EQ("bob", peer.last_client());
}

TEST_F(TlsFilesTest, ABadFileOfOneProfileDoesNotHoldUpTheOthers) {
  Present(SharedCa().Issue("alice", "DNS:alice"));
  options_.tls_profiles.push_back({.name = "theirs"});
  options_.tls_profiles[1].ca_file = TestDirectory() + "/theirs-ca.pem";
  Replace(options_.tls_profiles[1].ca_file, ReadFile(SharedCa().cert()));
  ScriptedPeer peer(Asking(), AlwaysAnswer(OkResponse("hello")));
  EXPECT_EQ(CallError::kNone, Run(Connect(peer)).error);
  Replace(options_.tls_profiles[1].ca_file, "nonsense");
  Present(SharedCa().Issue("bob", "DNS:bob"));
  Refresh();
  EXPECT_NE(std::string::npos, error_.find("theirs-ca.pem")) << error_;
  EXPECT_EQ(CallError::kNone, Run(Connect(peer)).error);
  EXPECT_EQ("bob", peer.last_client());
}

TEST_F(TlsFilesTest, NewAuthoritiesDecideOnNewConnections) {
  const TestCa next("next");
  options_.ca_file = TestDirectory() + "/trusted.pem";
  Replace(options_.ca_file, ReadFile(SharedCa().cert()));
  ScriptedPeer::Options old_options;
  old_options.tls = LocalhostCert();
  ScriptedPeer old_peer(old_options, AlwaysAnswer(OkResponse("hello")));
  ScriptedPeer::Options new_options;
  new_options.tls = next.Issue("localhost", "DNS:localhost");
  ScriptedPeer new_peer(new_options, AlwaysAnswer(OkResponse("hello")));
  const pool::ConnId first = Connect(old_peer);
  EXPECT_EQ(CallError::kNone, Run(first).error);
  EXPECT_EQ("TLS_VERIFY_FAILED", DialReason(new_peer.target()));
  Replace(options_.ca_file, ReadFile(next.cert()));
  EXPECT_TRUE(Refresh());
  EXPECT_EQ("", DialReason(new_peer.target()));
  // Not even its session helps the one that is trusted no more.
  EXPECT_EQ("TLS_VERIFY_FAILED", DialReason(old_peer.target()));
  EXPECT_EQ(CallError::kNone, Run(first).error);
}

}  // namespace
}  // namespace hotline::upstream
