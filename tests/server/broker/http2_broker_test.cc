// Execute over HTTP/2, with every room but gRPC: callers do not notice when the
// peer limits, refuses or drains.
#include <atomic>
#include <list>
#include <set>
#include <vector>

#include "tests/fakes/test_certs.h"
#include "tests/server/broker/broker_fixture.h"
#include "tests/upstream/codec/http2_server.h"

namespace hotline::server {
namespace {

using testing::CertFiles;
using testing::PeerConnection;
using testing::ScriptedPeer;
using testing::TestCa;
using upstream::Echo;
using upstream::Http2Peer;
using upstream::Http2Serve;
using upstream::ServeHttp2;
using upstream::StreamId;

const TestCa& Ca() {
  static const auto* const ca = new TestCa("http2");
  return *ca;
}
const CertFiles& Cert() {
  static const auto* const cert =
      new CertFiles(Ca().Issue("localhost", "DNS:localhost"));
  return *cert;
}

class Http2BrokerTest : public BrokerTest {
 protected:
  Http2BrokerTest() {
    upstream_options_.ca_file = Ca().cert();
    target_config_.expected_streams = 0;
  }

  std::unique_ptr<ScriptedPeer> Serve(Http2Serve serve,
                                      Http2Peer::Options options = {}) {
    return std::make_unique<ScriptedPeer>(
        ScriptedPeer::Options{.tls = Cert(), .alpn = "h2"},
        ServeHttp2(options, std::move(serve)));
  }

  void Send(TestExecute* call, const ScriptedPeer& peer,
            const std::string& path = "/", const std::string& method = "GET") {
    call->request.set_url(peer.target() + path);
    call->request.set_method(method);
    Go(call);
  }
  void ExpectAllFine(std::list<TestExecute>* calls) {
    for (TestExecute& call : *calls) {
      ASSERT_EQ("OK", call.Wait()) << call.error().message;
      EXPECT_EQ("/", call.response.body());
    }
  }
};

TEST_F(Http2BrokerTest, ExecuteRunsOverHttp2) {
  const auto peer = Serve(Echo);
  const auto call = Execute(*peer, "POST");
  ASSERT_EQ("OK", call->Wait());
  EXPECT_EQ("/payload", call->response.body());
  EXPECT_EQ("h2", call->response.receipt().connection().protocol());
}

TEST_F(Http2BrokerTest, ColdBurstNeedsNoMoreConnectionsThanTheLimitAsks) {
  const auto peer = Serve(Echo, {.max_streams = 128});
  std::list<TestExecute> calls(1000);
  for (TestExecute& call : calls) Send(&call, *peer);
  ExpectAllFine(&calls);
  EXPECT_LE(peer->accepted(), 8);
}

TEST_F(Http2BrokerTest, RefusedStreamIsRetriedWhateverTheMethod) {
  std::atomic<int> asked{0};
  const auto peer =
      Serve([&](Http2Peer& p, StreamId id, const Http2Peer::Asked& request) {
        if (asked++ == 0) return p.Reset(id, NGHTTP2_REFUSED_STREAM);
        Echo(p, id, request);
      });
  const auto call = Execute(*peer, "POST");
  ASSERT_EQ("OK", call->Wait());
  EXPECT_EQ("/payload", call->response.body());
  ASSERT_EQ(1, call->response.receipt().failed_attempts_size());
  EXPECT_EQ("REFUSED_BY_PEER", call->response.receipt().failed_attempts(0));
  EXPECT_EQ(1, peer->accepted());
}

TEST_F(Http2BrokerTest, GoAwayEvery10StreamsFailsNoCall) {
  std::atomic<int> served{0};
  const auto peer =
      Serve([&](Http2Peer& p, StreamId id, const Http2Peer::Asked& request) {
        constexpr StreamId kLast = 2 * 10 - 1;
        if (id > kLast) return;  // Refused by the GOAWAY below.
        ++served;
        Echo(p, id, request);
        if (id == kLast) p.GoAway(kLast, NGHTTP2_NO_ERROR);
      });
  std::list<TestExecute> calls(500);
  for (TestExecute& call : calls) {
    call.request.set_body("x");
    call.request.set_method("POST");
    call.request.set_url(peer->target() + "/");
    Go(&call);
  }
  for (TestExecute& call : calls) {
    ASSERT_EQ("OK", call.Wait()) << call.error().message;
  }
  EXPECT_EQ(500, served);  // Each call exactly once.
  EXPECT_GE(peer->accepted(), 50);
}

class LimitTest : public Http2BrokerTest {
 protected:
  // All calls share one connection.
  LimitTest() { target_config_.max_connections = 1; }
};

TEST_F(LimitTest, LoweringTheStreamLimitInFlightFailsNoCall) {
  ScriptedPeer peer({.tls = Cert(), .alpn = "h2"}, [&](PeerConnection& c) {
    Http2Peer h2({.max_streams = 128});
    std::vector<StreamId> held;
    h2.on_end = [&](StreamId id) { held.push_back(id); };
    const std::vector<int> limits = {10, 1, 0, 3, 128};
    size_t step = 0;
    c.Write(h2.TakeOutput());
    for (;;) {
      const std::string input = c.ReadSome();
      if (input.empty() || !h2.Feed(input)) return;
      // Sends the new limit while streams are open; these are answered once it
      // is acknowledged or further requests have arrived.
      if (step < limits.size() && !held.empty()) {
        h2.SetMaxStreams(limits[step++]);
        c.Write(h2.TakeOutput());
      }
      for (const StreamId id : held) {
        if (!h2.requests[id].reset) Echo(h2, id, h2.requests[id]);
      }
      held.clear();
      c.Write(h2.TakeOutput());
      if (step > 0 && step < limits.size() && limits[step - 1] == 0 &&
          h2.open() == 0) {
        h2.SetMaxStreams(limits[step++]);
        c.Write(h2.TakeOutput());
      }
    }
  });
  std::list<TestExecute> calls(600);
  for (TestExecute& call : calls) Send(&call, peer);
  ExpectAllFine(&calls);
}

TEST_F(LimitTest, CallerWhoWantsAnUnusedConnectionIsServedUnderLoad) {
  const auto peer = Serve(Echo);
  std::atomic<bool> stop{false};
  std::vector<std::thread> load;
  for (int i = 0; i < 2; ++i) {
    load.emplace_back([&] {
      // Each call begins before the previous one has ended.
      auto before = Execute(*peer);
      while (!stop) {
        auto next = Execute(*peer);
        EXPECT_EQ("OK", before->Wait());
        before = std::move(next);
      }
      EXPECT_EQ("OK", before->Wait());
    });
  }
  ASSERT_TRUE(Eventually([](const pool::Snapshot& now) {
    return !now.targets.empty() && now.targets[0].leases > 0;
  }));
  TestAcquire choosy;
  choosy.request.set_target(peer->target());
  choosy.request.set_reuse(v1::REUSE_FORCE_NEW);
  Go(&choosy);
  EXPECT_EQ("OK", choosy.Wait());
  stop = true;
  for (std::thread& thread : load) thread.join();
  EXPECT_FALSE(choosy.response.connection().reused());
  EXPECT_EQ("OK", Release(choosy.response.lease().lease_id()));
}

TEST_F(Http2BrokerTest, BrokenReportEndsItsCallAndLeavesTheOthers) {
  std::atomic<int> asked{0};
  const auto peer =
      Serve([&](Http2Peer& p, StreamId id, const Http2Peer::Asked& request) {
        ++asked;
        if (request.Get(":path") == "/hold") return;
        Echo(p, id, request);
      });
  const auto lease = Acquire(peer->target());
  ASSERT_EQ("OK", lease->Wait());
  const std::string id = lease->response.lease().lease_id();
  TestExecute held;
  TestExecute other;
  held.request.set_lease_id(id);
  Send(&held, *peer, "/hold");
  Send(&other, *peer, "/hold");
  ASSERT_TRUE(Eventually([&](const pool::Snapshot&) { return asked == 2; }));
  EXPECT_EQ("OK", Release(id, v1::OUTCOME_BROKEN));
  EXPECT_EQ("UPSTREAM_RESET", held.Wait());
  EXPECT_EQ("ALREADY", Release(id));
  EXPECT_FALSE(other.done());
  EXPECT_EQ("OK", Execute(*peer)->Wait());
  EXPECT_EQ(1, peer->accepted());
  other.call->Cancel();
  EXPECT_EQ("CANCELLED", other.Wait());
}

}  // namespace
}  // namespace hotline::server
