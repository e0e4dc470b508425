// Statistics that are always zero.
//
// The ancestor had a page of counters. They were declared, printed and reset,
// but never incremented; an operator saw zeros while the pool dropped every
// second call.
//
// Here the test makes everything that Stats reports happen a known number of
// times. A field that stays at zero fails, also one that is added later: the
// test iterates over the message's descriptor.
#include <atomic>
#include <string>
#include <thread>

#include "tests/server/broker/broker_fixture.h"

namespace hotline::server {
namespace {

using std::chrono::milliseconds;
using testing::OkResponse;
using testing::PeerConnection;
using testing::ScriptedPeer;

class StatisticsTest : public BrokerTest {
 protected:
  StatisticsTest() { target_config_.max_connections = 2; }

  v1::StatsResponse Stats(v1::StatsView view) {
    v1::StatsRequest request;
    request.set_view(view);
    v1::StatsResponse response;
    CallContext context;
    context.arrival = MonotonicNow();
    EXPECT_EQ(broker_->Stats(request, &response, context), nullptr);
    return response;
  }
};

// The names of the numbers in `message` that are zero.
std::string Zeros(const google::protobuf::Message& message) {
  const auto* reflection = message.GetReflection();
  std::string zeros;
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const auto* field = message.GetDescriptor()->field(i);
    if (field->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_INT64 &&
        reflection->GetInt64(message, field) == 0) {
      zeros += field->name() + " ";
    }
  }
  return zeros;
}

// Serves one request for each connection, except for "/slow", which it serves
// when told to.
struct Server {
  std::atomic<bool> go{false};
  void operator()(PeerConnection& connection) {
    for (;;) {
      const std::string request = connection.ReadRequest();
      if (request.empty()) return;
      if (request.find(" /cut ") != std::string::npos) {
        return connection.Close();
      }
      if (request.find(" /slow ") != std::string::npos) {
        while (!go) std::this_thread::yield();
      }
      connection.Write(OkResponse("x"));
    }
  }
};

TEST_F(StatisticsTest, EveryCounterCounts) {
  Server server;
  ScriptedPeer peer([&](PeerConnection& c) { server(c); });
  const std::string target = peer.target();

  ASSERT_EQ(Execute(peer)->Wait(), "OK");  // Dialled.
  ASSERT_EQ(Execute(peer)->Wait(), "OK");  // Reused.
  TestExecute cut;                         // Fails, and closes.
  cut.request.set_url(target + "/cut");
  cut.request.set_method("POST");
  ASSERT_EQ(Go(&cut)->Wait(), "UPSTREAM_RESET");
  {  // Lost with its session.
    auto lease = Acquire(target);
    ASSERT_EQ(lease->Wait(), "OK");
    broker_->Reclaim({*DecodeLeaseId(lease->response.lease().lease_id())},
                     MonotonicNow());
  }
  {  // Expires.
    TestAcquire lease;
    lease.request.set_target(target);
    lease.request.mutable_lease_ttl()->set_nanos(1'000'000);
    ASSERT_EQ(Go(&lease)->Wait(), "OK");
    ASSERT_TRUE(Eventually([](const pool::Snapshot& snapshot) {
      return snapshot.targets[0].counters.leases_expired == 1;
    }));
  }
  {  // Refused.
    TestAcquire refused;
    refused.request.set_target(target);
    refused.request.set_reuse(v1::REUSE_REQUIRE_WARM);
    ASSERT_EQ(Go(&refused)->Wait(), "NO_IDLE_CONNECTION");
  }
  {  // Not dialled.
    TestExecute nobody;
    nobody.request.set_url("http://127.0.0.1:1/");
    nobody.request.mutable_retry()->set_max_attempts(1);
    ASSERT_EQ(Go(&nobody)->Wait(), "CONNECT_FAILED");
  }
  const v1::Counters counters =
      Stats(v1::STATS_VIEW_SUMMARY).totals().counters();
  EXPECT_EQ(Zeros(counters), "") << counters.DebugString();
  EXPECT_EQ(counters.acquires(), 7);
  EXPECT_EQ(counters.reused(), 3);
  EXPECT_EQ(counters.acquire_failures(), 2);
  EXPECT_EQ(counters.dials(), 3);
  EXPECT_EQ(counters.dial_failures(), 1);
  EXPECT_EQ(counters.opened(), 2);
  EXPECT_EQ(counters.closed(), 2);
  EXPECT_EQ(counters.leases_expired(), 1);
  EXPECT_EQ(counters.leases_reclaimed(), 1);
  EXPECT_EQ(counters.executes(), 4);
  EXPECT_EQ(counters.execute_failures(), 2);
}

TEST_F(StatisticsTest, GaugesShowWorkInProgress) {
  Server server;
  ScriptedPeer peer([&](PeerConnection& c) { server(c); });
  TestExecute slow;
  slow.request.set_url(peer.target() + "/slow");
  Go(&slow);
  ASSERT_TRUE(Eventually([](const pool::Snapshot& snapshot) {
    return !snapshot.targets.empty() && snapshot.targets[0].leases == 1;
  }));
  auto lease = Acquire(peer.target());
  ASSERT_EQ(lease->Wait(), "OK");
  auto waiting = Execute(peer);

  const v1::StatsResponse now = Stats(v1::STATS_VIEW_TARGETS);
  ASSERT_EQ(now.targets_size(), 1);
  const v1::TargetStats& target = now.targets(0);
  EXPECT_EQ(target.connections().leased(), 2);
  EXPECT_EQ(target.connections().idle(), 0);
  EXPECT_EQ(target.max_connections(), 2);
  EXPECT_EQ(target.waiters(), 1);
  EXPECT_GT(target.oldest_wait().nanos(), 0);
  EXPECT_EQ(target.leases(), 2);
  EXPECT_GT(target.acquire_wait().count(), 0);
  EXPECT_GT(target.acquire_wait().p99().nanos(), 0);
  EXPECT_EQ(now.totals().targets(), 1);
  EXPECT_EQ(now.totals().waiters(), 1);
  EXPECT_EQ(now.totals().max_connections(), 100);

  const v1::StatsResponse leases = Stats(v1::STATS_VIEW_LEASES);
  ASSERT_EQ(leases.leases_size(), 2);
  EXPECT_GT(leases.leases(0).age().nanos(), 0);
  const v1::StatsResponse connections = Stats(v1::STATS_VIEW_CONNECTIONS);
  ASSERT_EQ(connections.connections_size(), 2);
  EXPECT_EQ(connections.connections(0).active(), 1);
  EXPECT_EQ(connections.connections(0).limit(), 1);
  EXPECT_GT(connections.connections(0).age().nanos(), 0);

  server.go = true;
  EXPECT_EQ(slow.Wait(), "OK");
  EXPECT_EQ(waiting->Wait(), "OK");
  EXPECT_EQ(Release(lease->response.lease().lease_id()), "OK");
}

}  // namespace
}  // namespace hotline::server
