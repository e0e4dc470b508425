#include "server/daemon/takeover.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "server/daemon/systemd.h"
#include "tests/fakes/eventually.h"

namespace hotline::server {
namespace {

using Found = absl::StatusOr<std::unique_ptr<Predecessor>>;

class TakeoverTest : public ::testing::Test {
 protected:
  TakeoverTest() {
    char name[] = "/tmp/hlXXXXXX";
    directory_ = mkdtemp(name);
    path_ = directory_ + "/takeover.sock";
    auto tcp = Listener::Bind("127.0.0.1:0");
    auto unix_socket = Listener::Bind("unix://" + directory_ + "/a.sock");
    EXPECT_TRUE(tcp.ok() && unix_socket.ok());
    listeners_.push_back(*std::move(tcp));
    listeners_.push_back(*std::move(unix_socket));
  }
  ~TakeoverTest() override {
    listeners_.clear();
    server_ = nullptr;
    std::filesystem::remove_all(directory_);
  }

  void Start(uid_t user = geteuid()) {
    auto server = TakeoverServer::Start(path_, nullptr, user);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  HandOver Offer() const {
    HandOver out;
    out.sockets = {listeners_[0].Describe("http"),
                   listeners_[1].Describe("grpc")};
    out.warm_set = warm_set_;
    return out;
  }
  std::optional<pid_t> Step(Duration later = Duration(0)) {
    return server_->Step(MonotonicNow() + later, [this] { return Offer(); });
  }

  // Finds the server, which takes its steps meanwhile.
  Found Find() {
    std::future<Found> found = std::async(std::launch::async, [this] {
      return Predecessor::Find(path_, geteuid());
    });
    EXPECT_TRUE(Eventually([&] {
      EXPECT_EQ(Step(), std::nullopt);
      return found.wait_for(std::chrono::seconds(0)) ==
             std::future_status::ready;
    }));
    return found.get();
  }

  // A taker that sends what it likes.
  int Connect() const {
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un to{};
    to.sun_family = AF_UNIX;
    path_.copy(to.sun_path, sizeof to.sun_path - 1);
    EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
    return fd;
  }
  static bool IsClosed(int fd) {
    char byte;
    return recv(fd, &byte, 1, MSG_DONTWAIT) == 0;
  }

  std::string directory_;
  std::string path_;
  std::string warm_set_ = std::string(1 << 20, 'w');
  std::vector<Listener> listeners_;
  std::unique_ptr<TakeoverServer> server_;
};

TEST_F(TakeoverTest, SocketsAndTheWarmSetArePassed) {
  Start();
  auto found = Find();
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ((*found)->pid(), getpid());
  EXPECT_EQ((*found)->warm_set(), warm_set_);
  InheritedSockets sockets = (*found)->TakeSockets();
  EXPECT_EQ(sockets.left().size(), 3u);
  const auto tcp = Listener::Bind("127.0.0.1:0", {&sockets, "http"});
  ASSERT_TRUE(tcp.ok()) << tcp.status();
  EXPECT_EQ(tcp->address(), listeners_[0].address());
  EXPECT_NE(tcp->fd(), listeners_[0].fd());
  auto local =
      Listener::Bind("unix://" + directory_ + "/a.sock", {&sockets, "grpc"});
  ASSERT_TRUE(local.ok()) << local.status();
  local->KeepFile();

  // The next taker connects to the same socket, which has the next server.
  auto next = TakeoverServer::Start(path_, &sockets, geteuid());
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_TRUE(sockets.left().empty());
  std::future<absl::Status> finished =
      std::async(std::launch::async, [&] { return (*found)->Finish(); });
  EXPECT_TRUE(Eventually([&] { return Step() == getpid(); }));
  server_->SetOwnsFile(false);
  server_->Acknowledge();
  EXPECT_EQ(finished.get(), absl::OkStatus());
  server_ = *std::move(next);
  EXPECT_TRUE(Find().ok());
}

TEST_F(TakeoverTest, WithoutAProcessThereIsNothingToTakeOver) {
  auto found = Predecessor::Find(path_, geteuid());
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(*found, nullptr);
  Start();
  server_->SetOwnsFile(false);
  server_ = nullptr;  // As after a crash.
  ASSERT_EQ(access(path_.c_str(), F_OK), 0);
  found = Predecessor::Find(path_, geteuid());
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(*found, nullptr);
  Start();  // And it is replaced.
  EXPECT_TRUE(Find().ok());
}

TEST_F(TakeoverTest, ATakerThatEndsBeforeItServesChangesNothing) {
  Start();
  for (int round = 0; round < 3; ++round) {
    auto found = Find();
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_TRUE((*found)->AliveFor(Duration(0)));
    *found = nullptr;
    EXPECT_EQ(Step(), std::nullopt);
  }
  EXPECT_EQ(access((directory_ + "/a.sock").c_str(), F_OK), 0);
}

TEST_F(TakeoverTest, ATakerKnowsThatTheOldProcessEnded) {
  Start();
  auto found = Find();
  ASSERT_TRUE(found.ok()) << found.status();
  server_ = nullptr;
  EXPECT_FALSE((*found)->AliveFor(std::chrono::seconds(20)));
  EXPECT_EQ((*found)->Finish().code(), absl::StatusCode::kUnavailable);
}

TEST_F(TakeoverTest, OneTakesOverAtATime) {
  Start();
  const auto first = Find();
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(Find().status().message(), "cannot take over: process " +
                                           std::to_string(getpid()) +
                                           " is taking over");
  EXPECT_TRUE((*first)->AliveFor(Duration(0)));
}

TEST_F(TakeoverTest, AnotherUsersProcessIsRefused) {
  Start(geteuid() + 1);
  EXPECT_EQ(Find().status().message(), "cannot take over: uid " +
                                           std::to_string(geteuid()) +
                                           " is not the running process's " +
                                           std::to_string(geteuid() + 1));
  // And a taker does not trust another user's.
  EXPECT_EQ(Predecessor::Find(path_, geteuid() + 1).status().code(),
            absl::StatusCode::kPermissionDenied);
}

TEST_F(TakeoverTest, ASilentTakerIsDropped) {
  Start();
  const int silent = Connect();
  EXPECT_EQ(Step(), std::nullopt);
  EXPECT_FALSE(IsClosed(silent));
  EXPECT_NE(server_->deadline(), kNever);
  EXPECT_EQ(Step(std::chrono::seconds(10)), std::nullopt);
  EXPECT_TRUE(IsClosed(silent));
  EXPECT_EQ(server_->deadline(), kNever);
  EXPECT_TRUE(Find().ok());
  close(silent);
}

TEST_F(TakeoverTest, WhatIsNotUnderstoodEndsTheTakeover) {
  Start();
  // The second: it serves before it has the sockets.
  for (const char* bytes : {"?", "S", "\n"}) {
    const int taker = Connect();
    EXPECT_EQ(send(taker, bytes, 1, MSG_NOSIGNAL), 1);
    EXPECT_TRUE(Eventually([&] {
      EXPECT_EQ(Step(), std::nullopt);
      return IsClosed(taker);
    })) << bytes;
    close(taker);
  }
  EXPECT_TRUE(Find().ok());
}

class SystemdTest : public TakeoverTest {
 protected:
  ~SystemdTest() override { unsetenv("NOTIFY_SOCKET"); }

  // What arrives at a socket with this name.
  static std::string Notified(const std::string& name) {
    sockaddr_un at{};
    at.sun_family = AF_UNIX;
    name.copy(at.sun_path, sizeof at.sun_path - 1);
    if (name[0] == '@') at.sun_path[0] = '\0';
    const int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    const auto size =
        static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
    EXPECT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&at), size), 0);
    setenv("NOTIFY_SOCKET", name.c_str(), 1);
    NotifySystemd("READY=1\nMAINPID=7");
    char buffer[100];
    const ssize_t got = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
    close(fd);
    return got < 0 ? "" : std::string(buffer, static_cast<size_t>(got));
  }
};

TEST_F(SystemdTest, IsNotifiedAtAPathOrAnAbstractName) {
  EXPECT_EQ(Notified(directory_ + "/notify"), "READY=1\nMAINPID=7");
  EXPECT_EQ(Notified("@hotline-test-" + std::to_string(getpid())),
            "READY=1\nMAINPID=7");
  // Nobody is there: nothing happens.
  NotifySystemd("READY=1");
  unsetenv("NOTIFY_SOCKET");
  NotifySystemd("READY=1");
}

TEST_F(SystemdTest, SocketsForAnotherProcessAreNotTaken) {
  setenv("LISTEN_PID", std::to_string(getpid() + 1).c_str(), 1);
  setenv("LISTEN_FDS", "1", 1);
  InheritedSockets sockets;
  TakeSystemdSockets(&sockets);
  EXPECT_TRUE(sockets.left().empty());
  // Nor by a child.
  EXPECT_EQ(getenv("LISTEN_FDS"), nullptr);
  EXPECT_EQ(getenv("LISTEN_PID"), nullptr);
}

}  // namespace
}  // namespace hotline::server
