// Which address a dial goes to, and which it comes from.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <set>

#include "tests/fakes/eventually.h"
#include "tests/fakes/scripted_dns.h"
#include "tests/upstream/upstream_fixture.h"

namespace hotline::upstream {
namespace {

using hotline::testing::ScriptedDns;
using std::chrono::milliseconds;
using std::chrono::seconds;

// Takes no connection: its queue is full, and the kernel drops what comes.
class DeafListener {
 public:
  explicit DeafListener(int port) {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = htons(static_cast<uint16_t>(port));
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1);  // 127.0.0.2
    const socklen_t length = sizeof in;
    auto* generic = reinterpret_cast<sockaddr*>(&in);
    fds_[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(0, bind(fds_[0], generic, length));
    EXPECT_EQ(0, listen(fds_[0], 0));
    for (int i = 1; i < 5; ++i) {
      fds_[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
      (void)!connect(fds_[i], generic, length);
    }
  }
  ~DeafListener() {
    for (const int fd : fds_) close(fd);
  }

 private:
  int fds_[5];
};

class AddressDialTest : public UpstreamTest {
 protected:
  std::string LocalIp(pool::ConnId conn) {
    const std::string at = upstream().Describe(conn)->local_address;
    return at.substr(0, at.rfind(':'));
  }
  std::string RemoteIp(pool::ConnId conn) {
    const std::string at = upstream().Describe(conn)->remote_address;
    return at.substr(0, at.rfind(':'));
  }
  AddressRow Row(const std::string& target, const std::string& address) {
    for (const AddressRow& row : upstream().Addresses(target)) {
      if (row.address.ToString() == address) return row;
    }
    return {};
  }
};

TEST_F(AddressDialTest, ADeafAddressCostsTheStaggerAndNoMore) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("hi")));
  const DeafListener deaf(peer.port());
  ScriptedDns dns({{"two.test", {{"127.0.0.2", "127.0.0.1"}, 60}}});
  options_.dns_servers = {dns.address()};
  options_.attempt_stagger = milliseconds(50);
  options_.tcp_timeout = seconds(20);
  const std::string target = "http://two.test:" + std::to_string(peer.port());
  // Whichever is first: the deaf one is tried by some, and overtaken.
  for (int i = 0; i < 20; ++i) {
    const Instant start = MonotonicNow();
    const pool::ConnId conn = Connect(target);
    EXPECT_EQ("127.0.0.1", RemoteIp(conn));
    EXPECT_LT(MonotonicNow() - start, seconds(10));
  }
  const AddressRow row = Row(target, "127.0.0.2");
  EXPECT_GT(row.dials, 0u);
  EXPECT_EQ(0u, row.failures) << "overtaken is not failed";
  EXPECT_GE(row.dial_time, milliseconds(50));
  EXPECT_EQ(20, Row(target, "127.0.0.1").connections);
}

TEST_F(AddressDialTest, ConnectionsSpreadOverTheAddresses) {
  ScriptedPeer one(AlwaysAnswer(OkResponse("1")));
  ScriptedPeer two({.address = "127.0.0.2", .port = one.port()},
                   AlwaysAnswer(OkResponse("2")));
  ScriptedDns dns({{"two.test", {{"127.0.0.1", "127.0.0.2"}, 60}}});
  options_.dns_servers = {dns.address()};
  const std::string target = "http://two.test:" + std::to_string(one.port());
  for (int i = 0; i < 40; ++i) Connect(target);
  EXPECT_NEAR(20, Row(target, "127.0.0.1").connections, 6);
  EXPECT_NEAR(20, Row(target, "127.0.0.2").connections, 6);
}

TEST_F(AddressDialTest, DnsIsAskedOnceAndAnswersServeAllDials) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("hi")));
  ScriptedDns dns({{"up.test", {{"127.0.0.1"}, 60}}});
  options_.dns_servers = {dns.address()};
  for (int i = 0; i < 10; ++i) {
    Connect("http://up.test:" + std::to_string(peer.port()));
  }
  EXPECT_EQ(1, dns.questions("up.test"));
}

TEST_F(AddressDialTest, ARuleThatComesLaterHoldsForTheNextDial) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("hi")));
  Connect(peer.target());
  Options other = options_;
  other.egress.deny = {"127.0.0.1"};
  ASSERT_TRUE(upstream().Reconfigure(other).ok());
  EXPECT_EQ("EGRESS_DENIED", DialReason(peer.target()));
  EXPECT_NE(std::string::npos, message_.find("egress.deny")) << message_;
  EXPECT_EQ(AddressState::kDenied, Row(peer.target(), "127.0.0.1").state);
  EXPECT_EQ("egress.deny", Row(peer.target(), "127.0.0.1").why);
  ASSERT_TRUE(upstream().Reconfigure(options_).ok());
  EXPECT_EQ("", DialReason(peer.target()));
}

// What an operator takes out of service.

TEST_F(AddressDialTest, ABlockedAddressIsNotDialledUntilItIsUnblocked) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("hi")));
  const pool::ConnId conn = Connect(peer.target());
  const AddressBlock block{.range = *IpRange::Parse("127.0.0.0/8")};
  const auto open = upstream().Block(block, MonotonicNow());
  ASSERT_TRUE(open.has_value());
  EXPECT_EQ(std::vector<pool::ConnId>{conn}, *open);
  EXPECT_EQ("ADDRESS_BLOCKED", DialReason(peer.target()));
  EXPECT_NE(std::string::npos, message_.find("blocked by an operator"))
      << message_;
  remote_ip_ = "127.0.0.1";
  EXPECT_EQ("ADDRESS_BLOCKED", DialReason(peer.target()));
  remote_ip_ = "::ffff:127.0.0.1";
  EXPECT_EQ("ADDRESS_BLOCKED", DialReason(peer.target()));
  remote_ip_ = "";
  EXPECT_EQ(1u, upstream().Blocks(MonotonicNow()).size());
  EXPECT_TRUE(upstream().Unblock(block, MonotonicNow()));
  EXPECT_EQ("", DialReason(peer.target()));
}

TEST_F(AddressDialTest, ADrainedAddressOfATargetLeavesTheOthers) {
  ScriptedPeer one(AlwaysAnswer(OkResponse("1")));
  ScriptedPeer two({.address = "127.0.0.2", .port = one.port()},
                   AlwaysAnswer(OkResponse("2")));
  ScriptedDns dns({{"two.test", {{"127.0.0.1", "127.0.0.2"}, 60}},
                   {"other.test", {{"127.0.0.1"}, 60}}});
  options_.dns_servers = {dns.address()};
  const std::string port = ":" + std::to_string(one.port());
  const AddressBlock drain{.kind = AddressBlock::Kind::kDrained,
                           .target = "http://two.test" + port,
                           .range = *IpRange::Parse("127.0.0.1")};
  ASSERT_TRUE(upstream().Block(drain, MonotonicNow()).has_value());
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ("127.0.0.2", RemoteIp(Connect("http://two.test" + port)));
  }
  EXPECT_EQ("drained by an operator",
            Row("http://two.test" + port, "127.0.0.1").why);
  EXPECT_EQ("127.0.0.1", RemoteIp(Connect("http://other.test" + port)));
}

TEST_F(AddressDialTest, ABlockEndsByItsTime) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("hi")));
  const Instant now = MonotonicNow();
  ASSERT_TRUE(upstream()
                  .Block({.range = *IpRange::Parse("127.0.0.1"),
                          .until = now + milliseconds(1)},
                         now)
                  .has_value());
  ASSERT_TRUE(hotline::Eventually(
      [&] { return upstream().Blocks(MonotonicNow()).empty(); }));
  EXPECT_EQ("", DialReason(peer.target()));
}

TEST_F(AddressDialTest, HostRulesDecideByTheNameThatWasAskedFor) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("hi")));
  ScriptedDns dns({{"a.good.test", {{"127.0.0.1"}, 60}},
                   {"a.bad.test", {{"127.0.0.1"}, 60}}});
  options_.dns_servers = {dns.address()};
  options_.egress = {.allow = {"*.good.test"}};
  const std::string port = ":" + std::to_string(peer.port());
  EXPECT_EQ("", DialReason("http://a.good.test" + port));
  EXPECT_EQ("EGRESS_DENIED", DialReason("http://a.bad.test" + port));
  EXPECT_EQ("EGRESS_DENIED", DialReason("http://127.0.0.1" + port));
}

// Remote addresses.

TEST_F(AddressDialTest, RemoteIpIsWhereItGoesAndTheNameRemains) {
  ScriptedPeer peer({.tls = SharedCa().Issue("pinned", "DNS:pinned.test"),
                     .address = "127.0.0.7"},
                    AlwaysAnswer(OkResponse("hi")));
  remote_ip_ = "127.0.0.7";
  // No DNS knows it, and none is asked.
  const pool::ConnId conn =
      Connect("https://pinned.test:" + std::to_string(peer.port()));
  EXPECT_EQ("127.0.0.7", RemoteIp(conn));
  EXPECT_EQ("pinned.test", peer.last_sni());
}

TEST_F(AddressDialTest, RemoteIpIsSubjectToEgress) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("hi")));
  options_.egress.deny = {"127.0.0.9"};
  remote_ip_ = "127.0.0.9";
  EXPECT_EQ("EGRESS_DENIED", DialReason(peer.target()));
  remote_ip_ = "169.254.169.254";
  EXPECT_EQ("EGRESS_DENIED", DialReason(peer.target()));
}

// Local addresses.

TEST_F(AddressDialTest, SourceIpIsWhereItComesFrom) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("hi")));
  source_ip_ = "127.0.0.5";
  EXPECT_EQ("127.0.0.5", LocalIp(Connect(peer.target())));
  source_ip_ = "";
  EXPECT_EQ("127.0.0.1", LocalIp(Connect(peer.target())));
}

TEST_F(AddressDialTest, SourceIpThatIsNotOursIsSaidAndNotBlamedOnTheOther) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("hi")));
  source_ip_ = "192.0.2.1";
  EXPECT_EQ("CONNECT_FAILED", DialReason(peer.target()));
  EXPECT_NE(std::string::npos, message_.find("source address 192.0.2.1"))
      << message_;
  EXPECT_EQ(0u, Row(peer.target(), "127.0.0.1").failures);
  EXPECT_EQ(0, Row(peer.target(), "127.0.0.1").dialing);
}

TEST_F(AddressDialTest, SourceIpOfAnotherFamilyIsSaid) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("hi")));
  source_ip_ = "::1";
  EXPECT_EQ("CONNECT_FAILED", DialReason(peer.target()));
  EXPECT_NE(std::string::npos, message_.find("family")) << message_;
}

TEST_F(AddressDialTest, SourceAddressesAreAllUsed) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("hi")));
  options_.source_addresses = {"127.0.0.11", "127.0.0.12", "127.0.0.13"};
  std::set<std::string> seen;
  for (int i = 0; i < 60; ++i) seen.insert(LocalIp(Connect(peer.target())));
  EXPECT_EQ((std::set<std::string>{"127.0.0.11", "127.0.0.12", "127.0.0.13"}),
            seen);
}

TEST_F(AddressDialTest, SourceAddressesAreReadStrictly) {
  options_.source_addresses = {"127.0.0.1", "localhost"};
  const auto made = Upstream::Create(options_);
  EXPECT_EQ(absl::StatusCode::kInvalidArgument, made.status().code());
  EXPECT_NE(absl::string_view::npos, made.status().message().find("localhost"));
}

}  // namespace
}  // namespace hotline::upstream
