// A probe racing with a borrower.
//
// The ancestor's checker requested "/" on every connection to see whether it
// was alive, even on a connection that was lent. Two requests then shared a
// connection, and the borrower got the answer of the probe.
//
// Here a probe reserves its connection as a caller does: the state is kProbing,
// and it is not granted. A caller that arrives meanwhile gets another one.
#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "tests/server/broker/broker_fixture.h"

namespace hotline::server {
namespace {

using std::chrono::milliseconds;
using testing::OkResponse;
using testing::PeerConnection;
using testing::ScriptedPeer;

class ProbeTest : public BrokerTest {
 protected:
  ProbeTest() {
    target_config_.check_interval = milliseconds(5);
    target_config_.max_connections = 4;
  }
  int Probing() {
    return Look()
        .targets[0]
        .connections[static_cast<int>(pool::ConnState::kProbing)];
  }
};

bool IsProbe(const std::string& request) {
  return request.compare(0, 7, "HEAD / ") == 0;
}

constexpr char kHeadAnswer[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";

TEST_F(ProbeTest, AConnectionUnderProbeIsNotLent) {
  std::atomic<bool> answer_probes{false};
  std::atomic<int> probes{0};
  ScriptedPeer peer([&](PeerConnection& connection) {
    for (;;) {
      const std::string request = connection.ReadRequest();
      if (request.empty()) return;
      if (!IsProbe(request)) {
        connection.Write(OkResponse(std::to_string(connection.index())));
        continue;
      }
      ++probes;
      while (!answer_probes) std::this_thread::yield();
      connection.Write(kHeadAnswer);
    }
  });
  ASSERT_EQ(Execute(peer)->Wait(), "OK");
  // It rests, is checked, and its check gets no answer for now.
  ASSERT_TRUE(Eventually([&](const pool::Snapshot&) { return probes == 1; }));
  EXPECT_EQ(Probing(), 1);
  auto lease = Acquire(peer.target());
  ASSERT_EQ(lease->Wait(), "OK");
  EXPECT_FALSE(lease->response.connection().reused());
  // The peer may come to accept it after we have it.
  EXPECT_TRUE(
      Eventually([&](const pool::Snapshot&) { return peer.accepted() == 2; }));
  EXPECT_EQ(Probing(), 1);
  answer_probes = true;
  ASSERT_TRUE(Eventually([](const pool::Snapshot& snapshot) {
    return snapshot.targets[0].counters.probes_passed >= 1;
  }));
  EXPECT_EQ(Release(lease->response.lease().lease_id()), "OK");
}

TEST_F(ProbeTest, ALeasedConnectionIsNotProbed) {
  std::atomic<int> probes{0};
  ScriptedPeer peer([&](PeerConnection& connection) {
    for (;;) {
      const std::string request = connection.ReadRequest();
      if (request.empty()) return;
      probes += IsProbe(request) ? 1 : 0;
      connection.Write(IsProbe(request) ? kHeadAnswer : OkResponse("x"));
    }
  });
  auto lease = Acquire(peer.target());
  ASSERT_EQ(lease->Wait(), "OK");
  // A second one rests beside it and is checked; the one that is lent is not,
  // though it has been silent for just as long.
  ASSERT_EQ(Execute(peer)->Wait(), "OK");
  ASSERT_TRUE(Eventually([&](const pool::Snapshot& snapshot) {
    return snapshot.targets[0].counters.probes_passed >= 5;
  }));
  const std::string id = lease->response.lease().lease_id();
  TestExecute call;
  call.request.set_lease_id(id);
  call.request.set_url(peer.target() + "/");
  ASSERT_EQ(Go(&call)->Wait(), "OK");
  EXPECT_EQ(call.response.body(), "x");
  EXPECT_EQ(Release(id), "OK");
}

// Thousands of checks among thousands of calls: everybody gets their own
// answer, and a check's answer gets to nobody.
TEST_F(ProbeTest, ProbesAndCallsNeverMixTheirAnswers) {
  target_config_.check_interval = std::chrono::microseconds(100);
  std::atomic<int> probes{0};
  ScriptedPeer peer([&](PeerConnection& connection) {
    for (;;) {
      const std::string request = connection.ReadRequest();
      if (request.empty()) return;
      if (IsProbe(request)) {
        ++probes;
        connection.Write(kHeadAnswer);
        continue;
      }
      const size_t path = request.find(' ') + 1;
      connection.Write(
          OkResponse(request.substr(path, request.find(' ', path) - path)));
    }
  });
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 500; ++i) {
        const std::string path =
            "/" + std::to_string(t) + "/" + std::to_string(i);
        TestExecute call;
        call.request.set_url(peer.target() + path);
        if (Go(&call)->Wait() != "OK" || call.response.body() != path) ++wrong;
        // Some rest long enough to fall due.
        const Instant until =
            MonotonicNow() + std::chrono::microseconds(i % 4 * 100);
        while (MonotonicNow() < until) std::this_thread::yield();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(probes, 10);
  EXPECT_EQ(Look().targets[0].counters.probes_failed, 0u);
}

}  // namespace
}  // namespace hotline::server
