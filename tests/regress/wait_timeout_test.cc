// A wait timeout that crashes.
//
// In the ancestor a caller waited on a condition variable on its own stack, and
// the queue held a pointer to it. When the wait timed out, the caller returned,
// the pointer stayed, and the next release notified a dead stack frame.
//
// Here a waiter is a record of the pool and ends exactly once: by a grant, its
// deadline or its owner. The test makes the three coincide.
#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "tests/server/broker/broker_fixture.h"

namespace hotline::server {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using testing::AlwaysAnswer;
using testing::OkResponse;
using testing::ScriptedPeer;

class WaitTimeoutTest : public BrokerTest {
 protected:
  WaitTimeoutTest() { target_config_.max_connections = 1; }

  std::unique_ptr<TestAcquire> AcquireWithin(const std::string& target,
                                             Duration most) {
    auto call = std::make_unique<TestAcquire>();
    call->request.set_target(target);
    call->request.mutable_max_wait()->set_nanos(
        static_cast<int32_t>(most.count()));
    Go(call.get());
    return call;
  }
};

TEST_F(WaitTimeoutTest, AReturnAfterTheTimeoutIsHarmless) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("x")));
  auto held = Acquire(peer.target());
  ASSERT_EQ(held->Wait(), "OK");
  for (int i = 0; i < 50; ++i) {
    // Gone with the call, as the frame was.
    auto waiting = AcquireWithin(peer.target(), microseconds(200));
    ASSERT_EQ(waiting->Wait(), "WAIT_TIMEOUT");
    EXPECT_EQ(waiting->error().code, absl::StatusCode::kDeadlineExceeded);
  }
  EXPECT_EQ(Look().targets[0].waiters, 0);
  EXPECT_EQ(Release(held->response.lease().lease_id()), "OK");
  auto next = Execute(peer);
  ASSERT_EQ(next->Wait(), "OK");
  EXPECT_EQ(next->response.receipt().connection().connection_id(),
            held->response.connection().connection_id());
}

TEST_F(WaitTimeoutTest, HundredsOfTimeoutsRaceWithReturns) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("x")));
  std::atomic<int> served{0};
  std::atomic<int> timed_out{0};
  std::atomic<int> other{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 300; ++i) {
        // About as long as the others hold it, so that both ends are likely.
        auto call = AcquireWithin(peer.target(),
                                  microseconds(20 + 30 * ((i + t) % 10)));
        const std::string outcome = call->Wait();
        if (outcome == "OK") {
          ++served;
          const Instant until = MonotonicNow() + microseconds(50);
          while (MonotonicNow() < until) std::this_thread::yield();
          Release(call->response.lease().lease_id());
        } else {
          ++(outcome == "WAIT_TIMEOUT" ? timed_out : other);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(other, 0);
  EXPECT_EQ(served + timed_out, 1200);
  EXPECT_GT(served, 0);
  EXPECT_GT(timed_out, 0);
  const pool::TargetRow row = Look().targets[0];
  EXPECT_EQ(row.counters.granted, static_cast<uint64_t>(served));
  EXPECT_EQ(
      row.counters.rejected[static_cast<int>(pool::RejectReason::kWaitTimeout)],
      static_cast<uint64_t>(timed_out));
  EXPECT_EQ(Execute(peer)->Wait(), "OK");
}

}  // namespace
}  // namespace hotline::server
