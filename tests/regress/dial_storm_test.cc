// Dial storms.
//
// Every connection that was established counted as a successful dial, even if
// it was closed a moment later. An upstream that accepts and closes was
// therefore redialled as fast as it could close: 8 000 to 13 000 times in four
// seconds, for a warm floor of two that was never reached, and on HTTP/2 for a
// single GET. Nothing backed off, the breaker stayed closed, and no error was
// reported.
//
// Now a connection is on probation until it has served a call or stayed open
// for a second. If it ends before that, its dial counts as failed: it backs off
// and the breaker opens.
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/fakes/test_certs.h"
#include "tests/server/broker/broker_fixture.h"
#include "tests/upstream/codec/http2_server.h"

namespace hotline::server {
namespace {

using testing::PeerConnection;
using testing::ScriptedPeer;

// The storm made 4 000 in the time that these tests take.
constexpr int kMostDials = 100;

const testing::TestCa& Ca() {
  static const auto* const ca = new testing::TestCa("storm");
  return *ca;
}
const testing::CertFiles& Cert() {
  static const auto* const cert =
      new testing::CertFiles(Ca().Issue("localhost", "DNS:localhost"));
  return *cert;
}

class DialStormTest : public BrokerTest {
 protected:
  DialStormTest() {
    upstream_options_.ca_file = Ca().cert();
    target_config_.breaker_failures = 4;
    target_config_.breaker_open_for = std::chrono::seconds(1);
  }

  static ScriptedPeer::Options Secure(const std::string& alpn) {
    ScriptedPeer::Options options;
    options.tls = Cert();
    options.alpn = alpn;
    return options;
  }

  pool::TargetRow Row(const std::string& target) {
    for (pool::TargetRow& row : Look().targets) {
      if (row.target == target) return std::move(row);
    }
    return {};
  }

  // The breaker has opened, stayed open for its time, and opened again when
  // the probe failed, too.
  bool BreakerOpenedTwice(const ScriptedPeer& peer) {
    return Row(peer.target()).counters.breaker_opened >= 2;
  }

  void ExpectNoStorm(const ScriptedPeer& peer, pool::FailureClass wanted) {
    const pool::TargetRow row = Row(peer.target());
    EXPECT_LE(peer.accepted(), kMostDials);
    EXPECT_GE(peer.accepted(), 2) << "it is dialled again";
    EXPECT_FALSE(row.last_dial_error.empty());
    EXPECT_EQ(row.counters.dials_ok, 0u);
    EXPECT_GE(row.counters.dials_failed[static_cast<int>(wanted)], 2u);
  }

  // A warm floor of two and no caller.
  void Warm(ScriptedPeer::Options options, ScriptedPeer::Script script,
            pool::FailureClass wanted = pool::FailureClass::kNetwork) {
    target_config_.warm = 2;
    ScriptedPeer peer(std::move(options), std::move(script));
    pool_->Warm(peer.target(), MonotonicNow());
    EXPECT_TRUE(Eventually(
        [&](const pool::Snapshot&) { return BreakerOpenedTwice(peer); }));
    ExpectNoStorm(peer, wanted);
    pool_->Shutdown(MonotonicNow());
  }

  // No floor and one caller, which calls again and again.
  void Call(ScriptedPeer::Options options, ScriptedPeer::Script script) {
    ScriptedPeer peer(std::move(options), std::move(script));
    EXPECT_TRUE(Eventually([&](const pool::Snapshot&) {
      const std::string reason = Execute(peer)->Wait();
      EXPECT_TRUE(reason == "CONNECT_FAILED" || reason == "CIRCUIT_OPEN" ||
                  reason == "UPSTREAM_RESET" || reason == "TLS_FAILED")
          << reason;
      return BreakerOpenedTwice(peer);
    }));
    ExpectNoStorm(peer, pool::FailureClass::kNetwork);
  }
};

void Fin(PeerConnection& connection) { connection.Close(); }

// Sends its settings, then a GOAWAY.
void GoAwayAfterSettings(PeerConnection& connection) {
  upstream::Http2Peer peer({});
  connection.Write(peer.TakeOutput());
  const std::string preface = connection.ReadSome();
  if (preface.empty() || !peer.Feed(preface)) return;
  connection.Write(peer.TakeOutput());
  peer.GoAway(0, NGHTTP2_NO_ERROR);
  connection.Write(peer.TakeOutput());
  connection.AwaitClose();
}

void NoStreams(PeerConnection& connection) {
  upstream::Http2Peer peer({.max_streams = 0});
  connection.Write(peer.TakeOutput());
  connection.ReadSome();
  connection.Close();
}

TEST_F(DialStormTest, AFinForAWarmFloor) { Warm({}, Fin); }

TEST_F(DialStormTest, AFinUnderTlsForAWarmFloor) {
  Warm(Secure("http/1.1"), Fin);
}

TEST_F(DialStormTest, AResetForAWarmFloor) {
  Warm({}, [](PeerConnection& connection) { connection.Reset(); });
}

TEST_F(DialStormTest, AnUnsolicitedAnswerForAWarmFloor) {
  Warm({}, [](PeerConnection& connection) {
    connection.Write("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n");
    connection.Close();
  });
}

TEST_F(DialStormTest, ARefusalOfTlsForAWarmFloor) {
  ScriptedPeer::Options options = Secure("http/1.1");
  options.tls_version = "1.3";
  options.client_ca = Ca().cert();
  Warm(options, Fin, pool::FailureClass::kTls);
}

TEST_F(DialStormTest, AGoAwayForAWarmFloor) {
  Warm(Secure("h2"), GoAwayAfterSettings);
}

TEST_F(DialStormTest, AFinForACaller) { Call({}, Fin); }

TEST_F(DialStormTest, AFinAfterTheRequestForACaller) {
  Call({}, [](PeerConnection& connection) {
    connection.ReadRequest();
    connection.Close();
  });
}

TEST_F(DialStormTest, AGoAwayForACaller) {
  Call(Secure("h2"), GoAwayAfterSettings);
}

TEST_F(DialStormTest, NoStreamsAndACloseForACaller) {
  target_config_.expected_streams = 0;
  ScriptedPeer peer(Secure("h2"), NoStreams);
  EXPECT_TRUE(Eventually([&](const pool::Snapshot&) {
    EXPECT_NE(Execute(peer)->Wait(), "OK");
    return BreakerOpenedTwice(peer);
  }));
  ExpectNoStorm(peer, pool::FailureClass::kTls);
}

// Each connection serves a call before it closes, so no dial has failed.
TEST_F(DialStormTest, AConnectionForEachAnswerIsNoStorm) {
  ScriptedPeer peer([](PeerConnection& connection) {
    connection.ReadRequest();
    connection.Write(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi");
    connection.Close();
  });
  for (int i = 0; i < 50; ++i) EXPECT_EQ(Execute(peer)->Wait(), "OK");
  EXPECT_TRUE(Eventually([&](const pool::Snapshot& snapshot) {
    return snapshot.targets[0].counters.dials_ok == 50;
  }));
  EXPECT_EQ(Row(peer.target()).failures_in_a_row, 0);
}

}  // namespace
}  // namespace hotline::server
