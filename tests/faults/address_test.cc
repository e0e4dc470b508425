// One host with four addresses, three of them bad in three ways: the callers
// hear nothing of it after a while, Stats says which and why, and those that
// heal come back.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <map>
#include <string>
#include <vector>

#include "tests/fakes/scripted_dns.h"
#include "tests/server/broker/broker_fixture.h"

namespace hotline::server {
namespace {

using std::chrono::milliseconds;
using testing::OkResponse;
using testing::PeerConnection;
using testing::ScriptedDns;
using testing::ScriptedPeer;

// Listens, and is deaf: the queue of those who wait to be accepted is full, so
// that the kernel drops whatever comes.
class BlackHole {
 public:
  BlackHole(const std::string& address, int port) {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = htons(static_cast<uint16_t>(port));
    inet_pton(AF_INET, address.c_str(), &in.sin_addr);
    const auto* generic = reinterpret_cast<const sockaddr*>(&in);
    const int on = 1;
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    EXPECT_EQ(0, bind(listener_, generic, sizeof in));
    EXPECT_EQ(0, listen(listener_, 0));
    for (int i = 0; i < 4; ++i) {
      fillers_.push_back(
          socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
      (void)!connect(fillers_.back(), generic, sizeof in);
    }
  }
  ~BlackHole() {
    close(listener_);
    for (const int fd : fillers_) close(fd);
  }

 private:
  int listener_;
  std::vector<int> fillers_;
};

// One answer for each connection: so each call is a dial.
void AnswerOnce(PeerConnection& connection) {
  if (connection.ReadRequest().empty()) return;
  connection.Write(
      "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi");
}

class AddressTest : public BrokerTest {
 protected:
  AddressTest()
      : good_({.address = "127.0.0.1"}, AnswerOnce),
        dns_({{"four.test",
               {{"127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"}, 60}}}) {
    upstream_options_.dns_servers = {dns_.address()};
    upstream_options_.tcp_timeout = milliseconds(300);
    upstream_options_.attempt_stagger = milliseconds(20);
    upstream_options_.addresses.eject_base = milliseconds(500);
    upstream_options_.addresses.eject_max = milliseconds(1000);
    settings_.max_attempts = 1;
    target_config_.max_connections = 20;
    target_config_.dial_backoff_base = target_config_.dial_backoff_cap =
        milliseconds(1);
  }

  std::string host() const {
    return "four.test:" + std::to_string(good_.port());
  }
  std::string Get() {
    TestExecute call;
    call.request.set_url("http://" + host() + "/");
    return Go(&call)->Wait();
  }
  std::map<std::string, v1::AddressStats> Addresses() {
    v1::StatsRequest request;
    request.set_target("http://" + host());
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
  std::string States() {
    std::string states;
    for (const auto& [address, row] : Addresses()) states += row.state() + " ";
    return states;
  }
  // Calls until it is so.
  bool CallUntil(const std::string& states) {
    const Instant end = MonotonicNow() + std::chrono::seconds(60);
    while (States() != states) {
      if (MonotonicNow() > end) return false;
      Get();
    }
    return true;
  }

  ScriptedPeer good_;
  ScriptedDns dns_;
};

TEST_F(AddressTest, BadOnesAreFoundOutAndComeBackWhenTheyHeal) {
  const int port = good_.port();
  auto hole = std::make_unique<BlackHole>("127.0.0.3", port);
  auto resetting = std::make_unique<ScriptedPeer>(
      ScriptedPeer::Options{.address = "127.0.0.4", .port = port},
      [](PeerConnection& connection) { connection.Reset(); });
  ASSERT_TRUE(CallUntil("ACTIVE EJECTED EJECTED EJECTED ")) << States();

  for (int i = 0; i < 100; ++i) ASSERT_EQ("OK", Get()) << i;
  auto rows = Addresses();
  EXPECT_EQ("", rows["127.0.0.1"].why());
  EXPECT_NE(std::string::npos,
            rows["127.0.0.2"].why().find("Connection refused"))
      << rows["127.0.0.2"].why();
  EXPECT_NE(std::string::npos, rows["127.0.0.3"].why().find("no answer within"))
      << rows["127.0.0.3"].why();
  EXPECT_NE("", rows["127.0.0.4"].why());
  for (const char* bad : {"127.0.0.2", "127.0.0.3", "127.0.0.4"}) {
    EXPECT_EQ("EJECTED", rows[bad].state());
    EXPECT_TRUE(rows[bad].has_until());
    EXPECT_GE(rows[bad].failures(), 5) << bad;
  }

  hole = nullptr;
  resetting = nullptr;
  std::vector<std::unique_ptr<ScriptedPeer>> healed;
  for (const char* address : {"127.0.0.2", "127.0.0.3", "127.0.0.4"}) {
    healed.push_back(std::make_unique<ScriptedPeer>(
        ScriptedPeer::Options{.address = address, .port = port}, AnswerOnce));
  }
  ASSERT_TRUE(CallUntil("ACTIVE ACTIVE ACTIVE ACTIVE ")) << States();
  for (int i = 0; i < 100; ++i) ASSERT_EQ("OK", Get()) << i;
  // One that was slow is found to be quick by its tests, and then has its
  // share.
  const Instant end = MonotonicNow() + std::chrono::seconds(60);
  for (const auto& peer : healed) {
    while (peer->accepted() < 10 && MonotonicNow() < end) Get();
    EXPECT_GE(peer->accepted(), 10);
  }
}

TEST_F(AddressTest, OneTargetsBadAddressesDoNotSlowAnother) {
  BlackHole hole("127.0.0.3", good_.port());
  ASSERT_TRUE(CallUntil("ACTIVE EJECTED EJECTED EJECTED ")) << States();
  ScriptedPeer other(testing::AlwaysAnswer(OkResponse("hi")));
  ASSERT_EQ("OK", Execute(other)->Wait());
  const auto row = upstream_->Addresses(other.target());
  ASSERT_EQ(1u, row.size());
  EXPECT_EQ(upstream::AddressState::kActive, row[0].state);
  EXPECT_EQ(1, row[0].connections);
}

TEST_F(AddressTest, ACooledOneIsLeftAloneAndComesBackAfterItsTest) {
  std::vector<std::unique_ptr<ScriptedPeer>> others;
  for (const char* address : {"127.0.0.2", "127.0.0.3", "127.0.0.4"}) {
    others.push_back(std::make_unique<ScriptedPeer>(
        ScriptedPeer::Options{.address = address, .port = good_.port()},
        AnswerOnce));
  }
  ASSERT_EQ("OK", Get());
  const std::string target = "http://" + host();
  const Instant now = MonotonicNow();
  const auto address = IpAddress::V4(127, 0, 0, 2);
  EXPECT_TRUE(
      upstream_->Cool(target, address, now + milliseconds(300), "429", now));
  EXPECT_EQ("COOLING", Addresses()["127.0.0.2"].state());
  EXPECT_EQ("429", Addresses()["127.0.0.2"].why());
  ASSERT_TRUE(CallUntil("ACTIVE ACTIVE ACTIVE ACTIVE ")) << States();
  EXPECT_GE(MonotonicNow() - now, milliseconds(300));
}

TEST_F(AddressTest, WhatAnAddressHasOfConnectionsIsCounted) {
  const std::string target = good_.target();
  ASSERT_EQ("OK", Execute(good_)->Wait());
  // It said that it would close.
  const Instant end = MonotonicNow() + std::chrono::seconds(20);
  while (upstream_->Addresses(target)[0].connections > 0) {
    ASSERT_LT(MonotonicNow(), end);
    std::this_thread::yield();
  }
  EXPECT_EQ(1u, upstream_->Addresses(target)[0].dials);
  EXPECT_EQ(0u, upstream_->Addresses(target)[0].failures);
}

}  // namespace
}  // namespace hotline::server
