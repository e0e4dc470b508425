#include <atomic>
#include <set>

#include "server/broker/registry.h"
#include "tests/server/broker/broker_fixture.h"

namespace hotline::server {
namespace {

using absl::StatusCode;
using std::chrono::milliseconds;
using testing::AlwaysAnswer;
using testing::OkResponse;
using testing::PeerConnection;
using testing::ScriptedPeer;

TEST_F(BrokerTest, TheSecondCallRunsOnTheFirstOnesConnection) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("hello")));
  auto first = Execute(peer);
  ASSERT_EQ(first->Wait(), "OK");
  EXPECT_EQ(first->response.status(), 200);
  EXPECT_EQ(first->response.body(), "hello");
  EXPECT_FALSE(first->response.receipt().connection().reused());
  EXPECT_TRUE(first->response.receipt().timings().has_connect());

  auto second = Execute(peer);
  ASSERT_EQ(second->Wait(), "OK");
  EXPECT_TRUE(second->response.receipt().connection().reused());
  EXPECT_FALSE(second->response.receipt().timings().has_connect());
  EXPECT_EQ(second->response.receipt().connection().protocol(), "http/1.1");
  EXPECT_EQ(peer.accepted(), 1);
}

TEST_F(BrokerTest, AnOwnerKeepsItsLeaseHoweverManyIdentitiesCome) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("hello")));
  IdentityTable table;
  TestAcquire acquire;
  acquire.request.set_target(peer.target());
  CallContext context;
  context.identity = table.Get("uid:1");
  context.arrival = MonotonicNow();
  context.deadline = context.arrival + std::chrono::seconds(20);
  acquire.call = broker_->NewAcquire(&acquire.request, &acquire.response,
                                     context, &acquire);
  acquire.call->Start();
  ASSERT_EQ(acquire.Wait(), "OK");
  // Of the call, only the lease remains.
  ASSERT_TRUE(
      Eventually([&](const auto&) { return acquire.call.use_count() == 1; }));
  acquire.call = nullptr;
  context.identity = nullptr;
  // Enough to make the table drop identities that are not in use.
  for (int i = 0; i < 5000; ++i) table.Get("uid:" + std::to_string(1000 + i));
  v1::ReleaseRequest request;
  request.set_lease_id(acquire.response.lease().lease_id());
  v1::ReleaseResponse response;
  context.identity = table.Get("uid:1");
  const ErrorPtr error = broker_->Release(request, &response, context);
  EXPECT_EQ(error, nullptr) << error->reason;
}

TEST_F(BrokerTest, AnUpstreamsErrorStatusIsData) {
  ScriptedPeer peer(AlwaysAnswer(
      "HTTP/1.1 503 Busy\r\nContent-Length: 2\r\nX-A: b\r\n\r\nno"));
  auto call = Execute(peer);
  ASSERT_EQ(call->Wait(), "OK");
  EXPECT_EQ(call->response.status(), 503);
  EXPECT_EQ(call->response.body(), "no");
  ASSERT_EQ(call->response.headers_size(), 2);
  EXPECT_EQ(call->response.headers(1).name(), "x-a");
  EXPECT_EQ(call->response.receipt().attempts(), 1);
}

TEST_F(BrokerTest, TheReceiptDescribesAConnectionThatClosesWithItsAnswer) {
  ScriptedPeer peer(AlwaysAnswer(
      "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"));
  auto call = Execute(peer);
  ASSERT_EQ(call->Wait(), "OK");
  EXPECT_EQ(call->response.receipt().connection().protocol(), "http/1.1");
  EXPECT_NE(call->response.receipt().connection().remote_address(), "");
}

// Answers one request, then reads the next one and closes the connection.
void AnswerOnceThenCut(PeerConnection& connection) {
  if (connection.ReadRequest().empty()) return;
  connection.Write(OkResponse("fine"));
  connection.ReadRequest();
  connection.Close();
}

TEST_F(BrokerTest, AGetIsRetriedWhenItsReusedConnectionCloses) {
  ScriptedPeer peer(AnswerOnceThenCut);
  ASSERT_EQ(Execute(peer)->Wait(), "OK");
  auto call = Execute(peer);
  ASSERT_EQ(call->Wait(), "OK");
  EXPECT_EQ(call->response.receipt().attempts(), 2);
  ASSERT_EQ(call->response.receipt().failed_attempts_size(), 1);
  EXPECT_EQ(call->response.receipt().failed_attempts(0), "SENT_UNKNOWN");
  EXPECT_EQ(peer.accepted(), 2);
}

TEST_F(BrokerTest, APostThatMayHaveArrivedIsNeverSentTwice) {
  std::atomic<int> posts{0};
  ScriptedPeer peer([&posts](PeerConnection& connection) {
    if (connection.ReadRequest().empty()) return;
    connection.Write(OkResponse("fine"));
    if (!connection.ReadRequest().empty()) ++posts;
    connection.Close();
  });
  ASSERT_EQ(Execute(peer)->Wait(), "OK");
  auto call = Execute(peer, "POST");
  ASSERT_EQ(call->Wait(), "UPSTREAM_RESET");
  EXPECT_EQ(call->error().code, StatusCode::kAborted);
  EXPECT_EQ(call->metadata("verdict"), "SENT_UNKNOWN");
  EXPECT_NE(call->metadata("bytes_written"), "0");
  EXPECT_EQ(posts, 1);
  EXPECT_EQ(peer.accepted(), 1);
}

TEST_F(BrokerTest, AnIdempotentPostIsRetried) {
  ScriptedPeer peer(AnswerOnceThenCut);
  ASSERT_EQ(Execute(peer)->Wait(), "OK");
  TestExecute call;
  call.request.set_url(peer.target() + "/");
  call.request.set_method("POST");
  call.request.mutable_retry()->set_idempotent(true);
  EXPECT_EQ(Go(&call)->Wait(), "OK");
}

TEST_F(BrokerTest, AConnectionThePeerClosedWhileIdleIsNotUsed) {
  ScriptedPeer peer([](PeerConnection& connection) {
    if (connection.ReadRequest().empty()) return;
    connection.Write(OkResponse("fine"));
    connection.Close();
  });
  ASSERT_EQ(Execute(peer, "POST")->Wait(), "OK");
  ASSERT_TRUE(Eventually([](const pool::Snapshot& snapshot) {
    return snapshot.targets[0].idle == 0;
  }));
  // Nothing was sent on the closed connection, so even a POST succeeds.
  EXPECT_EQ(Execute(peer, "POST")->Wait(), "OK");
  EXPECT_EQ(peer.accepted(), 2);
}

TEST_F(BrokerTest, ATruncatedAnswerIsAbortedWithItsVerdict) {
  ScriptedPeer peer([](PeerConnection& connection) {
    connection.ReadRequest();
    connection.Write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    connection.Close();
  });
  auto post = Execute(peer, "POST");
  ASSERT_EQ(post->Wait(), "UPSTREAM_RESET");
  EXPECT_EQ(post->error().code, StatusCode::kAborted);
  EXPECT_EQ(post->metadata("verdict"), "RESPONSE_STARTED");
  // A GET makes three attempts and then fails in the same way.
  auto get = Execute(peer, "GET");
  ASSERT_EQ(get->Wait(), "UPSTREAM_RESET");
  EXPECT_EQ(get->error().code, StatusCode::kAborted);
  EXPECT_EQ(peer.accepted(), 4);
}

TEST_F(BrokerTest, RetriesOfATargetAreBudgeted) {
  target_config_.breaker_failures = 0;  // No connection answers.
  settings_.retry_budget_percent = 0;
  broker_->Reconfigure(settings_);
  ScriptedPeer peer([](PeerConnection& connection) {
    connection.ReadRequest();
    connection.Close();
  });
  for (int i = 0; i < 10; ++i)
    EXPECT_EQ(Execute(peer)->Wait(), "UPSTREAM_RESET");
  // Ten calls and the three retries that the budget always allows.
  EXPECT_EQ(peer.accepted(), 13);
}

TEST_F(BrokerTest, AnAnswerThatIsNotHttpIsAProtocolError) {
  ScriptedPeer peer(AlwaysAnswer("SSH-2.0-OpenSSH_9.2\r\n"));
  auto call = Execute(peer);
  ASSERT_EQ(call->Wait(), "PROTOCOL_ERROR");
  EXPECT_EQ(call->error().code, StatusCode::kInternal);
}

TEST_F(BrokerTest, ASilentUpstreamFailsTheCallAtItsDeadline) {
  ScriptedPeer peer([](PeerConnection& connection) {
    connection.ReadRequest();
    connection.AwaitClose();
  });
  const Instant start = MonotonicNow();
  auto call = Execute(peer, "GET", milliseconds(400));
  ASSERT_EQ(call->Wait(), "UPSTREAM_TIMEOUT");
  const Duration took = MonotonicNow() - start;
  EXPECT_EQ(call->error().code, StatusCode::kDeadlineExceeded);
  EXPECT_GE(took, milliseconds(300));
  // Well below every other timeout, even on a busy machine.
  EXPECT_LT(took, std::chrono::seconds(5));
}

TEST_F(BrokerTest, NobodyListeningIsATypedErrorAfterItsRetries) {
  int port;
  {
    ScriptedPeer peer(AlwaysAnswer(OkResponse("")));
    port = peer.port();
  }
  TestExecute call;
  call.request.set_url("http://127.0.0.1:" + std::to_string(port) + "/");
  call.request.set_method("POST");
  ASSERT_EQ(Go(&call)->Wait(), "CONNECT_FAILED");
  EXPECT_EQ(call.error().code, StatusCode::kUnavailable);
  EXPECT_TRUE(call.error().retry_after.has_value());
  EXPECT_EQ(Look().targets[0].counters.dials_failed[0], 3u);
}

TEST_F(BrokerTest, AnAddressThatIsNotAllowedIsRefusedAtOnce) {
  TestExecute call;
  call.request.set_url("http://169.254.169.254/latest/meta-data/");
  ASSERT_EQ(Go(&call)->Wait(), "EGRESS_DENIED");
  EXPECT_EQ(call.error().code, StatusCode::kPermissionDenied);
}

TEST_F(BrokerTest, ALongBodyIsRefusedOrTruncatedAsRequested) {
  settings_.max_body_bytes = 1000;
  broker_->Reconfigure(settings_);
  ScriptedPeer peer(AlwaysAnswer(OkResponse(std::string(5000, 'x'))));
  auto refused = Execute(peer);
  ASSERT_EQ(refused->Wait(), "RESPONSE_TOO_LARGE");
  EXPECT_EQ(refused->error().code, StatusCode::kResourceExhausted);
  TestExecute cut;
  cut.request.set_url(peer.target() + "/");
  cut.request.set_max_response_bytes(10);
  ASSERT_EQ(Go(&cut)->Wait(), "OK");
  EXPECT_TRUE(cut.response.truncated());
  EXPECT_EQ(cut.response.body(), "xxxxxxxxxx");
}

TEST_F(BrokerTest, ALeaseKeepsItsConnectionFromAllOthers) {
  target_config_.max_connections = 1;
  ScriptedPeer peer(AlwaysAnswer(OkResponse("x")));
  auto lease = Acquire(peer.target());
  ASSERT_EQ(lease->Wait(), "OK");
  const std::string id = lease->response.lease().lease_id();

  auto other = Execute(peer);
  for (int i = 0; i < 3; ++i) {
    TestExecute mine;
    mine.request.set_lease_id(id);
    mine.request.set_url(peer.target() + "/");
    ASSERT_EQ(Go(&mine)->Wait(), "OK");
    EXPECT_EQ(mine.response.receipt().connection().connection_id(),
              lease->response.connection().connection_id());
  }
  EXPECT_FALSE(other->done());
  EXPECT_EQ(Release(id), "OK");
  ASSERT_EQ(other->Wait(), "OK");
  EXPECT_EQ(other->response.receipt().wait().limit(), "target_connections");
  EXPECT_EQ(other->response.receipt().wait().place(), 1);
  EXPECT_EQ(peer.accepted(), 1);
}

TEST_F(BrokerTest, CallsOnAnEndedLeaseFailAsExpired) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("x")));
  auto lease = Acquire(peer.target());
  ASSERT_EQ(lease->Wait(), "OK");
  const std::string id = lease->response.lease().lease_id();
  EXPECT_EQ(Release(id), "OK");
  EXPECT_EQ(Release(id), "ALREADY");
  TestExecute call;
  call.request.set_lease_id(id);
  call.request.set_url(peer.target() + "/");
  EXPECT_EQ(Go(&call)->Wait(), "LEASE_EXPIRED");
  EXPECT_EQ(call.error().code, StatusCode::kNotFound);
}

TEST_F(BrokerTest, AForgedLeaseIdChangesNothing) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("x")));
  auto lease = Acquire(peer.target());
  ASSERT_EQ(lease->Wait(), "OK");
  const std::string id = lease->response.lease().lease_id();
  std::string forged = id;
  forged.back() = forged.back() == '0' ? '1' : '0';
  EXPECT_EQ(Release(forged), "LEASE_UNKNOWN");
  std::string foreign = id;
  foreign[0] = foreign[0] == '0' ? '1' : '0';
  EXPECT_EQ(Release(foreign), "LEASE_OTHER_INSTANCE");
  EXPECT_EQ(Release("not a lease"), "BAD_LEASE_ID");
  EXPECT_EQ(Release(id), "OK");
}

TEST_F(BrokerTest, ALeaseIsForItsTargetOnly) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("x")));
  auto lease = Acquire(peer.target());
  ASSERT_EQ(lease->Wait(), "OK");
  TestExecute call;
  call.request.set_lease_id(lease->response.lease().lease_id());
  call.request.set_url("http://127.0.0.1:1/");
  EXPECT_EQ(Go(&call)->Wait(), "LEASE_TARGET_MISMATCH");
  EXPECT_EQ(call.error().field, "url");
  EXPECT_EQ(Release(lease->response.lease().lease_id()), "OK");
}

TEST_F(BrokerTest, ALeaseRunsOneCallAtATime) {
  std::atomic<bool> go{false};
  ScriptedPeer peer([&go](PeerConnection& connection) {
    if (connection.ReadRequest().empty()) return;
    while (!go) std::this_thread::yield();
    connection.Write(OkResponse("x"));
    connection.AwaitClose();
  });
  auto lease = Acquire(peer.target());
  ASSERT_EQ(lease->Wait(), "OK");
  TestExecute first, second;
  for (TestExecute* call : {&first, &second}) {
    call->request.set_lease_id(lease->response.lease().lease_id());
    call->request.set_url(peer.target() + "/");
    Go(call);
  }
  EXPECT_EQ(second.Wait(), "LEASE_BUSY");
  EXPECT_EQ(second.error().code, StatusCode::kFailedPrecondition);
  go = true;
  EXPECT_EQ(first.Wait(), "OK");
  EXPECT_EQ(Release(lease->response.lease().lease_id()), "OK");
}

TEST_F(BrokerTest, ReleaseAsBrokenAbortsTheRunningCall) {
  ScriptedPeer peer([](PeerConnection& connection) {
    connection.ReadRequest();
    connection.AwaitClose();
  });
  auto lease = Acquire(peer.target());
  ASSERT_EQ(lease->Wait(), "OK");
  TestExecute call;
  call.request.set_lease_id(lease->response.lease().lease_id());
  call.request.set_url(peer.target() + "/");
  Go(&call);
  EXPECT_EQ(Release(lease->response.lease().lease_id(), v1::OUTCOME_BROKEN),
            "OK");
  EXPECT_EQ(call.Wait(), "UPSTREAM_RESET");
  EXPECT_EQ(call.error().code, StatusCode::kAborted);
  EXPECT_TRUE(Eventually([](const pool::Snapshot& snapshot) {
    return snapshot.connections_reserved == 0;
  }));
}

// A call runs on a lease of the only connection while others wait in line.
class BusyLeaseTest : public BrokerTest {
 protected:
  void Begin() {
    target_config_.max_connections = 1;
    acquire_ = Acquire(peer_.target());
    ASSERT_EQ(acquire_->Wait(), "OK");
    running_.request.set_lease_id(lease_id());
    running_.request.set_url(peer_.target() + "/");
    Go(&running_);
    for (int i = 0; i < 100; ++i) waiting_.push_back(Execute(peer_));
    ASSERT_EQ(Look().targets[0].waiters, 100);
    visited_before_ = broker_->registry().visited();
  }

  std::string lease_id() const { return acquire_->response.lease().lease_id(); }

  void ExpectOnlyTheRunningCallWasVisitedAndEnded() {
    // 0 if the connection closed first.
    EXPECT_LE(broker_->registry().visited() - visited_before_, 1u);
    EXPECT_EQ(running_.Wait(), "UPSTREAM_RESET");
    for (const auto& call : waiting_) {
      EXPECT_FALSE(call->done());
      call->call->Cancel();
      EXPECT_EQ(call->Wait(), "CANCELLED");
    }
  }

  ScriptedPeer peer_{[](PeerConnection& connection) {
    connection.ReadRequest();
    connection.AwaitClose();
  }};
  std::unique_ptr<TestAcquire> acquire_;
  TestExecute running_;
  std::vector<std::unique_ptr<TestExecute>> waiting_;
  uint64_t visited_before_ = 0;
};

TEST_F(BusyLeaseTest, ReleaseAsBrokenVisitsNoOtherCall) {
  ASSERT_NO_FATAL_FAILURE(Begin());
  EXPECT_EQ(Release(lease_id(), v1::OUTCOME_BROKEN), "OK");
  ExpectOnlyTheRunningCallWasVisitedAndEnded();
}

TEST_F(BusyLeaseTest, ReclaimVisitsNoOtherCall) {
  ASSERT_NO_FATAL_FAILURE(Begin());
  broker_->Reclaim({*PresentedLease(lease_id(), {})}, MonotonicNow());
  ExpectOnlyTheRunningCallWasVisitedAndEnded();
}

TEST_F(BusyLeaseTest, ReleaseAsBrokenVisitsNoCallWhenNoneRunsOnTheLease) {
  ASSERT_NO_FATAL_FAILURE(Begin());
  EXPECT_EQ(Release(lease_id(), v1::OUTCOME_BROKEN), "OK");
  ExpectOnlyTheRunningCallWasVisitedAndEnded();
  auto idle = Acquire(peer_.target());
  ASSERT_EQ(idle->Wait(), "OK");
  const uint64_t before = broker_->registry().visited();
  EXPECT_EQ(Release(idle->response.lease().lease_id(), v1::OUTCOME_BROKEN),
            "OK");
  EXPECT_EQ(broker_->registry().visited(), before);
}

TEST_F(BrokerTest, ACancelledCallLeavesTheLineAtOnce) {
  target_config_.max_connections = 1;
  ScriptedPeer peer(AlwaysAnswer(OkResponse("x")));
  auto lease = Acquire(peer.target());
  ASSERT_EQ(lease->Wait(), "OK");
  auto waiting = Execute(peer);
  EXPECT_EQ(Look().targets[0].waiters, 1);
  waiting->call->Cancel();
  EXPECT_EQ(waiting->Wait(), "CANCELLED");
  EXPECT_EQ(Look().targets[0].waiters, 0);
  EXPECT_EQ(Release(lease->response.lease().lease_id()), "OK");
}

TEST_F(BrokerTest, ACancelledCallThatRunsGivesItsConnectionUp) {
  std::atomic<bool> read{false};
  ScriptedPeer peer([&read](PeerConnection& connection) {
    connection.ReadRequest();
    read = true;
    connection.AwaitClose();
  });
  auto call = Execute(peer);
  // Until something is sent, the connection could be given back.
  ASSERT_TRUE(Eventually([&](const pool::Snapshot&) { return read.load(); }));
  call->call->Cancel();
  EXPECT_EQ(call->Wait(), "CANCELLED");
  EXPECT_TRUE(Eventually([](const pool::Snapshot& snapshot) {
    return snapshot.connections_reserved == 0;
  }));
}

TEST_F(BrokerTest, ADrainRefusesNewCallsAndFinishesRunningOnes) {
  std::atomic<bool> go{false};
  ScriptedPeer peer([&go](PeerConnection& connection) {
    if (connection.ReadRequest().empty()) return;
    while (!go) std::this_thread::yield();
    connection.Write(OkResponse("x"));
    connection.AwaitClose();
  });
  auto running = Execute(peer);
  ASSERT_TRUE(Eventually([](const pool::Snapshot& snapshot) {
    return !snapshot.targets.empty() && snapshot.targets[0].leases == 1;
  }));
  broker_->StartDrain(MonotonicNow());
  auto refused = Execute(peer);
  EXPECT_EQ(refused->Wait(), "DRAINING");
  EXPECT_EQ(refused->error().code, StatusCode::kUnavailable);
  EXPECT_FALSE(broker_->Drained(MonotonicNow()));
  go = true;
  EXPECT_EQ(running->Wait(), "OK");
  EXPECT_TRUE(broker_->Drained(MonotonicNow()));
}

TEST_F(BrokerTest, AbortCallsReportsTheVerdictOfACallThatMayHaveArrived) {
  std::atomic<bool> read{false};
  ScriptedPeer peer([&read](PeerConnection& connection) {
    connection.ReadRequest();
    read = true;
    connection.AwaitClose();
  });
  auto running = Execute(peer);
  ASSERT_TRUE(Eventually([&](const pool::Snapshot&) { return read.load(); }));
  broker_->StartDrain(MonotonicNow());
  broker_->AbortCalls();
  EXPECT_EQ(running->Wait(), "UPSTREAM_RESET");
  EXPECT_EQ(running->error().code, StatusCode::kAborted);
  EXPECT_EQ(running->metadata("verdict"), "SENT_UNKNOWN");
}

TEST_F(BrokerTest, ATraceIsForwardedOnlyIfConfiguredAndNeverTwice) {
  const std::string kTrace =
      "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  std::mutex mu;
  std::vector<std::string> seen;
  ScriptedPeer peer([&](PeerConnection& connection) {
    while (true) {
      const std::string request = connection.ReadRequest();
      if (request.empty()) return;
      {
        std::lock_guard lock(mu);
        seen.push_back(request);
      }
      connection.Write(OkResponse("x"));
    }
  });
  const auto traced = [&](bool own_header) {
    TestExecute call;
    call.request.set_url(peer.target() + "/");
    if (own_header) {
      v1::Header* header = call.request.add_headers();
      header->set_name("Traceparent");
      header->set_value("mine");
    }
    Go(&call, std::chrono::seconds(20), kTrace);
    EXPECT_EQ(call.Wait(), "OK");
    std::lock_guard lock(mu);
    return seen.back();
  };
  EXPECT_EQ(traced(false).find("traceparent"), std::string::npos);
  settings_.forward_traceparent = true;
  broker_->Reconfigure(settings_);
  EXPECT_NE(traced(false).find("traceparent: " + kTrace + "\r\n"),
            std::string::npos);
  const std::string own = traced(true);
  EXPECT_NE(own.find("Traceparent: mine\r\n"), std::string::npos);
  EXPECT_EQ(own.find(kTrace), std::string::npos);
}

TEST_F(BrokerTest, ReleaseAsOkLetsTheRunningCallEndFirst) {
  std::atomic<bool> go{false};
  ScriptedPeer peer([&go](PeerConnection& connection) {
    while (!connection.ReadRequest().empty()) {
      while (!go) std::this_thread::yield();
      connection.Write(OkResponse("x"));
    }
  });
  auto lease = Acquire(peer.target());
  ASSERT_EQ(lease->Wait(), "OK");
  TestExecute call;
  call.request.set_lease_id(lease->response.lease().lease_id());
  call.request.set_url(peer.target() + "/");
  Go(&call);
  EXPECT_EQ(Release(lease->response.lease().lease_id()), "OK");
  // The lease accepts no new call, while the old one continues.
  TestExecute late;
  late.request = call.request;
  EXPECT_EQ(Go(&late)->Wait(), "LEASE_EXPIRED");
  EXPECT_FALSE(call.done());
  go = true;
  EXPECT_EQ(call.Wait(), "OK");
  EXPECT_EQ(Execute(peer)->Wait(), "OK");
  EXPECT_EQ(peer.accepted(), 1);
}

TEST_F(BrokerTest, TheMarginIsFivePercentBetweenTwoAndFiftyMilliseconds) {
  const Instant now{std::chrono::hours(1)};
  const auto margin = [now](Duration left) {
    return now + left - WithMargin(now + left, now);
  };
  EXPECT_EQ(margin(milliseconds(10)), milliseconds(2));
  EXPECT_EQ(margin(milliseconds(400)), milliseconds(20));
  EXPECT_EQ(margin(std::chrono::seconds(30)), milliseconds(50));
}

}  // namespace
}  // namespace hotline::server
