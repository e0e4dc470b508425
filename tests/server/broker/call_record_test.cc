// What an observer is told of calls.
#include "server/broker/call_record.h"

#include <mutex>
#include <string>
#include <vector>

#include "tests/server/broker/broker_fixture.h"

namespace hotline::server {
namespace {

using testing::AlwaysAnswer;
using testing::OkResponse;
using testing::PeerConnection;
using testing::ScriptedPeer;

constexpr char kCaller[] =
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
constexpr char kSpan[] =
    "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";

// Keeps copies. Calls with a traceparent get the span kSpan.
class Observer : public CallObserver {
 public:
  struct Seen {
    CallRecord record;  // Its views are not valid.
    std::string target, method, path, reason, traceparent, span;
  };

  std::string BeginSpan(std::string_view traceparent) const override {
    return traceparent.empty() ? "" : kSpan;
  }
  void OnCallEnd(const CallRecord& record) const override {
    std::lock_guard lock(mu_);
    seen_.push_back({record, std::string(record.target),
                     std::string(record.method), std::string(record.path),
                     record.error == nullptr ? "OK" : record.error->reason,
                     std::string(record.traceparent),
                     std::string(record.span)});
  }

  std::vector<Seen> seen() const {
    std::lock_guard lock(mu_);
    return seen_;
  }

 private:
  mutable std::mutex mu_;
  mutable std::vector<Seen> seen_;
};

class CallRecordTest : public BrokerTest {
 protected:
  CallRecordTest() { settings_.observer = observer_; }

  // Of the only call that has ended.
  Observer::Seen Only() {
    const auto seen = observer_->seen();
    EXPECT_EQ(seen.size(), 1u);
    return seen.empty() ? Observer::Seen() : seen[0];
  }

  const std::shared_ptr<Observer> observer_ = std::make_shared<Observer>();
};

TEST_F(CallRecordTest, AnExecuteIsRecordedWithoutItsQuery) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("hello")));
  TestExecute call;
  call.request.set_url(peer.target() + "/a/b?secret=1");
  ASSERT_EQ(Go(&call)->Wait(), "OK");
  const Observer::Seen seen = Only();
  EXPECT_EQ(seen.record.rpc, RpcMethod::kExecute);
  EXPECT_EQ(seen.target, peer.target());
  EXPECT_EQ(seen.method, "GET");
  EXPECT_EQ(seen.path, "/a/b");
  EXPECT_EQ(seen.record.status, 200);
  EXPECT_EQ(seen.reason, "OK");
  EXPECT_EQ(seen.record.attempts, 1);
  EXPECT_NE(seen.record.connection, 0u);
  EXPECT_FALSE(seen.record.reused);
  EXPECT_GT(seen.record.sent, 0u);
  EXPECT_GT(seen.record.received, 0u);
  EXPECT_GT(seen.record.dial, Duration(0));
  EXPECT_GT(seen.record.waited, Duration(0));
  EXPECT_GT(seen.record.ended - seen.record.begun, seen.record.first_byte);
}

TEST_F(CallRecordTest, TheNextCallReusesTheConnectionAndDoesNotDial) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("hello")));
  ASSERT_EQ(Execute(peer)->Wait(), "OK");
  ASSERT_EQ(Execute(peer)->Wait(), "OK");
  const auto seen = observer_->seen();
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_EQ(seen[1].record.connection, seen[0].record.connection);
  EXPECT_TRUE(seen[1].record.reused);
  EXPECT_EQ(seen[1].record.dial, Duration(0));
  EXPECT_EQ(seen[1].record.waited, Duration(0));
}

TEST_F(CallRecordTest, AFailureHasTheCallersError) {
  ScriptedPeer peer([](PeerConnection& connection) {
    connection.ReadRequest();
    connection.Close();
  });
  TestExecute call;
  call.request.set_url(peer.target() + "/");
  call.request.set_method("POST");
  ASSERT_EQ(Go(&call)->Wait(), "UPSTREAM_RESET");
  const Observer::Seen seen = Only();
  EXPECT_EQ(seen.reason, "UPSTREAM_RESET");
  EXPECT_EQ(seen.method, "POST");
  EXPECT_EQ(seen.record.status, 0);
}

TEST_F(CallRecordTest, RetriesAreCounted) {
  ScriptedPeer peer([](PeerConnection& connection) {
    connection.ReadRequest();
    if (connection.index() == 0) return connection.Close();
    connection.Write(OkResponse("hello"));
    connection.AwaitClose();
  });
  auto call = Execute(peer);
  ASSERT_EQ(call->Wait(), "OK");
  EXPECT_EQ(Only().record.attempts, call->response.receipt().attempts());
  EXPECT_EQ(Only().record.attempts, 2);
}

TEST_F(CallRecordTest, ARefusedRequestHasNoTarget) {
  TestExecute call;
  call.request.set_url("https://user:secret@a.test/secret");
  ASSERT_EQ(Go(&call)->Wait(), "BAD_URL");
  const Observer::Seen seen = Only();
  EXPECT_EQ(seen.reason, "BAD_URL");
  EXPECT_EQ(seen.target, "");
  EXPECT_EQ(seen.path, "");
}

TEST_F(CallRecordTest, AnAcquireIsRecordedHoweverItIsServed) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("hello")));
  auto first = Acquire(peer.target());
  ASSERT_EQ(first->Wait(), "OK");
  ASSERT_EQ(Release(first->response.lease().lease_id()), "OK");
  // As an item of a session, on the connection that is idle now.
  v1::AcquireRequest request;
  request.set_target(peer.target());
  CallContext context;
  context.arrival = MonotonicNow();
  v1::AcquireResponse response;
  LeaseId lease;
  ASSERT_TRUE(broker_->AcquireIdle(request, context, &response, &lease));
  ASSERT_EQ(Release(response.lease().lease_id()), "OK");
  const auto seen = observer_->seen();
  ASSERT_EQ(seen.size(), 2u);
  for (const Observer::Seen& call : seen) {
    EXPECT_EQ(call.record.rpc, RpcMethod::kAcquire);
    EXPECT_EQ(call.target, peer.target());
    EXPECT_EQ(call.reason, "OK");
    EXPECT_EQ(call.method, "");
    EXPECT_EQ(call.record.connection, seen[0].record.connection);
  }
}

TEST_F(CallRecordTest, ACallOnALeaseHasTheLeasesConnection) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("hello")));
  auto lease = Acquire(peer.target());
  ASSERT_EQ(lease->Wait(), "OK");
  TestExecute call;
  call.request.set_url(peer.target() + "/");
  call.request.set_lease_id(lease->response.lease().lease_id());
  ASSERT_EQ(Go(&call)->Wait(), "OK");
  ASSERT_EQ(Release(lease->response.lease().lease_id()), "OK");
  const auto seen = observer_->seen();
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_EQ(seen[1].record.connection, seen[0].record.connection);
}

TEST_F(CallRecordTest, AnUpstreamGetsTheSpanAsItsParent) {
  settings_.forward_traceparent = true;
  broker_->Reconfigure(settings_);
  std::mutex mu;
  std::string received;
  ScriptedPeer peer([&](PeerConnection& connection) {
    std::string request = connection.ReadRequest();
    if (request.empty()) return;
    {
      std::lock_guard lock(mu);
      received = std::move(request);
    }
    connection.Write(OkResponse("hello"));
    connection.AwaitClose();
  });
  TestExecute call;
  call.request.set_url(peer.target() + "/");
  ASSERT_EQ(Go(&call, std::chrono::seconds(20), kCaller)->Wait(), "OK");
  std::lock_guard lock(mu);
  EXPECT_NE(received.find("traceparent: " + std::string(kSpan) + "\r\n"),
            std::string::npos)
      << received;
  EXPECT_EQ(Only().traceparent, kCaller);
  EXPECT_EQ(Only().span, kSpan);
}

TEST_F(CallRecordTest, AReloadEndsTheRecording) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("hello")));
  ASSERT_EQ(Execute(peer)->Wait(), "OK");
  settings_.observer = nullptr;
  broker_->Reconfigure(settings_);
  ASSERT_EQ(Execute(peer)->Wait(), "OK");
  EXPECT_EQ(observer_->seen().size(), 1u);
}

}  // namespace
}  // namespace hotline::server
