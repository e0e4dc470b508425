// TLS profiles of connections: which is taken, what it demands of the upstream,
// and which sessions are resumed.
#include <map>
#include <set>

#include "net/tls/tls.h"
#include "tests/upstream/upstream_fixture.h"

namespace hotline::upstream {
namespace {

using Names = std::vector<std::string>;

class TlsTest : public UpstreamTest {
 protected:
  static ScriptedPeer::Options Peer(const std::string& version = "") {
    ScriptedPeer::Options options;
    options.tls = LocalhostCert();
    options.tls_version = version;
    return options;
  }
  static ScriptedPeer::Script Answer() {
    return AlwaysAnswer(OkResponse("hello"));
  }

  // Connects and makes a call: by its answer the tickets, which came before it,
  // have been taken in.
  ConnectionFacts Visit(const ScriptedPeer& peer) {
    const pool::ConnId conn = Connect(peer);
    EXPECT_EQ(CallError::kNone, Run(conn).error);
    const auto facts = upstream().Describe(conn);
    return facts == nullptr ? ConnectionFacts() : *facts;
  }
  bool Resumes(const ScriptedPeer& peer) { return Visit(peer).tls_resumed; }

  net::TlsProfile& AddProfile(const std::string& name) {
    net::TlsProfile& profile = options_.tls_profiles.emplace_back();
    profile.name = name;
    return profile;
  }
};

TEST_F(TlsTest, TheSecondConnectionResumesTheFirstOnesSession) {
  for (const char* version : {"1.2", "1.3"}) {
    ScriptedPeer peer(Peer(version), Answer());
    EXPECT_FALSE(Resumes(peer)) << version;
    for (int i = 1; i <= 5; ++i) {
      EXPECT_TRUE(Resumes(peer)) << version;
      EXPECT_EQ(i, peer.resumed()) << version;
    }
  }
}

TEST_F(TlsTest, HandshakesAreCountedByTarget) {
  ScriptedPeer peer(Peer(), Answer());
  for (int i = 0; i < 4; ++i) Visit(peer);
  std::map<std::string, Upstream::Counters> counters;
  for (const auto& [target, counted] : upstream().TargetCounters()) {
    counters[target] = counted;
  }
  EXPECT_EQ(1u, counters[peer.target()].full_handshakes);
  EXPECT_EQ(3u, counters[peer.target()].resumed_handshakes);
}

TEST_F(TlsTest, AResumedConnectionKnowsItsCertificate) {
  ScriptedPeer peer(Peer(), Answer());
  const ConnectionFacts full = Visit(peer);
  const ConnectionFacts resumed = Visit(peer);
  EXPECT_TRUE(resumed.tls_resumed);
  // The certificate is good for a week from when the test began.
  const int64_t now = std::chrono::duration_cast<std::chrono::seconds>(
                          std::chrono::system_clock::now().time_since_epoch())
                          .count();
  EXPECT_GT(full.certificate_not_after, now + 6 * 86400);
  EXPECT_LT(full.certificate_not_after, now + 8 * 86400);
  EXPECT_EQ(full.certificate_not_after, resumed.certificate_not_after);
  ASSERT_EQ(upstream().TargetCounters().size(), 1u);
  EXPECT_EQ(upstream().TargetCounters()[0].second.certificate_not_after,
            full.certificate_not_after);
}

TEST_F(TlsTest, SessionsAreNotSharedAcrossProfiles) {
  AddProfile("mine");
  AddProfile("yours");
  ScriptedPeer peer(Peer(), Answer());
  for (const char* name : {"mine", "yours", "modern", "default"}) {
    tls_profile_ = name;
    EXPECT_FALSE(Resumes(peer)) << name;
    EXPECT_TRUE(Resumes(peer)) << name;
  }
}

TEST_F(TlsTest, SessionsAreNotSharedAcrossClientCertificates) {
  const CertFiles alice = SharedCa().Issue("alice", "DNS:alice");
  const CertFiles bob = SharedCa().Issue("bob", "DNS:bob");
  for (const auto& [name, cert] : {std::pair("a", alice), {"b", bob}}) {
    net::TlsProfile& profile = AddProfile(name);
    profile.cert_file = cert.cert;
    profile.key_file = cert.key;
  }
  ScriptedPeer::Options asking = Peer();
  asking.client_ca = SharedCa().cert();
  ScriptedPeer peer(asking, Answer());
  tls_profile_ = "a";
  EXPECT_FALSE(Resumes(peer));
  EXPECT_EQ("alice", peer.last_client());
  tls_profile_ = "b";
  EXPECT_FALSE(Resumes(peer));
  EXPECT_EQ("bob", peer.last_client());
  // The session carries the identity that it was made with.
  EXPECT_TRUE(Resumes(peer));
  EXPECT_EQ("bob", peer.last_client());
}

TEST_F(TlsTest, SessionsAreNotSharedAcrossGroupsOfCallers) {
  ScriptedPeer peer(Peer(), Answer());
  EXPECT_FALSE(Resumes(peer));
  pool_group_ = "others";
  EXPECT_FALSE(Resumes(peer));
  EXPECT_TRUE(Resumes(peer));
}

TEST_F(TlsTest, SessionsOutliveAReconfigurationThatChangesNothingOfThem) {
  ScriptedPeer peer(Peer(), Answer());
  EXPECT_FALSE(Resumes(peer));
  Options other = options_;
  other.tcp_timeout = std::chrono::seconds(7);
  net::TlsProfile& profile = other.tls_profiles.emplace_back();
  profile.name = "new";
  ASSERT_TRUE(upstream().Reconfigure(other).ok());
  EXPECT_TRUE(Resumes(peer));
}

TEST_F(TlsTest, AChangedProfileBeginsWithoutSessions) {
  AddProfile("mine");
  tls_profile_ = "mine";
  ScriptedPeer peer(Peer(), Answer());
  EXPECT_FALSE(Resumes(peer));
  Options other = options_;
  other.tls_profiles[0].min_version = "1.3";
  ASSERT_TRUE(upstream().Reconfigure(other).ok());
  EXPECT_FALSE(Resumes(peer));
  EXPECT_TRUE(Resumes(peer));
}

TEST_F(TlsTest, WithoutTicketsNothingIsResumed) {
  AddProfile("mine").session_tickets = false;
  tls_profile_ = "mine";
  ScriptedPeer peer(Peer(), Answer());
  EXPECT_FALSE(Resumes(peer));
  EXPECT_FALSE(Resumes(peer));
}

TEST_F(TlsTest, WithoutRoomForSessionsNothingIsResumed) {
  options_.max_tls_sessions = 0;
  ScriptedPeer peer(Peer(), Answer());
  EXPECT_FALSE(Resumes(peer));
  EXPECT_FALSE(Resumes(peer));
}

TEST_F(TlsTest, TheLeastRecentlyUsedSessionLeaves) {
  options_.max_tls_sessions = 2;  // As many as OpenSSL gives at once.
  ScriptedPeer first(Peer("1.3"), Answer());
  ScriptedPeer second(Peer("1.3"), Answer());
  EXPECT_FALSE(Resumes(first));
  EXPECT_FALSE(Resumes(second));
  EXPECT_TRUE(Resumes(second));
  EXPECT_FALSE(Resumes(first));
}

TEST_F(TlsTest, ASetOfProfilesIsTakenInTurn) {
  policy_.tls_profiles = {"default", "modern", "compatible"};
  ScriptedPeer peer(Peer(), Answer());
  Names names;
  for (int i = 0; i < 6; ++i) names.push_back(Visit(peer).tls_profile);
  EXPECT_EQ(names, (Names{"default", "modern", "compatible", "default",
                          "modern", "compatible"}));
}

TEST_F(TlsTest, TheCallersProfileWinsOverTheTargetsAndThatOverTheDefault) {
  options_.tls_profile = "compatible";
  ScriptedPeer peer(Peer(), Answer());
  EXPECT_EQ("compatible", Visit(peer).tls_profile);
  policy_.tls_profiles = {"modern"};
  EXPECT_EQ("modern", Visit(peer).tls_profile);
  tls_profile_ = "chromium";
  EXPECT_EQ("chromium", Visit(peer).tls_profile);
}

TEST_F(TlsTest, AProfileThatIsGoneFailsTheDial) {
  tls_profile_ = "gone";
  ScriptedPeer peer(Peer(), Answer());
  EXPECT_EQ("TLS_FAILED", DialReason(peer.target()));
  EXPECT_EQ("TLS with localhost: there is no TLS profile \"gone\" any more",
            message_);
}

TEST_F(TlsTest, VersionsThatDoNotMeetEndTheHandshake) {
  AddProfile("old").max_version = "1.2";
  ScriptedPeer only12(Peer("1.2"), Answer());
  ScriptedPeer only13(Peer("1.3"), Answer());
  tls_profile_ = "modern";
  EXPECT_EQ("TLS_FAILED", DialReason(only12.target()));
  EXPECT_EQ("TLSv1.3", Visit(only13).tls_version);
  tls_profile_ = "old";
  EXPECT_EQ("TLS_FAILED", DialReason(only13.target()));
  EXPECT_EQ("TLSv1.2", Visit(only12).tls_version);
}

TEST_F(TlsTest, TheProfilesProtocolsAreWhatIsOffered) {
  AddProfile("h1").alpn = {"http/1.1"};
  tls_profile_ = "h1";
  ScriptedPeer peer(Peer(), Answer());
  EXPECT_EQ("http/1.1", Visit(peer).protocol);
  alpn_ = "h2";
  EXPECT_EQ("ALPN_MISMATCH", DialReason(peer.target()));
  EXPECT_EQ("TLS with localhost: the TLS profile \"h1\" does not offer h2",
            message_);
}

TEST_F(TlsTest, ACipherSuiteThatIsAskedForIsUsed) {
  AddProfile("one").ciphers = {"ECDHE-ECDSA-CHACHA20-POLY1305"};
  options_.tls_profiles[0].max_version = "1.2";
  tls_profile_ = "one";
  ScriptedPeer peer(Peer(), Answer());
  EXPECT_EQ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            Visit(peer).tls_cipher);
}

}  // namespace
}  // namespace hotline::upstream
