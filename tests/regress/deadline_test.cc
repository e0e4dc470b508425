// The caller's deadline ignored.
//
// The ancestor had a timeout for the connection, one for the request and one
// for each read, and none of them was the caller's: each phase began a clock of
// its own, each byte began it again, and on HTTP/2 there was none at all.
//
// Here one absolute deadline runs from the line to the last byte. Each phase is
// made to last for as long as the peer likes, and must end with the caller's
// time. The bounds are wide, for slow machines: every one of these peers would
// hold a call for ever.
#include <atomic>
#include <chrono>
#include <string>
#include <thread>

#include "tests/server/broker/broker_fixture.h"
#include "tests/upstream/codec/http2_server.h"

namespace hotline::server {
namespace {

using absl::StatusCode;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::AlwaysAnswer;
using testing::OkResponse;
using testing::PeerConnection;
using testing::ScriptedPeer;

constexpr Duration kAsked = milliseconds(300);
constexpr Duration kPatience = seconds(10);

class DeadlineTest : public BrokerTest {
 protected:
  // Runs a GET with kAsked for it; its reason. It took its time, and no more.
  std::string Timed(const ScriptedPeer& peer, const char* method = "GET") {
    const Instant start = MonotonicNow();
    call_ = Execute(peer, method, kAsked);
    const std::string reason = call_->Wait();
    const Duration took = MonotonicNow() - start;
    EXPECT_GE(took, kAsked - milliseconds(50));
    EXPECT_LT(took, kPatience);
    EXPECT_EQ(call_->error().code, StatusCode::kDeadlineExceeded);
    return reason;
  }
  // The connection is of no use any more, and nobody kept it.
  void ExpectNothingLeft() {
    EXPECT_TRUE(Eventually([](const pool::Snapshot& snapshot) {
      return snapshot.connections_reserved == 0;
    }));
  }

  std::unique_ptr<TestExecute> call_;
};

TEST_F(DeadlineTest, HoldsInLine) {
  target_config_.max_connections = 1;
  ScriptedPeer peer(AlwaysAnswer(OkResponse("x")));
  auto lease = Acquire(peer.target());
  ASSERT_EQ(lease->Wait(), "OK");
  EXPECT_EQ(Timed(peer), "WAIT_TIMEOUT");
  EXPECT_EQ(call_->error().wait->limit(), "target_connections");
  EXPECT_EQ(Release(lease->response.lease().lease_id()), "OK");
}

class DialDeadlineTest : public DeadlineTest {
 protected:
  DialDeadlineTest() { upstream_options_.ca_file = Ca().cert(); }
  static const testing::TestCa& Ca() {
    static const auto* const ca = new testing::TestCa("deadline");
    return *ca;
  }
};

TEST_F(DialDeadlineTest, HoldsWhileAHandshakeHangs) {
  ScriptedPeer::Options options;
  options.tls = Ca().Issue("deadline", "DNS:localhost");
  options.handshake = false;
  ScriptedPeer peer(options, [](PeerConnection&) {});
  EXPECT_EQ(Timed(peer), "WAIT_TIMEOUT");
  EXPECT_EQ(call_->error().wait->limit(), "dial");
}

TEST_F(DeadlineTest, HoldsWhileTheUpstreamSaysNothing) {
  ScriptedPeer peer([](PeerConnection& connection) {
    connection.ReadRequest();
    connection.AwaitClose();
  });
  EXPECT_EQ(Timed(peer), "UPSTREAM_TIMEOUT");
  EXPECT_EQ(call_->metadata("verdict"), "SENT_UNKNOWN");
  ExpectNothingLeft();
}

// A byte at a time: no byte begins the clock anew.
TEST_F(DeadlineTest, HoldsWhileABodyTrickles) {
  std::atomic<bool> stop{false};
  ScriptedPeer peer([&](PeerConnection& connection) {
    connection.ReadRequest();
    connection.Write("HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n");
    while (!stop && connection.Write("x")) {
      std::this_thread::sleep_for(milliseconds(5));
    }
  });
  EXPECT_EQ(Timed(peer), "UPSTREAM_TIMEOUT");
  EXPECT_EQ(call_->metadata("verdict"), "RESPONSE_STARTED");
  stop = true;
  ExpectNothingLeft();
}

TEST_F(DeadlineTest, HoldsWhileAHeadTrickles) {
  std::atomic<bool> stop{false};
  ScriptedPeer peer([&](PeerConnection& connection) {
    connection.ReadRequest();
    connection.Write("HTTP/1.1 200 OK\r\nX-Long: ");
    while (!stop && connection.Write("x")) {
      std::this_thread::sleep_for(milliseconds(5));
    }
  });
  EXPECT_EQ(Timed(peer), "UPSTREAM_TIMEOUT");
  stop = true;
  ExpectNothingLeft();
}

TEST_F(DeadlineTest, HoldsWhileTheUpstreamReadsNothing) {
  ScriptedPeer peer(
      [](PeerConnection& connection) { connection.AwaitClose(); });
  // More than the sockets' buffers hold, so that writing itself hangs.
  TestExecute call;
  call.request.set_url(peer.target() + "/");
  call.request.set_method("PUT");
  call.request.set_body(std::string(3 << 20, 'x'));
  const Instant start = MonotonicNow();
  EXPECT_EQ(Go(&call, kAsked)->Wait(), "UPSTREAM_TIMEOUT");
  EXPECT_LT(MonotonicNow() - start, kPatience);
  ExpectNothingLeft();
}

// On HTTP/2 there was none at all. The connection lives on, and serves the
// next.
TEST_F(DialDeadlineTest, HoldsOnHttp2WhileOthersAreAnswered) {
  ScriptedPeer peer({.tls = Ca().Issue("http2", "DNS:localhost"), .alpn = "h2"},
                    upstream::ServeHttp2(
                        {}, [](upstream::Http2Peer& h2, upstream::StreamId id,
                               const upstream::Http2Peer::Asked& request) {
                          if (request.Get(":method") == "POST") {
                            upstream::Echo(h2, id, request);
                          }
                        }));
  ASSERT_EQ(Execute(peer, "POST")->Wait(), "OK");
  EXPECT_EQ(Timed(peer), "UPSTREAM_TIMEOUT");
  EXPECT_EQ(call_->metadata("verdict"), "SENT_UNKNOWN");
  EXPECT_EQ(Execute(peer, "POST")->Wait(), "OK");
  EXPECT_EQ(peer.accepted(), 1);
}

TEST_F(DeadlineTest, HoldsOverAllAttemptsTogether) {
  // Each attempt alone would be in time; ten of them are not.
  std::atomic<int> attempts{0};
  ScriptedPeer peer([&](PeerConnection& connection) {
    if (connection.ReadRequest().empty()) return;
    ++attempts;
    const Instant until = MonotonicNow() + milliseconds(120);
    while (MonotonicNow() < until) std::this_thread::yield();
    connection.Close();
  });
  TestExecute call;
  call.request.set_url(peer.target() + "/");
  call.request.mutable_retry()->set_max_attempts(10);
  settings_.retry_budget_percent = 100;
  broker_->Reconfigure(settings_);
  const Instant start = MonotonicNow();
  const std::string reason = Go(&call, kAsked)->Wait();
  EXPECT_LT(MonotonicNow() - start, kPatience);
  EXPECT_EQ(call.error().code, reason == "UPSTREAM_RESET"
                                   ? StatusCode::kAborted
                                   : StatusCode::kDeadlineExceeded)
      << reason;
  EXPECT_LE(attempts, 3);
}

TEST_F(DeadlineTest, TheRequestsOwnTimeoutIsOneToo) {
  ScriptedPeer peer([](PeerConnection& connection) {
    connection.ReadRequest();
    connection.AwaitClose();
  });
  TestExecute call;
  call.request.set_url(peer.target() + "/");
  call.request.mutable_timeout()->set_nanos(50'000'000);
  const Instant start = MonotonicNow();
  EXPECT_EQ(Go(&call, std::chrono::minutes(5))->Wait(), "UPSTREAM_TIMEOUT");
  EXPECT_LT(MonotonicNow() - start, kPatience);
}

TEST_F(DeadlineTest, ACallThatCameTooLateAsksNobody) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("x")));
  auto call = Execute(peer, "GET", -milliseconds(5));
  EXPECT_NE(call->Wait(), "OK");
  EXPECT_EQ(call->error().code, StatusCode::kDeadlineExceeded);
}

}  // namespace
}  // namespace hotline::server
