// Connections that their peers end before they have served anybody.
#include <atomic>
#include <future>

#include "tests/upstream/codec/http2_server.h"
#include "tests/upstream/upstream_fixture.h"

namespace hotline::upstream {
namespace {

using pool::FailureClass;

class ProbationTest : public UpstreamTest {
 protected:
  // A peer that ends each connection by `deed`, once the test says so.
  std::unique_ptr<ScriptedPeer> PeerThat(
      ScriptedPeer::Options options,
      std::function<void(PeerConnection&)> deed) {
    return std::make_unique<ScriptedPeer>(
        options, [this, deed = std::move(deed)](PeerConnection& c) {
          go_.get_future().wait();
          deed(c);
          c.AwaitClose();
        });
  }
  // What its dial has failed with after all.
  pool::DialError EndedEarly(const std::string& target) {
    Connect(target);
    go_.set_value();
    AwaitClosed();
    go_ = {};
    return pool_.early(last_id_);
  }
  static std::string Raw(const ScriptedPeer& peer, const char* scheme) {
    return std::string(scheme) + "://localhost:" + std::to_string(peer.port());
  }

  std::promise<void> go_;
};

TEST_F(ProbationTest, AFinAResetOrStrayBytesFailTheDial) {
  const std::function<void(PeerConnection&)> deeds[] = {
      [](PeerConnection& c) { c.Close(); },
      [](PeerConnection& c) { c.Reset(); },
      [](PeerConnection& c) {
        c.Write("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n");
        c.Close();
      }};
  for (const auto& deed : deeds) {
    for (const bool tls : {false, true}) {
      ScriptedPeer::Options options;
      if (tls) options.tls = LocalhostCert();
      const auto peer = PeerThat(options, deed);
      const pool::DialError error = EndedEarly(peer->target());
      EXPECT_EQ(error.failure_class, FailureClass::kNetwork);
      EXPECT_STREQ(error.reason, "CONNECT_FAILED");
      EXPECT_NE(error.message.find(peer->target()), std::string::npos);
      EXPECT_NE(error.message.find("before it had answered"), std::string::npos)
          << error.message;
    }
  }
}

TEST_F(ProbationTest, ARefusalThatComesAfterTheHandshakeIsOneOfTls) {
  ScriptedPeer::Options options;
  options.tls = LocalhostCert();
  options.tls_version = "1.3";
  options.client_ca = SharedCa().cert();
  ScriptedPeer peer(options, [](PeerConnection& c) { c.AwaitClose(); });
  // The alert may come with the handshake's end, and then the dial fails.
  const DialOutcome outcome = Dial(peer.target());
  if (outcome) AwaitClosed();
  const pool::DialError error = outcome ? pool_.early(last_id_) : outcome.error;
  EXPECT_EQ(error.failure_class, FailureClass::kTls);
  EXPECT_STREQ(error.reason, "TLS_FAILED");
}

TEST_F(ProbationTest, RawConnectionsAreNoException) {
  const auto peer = PeerThat({}, [](PeerConnection& c) { c.Close(); });
  EXPECT_FALSE(EndedEarly("tcp://127.0.0.1:" + std::to_string(peer->port()))
                   .message.empty());
  ScriptedPeer::Options options;
  options.tls = LocalhostCert();
  options.alpn = "";
  const auto secure = PeerThat(options, [](PeerConnection& c) { c.Close(); });
  EXPECT_FALSE(EndedEarly(Raw(*secure, "tls")).message.empty());
}

TEST_F(ProbationTest, OnHttp2AGoAwayOrACloseAfterTheSettingsFailsTheDial) {
  for (const bool polite : {true, false}) {
    ScriptedPeer::Options options;
    options.tls = LocalhostCert();
    options.alpn = "h2";
    ScriptedPeer peer(options, [&](PeerConnection& c) {
      Http2Peer h2({});
      c.Write(h2.TakeOutput());
      go_.get_future().wait();
      if (!polite) return c.Close();
      h2.GoAway(0, NGHTTP2_NO_ERROR);
      c.Write(h2.TakeOutput());
      c.AwaitClose();
    });
    const pool::ConnId conn = Connect(peer);
    go_.set_value();
    if (polite) {
      pool_.AwaitGoAway(last_id_);
      EXPECT_FALSE(pool_.early(last_id_).message.empty()) << "told with it";
      upstream().Close(conn, pool::CloseReason::kPeerClosed);
    }
    AwaitClosed();
    EXPECT_FALSE(pool_.early(last_id_).message.empty());
    go_ = {};
  }
}

TEST_F(ProbationTest, OnHttp2OneThatAllowsNoRequestIsNotReady) {
  options_.tls_timeout = std::chrono::milliseconds(300);
  ScriptedPeer::Options options;
  options.tls = LocalhostCert();
  options.alpn = "h2";
  for (const bool closes : {true, false}) {
    ScriptedPeer peer(options, [closes](PeerConnection& c) {
      Http2Peer h2({.max_streams = 0});
      c.Write(h2.TakeOutput());
      if (closes) return c.Close();
      c.AwaitClose();
    });
    EXPECT_EQ(DialReason(peer.target()), "TLS_FAILED") << message_;
  }
}

TEST_F(ProbationTest, OnHttp2OneThatAllowsRequestsLaterIsReadyThen) {
  ScriptedPeer::Options options;
  options.tls = LocalhostCert();
  options.alpn = "h2";
  ScriptedPeer peer(options, [](PeerConnection& c) {
    Http2Peer h2({.max_streams = 0});
    c.Write(h2.TakeOutput());
    c.ReadSome();
    h2.SetMaxStreams(7);
    c.Write(h2.TakeOutput());
    c.AwaitClose();
  });
  const DialOutcome outcome = Dial(peer.target());
  ASSERT_TRUE(outcome) << outcome.error.message;
  EXPECT_EQ(outcome.max_streams, 7);
}

TEST_F(ProbationTest, ACallThatEndsWithItServedNobody) {
  ScriptedPeer peer([](PeerConnection& c) {
    c.ReadRequest();
    c.Close();
  });
  EXPECT_EQ(Run(Connect(peer)).verdict, Verdict::kSentUnknown);
  AwaitClosed();
  EXPECT_FALSE(pool_.early(last_id_).message.empty());
  EXPECT_EQ(pool_.served(last_id_), 0);
}

TEST_F(ProbationTest, OneThatAnsweredHasServed) {
  const char* const answers[] = {
      "HTTP/1.1 204 No Content\r\n\r\n",
      // Broken off: no good call, but no failed dial either.
      "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"};
  for (const char* answer : answers) {
    ScriptedPeer peer([answer](PeerConnection& c) {
      c.ReadRequest();
      c.Write(answer);
      c.Close();
    });
    Run(Connect(peer));
    AwaitClosed();
    EXPECT_TRUE(pool_.early(last_id_).message.empty()) << answer;
  }
}

TEST_F(ProbationTest, AValidationServesNobody) {
  policy_.validate = {.path = "/up"};
  ScriptedPeer peer([this](PeerConnection& c) {
    c.ReadRequest();
    c.Write("HTTP/1.1 204 No Content\r\n\r\n");
    go_.get_future().wait();
    c.Close();
  });
  EXPECT_FALSE(EndedEarly(peer.target()).message.empty());
  EXPECT_EQ(pool_.served(last_id_), 0);
}

TEST_F(ProbationTest, AnEndAfterProbationIsNoFailedDial) {
  const auto peer = PeerThat({}, [](PeerConnection& c) { c.Close(); });
  Connect(*peer);
  const pool::ConnId idle = last_id_;
  // The loop itself says when that time is over: a call's deadline passes.
  ScriptedPeer silent([](PeerConnection& c) { c.AwaitClose(); });
  const pool::ConnId other = Connect(silent);
  const Instant end =
      MonotonicNow() + pool::kProbation + std::chrono::milliseconds(200);
  EXPECT_EQ(CallError::kTimeout, Run(other, {.deadline = end}).error);
  EXPECT_EQ(0, pool_.closes(idle));
  go_.set_value();
  pool_.AwaitClosed(idle);
  EXPECT_TRUE(pool_.early(idle).message.empty());
}

TEST_F(ProbationTest, ATunnelHasServedOnceSomethingCame) {
  struct Tunnel final : StreamHandler {
    void OnHead(int, std::vector<Header>) override {}
    void OnBody(std::string) override {}
    void OnTrailers(std::vector<Header>) override { End(); }
    void OnSendable() override {}
    void OnDone(CallResult) override {
      End();
      done.set_value();
    }
    void End() {
      if (!std::exchange(told, true)) ended.set_value();
    }
    bool told = false;
    std::promise<void> ended;
    std::promise<void> done;
  };
  for (const bool speaks : {true, false}) {
    ScriptedPeer peer([speaks](PeerConnection& c) {
      if (speaks) c.Write("220 ready");
      c.Close();
    });
    Tunnel tunnel;
    const pool::ConnId conn =
        Connect("tcp://127.0.0.1:" + std::to_string(peer.port()));
    const CallId call =
        upstream().OpenStream(conn, {}, false, &tunnel, MonotonicNow());
    if (call != 0) {
      tunnel.ended.get_future().wait();
      upstream().SendBody(conn, call, "", true);
    }
    tunnel.done.get_future().wait();
    AwaitClosed();
    if (call != 0) {
      EXPECT_EQ(pool_.early(last_id_).message.empty(), speaks);
    }
  }
}

}  // namespace
}  // namespace hotline::upstream
