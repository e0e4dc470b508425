// Connections that nobody uses: what retires them, probes, time.
#include <atomic>
#include <condition_variable>
#include <future>
#include <mutex>

#include "tests/upstream/upstream_fixture.h"

namespace hotline::upstream {
namespace {

using std::chrono::milliseconds;

class IdleTest : public UpstreamTest {
 protected:
  // A peer that does `deed` once it is told to, after one call.
  std::unique_ptr<ScriptedPeer> PeerThat(
      std::function<void(PeerConnection&)> deed, bool tls = false) {
    ScriptedPeer::Options options;
    if (tls) options.tls = LocalhostCert();
    return std::make_unique<ScriptedPeer>(
        options, [this, deed = std::move(deed)](PeerConnection& c) {
          c.ReadRequest();
          c.Write(OkResponse("hi"));
          go_.get_future().wait();
          deed(c);
          c.AwaitClose();
        });
  }
  void ConnectAndGo(const ScriptedPeer& peer) {
    const pool::ConnId conn = Connect(peer);
    EXPECT_EQ("hi", Run(conn).response.body);
    EXPECT_EQ(0, pool_.closes(last_id_));
    go_.set_value();
  }
  uint64_t Unsolicited() {
    uint64_t sum = 0;
    for (const auto& [target, counters] : upstream().TargetCounters()) {
      sum += counters.unsolicited_bytes;
    }
    return sum;
  }

  std::promise<void> go_;
};

TEST_F(IdleTest, WhatTheUpstreamSaysOfItsPatienceIsToldOnceAndWhenItChanges) {
  const ScriptedPeer peer([](PeerConnection& c) {
    for (const char* said :
         {"timeout=5, max=100", "timeout=5, max=99", "max=98", "timeout=60"}) {
      if (c.ReadRequest().empty()) return;
      c.Write(std::string("HTTP/1.1 204 No Content\r\nKeep-Alive: ") + said +
              "\r\n\r\n");
    }
    c.AwaitClose();
  });
  const pool::ConnId conn = Connect(peer);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(204, Run(conn).response.status);
  EXPECT_EQ((std::vector<Duration>{std::chrono::seconds(5),
                                   std::chrono::seconds(60)}),
            pool_.said(last_id_));
}

TEST_F(IdleTest, FinRetiresAtOnce) {
  const auto peer = PeerThat([](PeerConnection& c) { c.Close(); });
  ConnectAndGo(*peer);
  EXPECT_EQ(pool::CloseReason::kPeerClosed, AwaitClosed());
}

TEST_F(IdleTest, CloseNotifyRetiresAtOnce) {
  const auto peer = PeerThat([](PeerConnection& c) { c.Close(); }, true);
  ConnectAndGo(*peer);
  EXPECT_EQ(pool::CloseReason::kPeerClosed, AwaitClosed());
}

TEST_F(IdleTest, ResetRetiresAtOnce) {
  const auto peer = PeerThat([](PeerConnection& c) { c.Reset(); });
  ConnectAndGo(*peer);
  EXPECT_EQ(pool::CloseReason::kPeerClosed, AwaitClosed());
}

TEST_F(IdleTest, StrayBytesRetireAtOnceAndAreCounted) {
  for (const bool tls : {false, true}) {
    go_ = {};
    const uint64_t before = Unsolicited();
    const auto peer = PeerThat(
        [](PeerConnection& c) { c.Write("HTTP/1.1 408 Late\r\n\r\n"); }, tls);
    ConnectAndGo(*peer);
    EXPECT_EQ(pool::CloseReason::kUnsolicited, AwaitClosed());
    EXPECT_EQ(before + 1, Unsolicited());
  }
}

TEST_F(IdleTest, BytesAfterAnAnswerRetireTheConnection) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("hi") + "HTTP/1.1 200 OK\r\n\r\n"));
  EXPECT_EQ("hi", Run(Connect(peer)).response.body);
  EXPECT_EQ(1, pool_.closes(last_id_));
  EXPECT_EQ(pool::CloseReason::kUnsolicited, AwaitClosed());
}

TEST_F(IdleTest, BytesBeforeAnyRequestRetireTheConnectionAndAreNotCounted) {
  ScriptedPeer peer([](PeerConnection& c) {
    c.Write("220 mail.example ESMTP\r\n");
    c.AwaitClose();
  });
  Connect(peer);
  EXPECT_EQ(pool::CloseReason::kPeerClosed, AwaitClosed());
  EXPECT_EQ(0u, Unsolicited());
}

TEST_F(IdleTest, PeerSeesTheCloseOfAnIdleConnection) {
  for (const bool tls : {false, true}) {
    ScriptedPeer::Options options;
    if (tls) options.tls = LocalhostCert();
    std::promise<bool> closed;
    ScriptedPeer peer(
        options, [&](PeerConnection& c) { closed.set_value(c.AwaitClose()); });
    const pool::ConnId conn = Connect(peer);
    upstream().Close(conn, pool::CloseReason::kIdle);
    EXPECT_EQ(pool::CloseReason::kIdle, AwaitClosed());
    EXPECT_TRUE(closed.get_future().get());
  }
}

// Probes.

TEST_F(IdleTest, ProbeAsksForTheHead) {
  std::promise<std::string> asked;
  ScriptedPeer peer([&](PeerConnection& c) {
    asked.set_value(c.ReadRequest());
    c.Write("HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\n");
    c.AwaitClose();
  });
  Probe(Connect(peer));
  // Any complete answer will do.
  EXPECT_TRUE(pool_.AwaitProbe(last_id_));
  EXPECT_EQ(0u, asked.get_future().get().find("HEAD / HTTP/1.1\r\n"));
  EXPECT_EQ(0, pool_.closes(last_id_));
}

TEST_F(IdleTest, ProbeWithARangeFailsOutsideOfIt) {
  policy_.probe = {.path = "/up", .min_status = 200, .max_status = 299};
  ScriptedPeer peer(
      AlwaysAnswer("HTTP/1.1 404 No\r\nContent-Length: 5\r\n\r\n"));
  Probe(Connect(peer));
  EXPECT_FALSE(pool_.AwaitProbe(last_id_));
}

TEST_F(IdleTest, ProbeFailsAtItsTimeout) {
  options_.probe_timeout = milliseconds(50);
  ScriptedPeer peer([](PeerConnection& c) { c.AwaitClose(); });
  Probe(Connect(peer));
  EXPECT_FALSE(pool_.AwaitProbe(last_id_));
  AwaitClosed();
}

TEST_F(IdleTest, ProbeIsAnsweredWhenTheConnectionCloses) {
  ScriptedPeer peer([](PeerConnection& c) { c.AwaitClose(); });
  const pool::ConnId conn = Connect(peer);
  Probe(conn);
  upstream().Close(conn, pool::CloseReason::kShrunk);
  EXPECT_FALSE(pool_.AwaitProbe(last_id_));
  AwaitClosed();
  Probe(conn);
  EXPECT_FALSE(pool_.AwaitProbe(last_id_, 2));
}

TEST_F(IdleTest, ProbeOfTcpAloneSendsNothing) {
  policy_.probe_tcp_only = true;
  std::atomic<bool> got_bytes{false};
  ScriptedPeer peer([&](PeerConnection& c) {
    if (!c.ReadSome().empty()) got_bytes = true;
  });
  const pool::ConnId conn = Connect(peer);
  Probe(conn);
  EXPECT_TRUE(pool_.AwaitProbe(last_id_));
  upstream().Close(conn, pool::CloseReason::kIdle);
  AwaitClosed();
  EXPECT_FALSE(got_bytes);
}

TEST_F(IdleTest, StopAnswersProbes) {
  ScriptedPeer peer([](PeerConnection& c) { c.AwaitClose(); });
  Probe(Connect(peer));
  upstream().Stop();
  EXPECT_EQ(1u, pool_.probes());
  EXPECT_FALSE(pool_.AwaitProbe(last_id_));
}

// Time.

TEST_F(IdleTest, TicksComeWhenAskedFor) {
  std::mutex mu;
  std::condition_variable changed;
  std::vector<std::pair<int, Instant>> ticks;
  tick_ = [&](int shard, Instant now) {
    std::lock_guard lock(mu);
    ticks.push_back({shard, now});
    changed.notify_all();
  };
  // Of three times the earliest counts, whatever the order.
  const Instant start = MonotonicNow();
  upstream().WakeAt(3, start + std::chrono::hours(1));
  upstream().WakeAt(3, start + milliseconds(20));
  upstream().WakeAt(3, start + std::chrono::hours(2));
  std::unique_lock lock(mu);
  ASSERT_TRUE(
      changed.wait_for(lock, kPatience, [&] { return !ticks.empty(); }));
  EXPECT_EQ(3, ticks[0].first);
  EXPECT_GE(ticks[0].second, start + milliseconds(20));
  lock.unlock();
  upstream().WakeAt(3, start + milliseconds(40));
  lock.lock();
  ASSERT_TRUE(
      changed.wait_for(lock, kPatience, [&] { return ticks.size() > 1; }));
  EXPECT_GE(ticks[1].second, start + milliseconds(40));
}

TEST_F(IdleTest, WorkRunsAtItsTimeInOrder) {
  std::mutex mu;
  std::condition_variable changed;
  std::vector<int> order;
  const auto note = [&](int what) {
    return [&, what] {
      std::lock_guard lock(mu);
      order.push_back(what);
      changed.notify_all();
    };
  };
  const Instant start = MonotonicNow();
  upstream().RunAt(start + milliseconds(30), note(3));
  upstream().RunAt(start + milliseconds(10), note(1));
  upstream().RunAt(start + milliseconds(20), note(2));
  std::unique_lock lock(mu);
  ASSERT_TRUE(
      changed.wait_for(lock, kPatience, [&] { return order.size() == 3; }));
  EXPECT_GE(MonotonicNow(), start + milliseconds(30));
  EXPECT_EQ((std::vector{1, 2, 3}), order);
}

TEST_F(IdleTest, NothingRunsAfterStop) {
  upstream().RunAt(MonotonicNow() + std::chrono::hours(1), [] { FAIL(); });
  upstream().Stop();
  upstream().RunAt(MonotonicNow(), [] { FAIL(); });
  upstream().WakeAt(0, MonotonicNow());
  BeginDial("http://127.0.0.1:1");
  EXPECT_EQ(0, pool_.answers(last_id_));
}

TEST_F(IdleTest, LoopsCountTheirTurnsAndCpuTime) {
  ScriptedPeer peer({}, AlwaysAnswer(OkResponse("hello")));
  const auto turns = [this] {
    uint64_t sum = 0;
    for (const auto& loop : upstream().Loops()) sum += loop.turns;
    return sum;
  };
  const uint64_t before = turns();
  EXPECT_EQ(CallError::kNone, Run(Connect(peer)).error);
  EXPECT_GT(turns(), before);
  ASSERT_EQ(upstream().Loops().size(), upstream().loops().size());
  const auto all_ran = [this] {
    for (const auto& loop : upstream().Loops()) {
      if (loop.cpu == Duration(0)) return false;
    }
    return true;
  };
  while (!all_ran()) std::this_thread::yield();
  upstream().Stop();
  for (const auto& loop : upstream().Loops()) EXPECT_EQ(loop.cpu, Duration(0));
}

TEST_F(IdleTest, LoopLagShowsABlockedLoop) {
  std::promise<void> release;
  std::promise<void> blocked;
  upstream().RunAt(MonotonicNow(), [&] {
    blocked.set_value();
    release.get_future().wait();
  });
  blocked.get_future().wait();
  upstream().RunAt(MonotonicNow(), [] {});
  while (upstream().LoopLag() < milliseconds(30)) std::this_thread::yield();
  release.set_value();
}

}  // namespace
}  // namespace hotline::upstream
