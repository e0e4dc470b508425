// Bytes that are not UTF-8 in a `string` of a reply.
//
// An upstream chose a protocol named FF FE by ALPN; the name became part of the
// dial's error, the error a field of Stats, and protobuf rejects a message with
// such a field as a whole: Stats could not be read for any target. The
// `traceparent` of a caller did the same to the lease statistics and to the
// errors of other waiters; an error message truncated in the middle of a
// character, to every error with a long one.
//
// Now every string of a reply is made UTF-8 where it is set (and
// tests/rooms_test.py finds places that forget it), so that each reply can be
// read, whatever it quotes.
#include <string>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "tests/server/broker/broker_fixture.h"

namespace hotline::server {
namespace {

using testing::CertFiles;
using testing::OkResponse;
using testing::PeerConnection;
using testing::ScriptedPeer;
using testing::TestCa;

const std::string kBytes = "\xff\xfe\x80z\xc3";

// As over the wire. False: the receiver rejects it.
template <typename Message>
bool CanBeRead(const Message& message) {
  Message received;
  return received.ParseFromString(message.SerializeAsString());
}

// An error as callers get it, with all its details.
bool CanBeRead(const Error& error) {
  google::rpc::Status status;
  FillStatus(error, &status);
  google::rpc::Status received;
  if (!received.ParseFromString(status.SerializeAsString())) return false;
  for (const auto& detail : received.details()) {
    google::rpc::ErrorInfo info;
    google::rpc::BadRequest bad;
    v1::WaitExplanation wait;
    if (detail.Is<google::rpc::ErrorInfo>() && !detail.UnpackTo(&info)) {
      return false;
    }
    if (detail.Is<google::rpc::BadRequest>() && !detail.UnpackTo(&bad)) {
      return false;
    }
    if (detail.Is<v1::WaitExplanation>() && !detail.UnpackTo(&wait)) {
      return false;
    }
  }
  return true;
}

class ForeignBytesTest : public BrokerTest {
 protected:
  ForeignBytesTest() { upstream_options_.ca_file = Ca().cert(); }

  static const TestCa& Ca() {
    static const auto* const ca = new TestCa("trusted");
    return *ca;
  }

  v1::StatsResponse Stats(v1::StatsView view) {
    v1::StatsRequest request;
    request.set_view(view);
    v1::StatsResponse response;
    CallContext context;
    context.arrival = MonotonicNow();
    EXPECT_EQ(broker_->Stats(request, &response, context), nullptr);
    return response;
  }
  void ExpectReadableStats() {
    for (int view = v1::STATS_VIEW_SUMMARY; view <= v1::STATS_VIEW_LEASES;
         ++view) {
      EXPECT_TRUE(CanBeRead(Stats(static_cast<v1::StatsView>(view)))) << view;
    }
  }
};

TEST_F(ForeignBytesTest, AnAlpnNameOfAnUpstreamLeavesStatsReadable) {
  ScriptedPeer::Options options;
  options.tls = Ca().Issue("good", "DNS:localhost");
  options.alpn = kBytes;
  ScriptedPeer peer(options, [](PeerConnection& peer) { peer.AwaitClose(); });
  auto call = Acquire(peer.target());
  EXPECT_EQ(call->Wait(), "ALPN_MISMATCH");
  EXPECT_TRUE(CanBeRead(call->error()));
  const v1::StatsResponse stats = Stats(v1::STATS_VIEW_TARGETS);
  ASSERT_EQ(stats.targets_size(), 1);
  EXPECT_NE(stats.targets(0).last_dial_error().find("\\xff\\xfe\\x80z\\xc3"),
            std::string::npos)
      << stats.targets(0).last_dial_error();
  ExpectReadableStats();
}

TEST_F(ForeignBytesTest, ATraceparentLeavesStatsAndErrorsReadable) {
  target_config_.max_connections = 1;
  ScriptedPeer peer([](PeerConnection& peer) { peer.AwaitClose(); });
  TestAcquire first;
  first.request.set_target(peer.target());
  ASSERT_EQ(Go(&first, std::chrono::seconds(20), kBytes)->Wait(), "OK");
  ExpectReadableStats();
  // The one who waits in vain is told who holds it.
  TestAcquire second;
  second.request.set_target(peer.target());
  second.request.mutable_max_wait()->set_nanos(1'000'000);
  ASSERT_EQ(Go(&second)->Wait(), "WAIT_TIMEOUT");
  ASSERT_NE(second.error().wait, nullptr);
  EXPECT_EQ(second.error().wait->oldest_holders_size(), 1);
  EXPECT_TRUE(CanBeRead(second.error()));
  EXPECT_EQ(Release(first.response.lease().lease_id()), "OK");
}

TEST_F(ForeignBytesTest, HeadersAndReasonsOfAnAnswerLeaveItReadable) {
  ScriptedPeer peer([](PeerConnection& peer) {
    peer.ReadRequest();
    peer.Write("HTTP/1.1 200 " + kBytes + "\r\nX-A: " + kBytes +
               "\r\nKeep-Alive: " + kBytes + "\r\nRetry-After: " + kBytes +
               "\r\nContent-Length: 1\r\n\r\nx");
    peer.AwaitClose();
  });
  auto call = Execute(peer);
  const std::string outcome = call->Wait();
  if (outcome == "OK") {
    EXPECT_TRUE(CanBeRead(call->response));
  } else {
    EXPECT_TRUE(CanBeRead(call->error())) << outcome;
  }
  ExpectReadableStats();
}

TEST_F(ForeignBytesTest, AnswersThatAreNoHttpLeaveTheirErrorsReadable) {
  for (const std::string& answer :
       {kBytes, "HTTP/1.1 200 OK\r\n" + kBytes + ": x\r\n\r\n",
        "HTTP/" + kBytes + " 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + kBytes + "\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: " + kBytes + "\r\n\r\n"}) {
    ScriptedPeer peer([&](PeerConnection& peer) {
      peer.ReadRequest();
      peer.Write(answer + "\r\n\r\n");
    });
    auto call = Execute(peer, "POST");
    ASSERT_NE(call->Wait(), "OK");
    EXPECT_TRUE(CanBeRead(call->error()));
  }
  ExpectReadableStats();
}

TEST(ForeignBytesInErrorsTest, EveryPartOfAnErrorIsMadeReadable) {
  ErrorPtr error = MakeError("UPSTREAM_RESET", "m" + kBytes);
  error->field = "f" + kBytes;
  error->metadata.emplace_back("k" + kBytes, "v" + kBytes);
  EXPECT_TRUE(CanBeRead(*error));
}

TEST(ForeignBytesInErrorsTest, ALongDialErrorIsCutBetweenCharacters) {
  pool::Rejection rejection;
  rejection.reason = pool::RejectReason::kQueueFull;
  for (int before = 0; before < 3; ++before) {
    rejection.last_dial_error = std::string(before, 'x');
    while (rejection.last_dial_error.size() < 600) {
      rejection.last_dial_error += "\u65e5";
    }
    const ErrorPtr error = FromRejection("http://a:80", rejection);
    ASSERT_TRUE(CanBeRead(*error));
    const std::string& text = error->wait->last_dial_error();
    EXPECT_TRUE(rejection.last_dial_error.starts_with(text)) << text;
    EXPECT_GT(text.size(), 500u);
  }
}

TEST(ForeignBytesInErrorsTest, EveryWordOfAHolderIsMadeReadable) {
  v1::Holder holder;
  FillHolder({.client_id = kBytes, .purpose = kBytes, .trace = kBytes},
             &holder);
  EXPECT_TRUE(CanBeRead(holder));
}

}  // namespace
}  // namespace hotline::server
