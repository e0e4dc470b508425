// The end of a drain, as callers see it that call until the connection ends:
// every call that was accepted (its stream is not above GOAWAY's last id)
// succeeds or ends with a status that has an ErrorInfo.
#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "server/front/front.h"
#include "tests/server/front/front_fixture.h"

namespace hotline::server {
namespace {

using testing::AlwaysAnswer;
using testing::OkResponse;
using testing::PeerConnection;
using testing::ScriptedPeer;

constexpr uint32_t kHighestId = 0x7fffffff;

std::string Method(const char* name) {
  return std::string("/hotline.v1.Broker/") + name;
}

// A kind of call: what is sent of it, and whether that is all.
struct Kind {
  std::string path;
  std::string body;
  bool whole = true;

  std::string Call(uint32_t stream) const {
    if (whole) return RawCaller::Call(stream, path, body);
    const std::string head = RawCaller::Head(stream, path);
    return body.empty() ? head : head + net::Data(stream, body);
  }
};

// One connection, and what became of its calls.
class DrainedCaller {
 public:
  DrainedCaller(int fd, const std::vector<Kind>* kinds)
      : caller_(fd), kinds_(*kinds) {}

  // Calls without a pause until the other side ends the connection, and awaits
  // each call of the first kind. Many of the others stay open, so their number
  // is limited: there are a few before `at_the_end`, and the rest then.
  void Run(const std::atomic<bool>& at_the_end) {
    constexpr int kRoundsOfAll = 5;
    constexpr int kLastRoundsOfAll = 40;
    caller_.Connect();
    caller_.Send(net::Window(0, 1 << 30));
    int last_rounds = 0;
    for (bool open = true; open; ++rounds) {
      const bool all = rounds < kRoundsOfAll ||
                       (at_the_end && last_rounds++ < kLastRoundsOfAll);
      const uint32_t awaited = next_;
      std::string calls;
      for (size_t i = 0; i < (all ? kinds_.size() : 1); ++i, next_ += 2) {
        calls += kinds_[i].Call(next_);
        sent_[next_] = &kinds_[i];
      }
      caller_.Send(calls);
      const auto is_over = [&] {
        return caller_.answer(awaited).ended || LastId() < awaited;
      };
      open = caller_.ReadUntil(is_over) && LastId() >= awaited;
      if (caller_.answer(awaited).reason == "DRAINING") ++refused;
    }
    caller_.ReadToEnd();
    caller_.Close();
  }

  // After Run: counts the calls that were accepted by how they ended.
  void Check(std::map<std::string, int>* tally) {
    const uint32_t last = LastId();
    ASSERT_LT(last, kHighestId) << "the end was not announced";
    for (const auto& [stream, kind] : sent_) {
      const RawCaller::Answer& answer = caller_.answer(stream);
      // The latter: more streams than may be open.
      if (stream > last || answer.reset == NGHTTP2_REFUSED_STREAM) continue;
      const bool ok = answer.ended && answer.status == "0";
      EXPECT_TRUE(ok || !answer.reason.empty())
          << kind->path << (kind->whole ? "" : " in part") << ", stream "
          << stream << " of " << last << ": status " << answer.status << ", "
          << answer.text;
      ++(*tally)[kind->path + " " + (ok ? "OK" : answer.reason)];
    }
  }

  std::atomic<int> rounds = 0;
  std::atomic<int> refused = 0;

 private:
  uint32_t LastId() {
    for (; looked_ < caller_.frames.size(); ++looked_) {
      const net::OutFrame& frame = caller_.frames[looked_];
      if (frame.type == NGHTTP2_GOAWAY) {
        last_id_ = std::min(last_id_, frame.Number());
      }
    }
    return last_id_;
  }

  RawCaller caller_;
  const std::vector<Kind>& kinds_;
  std::map<uint32_t, const Kind*> sent_;
  uint32_t next_ = 1;
  size_t looked_ = 0;
  uint32_t last_id_ = kHighestId;
};

class HandOverTest : public BrokerTest {
 protected:
  void SetUp() override {
    BrokerTest::SetUp();
    FrontOptions options;
    options.door.addresses = {"127.0.0.1:0"};
    auto front = Front::Start(
        options, {.broker = broker_.get(), .metrics = &metrics_of_rpcs_},
        upstream_->loops());
    ASSERT_TRUE(front.ok()) << front.status();
    front_ = *std::move(front);
  }

  void TearDown() override {
    front_ = nullptr;  // While its loops run.
    BrokerTest::TearDown();
  }

  int Connect() const {
    const std::string& address = front_->addresses().at(0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons(static_cast<uint16_t>(
        std::stoi(address.substr(address.rfind(':') + 1))));
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
    return fd;
  }

  static std::string Execute(const ScriptedPeer& peer) {
    v1::ExecuteRequest request;
    request.set_url(peer.target() + "/");
    return Prefixed(request);
  }
  static std::string Upload(const ScriptedPeer& peer) {
    v1::ExecuteStreamRequest request;
    request.mutable_head()->set_url(peer.target() + "/");
    request.mutable_head()->set_method("POST");
    v1::ExecuteStreamRequest piece;
    piece.set_body("half");
    return Prefixed(request) + Prefixed(piece);
  }
  static std::string Items(const ScriptedPeer& peer) {
    v1::SessionRequest request;
    v1::SessionItem* const acquire = request.add_items();
    acquire->set_id(1);
    acquire->mutable_acquire()->set_target(peer.target());
    v1::SessionItem* const execute = request.add_items();
    execute->set_id(2);
    execute->mutable_execute()->set_url(peer.target() + "/");
    return Prefixed(request);
  }
  static std::string Open(const ScriptedPeer& peer) {
    v1::TunnelRequest request;
    request.mutable_open()->set_target("tcp://127.0.0.1:" +
                                       std::to_string(peer.port()));
    return Prefixed(request);
  }

  RpcMetrics metrics_of_rpcs_;
  std::unique_ptr<Front> front_;
};

class DrainTest : public HandOverTest,
                  public ::testing::WithParamInterface<int> {};

TEST_P(DrainTest, EveryAcceptedCallSucceedsOrSaysWhyNot) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("x")));
  // Its connections are taken, and then calls wait.
  ScriptedPeer silent(
      [](PeerConnection& connection) { connection.AwaitClose(); });
  const std::string execute = Execute(peer);
  const std::string half = execute.substr(0, execute.size() / 2);
  const std::vector<Kind> kinds = {
      {Method("Execute"), execute},
      {Method("Execute"), Execute(silent)},
      {Method("Execute"), half, false},
      {Method("Execute"), "", false},
      {Method("ExecuteStream"), Upload(silent), false},
      {Method("ExecuteStream"), Upload(peer)},
      {Method("ExecuteStream"), "", false},
      {Method("Session"), Items(silent), false},
      {Method("Session"), Items(peer)},
      {Method("Session"), "", false},
      {Method("Tunnel"), Open(silent), false},
      {Method("Tunnel"), "", false},
      {Method("Acquire"), "", false},
      {Method("Release"), "", false},
      {Method("Stats"), Prefixed("")},
      {Method("Stats"), "", false},
      {"/grpc.health.v1.Health/Watch", Prefixed(""), false},
      {"/grpc.health.v1.Health/Watch", "", false},
      {"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "", false},
  };
  std::atomic<bool> at_the_end = false;
  std::vector<std::unique_ptr<DrainedCaller>> callers;
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    callers.push_back(std::make_unique<DrainedCaller>(Connect(), &kinds));
    threads.emplace_back([&at_the_end, caller = callers.back().get()] {
      caller->Run(at_the_end);
    });
  }
  const auto all = [&](const auto& holds) {
    return hotline::Eventually(
        [&] { return std::all_of(callers.begin(), callers.end(), holds); });
  };
  EXPECT_TRUE(all([](const auto& caller) { return caller->rounds > 20; }));
  // As a daemon that is told to stop.
  broker_->StartDrain(MonotonicNow());
  EXPECT_TRUE(all([](const auto& caller) { return caller->refused > 0; }));
  at_the_end = true;
  broker_->AbortCalls();
  front_->Stop(std::chrono::milliseconds(GetParam()));
  for (std::thread& thread : threads) thread.join();
  std::map<std::string, int> tally;
  for (const auto& caller : callers) caller->Check(&tally);
  for (const auto& [end, count] : tally) {
    RecordProperty(end, count);
  }
}

// The other half of a restart: another process listens already.
TEST_F(HandOverTest, EveryCallIsServedUntilItsCallerKnows) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("x")));
  const std::string call = Execute(peer);
  std::atomic<int> rounds = 0;
  const auto run = [&](int fd) {
    RawCaller caller(fd);
    caller.Connect();
    uint32_t last = 1;
    for (;; last += 2, ++rounds) {
      caller.Send(RawCaller::Call(last, Method("Execute"), call));
      EXPECT_EQ(caller.Await(last).status, "0") << caller.answer(last).text;
      if (caller.Count(NGHTTP2_GOAWAY) > 0) break;
    }
    const auto ping = [&] {
      return std::find_if(caller.frames.begin(), caller.frames.end(),
                          [](const auto& f) { return f.type == NGHTTP2_PING; });
    };
    ASSERT_TRUE(
        caller.ReadUntil([&] { return ping() != caller.frames.end(); }));
    // Called between the GOAWAY and its acknowledgement.
    caller.Send(RawCaller::Call(last + 2, Method("Execute"), call) +
                net::Ping(ping()->payload, NGHTTP2_FLAG_ACK));
    caller.ReadToEnd();
    EXPECT_EQ(caller.answer(last + 2).status, "0");
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) threads.emplace_back(run, Connect());
  EXPECT_TRUE(hotline::Eventually([&] { return rounds > 50; }));
  EXPECT_FALSE(front_->idle());
  front_->StartDrain();
  broker_->HandOver();
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(hotline::Eventually([&] { return front_->idle(); }));
}

TEST_F(HandOverTest, ACallerKeepsItsConnectionWhileItHoldsALease) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("x")));
  RawCaller caller(Connect());
  caller.Connect();
  v1::AcquireRequest acquire;
  acquire.set_target(peer.target());
  caller.Send(RawCaller::Call(1, Method("Acquire"), Prefixed(acquire)));
  ASSERT_EQ(caller.Await(1).status, "0");
  v1::AcquireResponse acquired;
  ASSERT_TRUE(acquired.ParseFromString(caller.answer(1).messages.at(0)));
  front_->StartDrain(std::chrono::hours(1));
  broker_->HandOver();

  v1::ExecuteRequest execute;
  execute.set_url(peer.target() + "/");
  execute.set_lease_id(acquired.lease().lease_id());
  caller.Send(RawCaller::Call(3, Method("Execute"), Prefixed(execute)));
  EXPECT_EQ(caller.Await(3).status, "0") << caller.answer(3).text;
  EXPECT_EQ(caller.Count(NGHTTP2_GOAWAY), 0u);
  v1::ReleaseRequest release;
  release.set_lease_id(acquired.lease().lease_id());
  caller.Send(RawCaller::Call(5, Method("Release"), Prefixed(release)));
  EXPECT_EQ(caller.Await(5).status, "0");
  EXPECT_TRUE(
      caller.ReadUntil([&] { return caller.Count(NGHTTP2_GOAWAY) > 0; }));
}

TEST_F(HandOverTest, ALeaseDoesNotKeepAConnectionForEver) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("x")));
  RawCaller caller(Connect());
  caller.Connect();
  v1::AcquireRequest acquire;
  acquire.set_target(peer.target());
  caller.Send(RawCaller::Call(1, Method("Acquire"), Prefixed(acquire)));
  ASSERT_EQ(caller.Await(1).status, "0");
  leases_kept_ = 1;
  front_->StartDrain(std::chrono::milliseconds(1));
  EXPECT_TRUE(
      caller.ReadUntil([&] { return caller.Count(NGHTTP2_GOAWAY) > 0; }));
}

// For how many milliseconds the last calls may go on.
INSTANTIATE_TEST_SUITE_P(Grace, DrainTest,
                         ::testing::Values(0, 1, 2, 5, 5, 10, 50, 200));

}  // namespace
}  // namespace hotline::server
