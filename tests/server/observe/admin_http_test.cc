#include "server/observe/admin_http.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/fakes/eventually.h"
#include "tests/fakes/watches.h"

namespace hotline::server {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// A client's end of a connection.
class Client {
 public:
  explicit Client(int port, in_addr_t host = INADDR_LOOPBACK)
      : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(host);
    connected_ = connect(fd_, reinterpret_cast<sockaddr*>(&address),
                         sizeof address) == 0;
    const timeval patience{.tv_sec = 20, .tv_usec = 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  }
  ~Client() { close(fd_); }
  Client(const Client&) = delete;

  bool connected() const { return connected_; }

  void Send(const std::string& bytes) {
    (void)!send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }

  // Reads until the server closes; "(timeout)" if it does not.
  std::string ReadAll() {
    std::string all;
    char buffer[65536];
    while (true) {
      const ssize_t n = recv(fd_, buffer, sizeof buffer, 0);
      if (n < 0 && errno == EAGAIN) return "(timeout)";
      if (n <= 0) return all;
      all.append(buffer, n);
    }
  }

  // Waits for the end of the connection without reading.
  void AwaitHangUp() {
    pollfd end{.fd = fd_, .events = POLLRDHUP, .revents = 0};
    EXPECT_EQ(poll(&end, 1, 20'000), 1);
  }

  // Reads the head and body of one answer with a Content-Length.
  std::string ReadAnswer(bool head_only = false) {
    std::string all;
    char c;
    while (!absl::EndsWith(all, "\r\n\r\n") && recv(fd_, &c, 1, 0) == 1) {
      all += c;
    }
    const size_t at = all.find("Content-Length: ");
    if (head_only || at == std::string::npos) return all;
    for (int left = std::stoi(all.substr(at + 16)); left > 0; --left) {
      if (recv(fd_, &c, 1, 0) != 1) break;
      all += c;
    }
    return all;
  }

 private:
  const int fd_;
  bool connected_ = false;
};

std::string Unzip(const std::string& zipped) {
  z_stream stream{};
  if (inflateInit2(&stream, 15 + 16) != Z_OK) return "";
  std::string in = zipped;
  std::string out(1 << 20, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(in.data());
  stream.avail_in = static_cast<uInt>(in.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  const int result = inflate(&stream, Z_FINISH);
  out.resize(result == Z_STREAM_END ? stream.total_out : 0);
  inflateEnd(&stream);
  return out;
}

class AdminHttpTest : public ::testing::Test {
 protected:
  AdminHttpTest() {
    options_.address = "127.0.0.1:0";
    options_.metrics = [this](MetricsFormat format) {
      return format == MetricsFormat::kText ? metrics_ : metrics_ + "# EOF\n";
    };
    options_.not_ready = [this] { return reasons_; };
    options_.status_page = [] { return std::string("the targets\n"); };
  }

  void Start() {
    auto http = AdminHttp::Start(options_);
    ASSERT_TRUE(http.ok()) << http.status();
    http_ = *std::move(http);
  }

  // Sends one request on a new connection and returns the whole answer.
  std::string Ask(const std::string& line, const std::string& headers = "") {
    Client client(http_->port());
    client.Send(absl::StrCat(line, " HTTP/1.1\r\nHost: localhost\r\n", headers,
                             "Connection: close\r\n\r\n"));
    return client.ReadAll();
  }

  AdminHttpOptions options_;
  std::string metrics_ = "a 1\n";
  std::vector<std::string> reasons_;
  std::unique_ptr<AdminHttp> http_;
};

TEST_F(AdminHttpTest, MetricsComeWithTheirContentType) {
  Start();
  const std::string answer = Ask("GET /metrics");
  EXPECT_TRUE(absl::StartsWith(answer, "HTTP/1.1 200 OK\r\n")) << answer;
  EXPECT_TRUE(absl::StrContains(
      answer, "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"))
      << answer;
  EXPECT_TRUE(absl::StrContains(answer, "Content-Length: 4\r\n"));
  EXPECT_TRUE(absl::EndsWith(answer, "\r\n\r\na 1\n"));
  EXPECT_TRUE(absl::StartsWith(Ask("GET /metrics?x=1"), "HTTP/1.1 200 OK\r\n"));
}

TEST_F(AdminHttpTest, OpenMetricsAreServedToClientsThatPreferThem) {
  Start();
  const std::string answer =
      Ask("GET /metrics",
          "Accept: application/openmetrics-text;version=1.0.0,"
          "text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n");
  EXPECT_TRUE(absl::StrContains(answer,
                                "Content-Type: application/openmetrics-text; "
                                "version=1.0.0; charset=utf-8\r\n"))
      << answer;
  EXPECT_TRUE(absl::StrContains(answer, "Vary: Accept, Accept-Encoding\r\n"));
  EXPECT_TRUE(absl::EndsWith(answer, "\r\n\r\na 1\n# EOF\n"));
}

TEST_F(AdminHttpTest, MetricsAreCompressedForClientsThatAcceptIt) {
  metrics_.clear();
  for (int i = 0; i < 10'000; ++i) absl::StrAppend(&metrics_, "a ", i, "\n");
  Start();
  const std::string answer =
      Ask("GET /metrics", "Accept-Encoding: deflate, gzip;q=0.5\r\n");
  EXPECT_TRUE(absl::StrContains(answer, "Content-Encoding: gzip\r\n"));
  const std::string body = answer.substr(answer.find("\r\n\r\n") + 4);
  EXPECT_LT(body.size(), metrics_.size() / 2);
  EXPECT_TRUE(absl::StrContains(
      answer, absl::StrCat("Content-Length: ", body.size(), "\r\n")));
  EXPECT_EQ(Unzip(body), metrics_);

  const std::string plain = Ask("GET /metrics");
  EXPECT_FALSE(absl::StrContains(plain, "Content-Encoding"));
  EXPECT_TRUE(absl::EndsWith(plain, metrics_));
  EXPECT_FALSE(absl::StrContains(
      Ask("GET /healthz", "Accept-Encoding: gzip\r\n"), "Content-Encoding"));
}

TEST_F(AdminHttpTest, HeadTellsTheLengthAndSendsNoBody) {
  Start();
  const std::string answer = Ask("HEAD /metrics");
  EXPECT_TRUE(absl::StartsWith(answer, "HTTP/1.1 200 OK\r\n")) << answer;
  EXPECT_TRUE(absl::StrContains(answer, "Content-Length: 4\r\n"));
  EXPECT_TRUE(absl::EndsWith(answer, "\r\n\r\n"));
}

TEST_F(AdminHttpTest, ReadinessFollowsItsReasonsAndLivenessDoesNot) {
  Start();
  EXPECT_TRUE(absl::EndsWith(Ask("GET /readyz"), "\r\n\r\nok\n"));
  reasons_ = {"draining", "no loops"};
  const std::string answer = Ask("GET /readyz");
  EXPECT_TRUE(absl::StartsWith(answer, "HTTP/1.1 503 Service Unavailable\r\n"));
  EXPECT_TRUE(absl::EndsWith(
      answer, "\r\n\r\nnot ready: draining\nnot ready: no loops\n"));
  EXPECT_TRUE(absl::EndsWith(Ask("GET /healthz"), "\r\n\r\nok\n"));
}

TEST_F(AdminHttpTest, TheStatusPageIsForThisMachineAndItsOwnNames) {
  Start();
  EXPECT_TRUE(absl::EndsWith(Ask("GET /"), "\r\n\r\nthe targets\n"));
  for (const char* host : {"127.0.0.1:9464", "[::1]:9464", "localhost:1"}) {
    Client client(http_->port());
    client.Send(absl::StrCat("GET / HTTP/1.1\r\nHost: ", host,
                             "\r\nConnection: close\r\n\r\n"));
    EXPECT_TRUE(absl::StartsWith(client.ReadAll(), "HTTP/1.1 200")) << host;
  }
  Client rebound(http_->port());
  rebound.Send(
      "GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(absl::StartsWith(rebound.ReadAll(), "HTTP/1.1 404"));
}

TEST_F(AdminHttpTest, TheStatusPageIsNotForOthers) {
  in_addr_t elsewhere = 0;
  ifaddrs* addresses = nullptr;
  ASSERT_EQ(getifaddrs(&addresses), 0);
  for (ifaddrs* a = addresses; a != nullptr; a = a->ifa_next) {
    if (a->ifa_addr == nullptr || a->ifa_addr->sa_family != AF_INET) continue;
    const in_addr_t address =
        ntohl(reinterpret_cast<sockaddr_in*>(a->ifa_addr)->sin_addr.s_addr);
    if (address >> 24 != 127) elsewhere = address;
  }
  freeifaddrs(addresses);
  if (elsewhere == 0) GTEST_SKIP() << "this machine has loopback alone";

  options_.address = "0.0.0.0:0";
  Start();
  for (const auto& [path, code] :
       {std::pair("/", "404"), std::pair("/metrics", "200")}) {
    Client client(http_->port(), elsewhere);
    if (!client.connected()) GTEST_SKIP() << "its own address is filtered";
    client.Send(absl::StrCat("GET ", path,
                             " HTTP/1.1\r\nHost: localhost\r\nConnection: "
                             "close\r\n\r\n"));
    EXPECT_TRUE(
        absl::StartsWith(client.ReadAll(), absl::StrCat("HTTP/1.1 ", code)))
        << path;
  }
}

TEST_F(AdminHttpTest, OtherPathsAndMethodsAreRefused) {
  Start();
  EXPECT_TRUE(absl::StartsWith(Ask("GET /nothing"), "HTTP/1.1 404"));
  EXPECT_TRUE(absl::StartsWith(Ask("GET //metrics"), "HTTP/1.1 404"));
  const std::string answer = Ask("POST /metrics", "Content-Length: 0\r\n");
  EXPECT_TRUE(absl::StartsWith(answer, "HTTP/1.1 405")) << answer;
  EXPECT_TRUE(absl::StrContains(answer, "Allow: GET, HEAD\r\n"));
}

TEST_F(AdminHttpTest, AConnectionIsKeptForSomeRequests) {
  options_.max_requests_per_connection = 3;
  Start();
  Client client(http_->port());
  const std::string request = "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n";
  client.Send(request);
  EXPECT_TRUE(absl::EndsWith(client.ReadAnswer(), "ok\n"));
  client.Send(request + request + request);  // Pipelined.
  EXPECT_FALSE(absl::StrContains(client.ReadAnswer(), "Connection: close"));
  const std::string rest = client.ReadAll();
  EXPECT_TRUE(absl::StrContains(rest, "Connection: close\r\n")) << rest;
  EXPECT_TRUE(absl::EndsWith(rest, "ok\n"));
}

TEST_F(AdminHttpTest, AHeadThenAGetOnOneConnectionDoNotMix) {
  Start();
  Client client(http_->port());
  client.Send("HEAD /metrics HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_TRUE(absl::EndsWith(client.ReadAnswer(true), "\r\n\r\n"));
  client.Send("GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n");
  const std::string answer = client.ReadAnswer();
  EXPECT_TRUE(absl::StartsWith(answer, "HTTP/1.1 200")) << answer;
  EXPECT_TRUE(absl::EndsWith(answer, "a 1\n"));
}

TEST_F(AdminHttpTest, ABadRequestIsAnsweredAndClosed) {
  Start();
  Client garbage(http_->port());
  garbage.Send("\x16\x03\x01 hello\r\n\r\n");
  EXPECT_TRUE(absl::StartsWith(garbage.ReadAll(), "HTTP/1.1 400"));

  Client large(http_->port());
  large.Send("GET /metrics HTTP/1.1\r\nHost: h\r\nX: " +
             std::string(20'000, 'x') + "\r\n\r\n");
  EXPECT_TRUE(absl::StartsWith(large.ReadAll(), "HTTP/1.1 431"));

  Client body(http_->port());
  body.Send(
      "GET /metrics HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello");
  EXPECT_TRUE(absl::StartsWith(body.ReadAll(), "HTTP/1.1 413"));
}

TEST_F(AdminHttpTest, ASlowRequestIsCutOff) {
  options_.read_timeout = milliseconds(100);
  options_.idle_timeout = milliseconds(200);
  Start();
  Client silent(http_->port());
  EXPECT_EQ(silent.ReadAll(), "");
  Client slow(http_->port());
  slow.Send("GET /metrics HTT");
  EXPECT_EQ(slow.ReadAll(), "");
  Client idle(http_->port());
  idle.Send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_TRUE(absl::EndsWith(idle.ReadAll(), "ok\n"));
}

TEST_F(AdminHttpTest, AReaderThatDoesNotReadIsCutOff) {
  metrics_.assign(64 << 20, 'x');
  options_.write_timeout = milliseconds(200);
  Start();
  Client client(http_->port());
  client.Send("GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n");
  // Other clients are served meanwhile.
  EXPECT_TRUE(absl::EndsWith(Ask("GET /healthz"), "ok\n"));
  client.AwaitHangUp();
  EXPECT_LT(client.ReadAll().size(), metrics_.size());
}

TEST_F(AdminHttpTest, PastTheLimitANewConnectionReplacesTheLeastRecentlyUsed) {
  options_.max_connections = 3;
  Start();
  std::vector<std::unique_ptr<Client>> clients;
  const auto ask = [](Client& client) {
    client.Send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
    return client.ReadAnswer();
  };
  for (int i = 0; i < 3; ++i) {
    clients.push_back(std::make_unique<Client>(http_->port()));
    EXPECT_TRUE(absl::EndsWith(ask(*clients.back()), "ok\n"));
  }
  EXPECT_TRUE(absl::EndsWith(ask(*clients[0]), "ok\n"));
  EXPECT_TRUE(absl::EndsWith(Ask("GET /healthz"), "ok\n"));
  EXPECT_EQ(clients[1]->ReadAll(), "");
  EXPECT_TRUE(absl::EndsWith(ask(*clients[0]), "ok\n"));
  EXPECT_TRUE(absl::EndsWith(ask(*clients[2]), "ok\n"));
}

TEST_F(AdminHttpTest, ReasonsAreEscaped) {
  reasons_ = {"a\r\nX: y\x1b[2J\xff"};
  Start();
  EXPECT_TRUE(absl::EndsWith(Ask("GET /readyz"),
                             "\r\n\r\nnot ready: a\\r\\nX: "
                             "y\\u001b[2J\\xff\n"));
}

TEST_F(AdminHttpTest, AnAddressInUseIsNamed) {
  Start();
  const int port = http_->port();
  options_.address = absl::StrCat("127.0.0.1:", port);
  const auto second = AdminHttp::Start(options_);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(second.status().message(),
            absl::StrCat("127.0.0.1:", port,
                         ": cannot listen: Address already in use"));
  http_->Stop();
  const auto third = AdminHttp::Start(options_);  // The port is free at once.
  EXPECT_TRUE(third.ok()) << third.status();
}

TEST_F(AdminHttpTest, AMalformedAddressIsRefused) {
  for (const char* address :
       {"", "localhost:80", "127.0.0.1", ":80", "127.0.0.1:99999", "::1:80",
        "[127.0.0.1]:80", "1.2.3.4:x"}) {
    options_.address = address;
    EXPECT_EQ(AdminHttp::Start(options_).status().code(),
              absl::StatusCode::kInvalidArgument)
        << address;
  }
}

TEST_F(AdminHttpTest, AnotherListenerTakesTheSocketOver) {
  Start();
  Client kept(http_->port());
  kept.Send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_TRUE(absl::EndsWith(kept.ReadAnswer(), "ok\n"));

  options_.listening_fd = dup(http_->listening_fd());
  http_->StopAccepting();
  http_->StopAccepting();
  // Until its queue is taken, a connection waits there, and nothing is lost.
  Client waiting(http_->port());
  ASSERT_TRUE(waiting.connected());
  EXPECT_TRUE(Eventually(
      [&] { return testing::WatchesOf(options_.listening_fd) == 0; }));
  const auto second = AdminHttp::Start(options_);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ((*second)->port(), http_->port());
  waiting.Send("GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(absl::EndsWith(waiting.ReadAll(), "ok\n"));

  // The first one answers once more where it is connected.
  kept.Send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
  const std::string last = kept.ReadAll();
  EXPECT_TRUE(absl::StrContains(last, "Connection: close\r\n")) << last;
  EXPECT_TRUE(absl::EndsWith(last, "ok\n")) << last;
}

TEST_F(AdminHttpTest, StopClosesWhatIsOpenAndMayBeRepeated) {
  Start();
  Client client(http_->port());
  client.Send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_TRUE(absl::EndsWith(client.ReadAnswer(), "ok\n"));
  http_->Stop();
  http_->Stop();
  EXPECT_EQ(client.ReadAll(), "");
  EXPECT_FALSE(Client(http_->port()).connected());
}

}  // namespace
}  // namespace hotline::server
