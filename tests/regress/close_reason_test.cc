// Deadlines and cancels counted as upstream errors.
//
// An HTTP/1.1 connection is closed when its call ends before the answer does.
// It was counted as closed for "error", as if the upstream had broken it,
// although the caller's deadline had passed or the caller had gone: alerts on
// failing upstreams fired because of impatient callers.
//
// Now both have a close reason of their own.
#include <atomic>
#include <memory>
#include <string>

#include "tests/server/broker/broker_fixture.h"

namespace hotline::server {
namespace {

using pool::CloseReason;
using testing::PeerConnection;
using testing::ScriptedPeer;

class CloseReasonTest : public BrokerTest {
 protected:
  // Whether one connection has closed, and why.
  bool ClosedFor(CloseReason reason) {
    return Eventually([reason](const pool::Snapshot& snapshot) {
      if (snapshot.targets.empty()) return false;
      const auto& closed = snapshot.targets[0].counters.closed;
      uint64_t all = 0;
      for (const uint64_t count : closed) all += count;
      return all == 1 && closed[static_cast<int>(reason)] == 1;
    });
  }
};

void ReadAndSayNothing(PeerConnection& connection) {
  connection.ReadRequest();
  connection.AwaitClose();
}

void BeginToAnswer(PeerConnection& connection) {
  connection.ReadRequest();
  connection.Write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
  connection.AwaitClose();
}

TEST_F(CloseReasonTest, ADeadlineIsNotCountedAsAnError) {
  ScriptedPeer peer(ReadAndSayNothing);
  EXPECT_EQ(Execute(peer, "POST", std::chrono::seconds(2))->Wait(),
            "UPSTREAM_TIMEOUT");
  EXPECT_TRUE(ClosedFor(CloseReason::kDeadline));
}

TEST_F(CloseReasonTest, ADeadlineWithinTheAnswerIsNotCountedAsAnError) {
  ScriptedPeer peer(BeginToAnswer);
  EXPECT_EQ(Execute(peer, "POST", std::chrono::seconds(2))->Wait(),
            "UPSTREAM_TIMEOUT");
  EXPECT_TRUE(ClosedFor(CloseReason::kDeadline));
}

TEST_F(CloseReasonTest, ACancelledCallIsNotCountedAsAnError) {
  std::atomic<bool> read{false};
  ScriptedPeer peer([&read](PeerConnection& connection) {
    connection.ReadRequest();
    read = true;
    connection.AwaitClose();
  });
  auto call = Execute(peer);
  ASSERT_TRUE(Eventually([&](const pool::Snapshot&) { return read.load(); }));
  call->call->Cancel();
  EXPECT_EQ(call->Wait(), "CANCELLED");
  EXPECT_TRUE(ClosedFor(CloseReason::kCancelled));
}

TEST_F(CloseReasonTest, ABrokenOffAnswerIsCountedAsAnError) {
  ScriptedPeer peer([](PeerConnection& connection) {
    connection.ReadRequest();
    connection.Reset();
  });
  EXPECT_EQ(Execute(peer, "POST")->Wait(), "UPSTREAM_RESET");
  EXPECT_TRUE(ClosedFor(CloseReason::kError));
}

}  // namespace
}  // namespace hotline::server
