// A POST retried after it was sent.
//
// The ancestor repeated every failure three times, whatever the method and
// however far the attempt had got. An upstream that processed an order and then
// lost the connection received it three more times.
//
// Here a verdict says how far an attempt got, and a POST is repeated only if it
// was provably not processed.
#include <atomic>
#include <string>
#include <thread>

#include "tests/server/broker/broker_fixture.h"

namespace hotline::server {
namespace {

using absl::StatusCode;
using std::chrono::milliseconds;
using testing::OkResponse;
using testing::PeerConnection;
using testing::ScriptedPeer;

// What becomes of a POST on a connection that has served before.
struct Mishap {
  const char* name;
  void (*deed)(PeerConnection&);  // After the request has arrived.
  const char* reason;
  StatusCode code;
  const char* verdict;
};

constexpr Mishap kMishaps[] = {
    {"closed without a word", [](PeerConnection& c) { c.Close(); },
     "UPSTREAM_RESET", StatusCode::kAborted, "SENT_UNKNOWN"},
    {"reset", [](PeerConnection& c) { c.Reset(); }, "UPSTREAM_RESET",
     StatusCode::kAborted, "SENT_UNKNOWN"},
    {"broken off within the head",
     [](PeerConnection& c) {
       c.Write("HTTP/1.1 200 OK\r\nContent-");
       c.Close();
     },
     "UPSTREAM_RESET", StatusCode::kAborted, "RESPONSE_STARTED"},
    {"broken off within the body",
     [](PeerConnection& c) {
       c.Write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
       c.Close();
     },
     "UPSTREAM_RESET", StatusCode::kAborted, "RESPONSE_STARTED"},
    {"told to go on, then closed",
     [](PeerConnection& c) {
       c.Write("HTTP/1.1 100 Continue\r\n\r\n");
       c.Close();
     },
     "UPSTREAM_RESET", StatusCode::kAborted, "RESPONSE_STARTED"},
    {"answered with what is not HTTP",
     [](PeerConnection& c) {
       c.Write("-ERR unknown command\r\n\r\n");
       c.AwaitClose();
     },
     "PROTOCOL_ERROR", StatusCode::kInternal, "RESPONSE_STARTED"},
    {"never answered", [](PeerConnection& c) { c.AwaitClose(); },
     "UPSTREAM_TIMEOUT", StatusCode::kDeadlineExceeded, "SENT_UNKNOWN"},
};

using PostOnceTest = BrokerTest;

TEST_F(PostOnceTest, APostIsSentOnceAndItsVerdictSaysHowFarItGot) {
  for (const Mishap& mishap : kMishaps) {
    SCOPED_TRACE(mishap.name);
    std::atomic<int> posts{0};
    ScriptedPeer peer([&](PeerConnection& connection) {
      for (;;) {
        const std::string request = connection.ReadRequest();
        if (request.empty()) return;
        if (request.compare(0, 5, "POST ") == 0) {
          ++posts;
          return mishap.deed(connection);
        }
        connection.Write(OkResponse("fine"));
      }
    });
    ASSERT_EQ(Execute(peer)->Wait(), "OK");
    auto post = Execute(peer, "POST", milliseconds(500));
    ASSERT_EQ(post->Wait(), mishap.reason);
    EXPECT_EQ(post->error().code, mishap.code);
    EXPECT_EQ(post->metadata("verdict"), mishap.verdict);
    EXPECT_NE(post->metadata("bytes_written"), "0");
    // The next call finds the pool in order, and no second POST in the way.
    EXPECT_EQ(Execute(peer)->Wait(), "OK");
    EXPECT_EQ(posts, 1);
  }
}

// Not even part of it: a body of which some was read may have been acted on.
TEST_F(PostOnceTest, APartlySentBodyIsNotSentAgain) {
  std::atomic<int> posts{0};
  ScriptedPeer peer([&](PeerConnection& connection) {
    const std::string some = connection.ReadSome();
    if (some.empty()) return;
    ++posts;
    connection.Reset();
  });
  TestExecute post;
  post.request.set_url(peer.target() + "/");
  post.request.set_method("POST");
  post.request.set_body(std::string(3 << 20, 'x'));
  ASSERT_EQ(Go(&post)->Wait(), "UPSTREAM_RESET");
  EXPECT_EQ(post.error().code, StatusCode::kAborted);
  const std::string verdict = post.metadata("verdict");
  EXPECT_TRUE(verdict == "PARTIAL" || verdict == "SENT_UNKNOWN") << verdict;
  EXPECT_EQ(posts, 1);
}

// The opposite mistake would be to give up what is safe.
TEST_F(PostOnceTest, AnUnsentPostIsRetried) {
  std::atomic<int> posts{0};
  std::atomic<bool> up{false};
  ScriptedPeer peer([&](PeerConnection& connection) {
    if (connection.ReadRequest().empty()) return;
    ++posts;
    connection.Write(OkResponse("fine"));
    connection.AwaitClose();
  });
  target_config_.max_connections = 1;
  auto lease = Acquire(peer.target());
  ASSERT_EQ(lease->Wait(), "OK");
  auto post = Execute(peer, "POST");
  // Its connection goes before it could be used; it gets another.
  EXPECT_EQ(Release(lease->response.lease().lease_id(), v1::OUTCOME_DISCARD),
            "OK");
  EXPECT_EQ(post->Wait(), "OK");
  EXPECT_EQ(posts, 1);
}

}  // namespace
}  // namespace hotline::server
