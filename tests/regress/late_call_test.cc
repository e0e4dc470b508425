// A call that started after a drain's last scan.
//
// At the end of the grace period a drain ends all calls that still run. A call
// on a lease that began a moment later was missed: it ran until gRPC cut it
// off, with a bare CANCELLED that does not say what the upstream has processed.
//
// Now a call that starts after that scan ends at once with the same error, and
// the verdict NOT_SENT.
#include <memory>
#include <string>

#include "tests/server/broker/broker_fixture.h"

namespace hotline::server {
namespace {

using testing::AlwaysAnswer;
using testing::OkResponse;
using testing::ScriptedPeer;

class LateCallTest : public BrokerTest {};

TEST_F(LateCallTest, ALateCallOnALeaseEndsAsTheOthersDid) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("x")));
  TestAcquire acquire;
  acquire.request.set_target(peer.target());
  ASSERT_EQ(Go(&acquire)->Wait(), "OK");
  broker_->StartDrain(MonotonicNow());
  TestExecute early;
  early.request.set_url(peer.target() + "/");
  early.request.set_lease_id(acquire.response.lease().lease_id());
  EXPECT_EQ(Go(&early)->Wait(), "OK");
  broker_->AbortCalls();
  TestExecute late;
  late.request = early.request;
  EXPECT_EQ(Go(&late)->Wait(), "DRAINING");
  EXPECT_EQ(Release(acquire.response.lease().lease_id()), "OK");
}

TEST_F(LateCallTest, ALateCallWithoutALeaseEndsAsTheOthersDid) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("x")));
  broker_->StartDrain(MonotonicNow());
  broker_->AbortCalls();
  EXPECT_EQ(Execute(peer, "POST")->Wait(), "DRAINING");
}

}  // namespace
}  // namespace hotline::server
