// What the kernel says no to, and what it says yes to for too long.
//
// This program has its own epoll_ctl and send, which count and refuse.
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>

#include "tests/upstream/upstream_fixture.h"

namespace {

// Of sockets that are kept in a loop's own set, which are never edge-triggered:
// how many additions succeed before one fails.
std::atomic<int> additions_left{1 << 30};
std::atomic<int> modifications_left{1 << 30};
thread_local size_t sent_here = 0;
// Whether the socket takes whatever it is given, as a fast network does.
std::atomic<bool> bottomless{false};

}  // namespace

extern "C" int epoll_ctl(int epoll, int operation, int fd,
                         struct epoll_event* event) noexcept {
  const bool ours = event != nullptr && (event->events & EPOLLET) == 0;
  if (ours && operation == EPOLL_CTL_ADD && additions_left.fetch_sub(1) <= 0) {
    errno = ENOSPC;
    return -1;
  }
  if (ours && operation == EPOLL_CTL_MOD &&
      modifications_left.fetch_sub(1) <= 0) {
    errno = ENOMEM;
    return -1;
  }
  return static_cast<int>(syscall(SYS_epoll_ctl, epoll, operation, fd, event));
}

extern "C" ssize_t send(int fd, const void* bytes, size_t size, int flags) {
  ssize_t result = static_cast<ssize_t>(size);
  if (!bottomless) {
    result = syscall(SYS_sendto, fd, bytes, size, flags, nullptr, 0);
  }
  if (result > 0) sent_here += static_cast<size_t>(result);
  return result;
}

namespace hotline::upstream {
namespace {

class KernelTest : public UpstreamTest {
 protected:
  ~KernelTest() override {
    additions_left = modifications_left = 1 << 30;
    bottomless = false;
  }
};

TEST_F(KernelTest, ASocketThatCannotBeWatchedIsAFailedDial) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("hi")));
  Connect(peer);
  additions_left = 0;
  EXPECT_EQ(DialReason(peer.target()), "CONNECT_FAILED");
  EXPECT_NE(message_.find("cannot be watched"), std::string::npos) << message_;
  EXPECT_NE(message_.find("No space left"), std::string::npos) << message_;
  for (const AddressRow& row : upstream().Addresses(peer.target())) {
    EXPECT_EQ(row.failures, 0u) << "no fault of the address";
    EXPECT_EQ(row.dialing, 0);
    EXPECT_EQ(row.connections, 1);
  }
  additions_left = 1 << 30;
  EXPECT_EQ(Run(Connect(peer)).response.body, "hi");
}

TEST_F(KernelTest, OneThatCannotBeWatchedAnyMoreEndsItsCalls) {
  std::atomic<bool> over{false};
  ScriptedPeer peer([&](PeerConnection&) {
    while (!over) std::this_thread::yield();  // Reads nothing.
  });
  const pool::ConnId conn = Connect(peer);
  modifications_left = 0;
  const std::string body(64 << 20, 'x');
  Ending ending;
  Start(conn, &ending, {.method = "POST", .body = body});
  const CallResult& result = ending.Await();
  EXPECT_EQ(result.error, CallError::kReset);
  EXPECT_EQ(result.verdict, Verdict::kPartial);
  EXPECT_NE(result.message.find("cannot be watched"), std::string::npos)
      << result.message;
  EXPECT_EQ(AwaitClosed(), pool::CloseReason::kError);
  over = true;
}

TEST_F(KernelTest, ACallerSendsOnlySoMuchOfALargeBodyItself) {
  for (const bool tls : {false, true}) {
    ScriptedPeer::Options options;
    if (tls) options.tls = LocalhostCert();
    ScriptedPeer peer(options, [](PeerConnection& c) { c.AwaitClose(); });
    const pool::ConnId conn = Connect(peer);
    // As if the network took all of it.
    bottomless = true;
    const std::string body(32 << 20, 'x');
    Ending ending;
    const size_t before = sent_here;
    const CallId call = Start(conn, &ending, {.method = "POST", .body = body});
    EXPECT_GT(sent_here, before);
    EXPECT_LE(sent_here - before, 600u << 10);
    upstream().CancelCall(conn, call);
    ending.Await();
    bottomless = false;
    AwaitClosed();
  }
}

TEST_F(KernelTest, ALargeBodyArrivesWholeInTurns) {
  ScriptedPeer peer([](PeerConnection& c) {
    const std::string request = c.ReadRequest();
    c.Write(OkResponse(std::to_string(request.size())));
    c.AwaitClose();
  });
  const std::string body(3 << 20, 'x');
  const CallResult result =
      Run(Connect(peer), {.method = "POST", .body = body});
  EXPECT_GT(std::stoul(result.response.body), body.size());
}

TEST_F(KernelTest, ATimerThatIsCancelledLetsGoOfWhatItHeld) {
  auto held = std::make_shared<int>(1);
  const std::weak_ptr<int> watch = held;
  const auto timer = upstream().RunAt(MonotonicNow() + std::chrono::hours(1),
                                      [held = std::move(held)] { FAIL(); });
  EXPECT_FALSE(watch.expired());
  upstream().CancelTimer(timer);
  EXPECT_TRUE(watch.expired());
  upstream().CancelTimer(timer);
  upstream().CancelTimer({});
}

}  // namespace
}  // namespace hotline::upstream
