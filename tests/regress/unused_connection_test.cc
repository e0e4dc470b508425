// A server's idle timeout counted as a desynchronized connection.
//
// HAProxy, by default, sends "408 Request Timeout" before it closes a
// connection without requests. Those bytes were counted as unsolicited: three
// times within five minutes, and connections to that upstream were not reused
// for another five.
//
// Bytes on a connection that has answered nothing yet cannot be the end of an
// answer: they end that connection only. Bytes after an answer count as before.
#include <atomic>
#include <string>
#include <thread>

#include "tests/server/broker/broker_fixture.h"

namespace hotline::server {
namespace {

using testing::OkResponse;
using testing::PeerConnection;
using testing::ScriptedPeer;

constexpr int kTimes = 4;  // More than pool.desync_limit.

class UnusedConnectionTest : public BrokerTest {
 protected:
  // What becomes of such a dial is another question.
  UnusedConnectionTest() { target_config_.breaker_failures = 0; }

  uint64_t Unsolicited() {
    uint64_t sum = 0;
    for (const auto& [target, counters] : upstream_->TargetCounters()) {
      sum += counters.unsolicited_bytes;
    }
    return sum;
  }
};

TEST_F(UnusedConnectionTest,
       FirstBytesOnAnUnusedConnectionCloseItAndReuseGoesOn) {
  for (const std::string& said :
       {std::string("HTTP/1.1 408 Request Time-out\r\nContent-length: 110\r\n"
                    "Cache-Control: no-cache\r\nConnection: close\r\n\r\n"),
        OkResponse("not asked for"), std::string("220 mail.example\r\n"),
        std::string("\0", 1)}) {
    SCOPED_TRACE(said);
    std::atomic<int> go{0};
    ScriptedPeer peer([&](PeerConnection& connection) {
      if (connection.index() < kTimes) {
        while (go <= connection.index()) std::this_thread::yield();
        connection.Write(said);
        connection.Close();
        return;
      }
      while (!connection.ReadRequest().empty()) {
        connection.Write(OkResponse("fine"));
      }
    });
    for (int i = 0; i < kTimes; ++i) {
      const auto lease = Acquire(peer.target());
      ASSERT_EQ("OK", lease->Wait());
      ++go;
      ASSERT_TRUE(Eventually([&](const pool::Snapshot& now) {
        for (const pool::TargetRow& row : now.targets) {
          if (row.target != peer.target()) continue;
          return row.counters
                     .closed[static_cast<int>(pool::CloseReason::kPeerClosed)] >
                 static_cast<uint64_t>(i);
        }
        return false;
      }));
      Release(lease->response.lease().lease_id());
    }
    EXPECT_EQ(0u, Unsolicited());
    ASSERT_EQ("OK", Execute(peer)->Wait());
    const auto again = Execute(peer);
    ASSERT_EQ("OK", again->Wait());
    EXPECT_TRUE(again->response.receipt().connection().reused());
  }
}

}  // namespace
}  // namespace hotline::server
