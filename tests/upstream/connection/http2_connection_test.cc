// Many calls on one connection, over loopback and TLS.
#include <algorithm>
#include <future>
#include <list>
#include <thread>

#include "tests/upstream/codec/http2_server.h"
#include "tests/upstream/upstream_fixture.h"

namespace hotline::upstream {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class Http2ConnectionTest : public UpstreamTest {
 protected:
  std::unique_ptr<ScriptedPeer> Serve(Http2Serve serve,
                                      Http2Peer::Options options = {}) {
    return std::make_unique<ScriptedPeer>(
        ScriptedPeer::Options{.tls = LocalhostCert(), .alpn = "h2"},
        ServeHttp2(options, std::move(serve), [this](Http2Peer& peer) {
          const int now = static_cast<int>(
              std::count_if(peer.requests.begin(), peer.requests.end(),
                            [](const auto& r) { return r.second.reset; }));
          std::lock_guard lock(mu_);
          resets_ = now;
          pings_ = peer.pings;
          asked_ = static_cast<int>(peer.requests.size());
          ++records_;  // A read gives the peer one at most.
          changed_.notify_all();
        }));
  }
  // "/hold" stays without an answer, "/release" answers what was held, and
  // itself; the rest is echoed.
  Http2Serve Holding() {
    return [held = std::make_shared<std::vector<StreamId>>()](
               Http2Peer& peer, StreamId id, const Http2Peer::Asked& request) {
      const std::string path = request.Get(":path");
      if (path == "/hold") {
        held->push_back(id);
      } else {
        Echo(peer, id, request);
      }
      if (path != "/release") return;
      for (const StreamId waiting : *held) {
        if (!peer.requests[waiting].reset) {
          peer.Answer(waiting, {{":status", "200"}}, "held");
        }
      }
      held->clear();
    };
  }
  void AwaitResets(int count) {
    std::unique_lock lock(mu_);
    ASSERT_TRUE(
        changed_.wait_for(lock, kPatience, [&] { return resets_ >= count; }));
  }
  int resets() {
    std::lock_guard lock(mu_);
    return resets_;
  }
  // Records received once so many requests have been.
  int RecordsAfter(int requests) {
    std::unique_lock lock(mu_);
    EXPECT_TRUE(
        changed_.wait_for(lock, kPatience, [&] { return asked_ >= requests; }));
    return records_;
  }

  std::mutex mu_;
  std::condition_variable changed_;
  int resets_ = 0;
  int pings_ = 0;
  int asked_ = 0;
  int records_ = 0;
};

// Whoever hears of an answer on the loop often has the next requests at hand.
class StartsMore final : public CallHandler {
 public:
  explicit StartsMore(std::function<void()> more) : more_(std::move(more)) {}
  void OnDone(CallResult) override { more_(); }

 private:
  const std::function<void()> more_;
};

TEST_F(Http2ConnectionTest, ConnectionIsReadyWithThePeersLimit) {
  const auto peer = Serve(Echo, {.max_streams = 7});
  const DialOutcome dialed = Dial(peer->target());
  ASSERT_TRUE(dialed) << dialed.error.message;
  EXPECT_EQ(7, dialed.max_streams);
  const auto facts = upstream().Describe(dialed.conn);
  EXPECT_EQ("h2", facts->protocol);
  EXPECT_EQ("TLSv1.3", facts->tls_version);
}

TEST_F(Http2ConnectionTest, CallAnswersAndIsCounted) {
  const auto peer =
      Serve([](Http2Peer& p, StreamId id, const Http2Peer::Asked& request) {
        EXPECT_EQ("POST", request.Get(":method"));
        EXPECT_EQ("https", request.Get(":scheme"));
        EXPECT_EQ("localhost", request.Get(":authority"));
        EXPECT_EQ("1", request.Get("x-one"));
        p.Answer(id, {{":status", "201"}, {"server", "me"}}, request.body,
                 {{"end", "yes"}});
      });
  const HeaderView header{"X-One", "1"};
  const CallResult result = Run(Connect(*peer), {.method = "POST",
                                                 .path = "/a?b",
                                                 .headers = {&header, 1},
                                                 .body = "payload"});
  EXPECT_EQ(CallError::kNone, result.error) << result.message;
  EXPECT_EQ(Verdict::kComplete, result.verdict);
  EXPECT_EQ(201, result.response.status);
  EXPECT_EQ("payload", result.response.body);
  EXPECT_EQ((std::vector<Header>{{"server", "me"}}), result.response.headers);
  EXPECT_EQ((std::vector<Header>{{"end", "yes"}}), result.response.trailers);
  EXPECT_GT(result.bytes_written, 7u);
  EXPECT_GT(result.bytes_read, 7u);
  EXPECT_GT(result.first_byte.count(), 0);
}

TEST_F(Http2ConnectionTest, HundredCallsRunSideBySideFromManyThreads) {
  const auto peer = Serve(Holding());
  const pool::ConnId conn = Connect(*peer);
  std::list<Ending> endings(100);
  std::vector<std::thread> threads;
  auto next = endings.begin();
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, first = next] {
      auto mine = first;
      for (int j = 0; j < 25; ++j) Start(conn, &*mine++, {.path = "/hold"});
    });
    std::advance(next, 25);
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ("/release", Run(conn, {.path = "/release"}).response.body);
  for (Ending& ending : endings) {
    EXPECT_EQ("held", ending.Await().response.body);
    EXPECT_EQ(1, ending.count());
  }
  EXPECT_EQ(1, peer->accepted());
  EXPECT_EQ(0, pool_.closes(last_id_));
}

TEST_F(Http2ConnectionTest, WhatIsBegunTogetherGoesOutInFewRecords) {
  const auto peer = Serve(Holding());
  const pool::ConnId conn = Connect(*peer);
  std::list<Ending> endings(100);
  StartsMore first([&] {
    for (Ending& ending : endings) Start(conn, &ending, {.path = "/hold"});
  });
  const int before = RecordsAfter(0);
  upstream().StartCall(conn, {.authority = "localhost", .path = "/"}, &first,
                       MonotonicNow());
  // One for the first request, one or two for all others, and what the protocol
  // itself has to say.
  EXPECT_LE(RecordsAfter(101) - before, 8);
  EXPECT_EQ("/release", Run(conn, {.path = "/release"}).response.body);
  for (Ending& ending : endings) {
    EXPECT_EQ("held", ending.Await().response.body);
  }
}

TEST_F(Http2ConnectionTest, ThousandCallsOneAfterTheOther) {
  const auto peer = Serve(Echo);
  const pool::ConnId conn = Connect(*peer);
  for (int i = 0; i < 1000; ++i) {
    ASSERT_EQ("/", Run(conn).response.body) << i;
  }
  EXPECT_EQ(0, pool_.closes(last_id_));
}

TEST_F(Http2ConnectionTest, LargeBodiesGoBothWaysSideBySide) {
  std::string body(3 << 20, 'x');
  for (size_t i = 0; i < body.size(); i += 101) body[i] = 'a' + i % 26;
  const auto peer =
      Serve(Echo, {.stream_window = 1 << 20, .connection_window = 4 << 20});
  const pool::ConnId conn = Connect(*peer);
  std::list<Ending> endings(4);
  for (Ending& ending : endings) {
    Start(conn, &ending,
          {.method = "POST", .body = body, .max_response_bytes = 4 << 20});
  }
  for (Ending& ending : endings) {
    const CallResult& result = ending.Await();
    EXPECT_EQ(CallError::kNone, result.error) << result.message;
    EXPECT_TRUE("/" + body == result.response.body);
    EXPECT_GT(result.bytes_written, body.size());
    EXPECT_GT(result.bytes_read, body.size());
  }
}

// What ends one call leaves the others alone.

TEST_F(Http2ConnectionTest, CancelledCallResetsItsStreamAndNothingElse) {
  const auto peer = Serve(Holding());
  const pool::ConnId conn = Connect(*peer);
  Ending stays;
  Ending goes;
  Start(conn, &stays, {.path = "/hold"});
  const CallId call = Start(conn, &goes, {.path = "/hold"});
  EXPECT_EQ("/", Run(conn).response.body);
  upstream().CancelCall(conn, call);
  upstream().CancelCall(conn, call);
  EXPECT_EQ(CallError::kCancelled, goes.Await().error);
  EXPECT_EQ(Verdict::kSentUnknown, goes.Await().verdict);
  AwaitResets(1);
  Run(conn, {.path = "/release"});
  EXPECT_EQ("held", stays.Await().response.body);
  EXPECT_EQ(1, resets());
  EXPECT_EQ(0, pool_.closes(last_id_));
  EXPECT_EQ(0, pool_.errors(last_id_));
  EXPECT_EQ(1, goes.count());
}

TEST_F(Http2ConnectionTest, DeadlineResetsItsStreamAndCountsAnError) {
  const auto peer = Serve(Holding());
  const pool::ConnId conn = Connect(*peer);
  Ending stays;
  Start(conn, &stays,
        {.path = "/hold", .deadline = MonotonicNow() + kPatience});
  std::list<Ending> late(3);
  for (Ending& ending : late) {
    Start(conn, &ending,
          {.path = "/hold", .deadline = MonotonicNow() + milliseconds(50)});
  }
  for (Ending& ending : late) {
    EXPECT_EQ(CallError::kTimeout, ending.Await().error);
    EXPECT_EQ(Verdict::kSentUnknown, ending.Await().verdict);
  }
  AwaitResets(3);
  Run(conn, {.path = "/release"});
  EXPECT_EQ("held", stays.Await().response.body);
  EXPECT_EQ(3, pool_.errors(last_id_));
  EXPECT_EQ(0, pool_.closes(last_id_));
}

TEST_F(Http2ConnectionTest, ResetByThePeerFailsOneCallAndCountsAnError) {
  const auto peer =
      Serve([](Http2Peer& p, StreamId id, const Http2Peer::Asked& request) {
        if (request.Get(":path") == "/") return Echo(p, id, request);
        p.Reset(id, NGHTTP2_INTERNAL_ERROR);
      });
  const pool::ConnId conn = Connect(*peer);
  const CallResult result = Run(conn, {.path = "/bad"});
  EXPECT_EQ(CallError::kReset, result.error);
  EXPECT_EQ(Verdict::kSentUnknown, result.verdict);
  EXPECT_EQ("/", Run(conn).response.body);
  EXPECT_EQ(1, pool_.errors(last_id_));
}

TEST_F(Http2ConnectionTest, RefusedStreamWasNotProcessedAndIsNoError) {
  const auto peer =
      Serve([](Http2Peer& p, StreamId id, const Http2Peer::Asked& request) {
        if (request.Get(":path") == "/") return Echo(p, id, request);
        p.Reset(id, NGHTTP2_REFUSED_STREAM);
      });
  const pool::ConnId conn = Connect(*peer);
  const CallResult result = Run(conn, {.path = "/bad"});
  EXPECT_EQ(CallError::kReset, result.error);
  EXPECT_EQ(Verdict::kRefusedByPeer, result.verdict);
  EXPECT_EQ("/", Run(conn).response.body);
  EXPECT_EQ(0, pool_.errors(last_id_));
}

TEST_F(Http2ConnectionTest, BodyLimitsAreEachCallsOwn) {
  const auto peer =
      Serve([](Http2Peer& p, StreamId id, const Http2Peer::Asked&) {
        p.Answer(id, {{":status", "200"}}, std::string(100000, 'x'));
      });
  const pool::ConnId conn = Connect(*peer);
  Ending cut;
  Ending failed;
  Ending whole;
  Start(conn, &cut, {.max_response_bytes = 10, .truncate = true});
  Start(conn, &failed, {.max_response_bytes = 99999});
  Start(conn, &whole, {.max_response_bytes = 100000});
  EXPECT_EQ(CallError::kNone, cut.Await().error);
  EXPECT_TRUE(cut.Await().response.truncated);
  EXPECT_EQ("xxxxxxxxxx", cut.Await().response.body);
  EXPECT_EQ(CallError::kResponseTooLarge, failed.Await().error);
  EXPECT_EQ(CallError::kNone, whole.Await().error);
  EXPECT_EQ(100000u, whole.Await().response.body.size());
  AwaitResets(2);
  EXPECT_EQ(0, pool_.closes(last_id_));
}

// Of the connection as a whole.

TEST_F(Http2ConnectionTest, GoAwayIsToldOnceAndStreamsAboveAreRefused) {
  std::promise<void> all_sent;
  const auto peer =
      Serve([&](Http2Peer& p, StreamId id, const Http2Peer::Asked&) {
        if (id != 5) return;  // The third one.
        p.GoAway(3, NGHTTP2_NO_ERROR);
        p.GoAway(3, NGHTTP2_NO_ERROR);
        p.Answer(1, {{":status", "200"}}, "one");
        p.Answer(3, {{":status", "200"}}, "three");
      });
  const pool::ConnId conn = Connect(*peer);
  std::list<Ending> endings(3);
  for (Ending& ending : endings) Start(conn, &ending);
  auto it = endings.begin();
  EXPECT_EQ("one", (it++)->Await().response.body);
  EXPECT_EQ("three", (it++)->Await().response.body);
  EXPECT_EQ(Verdict::kRefusedByPeer, it->Await().verdict);
  // By the time the caller was told, so was the pool.
  EXPECT_EQ(1, pool_.goaways(last_id_));
  const CallResult late = Run(conn);
  EXPECT_EQ(Verdict::kNotSent, late.verdict);
  EXPECT_EQ(0, pool_.closes(last_id_));
  upstream().Close(conn, pool::CloseReason::kPeerClosed);
  AwaitClosed();
}

TEST_F(Http2ConnectionTest, GoAwayWhileIdleIsToldAtOnce) {
  const auto peer =
      Serve([](Http2Peer& p, StreamId id, const Http2Peer::Asked& request) {
        Echo(p, id, request);
        p.GoAway(id, NGHTTP2_NO_ERROR);
      });
  const pool::ConnId conn = Connect(*peer);
  EXPECT_EQ("/", Run(conn).response.body);
  pool_.AwaitGoAway(last_id_);
}

TEST_F(Http2ConnectionTest, ChangedLimitsAreTold) {
  const auto peer =
      Serve([](Http2Peer& p, StreamId id, const Http2Peer::Asked& request) {
        Echo(p, id, request);
        p.SetMaxStreams(std::stoi(request.Get(":path").substr(1)));
      });
  const pool::ConnId conn = Connect(*peer);
  for (const char* limit : {"/10", "/1", "/200", "/0"}) {
    EXPECT_EQ(limit, Run(conn, {.path = limit}).response.body);
    pool_.AwaitStreams(last_id_, std::stoi(limit + 1));
  }
  // None may be sent.
  EXPECT_EQ(Verdict::kNotSent, Run(conn).verdict);
  EXPECT_EQ(0, pool_.closes(last_id_));
}

TEST_F(Http2ConnectionTest, EndOfTheConnectionIsToldToEveryCallOnce) {
  ScriptedPeer peer({.tls = LocalhostCert(), .alpn = "h2"},
                    [](PeerConnection& c) {
                      Http2Peer h2({});
                      c.Write(h2.TakeOutput());
                      while (h2.requests.size() < 20) h2.Feed(c.ReadSome());
                      c.Close();
                    });
  const pool::ConnId conn = Connect(peer);
  std::list<Ending> endings(20);
  for (Ending& ending : endings) Start(conn, &ending);
  for (Ending& ending : endings) {
    EXPECT_EQ(CallError::kReset, ending.Await().error);
    EXPECT_EQ(Verdict::kSentUnknown, ending.Await().verdict);
    EXPECT_EQ(1, pool_.closes(last_id_));
  }
  EXPECT_EQ(pool::CloseReason::kError, AwaitClosed());
  upstream().Stop();
  for (Ending& ending : endings) EXPECT_EQ(1, ending.count());
}

TEST_F(Http2ConnectionTest, CloseByThePoolEndsEveryCall) {
  const auto peer = Serve(Holding());
  const pool::ConnId conn = Connect(*peer);
  std::list<Ending> endings(5);
  for (Ending& ending : endings) Start(conn, &ending, {.path = "/hold"});
  upstream().Close(conn, pool::CloseReason::kShrunk);
  for (Ending& ending : endings) {
    EXPECT_EQ(CallError::kCancelled, ending.Await().error);
  }
  EXPECT_EQ(pool::CloseReason::kShrunk, AwaitClosed());
}

TEST_F(Http2ConnectionTest, PeerThatTurnsToNonsenseIsClosedWithTypedErrors) {
  ScriptedPeer peer({.tls = LocalhostCert(), .alpn = "h2"},
                    [](PeerConnection& c) {
                      Http2Peer h2({});
                      c.Write(h2.TakeOutput());
                      while (h2.requests.size() < 2) h2.Feed(c.ReadSome());
                      c.Write("what about this for a frame?");
                      c.AwaitClose();
                    });
  const pool::ConnId conn = Connect(peer);
  std::list<Ending> endings(2);
  for (Ending& ending : endings) Start(conn, &ending);
  for (Ending& ending : endings) {
    // Neither call's answer was at fault: they may be repeated.
    const CallResult result = ending.Await();
    EXPECT_EQ(CallError::kReset, result.error);
    EXPECT_EQ(Verdict::kSentUnknown, result.verdict);
    EXPECT_NE(std::string::npos, result.message.find("HTTP/2"));
    EXPECT_EQ(1, pool_.closes(last_id_));
  }
}

TEST_F(Http2ConnectionTest, FinWhileIdleRetiresAtOnce) {
  ScriptedPeer peer(
      {.tls = LocalhostCert(), .alpn = "h2"}, [](PeerConnection& c) {
        Http2Peer h2({});
        h2.on_end = [&](StreamId id) { Echo(h2, id, h2.requests[id]); };
        c.Write(h2.TakeOutput());
        while (h2.requests.empty()) h2.Feed(c.ReadSome());
        c.Write(h2.TakeOutput());
        c.Close();
      });
  const pool::ConnId conn = Connect(peer);
  EXPECT_EQ("/", Run(conn).response.body);
  EXPECT_EQ(pool::CloseReason::kPeerClosed, AwaitClosed());
}

// Dials.

TEST_F(Http2ConnectionTest, PeerWithoutSettingsIsNotConnectedTo) {
  options_.tls_timeout = milliseconds(100);
  ScriptedPeer peer({.tls = LocalhostCert(), .alpn = "h2"},
                    [](PeerConnection& c) { c.AwaitClose(); });
  EXPECT_EQ("TLS_FAILED", DialReason(peer.target()));
  EXPECT_NE(std::string::npos, message_.find("settings")) << message_;
}

TEST_F(Http2ConnectionTest, PeerThatAnswersInHttp1IsNamed) {
  ScriptedPeer peer({.tls = LocalhostCert(), .alpn = "h2"},
                    [](PeerConnection& c) {
                      c.ReadSome();
                      c.Write("HTTP/1.1 400 Bad Request\r\n\r\n");
                      c.AwaitClose();
                    });
  EXPECT_EQ("TLS_FAILED", DialReason(peer.target()));
  EXPECT_NE(std::string::npos, message_.find("HTTP/1")) << message_;
}

TEST_F(Http2ConnectionTest, PeerThatClosesInsteadOfSettingsIsReported) {
  ScriptedPeer peer({.tls = LocalhostCert(), .alpn = "h2"},
                    [](PeerConnection& c) { c.Close(); });
  EXPECT_EQ("TLS_FAILED", DialReason(peer.target())) << message_;
}

TEST_F(Http2ConnectionTest, GoAwayAtOnceFailsTheDial) {
  ScriptedPeer peer({.tls = LocalhostCert(), .alpn = "h2"},
                    [](PeerConnection& c) {
                      Http2Peer h2({});
                      h2.GoAway(0, NGHTTP2_NO_ERROR);
                      c.Write(h2.TakeOutput());
                      c.AwaitClose();
                    });
  EXPECT_EQ("CONNECT_FAILED", DialReason(peer.target())) << message_;
}

TEST_F(Http2ConnectionTest, ValidationIsAskedOverHttp2) {
  policy_.validate = {.path = "/up"};
  for (const bool fine : {true, false}) {
    const auto peer = Serve(
        [fine](Http2Peer& p, StreamId id, const Http2Peer::Asked& request) {
          EXPECT_EQ("HEAD", request.Get(":method"));
          EXPECT_EQ("/up", request.Get(":path"));
          p.Answer(id, {{":status", fine ? "204" : "503"}});
        });
    EXPECT_EQ(fine ? "" : "VALIDATION_FAILED", DialReason(peer->target()));
  }
}

// Signs of life.

TEST_F(Http2ConnectionTest, ProbeIsAPing) {
  const auto peer = Serve([](Http2Peer&, StreamId, const Http2Peer::Asked&) {
    ADD_FAILURE() << "a request";
  });
  Probe(Connect(*peer));
  EXPECT_TRUE(pool_.AwaitProbe(last_id_));
  EXPECT_EQ(0, pool_.closes(last_id_));
  std::lock_guard lock(mu_);
  EXPECT_EQ(1, pings_);
}

TEST_F(Http2ConnectionTest, ProbeThatWasAskedForIsARequest) {
  policy_.probe = {.path = "/up", .min_status = 200, .max_status = 299};
  policy_.probe_is_asked_for = true;
  const auto peer =
      Serve([](Http2Peer& p, StreamId id, const Http2Peer::Asked& request) {
        EXPECT_EQ("/up", request.Get(":path"));
        p.Answer(id, {{":status", "500"}});
      });
  Probe(Connect(*peer));
  EXPECT_FALSE(pool_.AwaitProbe(last_id_));
  EXPECT_EQ(0, pool_.closes(last_id_));
}

TEST_F(Http2ConnectionTest, PingWithoutAnAnswerClosesTheConnection) {
  options_.probe_timeout = milliseconds(50);
  ScriptedPeer peer({.tls = LocalhostCert(), .alpn = "h2"},
                    [](PeerConnection& c) {
                      c.Write(Http2Peer({}).TakeOutput());
                      c.AwaitClose();
                    });
  Probe(Connect(peer));
  EXPECT_FALSE(pool_.AwaitProbe(last_id_));
  EXPECT_EQ(pool::CloseReason::kProbeFailed, AwaitClosed());
  EXPECT_EQ(1u, pool_.probes());
}

TEST_F(Http2ConnectionTest, ASilentPeerThatAnswersPingsIsKept) {
  options_.ping_after = milliseconds(50);
  options_.ping_timeout = seconds(1);
  const auto peer = Serve(Holding());
  const pool::ConnId conn = Connect(*peer);
  Ending held;
  Start(conn, &held, {.path = "/hold"});
  {
    std::unique_lock lock(mu_);
    ASSERT_TRUE(
        changed_.wait_for(lock, kPatience, [&] { return pings_ >= 3; }));
  }
  Run(conn, {.path = "/release"});
  EXPECT_EQ("held", held.Await().response.body);
  EXPECT_EQ(0, pool_.closes(last_id_));
}

TEST_F(Http2ConnectionTest, ASilentPeerThatAnswersNoPingIsClosed) {
  options_.ping_after = milliseconds(50);
  options_.ping_timeout = milliseconds(50);
  ScriptedPeer peer({.tls = LocalhostCert(), .alpn = "h2"},
                    [](PeerConnection& c) {
                      c.Write(Http2Peer({}).TakeOutput());
                      c.AwaitClose();
                    });
  const pool::ConnId conn = Connect(peer);
  std::list<Ending> endings(3);
  for (Ending& ending : endings) Start(conn, &ending);
  for (Ending& ending : endings) {
    EXPECT_EQ(CallError::kReset, ending.Await().error);
    EXPECT_EQ(Verdict::kSentUnknown, ending.Await().verdict);
  }
  EXPECT_EQ(pool::CloseReason::kError, AwaitClosed());
}

TEST_F(Http2ConnectionTest, APeerThatOwesNoAnswerIsNotPinged) {
  options_.ping_after = milliseconds(20);
  options_.ping_timeout = seconds(2);
  const auto peer = Serve(Echo);
  const pool::ConnId conn = Connect(*peer);
  // While the answer is owed, a slow machine may ping. The probe's own PING is
  // the last of these, and the first and last of the idle time that follows.
  EXPECT_EQ("/", Run(conn).response.body);
  const auto pings_with_probe = [&](size_t probe) {
    upstream().Probe(conn, keys_[conn]);
    EXPECT_TRUE(pool_.AwaitProbe(conn, probe));
    std::lock_guard lock(mu_);
    return pings_;
  };
  const int before = pings_with_probe(1);
  // Meanwhile one that owes an answer is pinged twice.
  ScriptedPeer owing({.tls = LocalhostCert(), .alpn = "h2"},
                     [](PeerConnection& c) {
                       Http2Peer h2({});
                       c.Write(h2.TakeOutput());
                       while (h2.pings < 2 && h2.Feed(c.ReadSome())) {
                         c.Write(h2.TakeOutput());
                       }
                       c.Close();
                     });
  EXPECT_EQ(CallError::kReset, Run(Connect(owing)).error);
  EXPECT_EQ(before + 1, pings_with_probe(2));
  EXPECT_EQ(0, pool_.closes(conn));
}

TEST_F(Http2ConnectionTest, ProbeOfAClosedConnectionIsAnswered) {
  ScriptedPeer peer({.tls = LocalhostCert(), .alpn = "h2"},
                    [](PeerConnection& c) {
                      Http2Peer h2({});
                      c.Write(h2.TakeOutput());
                      while (h2.pings == 0) h2.Feed(c.ReadSome());
                      c.Close();
                    });
  Probe(Connect(peer));
  EXPECT_FALSE(pool_.AwaitProbe(last_id_));
  AwaitClosed();
  EXPECT_EQ(1u, pool_.probes());
}

}  // namespace
}  // namespace hotline::upstream
