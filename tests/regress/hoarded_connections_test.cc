// Silent HTTP connections that locked out the probes.
//
// The operators' listener accepted 64 connections and closed further ones: 64
// silent ones blocked a supervisor's /readyz (29 of 32 probes failed), and a
// thousand slow ones /healthz as well, so the supervisor killed a healthy
// process.
//
// Now a new connection evicts another one: of the peer with the most
// connections, the one without useful activity for the longest time. A slow
// page is rendered once for all who wait for it, and other requests are
// answered in between. Some descriptors are reserved for when no other is left.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "server/observe/admin_http.h"

namespace hotline::server {
namespace {

using std::chrono::milliseconds;

constexpr int kProbes = 32;
// How many connections others open during one probe: fewer than the listener
// holds, so that even a probe that is slow to speak is not the oldest of all.
constexpr int kStormPerProbe = 200;

// A socket of ours, from an address of its own if need be.
class Peer {
 public:
  Peer() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const timeval patience{.tv_sec = 20, .tv_usec = 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  }
  ~Peer() { close(fd_); }
  Peer(const Peer&) = delete;

  bool Connect(int port, const char* from = "127.0.0.1") {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    inet_pton(AF_INET, from, &address.sin_addr);
    bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<uint16_t>(port));
    return connect(fd_, reinterpret_cast<sockaddr*>(&address),
                   sizeof address) == 0;
  }
  void Send(const std::string& bytes) {
    send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  }
  void ReadLittle() {
    const int small = 1024;
    setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
  }
  // The status line.
  std::string Ask(const std::string& path) {
    Send("GET " + path + " HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    std::string all;
    char c;
    while (all.find("\r\n") == std::string::npos && recv(fd_, &c, 1, 0) == 1) {
      all += c;
    }
    return all.substr(0, all.find("\r\n"));
  }

 private:
  const int fd_;
};

class HoardedConnectionsTest : public ::testing::Test {
 protected:
  HoardedConnectionsTest() {
    options_.address = "127.0.0.1:0";
    options_.metrics = [this](MetricsFormat) {
      ++made_;
      return page_;
    };
    options_.not_ready = [] { return std::vector<std::string>(); };
    options_.status_page = [] { return std::string("targets\n"); };
  }

  void Start() {
    auto http = AdminHttp::Start(options_);
    ASSERT_TRUE(http.ok()) << http.status();
    http_ = *std::move(http);
  }

  // `count` connections to which `act` does what it likes.
  void Hoard(int count, const std::function<void(Peer&, int)>& act,
             const char* from = "127.0.0.1") {
    for (int i = 0; i < count; ++i) {
      auto peer = std::make_unique<Peer>();
      if (!peer->Connect(http_->port(), from)) continue;  // Cut off already.
      act(*peer, i);
      hoard_.push_back(std::move(peer));
    }
  }

  // How many of 32 probes are answered; the longest in `slowest_`.
  int Probe() {
    const char* const paths[] = {"/readyz", "/healthz", "/metrics"};
    int answered = 0;
    for (int i = 0; i < kProbes; ++i) {
      storm_ = kStormPerProbe;
      const Instant start = MonotonicNow();
      Peer peer;
      if (peer.Connect(http_->port()) &&
          peer.Ask(paths[i % 3]) == "HTTP/1.1 200 OK") {
        ++answered;
      }
      slowest_ = std::max(slowest_, MonotonicNow() - start);
    }
    std::printf("%d of %d probes answered, the slowest after %.0f ms\n",
                answered, kProbes, ToSeconds(slowest_) * 1e3);
    return answered;
  }

  AdminHttpOptions options_;
  std::string page_ = "a 1\n";
  std::atomic<int> made_{0};
  std::atomic<int> storm_{0};
  std::vector<std::unique_ptr<Peer>> hoard_;
  Duration slowest_{0};
  std::unique_ptr<AdminHttp> http_;
};

TEST_F(HoardedConnectionsTest, AThousandSilentOnesDenyNoProbe) {
  Start();
  Hoard(1000, [](Peer&, int) {});
  EXPECT_EQ(Probe(), kProbes);
}

TEST_F(HoardedConnectionsTest, HalfHeadsAndDripsDenyNoProbe) {
  Start();
  Hoard(1000, [](Peer& peer, int i) {
    peer.Send(i % 2 == 0 ? "G" : "GET /metrics HTTP/1.1\r\nX-A: b\r\n");
  });
  std::atomic<bool> stop{false};
  std::thread drip([&] {
    while (!stop) {
      for (const auto& peer : hoard_) peer->Send("X");
    }
  });
  EXPECT_EQ(Probe(), kProbes);
  stop = true;
  drip.join();
}

TEST_F(HoardedConnectionsTest, AThousandWhoTakeNoAnswerDenyNoProbe) {
  page_.assign(4 << 20, 'x');
  Start();
  Hoard(1000, [](Peer& peer, int) {
    peer.ReadLittle();
    peer.Send("GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n");
  });
  EXPECT_EQ(Probe(), kProbes);
}

TEST_F(HoardedConnectionsTest, PipelinesOfSlowPagesDenyNoProbe) {
  options_.metrics = [this](MetricsFormat) {
    ++made_;
    // A large page takes 5 ms of work.
    for (const Instant end = MonotonicNow() + milliseconds(5);
         MonotonicNow() < end;) {
    }
    return page_;
  };
  Start();
  std::string many;
  for (int i = 0; i < 50; ++i) {
    many += "GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n";
  }
  Hoard(200, [&many](Peer& peer, int) { peer.Send(many); });
  EXPECT_EQ(Probe(), kProbes);
  // 10 000 were asked for.
  EXPECT_LT(made_, 2'000);
}

TEST_F(HoardedConnectionsTest, ANewConnectionIsServedWhileOthersComeAndGo) {
  Start();
  std::atomic<bool> stop{false};
  std::thread storm([&] {
    while (!stop) {
      std::vector<std::unique_ptr<Peer>> some;
      for (int i = 0; i < 300 && !stop; ++i) {
        while (storm_ == 0 && !stop) std::this_thread::yield();
        --storm_;
        some.push_back(std::make_unique<Peer>());
        some.back()->Connect(http_->port());
      }
    }
  });
  EXPECT_EQ(Probe(), kProbes);
  stop = true;
  storm.join();
}

// Those of one address do not push out another's, however new they are.
TEST_F(HoardedConnectionsTest, ThePeerThatHasTheMostLosesItsOldest) {
  options_.max_connections = 10;
  Start();
  Peer quiet;
  ASSERT_TRUE(quiet.Connect(http_->port(), "127.0.0.2"));
  Hoard(100, [](Peer&, int) {});
  EXPECT_EQ(Probe(), kProbes);
  EXPECT_EQ(quiet.Ask("/healthz"), "HTTP/1.1 200 OK");
}

TEST_F(HoardedConnectionsTest, WithoutADescriptorProbesAreAnswered) {
  Start();
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  // Ours for the probes, before the last descriptor is gone.
  std::vector<std::unique_ptr<Peer>> peers;
  for (int i = 0; i < kProbes; ++i) peers.push_back(std::make_unique<Peer>());
  std::vector<int> taken;
  const int highest = open("/dev/null", O_RDONLY | O_CLOEXEC);
  taken.push_back(highest);
  const rlimit low{.rlim_cur = static_cast<rlim_t>(highest) + 50,
                   .rlim_max = limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  for (int fd; (fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0;) {
    taken.push_back(fd);
  }
  EXPECT_EQ(errno, EMFILE);
  int answered = 0;
  for (const auto& peer : peers) {
    answered += peer->Connect(http_->port()) &&
                peer->Ask("/healthz") == "HTTP/1.1 200 OK";
  }
  std::printf("%d of %d probes answered\n", answered, kProbes);
  EXPECT_EQ(answered, kProbes);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  for (const int fd : taken) close(fd);
}

}  // namespace
}  // namespace hotline::server
