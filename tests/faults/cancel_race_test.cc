// Callers who leave at the very moment at which they are served.
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/server/broker/broker_fixture.h"

namespace hotline::server {
namespace {

using testing::AlwaysAnswer;
using testing::OkResponse;
using testing::PeerConnection;
using testing::ScriptedPeer;

class CancelRaceTest : public BrokerTest {
 protected:
  CancelRaceTest() { target_config_.max_connections = 1; }

  // Passes some nanoseconds, so that the two meet at every point of their way.
  static void Dawdle(int steps) {
    std::atomic<int> at{0};
    while (at.fetch_add(1, std::memory_order_relaxed) < steps) {
    }
  }
};

TEST_F(CancelRaceTest, AHundredThousandCancelsMeetAGrantAndEachHasOneEnd) {
  constexpr int kThreads = 4;
  constexpr int kRaces = 100'000;
  ScriptedPeer peer(AlwaysAnswer(OkResponse("x")));
  const std::string target = peer.target();
  ASSERT_EQ(Execute(peer)->Wait(), "OK");

  std::atomic<int> owners{0};
  std::atomic<int> crowded{0};
  std::atomic<int> granted{0};
  std::atomic<int> cancelled{0};
  std::atomic<int> waited{0};
  std::atomic<int> other{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kRaces / kThreads; ++i) {
        auto call = Acquire(target);
        if (!call->done()) ++waited;
        Dawdle((i * 7 + t) % 400);
        call->call->Cancel();
        const std::string outcome = call->Wait();
        if (outcome == "CANCELLED") {
          ++cancelled;
        } else if (outcome == "OK") {
          ++granted;
          if (owners.fetch_add(1) != 0) ++crowded;
          Dawdle(i % 300);
          --owners;
          if (Release(call->response.lease().lease_id()) != "OK") ++other;
        } else {
          ++other;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(crowded, 0) << "one connection was lent twice";
  EXPECT_EQ(other, 0);
  EXPECT_EQ(granted + cancelled, kRaces);
  // Both ends were met, from the line.
  EXPECT_GT(granted, 100);
  EXPECT_GT(cancelled, 100);
  EXPECT_GT(waited, 100);
  std::printf("%d granted, %d cancelled, %d had to wait\n", granted.load(),
              cancelled.load(), waited.load());

  // The one connection is there, lent to nobody, and works.
  const pool::TargetRow row = Look().targets[0];
  EXPECT_EQ(row.idle, 1);
  EXPECT_EQ(row.waiters, 0);
  EXPECT_EQ(row.leases, 0);
  EXPECT_EQ(Look().connections_reserved, 1);
  EXPECT_EQ(Execute(peer)->Wait(), "OK");
  EXPECT_EQ(peer.accepted(), 1);
}

// The same with the answer on its way: whoever stays gets their own.
TEST_F(CancelRaceTest, ACancelThatMeetsAnAnswerTakesNobodyElses) {
  target_config_.max_connections = 3;
  ScriptedPeer peer([](PeerConnection& connection) {
    for (;;) {
      const std::string request = connection.ReadRequest();
      if (request.empty()) return;
      const size_t path = request.find(' ') + 1;
      connection.Write(
          OkResponse(request.substr(path, request.find(' ', path) - path)));
    }
  });
  std::atomic<int> ok{0};
  std::atomic<int> cancelled{0};
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 500; ++i) {
        const std::string path =
            "/" + std::to_string(t) + "/" + std::to_string(i);
        TestExecute call;
        call.request.set_url(peer.target() + path);
        Go(&call);
        if (i % 2 == 0) {
          Dawdle(i % 50 * 4000);
          call.call->Cancel();
        }
        const std::string outcome = call.Wait();
        if (outcome == "OK" && call.response.body() == path) {
          ++ok;
        } else if (outcome == "CANCELLED" && i % 2 == 0) {
          ++cancelled;
        } else {
          ++wrong;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_GE(ok, 1000);
  EXPECT_GT(cancelled, 10);
  EXPECT_TRUE(Eventually([](const pool::Snapshot& snapshot) {
    return snapshot.targets[0].leases == 0 &&
           snapshot.connections_reserved == snapshot.targets[0].idle;
  }));
}

}  // namespace
}  // namespace hotline::server
