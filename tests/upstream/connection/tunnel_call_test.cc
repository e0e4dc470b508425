// Tunnels over loopback, with and without TLS: bytes, ends, and what breaks.
#include <string>

#include "tests/upstream/upstream_fixture.h"

namespace hotline::upstream {
namespace {

// The caller's end of one. Takes at once what comes.
class TunnelEnd final : public StreamHandler {
 public:
  TunnelEnd(Upstream* upstream, pool::ConnId conn)
      : upstream_(upstream), conn_(conn) {}

  void Open(const Request& request = {}, bool end = false) {
    upstream_->OpenStream(conn_, request, end, this, MonotonicNow());
  }
  void Send(std::string_view bytes, bool end = false) {
    upstream_->SendBody(conn_, call(), bytes, end);
  }

  void OnHead(int status, std::vector<Header>) override {
    Note([&] { status_ = status; });
  }
  void OnBody(std::string piece) override {
    upstream_->Consume(conn_, call(), piece.size());
    Note([&] { body_ += piece; });
  }
  void OnTrailers(std::vector<Header>) override {
    Note([&] { ended_ = true; });
  }
  void OnSendable() override {}
  void OnDone(CallResult result) override {
    Note([&] {
      ++done_;
      result_ = std::move(result);
    });
  }

  void AwaitOpen() {
    Await([&] { return status_ != 0 || done_ > 0; });
    EXPECT_EQ(101, status_);
  }
  std::string AwaitBody(size_t size) {
    Await([&] { return body_.size() >= size || done_ > 0; });
    return body_;
  }
  void AwaitPeersEnd() {
    Await([&] { return ended_ || done_ > 0; });
    EXPECT_TRUE(ended_);
  }
  const CallResult& AwaitDone() {
    Await([&] { return done_ > 0; });
    EXPECT_EQ(1, done_);
    return result_;
  }

 private:
  template <typename F>
  void Note(F&& write) {
    std::lock_guard lock(mu_);
    EXPECT_EQ(0, done_);
    write();
    changed_.notify_all();
  }
  template <typename F>
  void Await(F&& condition) {
    std::unique_lock lock(mu_);
    EXPECT_TRUE(changed_.wait_for(lock, kPatience, condition));
  }

  Upstream* const upstream_;
  const pool::ConnId conn_;
  std::mutex mu_;
  std::condition_variable changed_;
  int status_ = 0;
  std::string body_;
  bool ended_ = false;
  int done_ = 0;
  CallResult result_;
};

// With TLS or without.
class TunnelCallTest : public UpstreamTest,
                       public ::testing::WithParamInterface<bool> {
 protected:
  ScriptedPeer::Options PeerOptions() {
    ScriptedPeer::Options options;
    if (GetParam()) options.tls = LocalhostCert();
    options.alpn = "";
    return options;
  }
  std::string Target(const ScriptedPeer& peer) {
    return (GetParam() ? "tls://localhost:" : "tcp://127.0.0.1:") +
           std::to_string(peer.port());
  }
};

void EchoBytes(PeerConnection& c) {
  for (std::string s = c.ReadSome(); !s.empty(); s = c.ReadSome()) c.Write(s);
  c.Close();
}

TEST_P(TunnelCallTest, BytesPassUntilBothHaveEnded) {
  ScriptedPeer peer(PeerOptions(), EchoBytes);
  const pool::ConnId conn = Connect(Target(peer));
  EXPECT_EQ(GetParam() ? "tls" : "tcp", upstream().Describe(conn)->protocol);
  TunnelEnd tunnel(&upstream(), conn);
  tunnel.Open();
  tunnel.AwaitOpen();
  const std::string large(3 << 20, 'x');
  tunnel.Send("a");
  tunnel.Send(large);
  EXPECT_TRUE("a" + large == tunnel.AwaitBody(large.size() + 1));
  tunnel.Send("", /*end=*/true);
  const CallResult& result = tunnel.AwaitDone();
  EXPECT_EQ(CallError::kNone, result.error) << result.message;
  EXPECT_EQ(large.size() + 1, result.bytes_read);
  EXPECT_EQ(large.size() + 1, result.bytes_written);
  // It was the connection's last.
  EXPECT_EQ(pool::CloseReason::kPeerClosed, AwaitClosed());
}

TEST_P(TunnelCallTest, ServerMaySpeakFirst) {
  ScriptedPeer peer(PeerOptions(), [](PeerConnection& c) {
    c.Write("220 hello\r\n");
    EchoBytes(c);
  });
  const pool::ConnId conn = Connect(Target(peer));
  // What was said may be here by now, or come later: it is heard.
  Probe(conn);
  EXPECT_TRUE(pool_.AwaitProbe(last_id_));
  TunnelEnd tunnel(&upstream(), conn);
  tunnel.Open();
  EXPECT_EQ("220 hello\r\n", tunnel.AwaitBody(11));
  upstream().CancelCall(conn, tunnel.call());
  EXPECT_EQ(CallError::kCancelled, tunnel.AwaitDone().error);
  AwaitClosed();
}

TEST_P(TunnelCallTest, IdleConnectionThatEndsIsRetired) {
  ScriptedPeer peer(PeerOptions(), [](PeerConnection& c) { c.Close(); });
  const pool::ConnId conn = Connect(Target(peer));
  EXPECT_EQ(pool::CloseReason::kPeerClosed, AwaitClosed());
  TunnelEnd tunnel(&upstream(), conn);
  tunnel.Open();
  EXPECT_EQ(Verdict::kNotSent, tunnel.AwaitDone().verdict);
}

TEST_P(TunnelCallTest, DeadlineEndsIt) {
  ScriptedPeer peer(PeerOptions(), [](PeerConnection& c) { c.AwaitClose(); });
  const pool::ConnId conn = Connect(Target(peer));
  TunnelEnd tunnel(&upstream(), conn);
  tunnel.Open({.deadline = MonotonicNow() + std::chrono::milliseconds(100)});
  EXPECT_EQ(CallError::kTimeout, tunnel.AwaitDone().error);
  AwaitClosed();
}

TEST_P(TunnelCallTest, ResetIsTold) {
  ScriptedPeer peer(PeerOptions(), [](PeerConnection& c) {
    c.ReadSome();
    c.Reset();
  });
  TunnelEnd tunnel(&upstream(), Connect(Target(peer)));
  tunnel.Open();
  tunnel.AwaitOpen();
  tunnel.Send("x");
  EXPECT_EQ(CallError::kReset, tunnel.AwaitDone().error);
  EXPECT_EQ(pool::CloseReason::kError, AwaitClosed());
}

TEST_P(TunnelCallTest, FinIsAnEndOnlyWhereNothingBetterIsSaid) {
  ScriptedPeer peer(PeerOptions(), [](PeerConnection& c) {
    c.ReadSome();
    c.Write("some");
    c.CloseWithoutNotice();
  });
  TunnelEnd tunnel(&upstream(), Connect(Target(peer)));
  tunnel.Open();
  tunnel.Send("go");
  EXPECT_EQ("some", tunnel.AwaitBody(4));
  if (GetParam()) {
    EXPECT_EQ(CallError::kReset, tunnel.AwaitDone().error);
  } else {
    tunnel.AwaitPeersEnd();
    tunnel.Send("", /*end=*/true);
    EXPECT_EQ(CallError::kNone, tunnel.AwaitDone().error);
  }
  AwaitClosed();
}

TEST_P(TunnelCallTest, StopEndsIt) {
  ScriptedPeer peer(PeerOptions(), EchoBytes);
  TunnelEnd tunnel(&upstream(), Connect(Target(peer)));
  tunnel.Open();
  tunnel.AwaitOpen();
  upstream().Stop();
  EXPECT_EQ(CallError::kCancelled, tunnel.AwaitDone().error);
}

INSTANTIATE_TEST_SUITE_P(Tls, TunnelCallTest, ::testing::Bool());

using UpgradeCallTest = UpstreamTest;

TEST_F(UpgradeCallTest, ConnectionThatAnsweredBeforeBecomesATunnel) {
  ScriptedPeer peer([](PeerConnection& c) {
    c.ReadRequest();
    c.Write(OkResponse("one"));
    c.ReadRequest();
    c.Write(
        "HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
        "first");
    EchoBytes(c);
  });
  const pool::ConnId conn = Connect(peer);
  EXPECT_EQ("one", Run(conn).response.body);
  TunnelEnd tunnel(&upstream(), conn);
  tunnel.Open({.authority = "localhost", .upgrade = "echo"}, /*end=*/true);
  tunnel.AwaitOpen();
  EXPECT_EQ("first", tunnel.AwaitBody(5));
  tunnel.Send("and more");
  EXPECT_EQ("firstand more", tunnel.AwaitBody(13));
  tunnel.Send("", /*end=*/true);
  EXPECT_EQ(CallError::kNone, tunnel.AwaitDone().error);
  EXPECT_EQ(pool::CloseReason::kPeerClosed, AwaitClosed());
}

TEST_F(UpgradeCallTest, AlpnIsAskedForAndHasToBeAgreedTo) {
  ScriptedPeer peer({.tls = LocalhostCert(), .alpn = "imap"}, EchoBytes);
  const std::string target = "tls://localhost:" + std::to_string(peer.port());
  alpn_ = "imap";
  EXPECT_EQ("", DialReason(target));
  alpn_ = "pop3";
  EXPECT_EQ("ALPN_MISMATCH", DialReason(target)) << message_;
}

}  // namespace
}  // namespace hotline::upstream
