// Calls that failed because of another call's answer.
//
// A breach of HTTP/2's framing ends the connection and every call on it. All of
// them got PROTOCOL_ERROR, which is never retried: a GET whose answer had not
// begun failed because the answer of another one was broken.
//
// Now only the call whose frame it was gets that error. For the others the
// connection was lost, and their verdicts decide whether they are retried.
#include <atomic>
#include <string>
#include <vector>

#include "tests/fakes/test_certs.h"
#include "tests/server/broker/broker_fixture.h"
#include "tests/upstream/codec/http2_server.h"

namespace hotline::server {
namespace {

using absl::StatusCode;
using testing::CertFiles;
using testing::PeerConnection;
using testing::ScriptedPeer;
using testing::TestCa;
using upstream::Bytes;
using upstream::DataFrame;
using upstream::Echo;
using upstream::Frame;
using upstream::HeadersFrame;
using upstream::Http2Peer;
using upstream::SettingsFrame;
using upstream::StreamId;
using upstream::WindowFrame;

struct Mishap {
  const char* name;
  std::string (*frames)(StreamId guilty);
  bool guilty = true;  // Whether the frame is one of that stream's.
};

const Mishap kMishaps[] = {
    {"padding longer than the frame",
     [](StreamId id) {
       return HeadersFrame(id, {{":status", "200"}}) +
              DataFrame(id, "\5abc", upstream::kPadded);
     }},
    {"a field that is not in the table",
     [](StreamId id) {
       return Frame(NGHTTP2_HEADERS, upstream::kEndHeaders, id, "\xbf");
     }},
    {"a pushed stream",
     [](StreamId id) {
       return Frame(NGHTTP2_PUSH_PROMISE, upstream::kEndHeaders, id,
                    Bytes(2, 4) + upstream::Block({{":method", "GET"}}));
     }},
    {"PING of seven bytes",
     [](StreamId) { return Frame(NGHTTP2_PING, 0, 0, "1234567"); }, false},
    {"a window opened too far",
     [](StreamId id) {
       return WindowFrame(id, 0x7fffffff - 65535) + SettingsFrame({{4, 65536}});
     },
     false},
    {"a stream that was not opened",
     [](StreamId) {
       return HeadersFrame(4711, {{":status", "200"}});
     },
     false},
};

class BystanderTest : public BrokerTest {
 protected:
  BystanderTest() : ca_("bystander") {
    upstream_options_.ca_file = ca_.cert();
    target_config_.expected_streams = 0;
  }

  // Serves all, but for what the first connection gets after three requests
  // with "/wait": the mishap, on the stream of the first one.
  ScriptedPeer::Script Script(const Mishap& mishap) {
    return [this, &mishap](PeerConnection& connection) {
      Http2Peer peer({});
      std::vector<StreamId> waiting;
      peer.on_end = [&](StreamId id) {
        const Http2Peer::Asked& asked = peer.requests[id];
        posts_ += asked.Get(":method") == "POST";
        if (connection.index() > 0 || asked.Get(":path") == "/") {
          return Echo(peer, id, asked);
        }
        waiting.push_back(id);
        guilty_seen_ = true;
      };
      connection.Write(peer.TakeOutput());
      for (;;) {
        const std::string input = connection.ReadSome();
        if (input.empty() || !peer.Feed(input)) return;
        connection.Write(peer.TakeOutput());
        if (waiting.size() < 3) continue;
        connection.Write(mishap.frames(waiting[0]));
        connection.AwaitClose();
        return;
      }
    };
  }

  TestExecute* Send(TestExecute* call, const ScriptedPeer& peer,
                    const std::string& method) {
    call->request.set_url(peer.target() + "/wait");
    call->request.set_method(method);
    return Go(call);
  }

  const TestCa ca_;
  std::atomic<bool> guilty_seen_{false};
  std::atomic<int> posts_{0};
};

TEST_F(BystanderTest, OnlyTheCallOfTheBadFrameFailsWithProtocolError) {
  const CertFiles cert(ca_.Issue("localhost", "DNS:localhost"));
  for (const Mishap& mishap : kMishaps) {
    SCOPED_TRACE(mishap.name);
    guilty_seen_ = false;
    posts_ = 0;
    ScriptedPeer peer({.tls = cert, .alpn = "h2"}, Script(mishap));
    // From now on it is known that one connection serves many.
    ASSERT_EQ("OK", Execute(peer)->Wait());
    TestExecute guilty, bystander, post;
    Send(&guilty, peer, "GET");
    ASSERT_TRUE(Eventually(
        [this](const pool::Snapshot&) { return guilty_seen_.load(); }));
    Send(&bystander, peer, "GET");
    Send(&post, peer, "POST");

    EXPECT_EQ("OK", bystander.Wait());
    EXPECT_EQ("/wait", bystander.response.body());
    EXPECT_EQ(2, bystander.response.receipt().attempts());
    if (mishap.guilty) {
      ASSERT_EQ("PROTOCOL_ERROR", guilty.Wait());
      EXPECT_EQ(StatusCode::kInternal, guilty.error().code);
    } else {
      EXPECT_EQ("OK", guilty.Wait());
    }
    // What is not idempotent may have been processed.
    ASSERT_EQ("UPSTREAM_RESET", post.Wait());
    EXPECT_EQ(StatusCode::kAborted, post.error().code);
    EXPECT_EQ("SENT_UNKNOWN", post.metadata("verdict"));
    EXPECT_EQ(1, posts_);
  }
}

}  // namespace
}  // namespace hotline::server
