// An address that asks for a rest gets it: its connections serve nobody new,
// others take its place, and it comes back when it has passed a test.
#include <atomic>
#include <map>
#include <memory>
#include <string>

#include "tests/fakes/scripted_dns.h"
#include "tests/server/broker/broker_fixture.h"

namespace hotline::server {
namespace {

using std::chrono::minutes;
using testing::OkResponse;
using testing::PeerConnection;
using testing::ScriptedDns;
using testing::ScriptedPeer;

constexpr char kTired[] =
    "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\n"
    "Content-Length: 0\r\n\r\n";

class CoolDownTest : public BrokerTest {
 protected:
  CoolDownTest()
      : first_({.address = "127.0.0.1"},
               [this](PeerConnection& connection) { Serve(connection); }),
        dns_({{"one.test", {{"127.0.0.1"}, 60}},
              {"two.test", {{"127.0.0.1", "127.0.0.2"}, 60}}}) {
    upstream_options_.dns_servers = {dns_.address()};
    for (const char* host : {"one.test", "two.test"}) {
      settings_.cool_down[TargetOf(host)] = {.statuses = {429},
                                             .retry_after = true,
                                             .length = minutes(15),
                                             .max_length = minutes(60)};
    }
  }

  void Serve(PeerConnection& connection) {
    while (!connection.ReadRequest().empty()) {
      if (!connection.Write(tired_ ? kTired : OkResponse("hi"))) return;
    }
  }
  std::string TargetOf(const std::string& host) const {
    return "http://" + host + ":" + std::to_string(first_.port());
  }
  // The status that came.
  int Get(const std::string& host) {
    TestExecute call;
    call.request.set_url(TargetOf(host) + "/");
    EXPECT_EQ("OK", Go(&call)->Wait());
    return call.response.status();
  }
  std::map<std::string, v1::AddressStats> Addresses(const std::string& host) {
    v1::StatsRequest request;
    request.set_target(TargetOf(host));
    v1::StatsResponse response;
    CallContext context;
    context.arrival = MonotonicNow();
    const ErrorPtr error = broker_->Stats(request, &response, context);
    // There is no such target before the first call.
    if (error != nullptr) {
      EXPECT_EQ("TARGET_UNKNOWN", error->reason);
    }
    std::map<std::string, v1::AddressStats> rows;
    for (const v1::TargetStats& target : response.targets()) {
      for (const v1::AddressStats& row : target.addresses()) {
        rows[row.address()] = row;
      }
    }
    return rows;
  }
  template <typename Condition>
  bool CallUntil(const std::string& host, Condition condition) {
    const Instant end = MonotonicNow() + std::chrono::seconds(30);
    while (!condition()) {
      if (MonotonicNow() > end) return false;
      Get(host);
    }
    return true;
  }

  std::atomic<bool> tired_{true};
  ScriptedPeer first_;
  ScriptedDns dns_;
};

TEST_F(CoolDownTest, WhoAsksForARestGetsItAndTheOtherServes) {
  ScriptedPeer second({.address = "127.0.0.2", .port = first_.port()},
                      testing::AlwaysAnswer(OkResponse("hi")));
  const auto state = [&] { return Addresses("two.test")["127.0.0.1"].state(); };
  // A call on a connection of its own, until one goes there.
  ASSERT_TRUE(CallUntil("two.test", [&] {
    if (state() == "COOLING") return true;
    TestExecute call;
    call.request.set_url(TargetOf("two.test") + "/");
    call.request.mutable_options()->set_pool_group(
        "g" + std::to_string(first_.accepted() + second.accepted()));
    EXPECT_EQ("OK", Go(&call)->Wait());
    return state() == "COOLING";
  }));
  EXPECT_EQ("answered 429", Addresses("two.test")["127.0.0.1"].why());
  ASSERT_TRUE(CallUntil("two.test", [&] {
    return Addresses("two.test")["127.0.0.1"].connections() == 0;
  })) << "its connections are drained";
  const int accepted = first_.accepted();
  tired_ = false;
  for (int i = 0; i < 20 && state() == "COOLING"; ++i) {
    EXPECT_EQ(200, Get("two.test"));
  }
  EXPECT_LE(first_.accepted(), accepted + 1) << "but for its test";
  ASSERT_TRUE(CallUntil("two.test", [&] { return state() == "ACTIVE"; }));
}

TEST_F(CoolDownTest, TheLastOneInServiceGoesOn) {
  for (int i = 0; i < 10; ++i) EXPECT_EQ(429, Get("one.test"));
  EXPECT_EQ("ACTIVE", Addresses("one.test")["127.0.0.1"].state());
  EXPECT_EQ(1, first_.accepted()) << "and so does its connection";
}

TEST_F(CoolDownTest, WhereNothingIsConfiguredAnAnswerIsAnAnswer) {
  settings_.cool_down.clear();
  broker_->Reconfigure(settings_);
  ScriptedPeer second({.address = "127.0.0.2", .port = first_.port()},
                      testing::AlwaysAnswer(OkResponse("hi")));
  for (int i = 0; i < 10; ++i) Get("two.test");
  for (const auto& [address, row] : Addresses("two.test")) {
    EXPECT_EQ("ACTIVE", row.state()) << address;
  }
}

}  // namespace
}  // namespace hotline::server
