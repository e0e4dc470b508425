// Callers on two loops: their calls stay on connections of their own loop, as
// counted by hotline_cross_loop_calls_total.
#include <latch>
#include <list>
#include <memory>
#include <optional>
#include <string>

#include "net/loop.h"
#include "tests/fakes/test_certs.h"
#include "tests/server/broker/broker_fixture.h"
#include "tests/upstream/codec/http2_server.h"

namespace hotline::server {
namespace {

using testing::CertFiles;
using testing::OkResponse;
using testing::PeerConnection;
using testing::ScriptedPeer;
using testing::TestCa;

constexpr int kLoops = 2;
constexpr int kCallersPerLoop = 4;
constexpr int kCallers = kLoops * kCallersPerLoop;
constexpr int kCalls = 200;  // Per caller.

const TestCa& Ca() {
  static const auto* const ca = new TestCa("loops");
  return *ca;
}

// Makes one call after the other, each started on its loop.
class Caller final : public Completion {
 public:
  Caller(Broker* broker, net::Loop* loop, std::string url)
      : broker_(broker), loop_(loop), url_(std::move(url)) {}

  void Run(int calls, std::latch* done) {
    left_ = calls;
    done_ = done;
    loop_->Post([this] { Next(); });
  }
  int failed() const { return failed_; }

 private:
  void OnComplete(ErrorPtr error) override {
    if (error != nullptr) ++failed_;
    loop_->Post([this] { Next(); });
  }
  void Next() {
    if (left_-- == 0) return done_->count_down();
    request_.set_url(url_);
    answer_.reset();
    arena_.Reset();
    CallContext context;
    context.arrival = MonotonicNow();
    context.deadline = context.arrival + std::chrono::seconds(30);
    context.loop = loop_->index();
    call_ = broker_->NewExecute(&request_, &answer_.emplace(&arena_), context,
                                this);
    call_->Start();
  }

  Broker* const broker_;
  net::Loop* const loop_;
  const std::string url_;
  int left_ = 0;
  int failed_ = 0;
  std::latch* done_ = nullptr;
  v1::ExecuteRequest request_;
  google::protobuf::Arena arena_;
  std::optional<ExecuteAnswer> answer_;
  std::shared_ptr<Call> call_;
};

class LoopsTest : public BrokerTest {
 protected:
  LoopsTest() {
    upstream_options_.loops = kLoops;
    upstream_options_.ca_file = Ca().cert();
    pool_config_.loops = kLoops;
  }

  void MakeCallers(const ScriptedPeer& peer) {
    for (net::Loop* const loop : upstream_->loops()) {
      for (int i = 0; i < kCallersPerLoop; ++i) {
        callers_.emplace_back(broker_.get(), loop, peer.target() + "/");
      }
    }
  }
  void Run(int calls) {
    std::latch done(kCallers);
    for (Caller& caller : callers_) caller.Run(calls, &done);
    done.wait();
    for (const Caller& caller : callers_) EXPECT_EQ(caller.failed(), 0);
  }
  uint64_t CrossLoopCalls() { return Look().targets.at(0).counters.cross_loop; }
  void ExpectCallsStayAtHome() {
    const uint64_t before = CrossLoopCalls();
    Run(kCalls);
    EXPECT_LE(CrossLoopCalls() - before, uint64_t{kCallers * kCalls / 10});
  }

  std::list<Caller> callers_;
};

TEST_F(LoopsTest, CallsStayOnTheirLoopOnHttp1) {
  // Each connection's first answer waits until every caller has a connection.
  std::latch all(kCallers);
  ScriptedPeer peer([&all](PeerConnection& connection) {
    if (connection.ReadRequest().empty()) return;
    all.arrive_and_wait();
    do {
      if (!connection.Write(OkResponse("x"))) return;
    } while (!connection.ReadRequest().empty());
  });
  MakeCallers(peer);
  Run(1);
  EXPECT_EQ(peer.accepted(), kCallers);
  ExpectCallsStayAtHome();
  EXPECT_EQ(peer.accepted(), kCallers);
}

TEST_F(LoopsTest, CallsStayOnTheirLoopOnHttp2) {
  const CertFiles cert(Ca().Issue("localhost", "DNS:localhost"));
  target_config_.expected_streams = 0;
  ScriptedPeer peer({.tls = cert, .alpn = "h2"},
                    upstream::ServeHttp2({.max_streams = 100}, upstream::Echo));
  MakeCallers(peer);
  Run(1);
  Run(1);  // Makes every loop dial.
  ASSERT_TRUE(Eventually([](const pool::Snapshot& snapshot) {
    return snapshot.targets.at(0).counters.opened >= kLoops;
  }));
  ExpectCallsStayAtHome();
  EXPECT_EQ(peer.accepted(), kLoops);
}

}  // namespace
}  // namespace hotline::server
