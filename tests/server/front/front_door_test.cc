#include "server/front/front_door.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/fakes/eventually.h"
#include "tests/fakes/test_certs.h"
#include "tests/fakes/watches.h"

namespace hotline::server {
namespace {

// A directory of this process whose name is short enough for a socket path.
const std::string& ShortDirectory() {
  struct Directory {
    Directory() {
      char name[] = "/tmp/hlXXXXXX";
      path = mkdtemp(name);
    }
    ~Directory() { std::filesystem::remove_all(path); }
    std::string path;
  };
  static const Directory directory;
  return directory.path;
}

// A caller's end of a connection.
class Caller {
 public:
  explicit Caller(const std::string& address, bool at_once = true)
      : fd_(socket(address.starts_with("unix://") ? AF_UNIX
                   : address[0] == '['            ? AF_INET6
                                                  : AF_INET,
                   SOCK_STREAM, 0)) {
    if (at_once) Connect(address);
  }
  ~Caller() { close(fd_); }

  void Connect(const std::string& address) {
    if (address.starts_with("unix://")) {
      sockaddr_un to{};
      to.sun_family = AF_UNIX;
      address.substr(7).copy(to.sun_path, sizeof to.sun_path - 1);
      return ConnectTo(to);
    }
    const auto port = htons(static_cast<uint16_t>(
        std::stoi(address.substr(address.rfind(':') + 1))));
    if (address[0] == '[') {
      sockaddr_in6 to{};
      to.sin6_family = AF_INET6;
      to.sin6_port = port;
      to.sin6_addr = in6addr_loopback;
      return ConnectTo(to);
    }
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = port;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ConnectTo(to);
  }

  bool connected() const { return connected_; }

  void Send(const std::string& bytes) const {
    EXPECT_EQ(send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }

  // Whether the door closes the connection within 20 s.
  bool IsCutOff() const {
    timeval limit{.tv_sec = 20, .tv_usec = 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    char byte;
    const ssize_t size = recv(fd_, &byte, 1, 0);
    return size == 0 || (size < 0 && errno == ECONNRESET);
  }
  // Whether the test's greeting arrives.
  bool IsServed() const {
    timeval limit{.tv_sec = 20, .tv_usec = 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    char byte = 0;
    return recv(fd_, &byte, 1, 0) == 1 && byte == '!';
  }

 private:
  template <typename Address>
  void ConnectTo(const Address& to) {
    connected_ =
        connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0;
  }

  const int fd_;
  bool connected_ = false;
};

class FrontDoorTest : public ::testing::Test {
 protected:
  void TearDown() override {
    if (door_ != nullptr) door_->Stop();
    door_ = nullptr;
    for (const int fd : inside_) close(fd);
    inside_.clear();
  }

  void Open(FrontDoorOptions options, const Inherited& inherited = {}) {
    auto door = FrontDoor::Bind(std::move(options), inherited);
    ASSERT_TRUE(door.ok()) << door.status();
    door_ = *std::move(door);
    door_->Open([this](int fd, const Visitor& visitor) {
      std::lock_guard lock(mu_);
      inside_.push_back(fd);
      visitors_.push_back(visitor);
      EXPECT_EQ(send(fd, "!", 1, MSG_NOSIGNAL), 1);
    });
  }

  std::string address(size_t i = 0) const { return door_->addresses()[i]; }

  uint64_t Refused(Refusal why) const {
    return door_->counts().refused[static_cast<size_t>(why)];
  }

  // Closes connections as their owner would.
  void HangUp(size_t count = SIZE_MAX) {
    std::lock_guard lock(mu_);
    for (; count > 0 && !inside_.empty(); --count) {
      close(inside_.front());
      door_->Leave(visitors_.front());
      inside_.erase(inside_.begin());
      visitors_.erase(visitors_.begin());
    }
  }

  static std::string SocketPath(const std::string& name) {
    return ShortDirectory() + "/" + name;
  }

  std::mutex mu_;
  std::vector<int> inside_;
  std::vector<Visitor> visitors_;
  std::unique_ptr<FrontDoor> door_;
};

TEST_F(FrontDoorTest, AcceptsEveryFamilyAndIdentifiesThePeer) {
  const std::string path = SocketPath("a.sock");
  Open({.addresses = {"127.0.0.1:0", "[::1]:0", "unix://" + path}});
  const Caller a(address(0));
  const Caller b(address(1));
  const Caller c(address(2));
  EXPECT_TRUE(a.IsServed() && b.IsServed() && c.IsServed());
  std::lock_guard lock(mu_);
  ASSERT_EQ(visitors_.size(), 3u);
  for (const Visitor& visitor : visitors_) {
    if (visitor.kind == Listener::Kind::kUnix) {
      EXPECT_EQ(visitor.uid, getuid());
      EXPECT_EQ(visitor.peer, "uid:" + std::to_string(getuid()));
    } else {
      EXPECT_TRUE(visitor.peer.starts_with("127.0.0.1:") ||
                  visitor.peer.starts_with("[::1]:"))
          << visitor.peer;
    }
  }
  EXPECT_EQ(door_->counts().accepted, 3u);
  EXPECT_EQ(door_->counts().connections, 3);
}

TEST_F(FrontDoorTest, AConnectionCountsUntilItLeaves) {
  Open({.addresses = {"127.0.0.1:0"}});
  const Caller caller(address());
  ASSERT_TRUE(caller.IsServed());
  EXPECT_EQ(door_->counts().connections, 1);
  HangUp();
  EXPECT_TRUE(caller.IsCutOff());
  EXPECT_EQ(door_->counts().connections, 0);
  Visitor unknown;
  unknown.group = "192.0.2.1";
  door_->Leave(unknown);
  EXPECT_EQ(door_->counts().connections, 0);
}

TEST_F(FrontDoorTest, EnforcesItsCap) {
  Open({.addresses = {"127.0.0.1:0"}, .max_connections = 2});
  const Caller a(address());
  const Caller b(address());
  ASSERT_TRUE(a.IsServed() && b.IsServed());
  EXPECT_TRUE(Caller(address()).IsCutOff());
  EXPECT_EQ(Refused(Refusal::kConnections), 1u);
  HangUp(1);
  EXPECT_TRUE(Caller(address()).IsServed());
}

TEST_F(FrontDoorTest, EnforcesTheCapOfOnePeerWhateverItsPort) {
  Open(
      {.addresses = {"127.0.0.1:0", "[::1]:0"}, .max_connections_per_peer = 1});
  const Caller a(address(0));
  ASSERT_TRUE(a.IsServed());
  EXPECT_TRUE(Caller(address(0)).IsCutOff());
  EXPECT_EQ(Refused(Refusal::kPeer), 1u);
  EXPECT_TRUE(Caller(address(1)).IsServed());
  HangUp(1);
  EXPECT_TRUE(Caller(address(0)).IsServed());
}

TEST_F(FrontDoorTest, AdmitsByUidAndByAnyGroup) {
  const std::string path = SocketPath("b.sock");
  const uint32_t other = getuid() + 1;
  Open({.addresses = {"unix://" + path}, .allowed_uids = {other}});
  EXPECT_TRUE(Caller(address()).IsCutOff());
  EXPECT_EQ(Refused(Refusal::kCredentials), 1u);
  TearDown();
  Open({.addresses = {"unix://" + path}, .allowed_uids = {getuid()}});
  EXPECT_TRUE(Caller(address()).IsServed());
  TearDown();
  Open({.addresses = {"unix://" + path},
        .allowed_uids = {other},
        .allowed_gids = {getgid()}});
  EXPECT_TRUE(Caller(address()).IsServed());
}

TEST_F(FrontDoorTest, CountsRefusalsFoundAfterAccepting) {
  Open({.addresses = {"127.0.0.1:0"}});
  door_->Count(Refusal::kHttp1);
  door_->Count(RefusalOf(net::TlsFailure::kNotTls));
  door_->Count(RefusalOf(net::TlsFailure::kOther));
  EXPECT_EQ(Refused(Refusal::kHttp1), 1u);
  for (int i = 1; i < net::kTlsFailures; ++i) {
    const auto failure = static_cast<net::TlsFailure>(i);
    const auto label = static_cast<size_t>(RefusalOf(failure));
    EXPECT_EQ(kRefusals[label], net::TlsFailureName(failure));
    const bool counted = failure == net::TlsFailure::kNotTls ||
                         failure == net::TlsFailure::kOther;
    EXPECT_EQ(door_->counts().refused[label], counted ? 1u : 0u);
  }
}

TEST_F(FrontDoorTest, OutOfDescriptorsItRefusesAtOnceAndRecovers) {
  Open({.addresses = {"127.0.0.1:0"}});
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const Caller first(address());
  ASSERT_TRUE(first.IsServed());
  // Created first, because they need descriptors of this process, too.
  std::vector<std::unique_ptr<Caller>> callers;
  for (int i = 0; i < 5; ++i) {
    callers.push_back(std::make_unique<Caller>(address(), /*at_once=*/false));
  }
  rlimit tight = before;
  const int next = dup(0);
  close(next);
  tight.rlim_cur = next;  // No descriptor is left.
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &tight), 0);
  int refused = 0;
  for (const auto& caller : callers) {
    caller->Connect(address());
    EXPECT_TRUE(caller->connected());
    refused += caller->IsCutOff() ? 1 : 0;
  }
  EXPECT_EQ(refused, 5);
  EXPECT_EQ(Refused(Refusal::kDescriptors), 5u);
  setrlimit(RLIMIT_NOFILE, &before);
  callers.clear();
  HangUp();
  EXPECT_TRUE(Caller(address()).IsServed());
}

TEST_F(FrontDoorTest, ClosedItAcceptsNoneAndKeepsOpenConnections) {
  const std::string path = SocketPath("c.sock");
  Open({.addresses = {"unix://" + path}});
  const Caller a(address());
  ASSERT_TRUE(a.IsServed());
  door_->Close();
  EXPECT_TRUE(Eventually([&] { return access(path.c_str(), F_OK) != 0; }));
  EXPECT_FALSE(Caller(address()).connected());
  EXPECT_EQ(door_->counts().connections, 1);
}

TEST_F(FrontDoorTest, AnotherDoorTakesItsSocketsOver) {
  const std::string path = SocketPath("f.sock");
  const FrontDoorOptions options = {
      .addresses = {"127.0.0.1:0", "unix://" + path}};
  Open(options);
  InheritedSockets inherited;
  for (ListeningSocket socket : door_->sockets()) {
    socket.fd = dup(socket.fd);
    socket.role = "grpc";
    inherited.Add(std::move(socket));
  }
  const int tcp = inherited.left()[0].fd;
  const std::string where = address();
  const std::unique_ptr<FrontDoor> first = std::move(door_);
  first->SetOwnsFiles(false);
  first->Stop();
  // Otherwise it would be woken for connections that it cannot accept.
  EXPECT_EQ(testing::WatchesOf(tcp), 0);
  // They wait in the queues while no door is open.
  const Caller over_tcp(where);
  const Caller over_unix("unix://" + path);
  EXPECT_TRUE(over_tcp.connected());
  EXPECT_TRUE(over_unix.connected());

  Open(options, {&inherited, "grpc"});
  EXPECT_EQ(address(), where);
  EXPECT_TRUE(inherited.left().empty());
  EXPECT_TRUE(over_tcp.IsServed());
  EXPECT_TRUE(over_unix.IsServed());

  // Its file belongs to the second door only once that says so.
  door_->SetOwnsFiles(true);
  door_->Stop();
  EXPECT_NE(access(path.c_str(), F_OK), 0);
}

TEST_F(FrontDoorTest, AFailedTakeoverLeavesTheFile) {
  const std::string path = SocketPath("g.sock");
  Open({.addresses = {"unix://" + path}});
  {
    InheritedSockets inherited;
    inherited.Add({.fd = dup(door_->sockets()[0].fd),
                   .role = "grpc",
                   .address = "unix://" + path});
    auto second = FrontDoor::Bind({.addresses = {"unix://" + path}},
                                  {&inherited, "grpc"});
    ASSERT_TRUE(second.ok()) << second.status();
    EXPECT_TRUE(inherited.left().empty());
  }
  EXPECT_TRUE(Caller("unix://" + path).IsServed());
}

TEST(InheritedSocketsTest, ASocketIsFoundByItsRoleAndAddress) {
  auto listener = Listener::Bind("127.0.0.1:0");
  ASSERT_TRUE(listener.ok());
  const std::string port =
      listener->address().substr(listener->address().rfind(':'));
  InheritedSockets inherited;
  inherited.Add(
      {.fd = dup(listener->fd()), .role = "admin", .address = "127.0.0.1:0"});
  EXPECT_EQ(inherited.Take("grpc", "127.0.0.1:0").fd, -1);
  EXPECT_EQ(inherited.Take("admin", "127.0.0.1" + port).fd, -1);
  const int first = inherited.Take("admin", "127.0.0.1:0").fd;
  EXPECT_GE(first, 0);
  EXPECT_EQ(inherited.Take("admin", "127.0.0.1:0").fd, -1);

  // Without a role and an address, as from systemd.
  inherited.Add({.fd = first, .keeps_file = true});
  EXPECT_EQ(inherited.left()[0].address, listener->address());
  EXPECT_EQ(inherited.Take("grpc", "127.0.0.1:0").fd, -1);
  const ListeningSocket taken =
      inherited.Take("grpc", "[::ffff:127.0.0.1]" + port);
  EXPECT_EQ(taken.fd, first);
  EXPECT_TRUE(taken.keeps_file);
  close(first);
}

TEST(InheritedSocketsTest, ASocketOfAnotherProgramKeepsItsFile) {
  const std::string path = ShortDirectory() + "/h.sock";
  const std::string name = "unix://" + path;
  auto made = Listener::Bind(name);
  ASSERT_TRUE(made.ok());
  for (int round = 0; round < 2; ++round) {
    InheritedSockets inherited;
    inherited.Add({.fd = dup(made->fd()), .keeps_file = true});
    auto door = FrontDoor::Bind({.addresses = {name}}, {&inherited, "grpc"});
    ASSERT_TRUE(door.ok()) << door.status();
    // Also when it is handed on.
    EXPECT_TRUE((*door)->sockets()[0].keeps_file);
    (*door)->SetOwnsFiles(true);
  }
  EXPECT_EQ(access(path.c_str(), F_OK), 0);
}

TEST(InheritedSocketsTest, ADescriptorThatDoesNotListenIsRefused) {
  InheritedSockets inherited;
  inherited.Add({.fd = socket(AF_INET, SOCK_STREAM, 0),
                 .role = "grpc",
                 .address = "127.0.0.1:1"});
  EXPECT_EQ(
      Listener::Bind("127.0.0.1:1", {&inherited, "grpc"}).status().message(),
      "cannot listen on 127.0.0.1:1: the inherited descriptor is no "
      "listening socket");
}

TEST(ListenerTest, ASocketIsGroupWritableAndRemovedWithItsListener) {
  const std::string path = ShortDirectory() + "/d.sock";
  const mode_t umask_before = umask(0077);
  {
    const auto listener = Listener::Bind("unix://" + path);
    umask(umask_before);
    ASSERT_TRUE(listener.ok()) << listener.status();
    struct stat info;
    ASSERT_EQ(stat(path.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0660u);
    const auto second = Listener::Bind("unix://" + path);
    EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
    // The second bind did not remove the socket of the first.
    EXPECT_TRUE(Caller("unix://" + path).connected());
  }
  EXPECT_NE(access(path.c_str(), F_OK), 0);
}

TEST(ListenerTest, OnlyAStaleSocketIsReplaced) {
  const std::string path = ShortDirectory() + "/e.sock";
  testing::WriteFile(path, "precious");
  EXPECT_FALSE(Listener::Bind("unix://" + path).ok());
  EXPECT_EQ(testing::ReadFile(path), "precious");
  unlink(path.c_str());
  const int left = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(bind(left, reinterpret_cast<sockaddr*>(&address), sizeof address),
            0);
  close(left);  // The file remains, as after a crash.
  EXPECT_TRUE(Listener::Bind("unix://" + path).ok());
}

TEST(ListenerTest, AnAddressInUseIsNamed) {
  const auto first = Listener::Bind("127.0.0.1:0");
  ASSERT_TRUE(first.ok());
  const auto second = Listener::Bind(first->address());
  EXPECT_EQ(second.status().message(), "cannot listen on " + first->address() +
                                           ": Address already in use");
  EXPECT_FALSE(Listener::Bind("unix:///" + std::string(120, 'x')).ok());
}

}  // namespace
}  // namespace hotline::server
