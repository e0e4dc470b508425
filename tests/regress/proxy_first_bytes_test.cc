// A server that speaks first, behind a proxy.
//
// After a proxy's 200 to CONNECT the first bytes of the server, such as a mail
// server's greeting, may follow in the same segment. They were taken for an
// invalid answer of the proxy (PROXY_REFUSED), depending on how the bytes
// arrived.
//
// Bytes after the head of the answer belong to the tunnel.
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

#include "tests/upstream/upstream_fixture.h"
#include "upstream/dial/proxy.h"

namespace hotline::upstream {
namespace {

constexpr char kOpened[] = "HTTP/1.1 200 Connection established\r\n\r\n";

// Says "hi", and listens.
class Caller final : public StreamHandler {
 public:
  Caller(Upstream* upstream, pool::ConnId conn)
      : upstream_(upstream), conn_(conn) {}
  void Open() {
    upstream_->OpenStream(conn_, {}, /*end=*/false, this, MonotonicNow());
  }
  void OnHead(int, std::vector<Header>) override {}
  void OnBody(std::string piece) override {
    std::lock_guard lock(mu_);
    heard_ += piece;
    changed_.notify_all();
  }
  void OnTrailers(std::vector<Header>) override {}
  void OnSendable() override {}
  void OnDone(CallResult) override {
    std::lock_guard lock(mu_);
    done_ = true;
    changed_.notify_all();
  }
  std::string Heard(size_t size) {
    std::unique_lock lock(mu_);
    changed_.wait_for(lock, kPatience,
                      [&] { return heard_.size() >= size || done_; });
    return heard_;
  }
  void Close() {
    upstream_->CancelCall(conn_, call());
    std::unique_lock lock(mu_);
    changed_.wait_for(lock, kPatience, [&] { return done_; });
  }

 private:
  Upstream* const upstream_;
  const pool::ConnId conn_;
  std::mutex mu_;
  std::condition_variable changed_;
  std::string heard_;
  bool done_ = false;
};

class ProxyFirstBytesTest : public UpstreamTest {
 protected:
  void Use(const ScriptedPeer& proxy) {
    policy_.proxy = "http://127.0.0.1:" + std::to_string(proxy.port());
  }
};

TEST_F(ProxyFirstBytesTest, GreetingWithTheAnswerIsTheTunnels) {
  ScriptedPeer proxy([](PeerConnection& c) {
    c.ReadRequest();
    c.Write(std::string(kOpened) + "220 mail.test ESMTP\r\n");
    c.AwaitClose();
  });
  Use(proxy);
  const pool::ConnId conn = Connect("tcp://far.test:25");
  Caller caller(&upstream(), conn);
  caller.Open();
  EXPECT_EQ(caller.Heard(21), "220 mail.test ESMTP\r\n");
  caller.Close();
}

TEST_F(ProxyFirstBytesTest, ItIsWholeHoweverItIsCut) {
  ScriptedPeer proxy([](PeerConnection& c) {
    c.ReadRequest();
    c.Write("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n");
    c.Write("\r\n220 mail");
    c.Write(".test ESMTP\r\n");
    c.AwaitClose();
  });
  Use(proxy);
  const pool::ConnId conn = Connect("tcp://far.test:25");
  Caller caller(&upstream(), conn);
  caller.Open();
  EXPECT_EQ(caller.Heard(21), "220 mail.test ESMTP\r\n");
  caller.Close();
}

// Reads the request for a tunnel, and then passes on what comes, both ways.
void Relay(PeerConnection& c, int port) {
  c.ReadRequest();
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(port));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(0, connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to));
  c.Write(kOpened);
  std::thread back([&] {
    char buffer[4096];
    for (;;) {
      const ssize_t size = recv(fd, buffer, sizeof buffer, 0);
      if (size <= 0 || !c.Write({buffer, static_cast<size_t>(size)})) return;
    }
  });
  for (;;) {
    const std::string more = c.ReadSome();
    if (more.empty()) break;
    if (send(fd, more.data(), more.size(), MSG_NOSIGNAL) < 0) break;
  }
  shutdown(fd, SHUT_RDWR);
  back.join();
  close(fd);
}

TEST_F(ProxyFirstBytesTest, ServerBehindTlsMaySpeakFirstToo) {
  ScriptedPeer::Options options;
  options.tls = LocalhostCert();
  ScriptedPeer server(options, [](PeerConnection& c) {
    c.Write("* OK IMAP4rev1\r\n");
    c.AwaitClose();
  });
  ScriptedPeer proxy([&](PeerConnection& c) { Relay(c, server.port()); });
  Use(proxy);
  options_.egress.allow.push_back("localhost");
  const pool::ConnId conn = Connect("tls://localhost:993");
  Caller caller(&upstream(), conn);
  caller.Open();
  EXPECT_EQ(caller.Heard(16), "* OK IMAP4rev1\r\n");
  caller.Close();
}

// What is no TLS is told as that, not as a proxy's mistake.
TEST_F(ProxyFirstBytesTest, PlainGreetingBehindTlsIsTheServersMistake) {
  ScriptedPeer proxy([](PeerConnection& c) {
    c.ReadRequest();
    c.Write(std::string(kOpened) + "220 mail.test ESMTP\r\n");
    c.AwaitClose();
  });
  Use(proxy);
  EXPECT_EQ(DialReason("tls://far.test:25"), "TLS_FAILED") << message_;
}

// On HTTP a server that speaks first is of no use, behind a proxy or not.
TEST_F(ProxyFirstBytesTest, UnaskedBytesEndAnHttpConnection) {
  ScriptedPeer proxy([](PeerConnection& c) {
    c.ReadRequest();
    c.Write(std::string(kOpened) + "220 mail.test ESMTP\r\n");
    c.AwaitClose();
  });
  Use(proxy);
  EXPECT_EQ(DialReason("http://far.test:25"), "CONNECT_FAILED") << message_;
}

TEST(ProxyFirstBytes, AreKeptBehindTheAnswer) {
  ProxyAnswer answer;
  EXPECT_EQ(ProxyAnswer::Verdict::kOpen,
            answer.Feed(std::string(kOpened) + "hello"));
  EXPECT_EQ(answer.tunneled(), "hello");
  ProxyAnswer bare;
  EXPECT_EQ(ProxyAnswer::Verdict::kOpen, bare.Feed(kOpened));
  EXPECT_EQ(bare.tunneled(), "");
  // However much of it there is, and however little before it is allowed.
  ProxyAnswer full;
  EXPECT_EQ(ProxyAnswer::Verdict::kOpen,
            full.Feed(kOpened + std::string(60'000, 'x')));
  EXPECT_EQ(full.tunneled().size(), 60'000u);
  std::string words;
  while (words.size() <= ProxyAnswer::kMostBytes) {
    words += "HTTP/1.1 100 Continue\r\n\r\n";
  }
  ProxyAnswer endless;
  EXPECT_EQ(ProxyAnswer::Verdict::kBroken, endless.Feed(words + kOpened));
}

}  // namespace
}  // namespace hotline::upstream
