// Limits that were declared but not enforced.
//
// The ancestor had limits on the connections of a host and in all. Both could
// be set, both were printed, and neither was compared with anything: under load
// it opened as many connections as there were callers, until the upstream
// banned its address.
//
// Here every limit is measured at the peer.
#include <algorithm>
#include <chrono>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "tests/server/broker/broker_fixture.h"

namespace hotline::server {
namespace {

using testing::AlwaysAnswer;
using testing::OkResponse;
using testing::PeerConnection;
using testing::ScriptedPeer;

// Counts connections that are open, over any number of peers. One whose client
// has closed it counts no more, even if its script has not noticed that yet.
class Gauge {
 public:
  ScriptedPeer::Script Counting(ScriptedPeer::Script script) {
    return [this, script = std::move(script)](PeerConnection& connection) {
      {
        MutexLock lock(&mu_);
        open_.insert(&connection);
        most_ = std::max<int>(most_, std::ranges::count_if(open_, IsOpen));
      }
      script(connection);
      MutexLock lock(&mu_);
      open_.erase(&connection);
    };
  }
  int most() const {
    MutexLock lock(&mu_);
    return most_;
  }

 private:
  static bool IsOpen(PeerConnection* connection) {
    return connection->Pause(std::chrono::milliseconds(0));
  }

  mutable Mutex mu_;
  std::set<PeerConnection*> open_ ABSL_GUARDED_BY(mu_);
  int most_ ABSL_GUARDED_BY(mu_) = 0;
};

class LimitsTest : public BrokerTest {
 protected:
  LimitsTest() {
    target_config_.max_connections = 3;
    target_config_.max_waiters = 500;
    target_config_.max_dials = 2;
    pool_config_.max_connections = 5;
  }
  // `calls` GETs of every peer, all at once.
  void Flood(const std::vector<std::unique_ptr<ScriptedPeer>>& peers,
             int calls) {
    std::vector<std::unique_ptr<TestExecute>> all;
    for (int i = 0; i < calls; ++i) {
      for (const auto& peer : peers) all.push_back(Execute(*peer));
    }
    for (const auto& call : all) ASSERT_EQ(call->Wait(), "OK");
  }
};

TEST_F(LimitsTest, ATargetNeverExceedsItsConnectionLimit) {
  Gauge gauge;
  std::vector<std::unique_ptr<ScriptedPeer>> peers;
  peers.push_back(std::make_unique<ScriptedPeer>(
      gauge.Counting(AlwaysAnswer(OkResponse("x")))));
  Flood(peers, 200);
  EXPECT_EQ(gauge.most(), 3);
  EXPECT_EQ(peers[0]->accepted(), 3);
}

TEST_F(LimitsTest, AllTargetsTogetherNeverExceedTheTotalLimit) {
  Gauge gauge;
  std::vector<std::unique_ptr<ScriptedPeer>> peers;
  for (int i = 0; i < 4; ++i) {
    peers.push_back(std::make_unique<ScriptedPeer>(
        gauge.Counting(AlwaysAnswer(OkResponse("x")))));
  }
  Flood(peers, 50);
  // Four targets could have twelve.
  EXPECT_LE(gauge.most(), 5);
  EXPECT_GE(gauge.most(), 4);
  EXPECT_LE(Look().connections_reserved, 5);
}

TEST_F(LimitsTest, TheQueueNeverExceedsItsLimit) {
  ScriptedPeer peer([](PeerConnection& connection) {
    connection.ReadRequest();
    connection.AwaitClose();
  });
  std::vector<std::unique_ptr<TestExecute>> calls;
  for (int i = 0; i < 3; ++i) calls.push_back(Execute(peer));
  // Who waits for a dial stands in the line, too.
  ASSERT_TRUE(Eventually([](const pool::Snapshot& snapshot) {
    return snapshot.targets[0].leases == 3;
  }));
  for (int i = 0; i < 500; ++i) calls.push_back(Execute(peer));
  EXPECT_EQ(Look().targets[0].waiters, 500);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(Execute(peer)->Wait(), "QUEUE_FULL");
  EXPECT_EQ(Look().targets[0].waiters, 500);
  for (const auto& call : calls) call->call->Cancel();
  for (const auto& call : calls) EXPECT_EQ(call->Wait(), "CANCELLED");
}

TEST_F(LimitsTest, ConcurrentDialsNeverExceedTheirLimit) {
  static const auto* const ca = new testing::TestCa("limits");
  ScriptedPeer::Options options;
  options.tls = ca->Issue("limits", "DNS:localhost");
  options.handshake = false;  // So that no dial ends.
  ScriptedPeer peer(options, [](PeerConnection&) {});
  std::vector<std::unique_ptr<TestExecute>> calls;
  for (int i = 0; i < 20; ++i) calls.push_back(Execute(peer));
  ASSERT_TRUE(
      Eventually([&](const pool::Snapshot&) { return peer.accepted() == 2; }));
  const pool::TargetRow row = Look().targets[0];
  EXPECT_EQ(row.connections[static_cast<int>(pool::ConnState::kDialing)], 2);
  EXPECT_EQ(row.waiters, 20);
  for (const auto& call : calls) call->call->Cancel();
  for (const auto& call : calls) EXPECT_EQ(call->Wait(), "CANCELLED");
  EXPECT_EQ(peer.accepted(), 2);
}

TEST_F(LimitsTest, ALoweredLimitIsReachedWithoutBreakingLeases) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("x")));
  std::vector<std::string> held;
  for (int i = 0; i < 3; ++i) {
    auto lease = Acquire(peer.target());
    ASSERT_EQ(lease->Wait(), "OK");
    held.push_back(lease->response.lease().lease_id());
  }
  target_config_.max_connections = 1;
  pool_->Reconfigure(pool_config_, MonotonicNow());
  EXPECT_EQ(Look().targets[0].leases, 3);
  auto waiting = Execute(peer);
  EXPECT_EQ(Release(held[0]), "OK");
  EXPECT_EQ(Release(held[1]), "OK");
  // Two gave theirs back; one is still too many for another.
  ASSERT_TRUE(Eventually([](const pool::Snapshot& snapshot) {
    return snapshot.connections_reserved == 1;
  }));
  EXPECT_FALSE(waiting->done());
  EXPECT_EQ(Release(held[2]), "OK");
  EXPECT_EQ(waiting->Wait(), "OK");
}

}  // namespace
}  // namespace hotline::server
