// Through an HTTP proxy: what it is asked, and what its answers come to.
#include "upstream/dial/proxy.h"

#include <atomic>
#include <mutex>

#include "tests/fakes/scripted_dns.h"
#include "tests/upstream/upstream_fixture.h"

namespace hotline::upstream {
namespace {

using hotline::testing::ScriptedDns;
using Verdict = ProxyAnswer::Verdict;

TEST(ProxyAddress, IsReadStrictly) {
  const auto good = ProxyAddress::Parse("http://proxy.test:3128");
  ASSERT_TRUE(good.has_value());
  EXPECT_EQ("proxy.test", good->host);
  EXPECT_EQ(3128, good->port);
  for (const char* bad :
       {"", "proxy.test:3128", "https://proxy.test:3128", "http://proxy.test",
        "http://proxy.test:0", "http://:3128", "socks5://proxy.test:1080"}) {
    EXPECT_FALSE(ProxyAddress::Parse(bad).has_value()) << bad;
  }
}

struct AnswerRow {
  const char* name;
  std::string text;
  Verdict verdict;
  int status;
};

TEST(ProxyAnswer, IsJudgedTheSameHoweverItIsCut) {
  const AnswerRow rows[] = {
      {"plain", "HTTP/1.1 200 Connection established\r\n\r\n", Verdict::kOpen,
       200},
      {"old", "HTTP/1.0 200 OK\r\nVia: x\r\n\r\n", Verdict::kOpen, 200},
      {"no reason", "HTTP/1.1 204\r\n\r\n", Verdict::kOpen, 204},
      {"interim", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
       Verdict::kOpen, 200},
      {"forbidden", "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\n",
       Verdict::kRefused, 403},
      {"who are you", "HTTP/1.1 407 Who\r\n\r\n", Verdict::kRefused, 407},
      {"elsewhere", "HTTP/1.1 302 Found\r\n\r\n", Verdict::kRefused, 302},
      {"not HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n", Verdict::kBroken, 0},
      {"no number", "HTTP/1.1 abc OK\r\n\r\n", Verdict::kBroken, 0},
      {"HTTP/2", "HTTP/2.0 200 OK\r\n\r\n", Verdict::kBroken, 0},
      {"short", "HTTP/1.1\r\n\r\n", Verdict::kBroken, 0},
      {"half", "HTTP/1.1 200 OK\r\n", Verdict::kMore, 0},
  };
  for (const AnswerRow& row : rows) {
    ProxyAnswer whole;
    EXPECT_EQ(row.verdict, whole.Feed(row.text)) << row.name;
    EXPECT_EQ(row.status, whole.status()) << row.name;
    ProxyAnswer bytewise;
    Verdict verdict = Verdict::kMore;
    for (const char byte : row.text) {
      ASSERT_EQ(Verdict::kMore, verdict) << row.name;
      verdict = bytewise.Feed({&byte, 1});
    }
    EXPECT_EQ(row.verdict, verdict) << row.name;
  }
}

TEST(ProxyAnswer, MayNotGoOnForEver) {
  ProxyAnswer endless;
  const std::string header = "X: " + std::string(1000, 'x') + "\r\n";
  Verdict verdict = endless.Feed("HTTP/1.1 200 OK\r\n");
  for (int i = 0; i < 17; ++i) {
    ASSERT_EQ(Verdict::kMore, verdict) << i;
    verdict = endless.Feed(header);
  }
  EXPECT_EQ(Verdict::kBroken, verdict);
}

// A proxy that does not go anywhere: it answers as a target would.
class ProxyTest : public UpstreamTest {
 protected:
  void Use(const ScriptedPeer& proxy) { UseAt(proxy.port(), "127.0.0.1"); }
  void UseAt(int port, const std::string& host) {
    policy_.proxy = "http://" + host + ":" + std::to_string(port);
  }
  bool MessageHas(const std::string& part) const {
    return message_.find(part) != std::string::npos;
  }
};

TEST_F(ProxyTest, PlainTargetsAreReachedThroughATunnel) {
  std::string asked;
  ScriptedPeer proxy([&](PeerConnection& c) {
    asked = c.ReadRequest();
    c.Write("HTTP/1.1 200 Connection established\r\n\r\n");
    while (!c.ReadRequest().empty()) c.Write(OkResponse("through"));
  });
  Use(proxy);
  // The name is the proxy's to resolve.
  const pool::ConnId conn = Connect("http://far.test:8080");
  EXPECT_EQ("through", Run(conn).response.body);
  EXPECT_EQ(0u, asked.find("CONNECT far.test:8080 HTTP/1.1\r\n"
                           "Host: far.test:8080\r\n"))
      << asked;
  EXPECT_EQ("127.0.0.1:" + std::to_string(proxy.port()),
            upstream().Describe(conn)->remote_address);
  const auto rows = upstream().Addresses("http://far.test:8080");
  ASSERT_EQ(1u, rows.size());
  EXPECT_EQ("127.0.0.1", rows[0].address.ToString());
}

TEST_F(ProxyTest, LiteralSixIsAskedForInBrackets) {
  options_.egress.allow.push_back("2001:db8::/32");
  std::string asked;
  ScriptedPeer proxy([&](PeerConnection& c) {
    asked = c.ReadRequest();
    c.Write("HTTP/1.1 200 OK\r\n\r\n");
    c.AwaitClose();
  });
  Use(proxy);
  Connect("http://[2001:db8::7]:80");
  EXPECT_EQ(0u, asked.find("CONNECT [2001:db8::7]:80 HTTP/1.1\r\n")) << asked;
}

TEST_F(ProxyTest, RemoteIpIsWhatTheProxyIsAskedFor) {
  std::string asked;
  ScriptedPeer proxy([&](PeerConnection& c) {
    asked = c.ReadRequest();
    c.Write("HTTP/1.1 200 OK\r\n\r\n");
    c.AwaitClose();
  });
  Use(proxy);
  remote_ip_ = "127.0.0.77";
  Connect("http://far.test:80");
  EXPECT_EQ(0u, asked.find("CONNECT 127.0.0.77:80 HTTP/1.1\r\n")) << asked;
  remote_ip_ = "169.254.169.254";
  EXPECT_EQ("EGRESS_DENIED", DialReason("http://far.test:80"));
}

TEST_F(ProxyTest, RefusalsAreTypedAndSayHow) {
  ScriptedPeer proxy([](PeerConnection& c) {
    c.ReadRequest();
    c.Write("HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n");
    c.AwaitClose();
  });
  Use(proxy);
  EXPECT_EQ("PROXY_REFUSED", DialReason("http://far.test:80"));
  EXPECT_TRUE(MessageHas("far.test:80")) << message_;
  EXPECT_TRUE(MessageHas("407")) << message_;
  // The proxy is in good health.
  EXPECT_EQ(0u, upstream().Addresses("http://far.test:80")[0].failures);
}

TEST_F(ProxyTest, OnesThatCloseOrSpeakSomethingElseAreTold) {
  ScriptedPeer closing([](PeerConnection& c) { c.ReadRequest(); });
  Use(closing);
  EXPECT_EQ("PROXY_REFUSED", DialReason("http://far.test:80"));
  EXPECT_TRUE(MessageHas("closed the connection")) << message_;
  ScriptedPeer other([](PeerConnection& c) {
    c.Write("220 mail.test ESMTP\r\n\r\n");
    c.AwaitClose();
  });
  Use(other);
  EXPECT_EQ("PROXY_REFUSED", DialReason("http://far.test:80"));
}

TEST_F(ProxyTest, SilentOneMeetsTheTlsTimeout) {
  options_.tls_timeout = std::chrono::milliseconds(60);
  ScriptedPeer proxy([](PeerConnection& c) { c.AwaitClose(); });
  Use(proxy);
  EXPECT_EQ("PROXY_REFUSED", DialReason("http://far.test:80"));
  EXPECT_TRUE(MessageHas("no answer in time")) << message_;
}

TEST_F(ProxyTest, EgressHoldsForTheProxysAddress) {
  ScriptedPeer proxy(AlwaysAnswer("HTTP/1.1 200 OK\r\n\r\n"));
  options_.egress = {};
  Use(proxy);
  EXPECT_EQ("EGRESS_DENIED", DialReason("http://far.test:80"));
  EXPECT_TRUE(MessageHas("127.0.0.1")) << message_;
  EXPECT_EQ(0, proxy.accepted());
}

TEST_F(ProxyTest, EgressHoldsForTheTargetsName) {
  ScriptedPeer proxy(AlwaysAnswer("HTTP/1.1 200 OK\r\n\r\n"));
  Use(proxy);
  options_.egress.deny = {"*.bad.test", "10.1.0.0/16"};
  EXPECT_EQ("EGRESS_DENIED", DialReason("http://a.bad.test:80"));
  EXPECT_EQ("EGRESS_DENIED", DialReason("http://10.1.2.3:80"));
  EXPECT_EQ("EGRESS_DENIED", DialReason("http://169.254.169.254:80"));
  EXPECT_EQ("EGRESS_DENIED", DialReason("http://192.168.0.1:80"));
  EXPECT_EQ("EGRESS_DENIED", DialReason("http://localhost:80"));
  EXPECT_EQ(0, proxy.accepted());
  EXPECT_EQ("", DialReason("http://a.good.test:80"));
}

TEST_F(ProxyTest, WithNothingAllowedByDefaultTheNameMustBeNamed) {
  ScriptedPeer proxy(AlwaysAnswer("HTTP/1.1 200 OK\r\n\r\n"));
  Use(proxy);
  options_.egress = {.default_public = false,
                     .allow = {"127.0.0.1", "*.good.test"}};
  EXPECT_EQ("EGRESS_DENIED", DialReason("http://a.other.test:80"));
  EXPECT_EQ("", DialReason("http://a.good.test:80"));
}

}  // namespace
}  // namespace hotline::upstream
