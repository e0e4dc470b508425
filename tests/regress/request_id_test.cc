// Two callers with one lease.
//
// A request_id made Acquire idempotent, by (identity, target, request_id). All
// callers without an identity shared the empty one: two services that number
// their requests from 1 got the same lease, and each ran calls on it and
// released it while the other one used it.
//
// Here callers without an identity are told apart by holder.client_id, which is
// required unless something else does; in a session, by the session.
#include <string>

#include "tests/server/broker/broker_fixture.h"

namespace hotline::server {
namespace {

using testing::AlwaysAnswer;
using testing::OkResponse;
using testing::ScriptedPeer;

class RequestIdTest : public BrokerTest {
 protected:
  // The lease, or the error's reason.
  std::string Borrow(const std::string& client, const std::string& word,
                     CallContext context = {}) {
    auto call = std::make_unique<TestAcquire>();
    call->request.set_target(peer_.target());
    call->request.set_request_id(word);
    if (!client.empty()) {
      call->request.mutable_holder()->set_client_id(client);
    }
    context.arrival = MonotonicNow();
    context.deadline = context.arrival + std::chrono::seconds(20);
    call->call = broker_->NewAcquire(&call->request, &call->response, context,
                                     call.get());
    call->call->Start();
    const std::string outcome = call->Wait();
    if (outcome != "OK") {
      field_ = call->error().field;
      return outcome;
    }
    return call->response.lease().lease_id();
  }
  CallContext Of(const IdentityPtr& identity) {
    CallContext context;
    context.identity = identity;
    return context;
  }
  CallContext InSession(uint64_t session) {
    auto holder = std::make_shared<pool::Holder>();
    holder->session = session;
    CallContext context;
    context.holder = std::move(holder);
    return context;
  }

  ScriptedPeer peer_{AlwaysAnswer(OkResponse("x"))};
  std::string field_;
};

TEST_F(RequestIdTest, StrangersWithTheSameOneGetLeasesOfTheirOwn) {
  leases_kept_ = 4;
  const std::string a = Borrow("a", "1");
  const std::string b = Borrow("b", "1");
  EXPECT_NE(a, b);
  EXPECT_EQ(a, Borrow("a", "1"));
  EXPECT_EQ(b, Borrow("b", "1"));
  // Nothing that is put together differently is the same.
  EXPECT_NE(Borrow("a1", "1"), Borrow("a", "11"));
}

TEST_F(RequestIdTest, WithoutAnythingThatTellsThemApartItIsRefused) {
  EXPECT_EQ("BAD_OPTION", Borrow("", "1"));
  EXPECT_EQ("holder.client_id", field_);
}

TEST_F(RequestIdTest, AnIdentityIsEnoughAndSharesNothing) {
  leases_kept_ = 3;
  IdentityTable identities;
  const IdentityPtr one = identities.Get("uid:1");
  const IdentityPtr two = identities.Get("uid:2");
  const std::string a = Borrow("", "1", Of(one));
  EXPECT_EQ(a, Borrow("", "1", Of(one)));
  EXPECT_NE(a, Borrow("", "1", Of(two)));
  // Nobody is taken for somebody by the name he gives.
  EXPECT_NE(a, Borrow("uid:1", "1"));
}

TEST_F(RequestIdTest, SessionsWithoutAnIdentityAreToldApart) {
  leases_kept_ = 2;
  const std::string a = Borrow("", "1", InSession(1));
  EXPECT_EQ(a, Borrow("", "1", InSession(1)));
  EXPECT_NE(a, Borrow("", "1", InSession(2)));
}

}  // namespace
}  // namespace hotline::server
