// A deadlock on returning a broken connection.
//
// The ancestor's return took the pool's lock, saw that the connection was
// unhealthy, and called the function that removes it, which took the same lock.
// The first broken connection that was returned stopped the pool for ever.
//
// Here events are decided under the lock and carried out after it. Connections
// are returned as broken in every possible way, with waiters, from many
// threads. "STUCK" is the result of a call that never ends.
#include <atomic>
#include <thread>
#include <vector>

#include "tests/server/broker/broker_fixture.h"

namespace hotline::server {
namespace {

using testing::AlwaysAnswer;
using testing::OkResponse;
using testing::PeerConnection;
using testing::ScriptedPeer;

class BrokenReturnTest : public BrokerTest {
 protected:
  BrokenReturnTest() { target_config_.max_connections = 2; }
};

TEST_F(BrokenReturnTest, TheNextInLineGetsANewConnection) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("x")));
  auto first = Acquire(peer.target());
  auto second = Acquire(peer.target());
  ASSERT_EQ(first->Wait(), "OK");
  ASSERT_EQ(second->Wait(), "OK");
  auto third = Execute(peer);
  auto fourth = Execute(peer);
  EXPECT_EQ(Release(first->response.lease().lease_id(), v1::OUTCOME_BROKEN),
            "OK");
  EXPECT_EQ(Release(second->response.lease().lease_id(), v1::OUTCOME_DISCARD),
            "OK");
  EXPECT_EQ(third->Wait(), "OK");
  EXPECT_EQ(fourth->Wait(), "OK");
}

TEST_F(BrokenReturnTest, AConnectionThatDiedOnLeaseIsNotLentAgain) {
  std::atomic<bool> hang_up{false};
  ScriptedPeer peer([&](PeerConnection& connection) {
    if (connection.index() == 0) {
      while (!hang_up) std::this_thread::yield();
      return connection.Reset();
    }
    AlwaysAnswer(OkResponse("x"))(connection);
  });
  target_config_.max_connections = 1;
  auto lease = Acquire(peer.target());
  ASSERT_EQ(lease->Wait(), "OK");
  auto waiting = Execute(peer, "POST");
  hang_up = true;
  // Given back as if nothing had happened; whether the pool has heard of the
  // reset by then or not.
  EXPECT_EQ(Release(lease->response.lease().lease_id()), "OK");
  const std::string outcome = waiting->Wait();
  // A POST on it may be lost with it, but it must not hang.
  EXPECT_TRUE(outcome == "OK" || outcome == "UPSTREAM_RESET") << outcome;
  EXPECT_EQ(Execute(peer)->Wait(), "OK");
}

TEST_F(BrokenReturnTest, AnyMixtureOfReturnsFromAnyThreadGoesOn) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("x")));
  constexpr v1::Outcome kOutcomes[] = {v1::OUTCOME_OK, v1::OUTCOME_BROKEN,
                                       v1::OUTCOME_DISCARD};
  std::atomic<int> stuck{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 150 && stuck == 0; ++i) {
        auto lease = Acquire(peer.target());
        if (lease->Wait() != "OK" || Release(lease->response.lease().lease_id(),
                                             kOutcomes[(i + t) % 3]) != "OK") {
          ++stuck;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(stuck, 0);
  EXPECT_EQ(Look().targets[0].counters.granted, 600u);
  const auto closed = [](const pool::Snapshot& snapshot,
                         pool::CloseReason reason) {
    return snapshot.targets[0].counters.closed[static_cast<int>(reason)];
  };
  // The last ones may still be closing.
  EXPECT_TRUE(Eventually([&](const pool::Snapshot& snapshot) {
    return closed(snapshot, pool::CloseReason::kBroken) == 200 &&
           closed(snapshot, pool::CloseReason::kDiscarded) == 200;
  }));
}

}  // namespace
}  // namespace hotline::server
