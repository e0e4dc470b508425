// The caller's deadline was ignored.
//
// The ancestor had one timeout for the connection, one for the request and one
// for each read, and none of them was the caller's: each phase started its own
// timer, each byte restarted it, and HTTP/2 had no timeout at all.
//
// Here one absolute deadline covers the call from the queue to the last byte.
// Each test has a peer that would block one phase for ever; the call must end
// at its deadline. The bounds are wide, for slow machines.
#include <atomic>
#include <chrono>
#include <string>

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
  // Runs a GET with a deadline of kAsked, checks that it ended there, and
  // returns the error's reason.
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
  // The connection cannot be reused, and is not kept.
  void ExpectNothingLeft() {
    EXPECT_TRUE(Eventually([](const pool::Snapshot& snapshot) {
      return snapshot.connections_reserved == 0;
    }));
  }

  std::unique_ptr<TestExecute> call_;
};

TEST_F(DeadlineTest, HoldsWhileTheCallIsQueued) {
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

// A byte at a time: no byte restarts the clock.
TEST_F(DeadlineTest, HoldsWhileABodyTrickles) {
  ScriptedPeer peer([](PeerConnection& connection) {
    connection.ReadRequest();
    connection.Write("HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n");
    while (connection.Write("x") && connection.Pause(milliseconds(5))) {
    }
  });
  EXPECT_EQ(Timed(peer), "UPSTREAM_TIMEOUT");
  EXPECT_EQ(call_->metadata("verdict"), "RESPONSE_STARTED");
  ExpectNothingLeft();
}

TEST_F(DeadlineTest, HoldsWhileAHeadTrickles) {
  ScriptedPeer peer([](PeerConnection& connection) {
    connection.ReadRequest();
    connection.Write("HTTP/1.1 200 OK\r\nX-Long: ");
    while (connection.Write("x") && connection.Pause(milliseconds(5))) {
    }
  });
  EXPECT_EQ(Timed(peer), "UPSTREAM_TIMEOUT");
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

// The connection stays open and serves the next call.
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
  // Each attempt alone would be in time; ten in a row are not.
  std::atomic<int> attempts{0};
  ScriptedPeer peer([&](PeerConnection& connection) {
    if (connection.ReadRequest().empty()) return;
    ++attempts;
    connection.Pause(milliseconds(120));
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

TEST_F(DeadlineTest, TheRequestsOwnTimeoutHoldsToo) {
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

TEST_F(DeadlineTest, ACallPastItsDeadlineIsNotSent) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("x")));
  auto call = Execute(peer, "GET", -milliseconds(5));
  EXPECT_NE(call->Wait(), "OK");
  EXPECT_EQ(call->error().code, StatusCode::kDeadlineExceeded);
}

}  // namespace
}  // namespace hotline::server
