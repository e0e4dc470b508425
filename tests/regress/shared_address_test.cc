// A map keyed by address that lost the second host on an address.
//
// The ancestor kept its connections in a map from IP address to connection. Of
// two hosts behind one address (every CDN, every ingress) the second one
// overwrote the first: its connections leaked, and requests for the first host
// were sent on a connection made, and verified, for the second.
//
// Here a pool's key is scheme, host, port and options, never the address.
#include <mutex>
#include <set>
#include <string>

#include "tests/server/broker/broker_fixture.h"

namespace hotline::server {
namespace {

using testing::OkResponse;
using testing::PeerConnection;
using testing::ScriptedPeer;

// Answers with the Host it was asked for, and the connection's number.
void TellHost(PeerConnection& connection) {
  for (;;) {
    const std::string request = connection.ReadRequest();
    if (request.empty()) return;
    const size_t at = request.find("Host: ") + 6;
    const std::string host = request.substr(at, request.find("\r\n", at) - at);
    connection.Write(
        OkResponse(host + " " + std::to_string(connection.index())));
  }
}

class SharedAddressTest : public BrokerTest {
 protected:
  std::string Get(const std::string& url, const std::string& sni = "") {
    TestExecute call;
    call.request.set_url(url);
    call.request.mutable_options()->set_sni(sni);
    const std::string outcome = Go(&call)->Wait();
    return outcome == "OK" ? call.response.body() : outcome;
  }
};

TEST_F(SharedAddressTest, TwoHostsOnOneAddressAreBothPooledAndUsed) {
  ScriptedPeer peer(TellHost);
  const std::string port = std::to_string(peer.port());
  const std::string by_name = "localhost:" + port;
  const std::string by_address = "127.0.0.1:" + port;
  EXPECT_EQ(Get("http://" + by_name + "/"), by_name + " 0");
  EXPECT_EQ(Get("http://" + by_address + "/"), by_address + " 1");
  // Neither displaced the other: both are reused, again and again.
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(Get("http://" + by_name + "/"), by_name + " 0");
    EXPECT_EQ(Get("http://" + by_address + "/"), by_address + " 1");
  }
  EXPECT_EQ(peer.accepted(), 2);
  EXPECT_EQ(peer.open(), 2);
  const pool::Snapshot snapshot = Look();
  ASSERT_EQ(snapshot.targets.size(), 2u);
  for (const pool::TargetRow& row : snapshot.targets) {
    EXPECT_EQ(row.idle, 1) << row.target;
    EXPECT_EQ(row.counters.reused, 10u) << row.target;
  }
}

TEST_F(SharedAddressTest, TheEndOfOneHostsConnectionLeavesTheOthersAlone) {
  ScriptedPeer peer(TellHost);
  const std::string port = std::to_string(peer.port());
  ASSERT_EQ(Get("http://127.0.0.1:" + port + "/"), "127.0.0.1:" + port + " 0");
  auto lease = Acquire("http://localhost:" + port);
  ASSERT_EQ(lease->Wait(), "OK");
  EXPECT_EQ(Release(lease->response.lease().lease_id(), v1::OUTCOME_BROKEN),
            "OK");
  EXPECT_EQ(Get("http://127.0.0.1:" + port + "/"), "127.0.0.1:" + port + " 0");
}

// One certificate, one address, one port: still two servers to those who ask.
class SharedTlsAddressTest : public SharedAddressTest {
 protected:
  SharedTlsAddressTest() { upstream_options_.ca_file = Ca().cert(); }
  static const testing::TestCa& Ca() {
    static const auto* const ca = new testing::TestCa("shared-address");
    return *ca;
  }
};

TEST_F(SharedTlsAddressTest, AConnectionVerifiedForOneNameServesNoOther) {
  std::mutex mu;
  std::set<std::string> names;
  ScriptedPeer::Options options;
  options.tls = Ca().Issue("both", "DNS:a.test,DNS:b.test");
  ScriptedPeer* self = nullptr;
  ScriptedPeer peer(options, [&](PeerConnection& connection) {
    {
      std::lock_guard lock(mu);
      names.insert(self->last_sni());
    }
    TellHost(connection);
  });
  {
    std::lock_guard lock(mu);
    self = &peer;
  }
  const std::string host = "localhost:" + std::to_string(peer.port());
  const std::string url = "https://" + host + "/";
  EXPECT_EQ(Get(url, "a.test"), host + " 0");
  EXPECT_EQ(Get(url, "b.test"), host + " 1");
  EXPECT_EQ(Get(url, "a.test"), host + " 0");
  EXPECT_EQ(Get(url, "b.test"), host + " 1");
  // Its own name is not in the certificate: the two that are there do not help.
  EXPECT_EQ(Get(url), "TLS_VERIFY_FAILED");
  std::lock_guard lock(mu);
  EXPECT_EQ(names, (std::set<std::string>{"a.test", "b.test"}));
}

}  // namespace
}  // namespace hotline::server
