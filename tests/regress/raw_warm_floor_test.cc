// Raw targets whose connections could not be kept warm.
//
// `warm` was refused for tcp:// and tls:// targets: the warm floor is kept in
// the pool of SHARED connections, and tunnels use EXCLUSIVE ones.
//
// Now the floor of such a target is kept in the pool that its callers use.
#include <string>

#include "server/config/config.h"
#include "tests/fakes/test_certs.h"
#include "tests/server/broker/broker_fixture.h"

namespace hotline::server {
namespace {

using testing::PeerConnection;
using testing::ScriptedPeer;
using testing::TestCa;

const TestCa& Ca() {
  static const auto* const ca = new TestCa("floors");
  return *ca;
}

class RawWarmFloorTest : public BrokerTest {
 protected:
  RawWarmFloorTest() {
    upstream_options_.ca_file = Ca().cert();
    const auto settings =
        ParseConfig("targets: [{target: 'tcp://h:1', warm: 2}]", "t");
    EXPECT_TRUE(settings.ok()) << settings.status();
    target_config_ = settings->PoolFor("tcp://h:1");
  }

  static void Listen(PeerConnection& connection) { connection.AwaitClose(); }

  void ExpectFloor(const ScriptedPeer& peer, const std::string& scheme,
                   const std::string& host) {
    const std::string target =
        scheme + "://" + host + ":" + std::to_string(peer.port());
    EXPECT_EQ(pool_->WarmDeficit(target), 2);
    pool_->Warm(target, MonotonicNow());
    ASSERT_TRUE(Eventually([&](const pool::Snapshot&) {
      return pool_->WarmDeficit(target) == 0;
    }));
    // A caller finds what is there, ...
    TestAcquire call;
    call.request.set_target(target);
    call.request.set_mode(v1::MODE_EXCLUSIVE);
    call.request.set_reuse(v1::REUSE_REQUIRE_WARM);
    ASSERT_EQ(Go(&call)->Wait(), "OK");
    // ... and when it has gone, for it is never used again, another is made.
    EXPECT_EQ(Release(call.response.lease().lease_id(), v1::OUTCOME_DISCARD),
              "OK");
    ASSERT_TRUE(Eventually([&](const pool::Snapshot&) {
      return pool_->WarmDeficit(target) == 0;
    }));
    EXPECT_TRUE(Eventually(
        [&](const pool::Snapshot&) { return peer.accepted() >= 3; }));
  }
};

TEST_F(RawWarmFloorTest, IsKeptForTcp) {
  ScriptedPeer peer(Listen);
  ExpectFloor(peer, "tcp", "127.0.0.1");
}

TEST_F(RawWarmFloorTest, IsKeptForTls) {
  ScriptedPeer::Options options;
  options.tls = Ca().Issue("floor", "DNS:localhost");
  options.alpn = "";
  ScriptedPeer peer(options, Listen);
  ExpectFloor(peer, "tls", "localhost");
}

TEST(RawWarmFloor, IsAskedForInTheConfiguration) {
  const auto settings = ParseConfig(
      "targets:\n"
      "- {target: 'tcp://h:1', warm: 1, warm_max: 3, ready_when_warm: true}\n"
      "- {target: 'https://h', warm: 1}\n",
      "t");
  ASSERT_TRUE(settings.ok()) << settings.status();
  EXPECT_EQ(settings->PoolFor("tcp://h:1").warm, 1);
  EXPECT_EQ(settings->PoolFor("tcp://h:1").default_mode,
            pool::Mode::kExclusive);
  EXPECT_EQ(settings->PoolFor("tls://other:1").default_mode,
            pool::Mode::kExclusive);
  EXPECT_EQ(settings->PoolFor("https://h:443").default_mode,
            pool::Mode::kShared);
}

}  // namespace
}  // namespace hotline::server
