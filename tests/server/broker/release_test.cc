// Release by the target and request_id of an Acquire.
#include <memory>
#include <numeric>
#include <string>

#include "server/broker/registry.h"
#include "tests/server/broker/broker_fixture.h"

namespace hotline::server {
namespace {

using testing::AlwaysAnswer;
using testing::OkResponse;
using testing::PeerConnection;
using testing::ScriptedPeer;

class ReleaseTest : public BrokerTest {
 protected:
  ReleaseTest() { target_config_.max_connections = 1; }

  // The identity of a caller.
  struct Who {
    std::string client;
    IdentityPtr identity;
    uint64_t session = 0;
  };

  static CallContext ContextOf(const Who& who) {
    CallContext context;
    context.arrival = MonotonicNow();
    context.deadline = context.arrival + std::chrono::seconds(20);
    context.identity = who.identity;
    if (who.session != 0) {
      auto holder = std::make_shared<pool::Holder>();
      holder->session = who.session;
      context.holder = std::move(holder);
    }
    return context;
  }
  std::unique_ptr<TestAcquire> Borrow(const Who& who,
                                      const std::string& id = "1",
                                      const std::string& target = "") {
    auto call = std::make_unique<TestAcquire>();
    call->request.set_target(target.empty() ? peer_.target() : target);
    call->request.set_request_id(id);
    call->request.mutable_holder()->set_client_id(who.client);
    call->call = broker_->NewAcquire(&call->request, &call->response,
                                     ContextOf(who), call.get());
    call->call->Start();
    return call;
  }
  // Returns "OK", "ALREADY", or the error's reason and field.
  std::string GiveBack(const Who& who, const std::string& id = "1",
                       v1::Outcome outcome = v1::OUTCOME_OK,
                       const std::string& target = "") {
    v1::ReleaseRequest request;
    request.set_target(target.empty() ? peer_.target() : target);
    request.set_request_id(id);
    request.set_client_id(who.client);
    request.set_outcome(outcome);
    v1::ReleaseResponse response;
    lease_ = {};
    const ErrorPtr error =
        broker_->Release(request, &response, ContextOf(who), &lease_);
    if (error != nullptr) return error->reason + " " + error->field;
    return response.already_released() ? "ALREADY" : "OK";
  }
  int Held() { return Look().targets.at(0).leases; }

  ScriptedPeer peer_{AlwaysAnswer(OkResponse("x"))};
  LeaseId lease_;  // The last one that GiveBack released.
};

TEST_F(ReleaseTest, EndsTheLeaseOfTheAcquire) {
  const auto acquire = Borrow({"me"});
  ASSERT_EQ(acquire->Wait(), "OK");
  EXPECT_EQ(GiveBack({"me"}), "OK");
  EXPECT_EQ(EncodeLeaseId(lease_), acquire->response.lease().lease_id());
  EXPECT_EQ(Held(), 0);
  EXPECT_EQ(Release(acquire->response.lease().lease_id()), "ALREADY");
}

TEST_F(ReleaseTest, IsIdempotent) {
  EXPECT_EQ(GiveBack({"me"}), "ALREADY") << "nothing of the target is known";
  ASSERT_EQ(Borrow({"me"})->Wait(), "OK");
  EXPECT_EQ(GiveBack({"me"}, "2"), "ALREADY");
  EXPECT_EQ(GiveBack({"me"}), "OK");
  EXPECT_EQ(GiveBack({"me"}), "ALREADY");
  EXPECT_EQ(lease_, LeaseId());
}

TEST_F(ReleaseTest, EndsAWait) {
  const auto held = Acquire(peer_.target());
  ASSERT_EQ(held->Wait(), "OK");
  const auto waits = Borrow({"me"});
  const auto next = Borrow({"me"}, "2");
  ASSERT_EQ(Look().targets.at(0).waiters, 2);
  EXPECT_EQ(GiveBack({"me"}), "OK");
  EXPECT_EQ(waits->Wait(), "SUPERSEDED");
  EXPECT_EQ(waits->error().code, absl::StatusCode::kAborted);
  EXPECT_EQ(Look().targets.at(0).waiters, 1);
  EXPECT_EQ(GiveBack({"me"}), "ALREADY");
  EXPECT_EQ(Release(held->response.lease().lease_id()), "OK");
  EXPECT_EQ(next->Wait(), "OK");
  EXPECT_EQ(GiveBack({"me"}, "2"), "OK");
}

// An Acquire whose dials fail at once: most of the time it backs off.
class BackOffTest : public ReleaseTest {
 protected:
  BackOffTest() {
    settings_.max_attempts = 1000;
    target_config_.breaker_failures = 0;
  }
  std::unique_ptr<TestAcquire> Try() {
    const uint64_t before = Failed(Look());
    auto call = Borrow({"me"}, "1", kNobody);
    EXPECT_TRUE(Eventually([&](const pool::Snapshot& snapshot) {
      return Failed(snapshot) > before;
    }));
    return call;
  }
  static uint64_t Failed(const pool::Snapshot& snapshot) {
    if (snapshot.targets.empty()) return 0;
    const auto& failed = snapshot.targets[0].counters.dials_failed;
    return std::accumulate(failed.begin(), failed.end(), uint64_t{0});
  }

  // Nobody listens there.
  static constexpr char kNobody[] = "http://127.0.0.1:1";
};

TEST_F(BackOffTest, AReleaseEndsTheAcquireAtAnyMoment) {
  for (int i = 0; i < 20; ++i) {
    const auto acquire = Try();
    EXPECT_EQ(GiveBack({"you"}, "1", v1::OUTCOME_OK, kNobody), "ALREADY");
    EXPECT_EQ(GiveBack({"me"}, "1", v1::OUTCOME_OK, kNobody), "OK") << i;
    ASSERT_EQ(acquire->Wait(), "SUPERSEDED");
    EXPECT_EQ(acquire->error().code, absl::StatusCode::kAborted);
    EXPECT_EQ(GiveBack({"me"}, "1", v1::OUTCOME_OK, kNobody), "ALREADY");
  }
}

TEST_F(BackOffTest, TheSameAcquireAgainReplacesTheFirst) {
  for (int i = 0; i < 5; ++i) {
    const auto first = Try();
    const auto second = Try();
    ASSERT_EQ(first->Wait(), "SUPERSEDED") << i;
    EXPECT_FALSE(second->done());
    second->call->Cancel();
    EXPECT_EQ(second->Wait(), "CANCELLED");
  }
}

TEST_F(ReleaseTest, NamesOnlyTheCallersOwnAcquire) {
  IdentityTable identities;
  const Who cases[] = {{"me"}, {"", identities.Get("uid:1")}, {"", nullptr, 1}};
  const Who strangers[] = {{"you"},
                           {"uid:1"},
                           {"me", identities.Get("uid:2")},
                           {"", identities.Get("uid:2")},
                           {"", nullptr, 2}};
  for (const Who& who : cases) {
    ASSERT_EQ(Borrow(who)->Wait(), "OK");
    for (const Who& other : strangers) EXPECT_EQ(GiveBack(other), "ALREADY");
    EXPECT_EQ(Held(), 1);
    EXPECT_EQ(GiveBack(who), "OK");
    EXPECT_EQ(Held(), 0);
  }
}

TEST_F(ReleaseTest, IsOfOneTarget) {
  ASSERT_EQ(Borrow({"me"})->Wait(), "OK");
  EXPECT_EQ(GiveBack({"me"}, "1", v1::OUTCOME_OK, "http://127.0.0.1:1"),
            "ALREADY");
  EXPECT_EQ(GiveBack({"me"}), "OK");
}

TEST_F(ReleaseTest, BrokenClosesTheConnection) {
  ASSERT_EQ(Borrow({"me"})->Wait(), "OK");
  EXPECT_EQ(GiveBack({"me"}, "1", v1::OUTCOME_BROKEN), "OK");
  EXPECT_TRUE(Eventually([](const pool::Snapshot& snapshot) {
    return snapshot.connections_reserved == 0;
  }));
}

TEST_F(ReleaseTest, BrokenEndsTheCallOnTheLease) {
  ScriptedPeer silent([](PeerConnection& connection) {
    connection.ReadRequest();
    connection.AwaitClose();
  });
  TestAcquire acquire;
  acquire.request.set_target(silent.target());
  acquire.request.set_request_id("1");
  acquire.request.mutable_holder()->set_client_id("me");
  ASSERT_EQ(Go(&acquire)->Wait(), "OK");
  TestExecute running;
  running.request.set_lease_id(acquire.response.lease().lease_id());
  running.request.set_url(silent.target() + "/");
  Go(&running);
  EXPECT_EQ(GiveBack({"me"}, "1", v1::OUTCOME_BROKEN, silent.target()), "OK");
  EXPECT_EQ(running.Wait(), "UPSTREAM_RESET");
}

TEST_F(ReleaseTest, ARequestThatNamesNothingIsRefused) {
  EXPECT_EQ(GiveBack({}), "BAD_OPTION client_id")
      << "nothing tells callers without an identity apart";
  EXPECT_EQ(GiveBack({"me"}, "1", v1::OUTCOME_OK, "nonsense"),
            "BAD_TARGET target");
  EXPECT_EQ(GiveBack({"me"}, ""), "BAD_OPTION request_id");
}

}  // namespace
}  // namespace hotline::server
