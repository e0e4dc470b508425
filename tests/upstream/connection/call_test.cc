// Calls on open connections: answers, verdicts, limits, ends.
#include <atomic>
#include <future>
#include <thread>

#include "tests/upstream/upstream_fixture.h"

namespace hotline::upstream {
namespace {

using std::chrono::milliseconds;

// The kernel holds some of a body for a peer that does not read.
constexpr size_t kMoreThanSocketsTake = 32 << 20;

class CallTest : public UpstreamTest {};

TEST_F(CallTest, PlainConnectionAnswers) {
  ScriptedPeer peer([](PeerConnection& c) {
    c.Write(OkResponse("you said: " + c.ReadRequest()));
    c.AwaitClose();
  });
  const CallResult result = Run(Connect(peer), {.path = "/a?b=c"});
  EXPECT_EQ(CallError::kNone, result.error) << result.message;
  EXPECT_EQ(Verdict::kComplete, result.verdict);
  EXPECT_EQ(200, result.response.status);
  EXPECT_EQ("you said: GET /a?b=c HTTP/1.1\r\nHost: localhost\r\n\r\n",
            result.response.body);
  EXPECT_EQ(result.response.body.size() - 10, result.bytes_written);
  EXPECT_GT(result.bytes_read, result.response.body.size());
  EXPECT_GT(result.first_byte.count(), 0);
}

TEST_F(CallTest, TlsConnectionAnswersAndDescribesItself) {
  ScriptedPeer peer({.tls = LocalhostCert()}, AlwaysAnswer(OkResponse("hi")));
  const DialOutcome dialed = Dial(peer.target());
  ASSERT_TRUE(dialed) << dialed.error.message;
  EXPECT_EQ("localhost", peer.last_sni());
  EXPECT_GT(dialed.timings.connect.count(), 0);
  EXPECT_GT(dialed.timings.tls.count(), 0);
  EXPECT_EQ("hi", Run(dialed.conn).response.body);
  const auto facts = upstream().Describe(dialed.conn);
  ASSERT_NE(nullptr, facts);
  EXPECT_EQ("http/1.1", facts->protocol);
  EXPECT_EQ("127.0.0.1:" + std::to_string(peer.port()), facts->remote_address);
  EXPECT_EQ(0u, facts->local_address.find("127.0.0.1:"));
  EXPECT_EQ("TLSv1.3", facts->tls_version);
  EXPECT_EQ(0u, facts->tls_cipher.find("TLS_"));
}

TEST_F(CallTest, ThousandCallsOnOneConnection) {
  for (const bool tls : {false, true}) {
    ScriptedPeer::Options options;
    if (tls) options.tls = LocalhostCert();
    ScriptedPeer peer(options, AlwaysAnswer(OkResponse("again")));
    const pool::ConnId conn = Connect(peer);
    for (int i = 0; i < 1000; ++i) {
      const CallResult result = Run(conn);
      ASSERT_EQ("again", result.response.body) << i << ": " << result.message;
    }
    EXPECT_EQ(1, peer.accepted());
    EXPECT_EQ(0, pool_.closes(last_id_));
  }
}

TEST_F(CallTest, LargeBodiesGoBothWays) {
  std::string body(3 << 20, 'x');
  for (size_t i = 0; i < body.size(); i += 101) body[i] = 'a' + i % 26;
  for (const bool tls : {false, true}) {
    ScriptedPeer::Options options;
    if (tls) options.tls = LocalhostCert();
    ScriptedPeer peer(options, [](PeerConnection& c) {
      const std::string request = c.ReadRequest();
      c.Write(OkResponse(request.substr(request.find("\r\n\r\n") + 4)));
      c.AwaitClose();
    });
    const CallResult result =
        Run(Connect(peer),
            {.method = "POST", .body = body, .max_response_bytes = 4 << 20});
    EXPECT_EQ(CallError::kNone, result.error) << result.message;
    EXPECT_TRUE(body == result.response.body);
    EXPECT_GT(result.bytes_written, body.size());
  }
}

TEST_F(CallTest, BodyAboveTheLimitFailsAndClosesTheConnection) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse(std::string(1000, 'x'))));
  const CallResult result = Run(Connect(peer), {.max_response_bytes = 999});
  EXPECT_EQ(CallError::kResponseTooLarge, result.error);
  EXPECT_EQ(Verdict::kResponseStarted, result.verdict);
  // By the time the caller was told, so was the pool.
  EXPECT_EQ(1, pool_.closes(last_id_));
  EXPECT_EQ(pool::CloseReason::kError, AwaitClosed());
}

TEST_F(CallTest, BodyOfExactlyTheLimitIsFine) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse(std::string(1000, 'x'))));
  const CallResult result = Run(Connect(peer), {.max_response_bytes = 1000});
  EXPECT_EQ(CallError::kNone, result.error);
  EXPECT_FALSE(result.response.truncated);
  EXPECT_EQ(0, pool_.closes(last_id_));
}

TEST_F(CallTest, BodyAboveTheLimitIsCutWhenAskedFor) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse(std::string(1000, 'x'))));
  const CallResult result =
      Run(Connect(peer), {.max_response_bytes = 10, .truncate = true});
  EXPECT_EQ(CallError::kNone, result.error);
  EXPECT_TRUE(result.response.truncated);
  EXPECT_EQ("xxxxxxxxxx", result.response.body);
  EXPECT_EQ(1, pool_.closes(last_id_));
}

TEST_F(CallTest, DeadlineEndsACallThatWasSent) {
  ScriptedPeer peer([](PeerConnection& c) {
    c.ReadRequest();
    c.AwaitClose();
  });
  const Instant start = MonotonicNow();
  const CallResult result =
      Run(Connect(peer), {.deadline = start + milliseconds(50)});
  EXPECT_GE(MonotonicNow() - start, milliseconds(50));
  EXPECT_EQ(CallError::kTimeout, result.error);
  EXPECT_EQ(Verdict::kSentUnknown, result.verdict);
  EXPECT_EQ(1, pool_.closes(last_id_));
}

TEST_F(CallTest, DeadlineThatIsPastEndsTheCall) {
  ScriptedPeer peer(AlwaysAnswer(""));
  const CallResult result =
      Run(Connect(peer), {.deadline = MonotonicNow() - milliseconds(1)});
  EXPECT_EQ(CallError::kTimeout, result.error);
}

TEST_F(CallTest, EarlierDeadlineAfterALaterOneHolds) {
  ScriptedPeer peer([](PeerConnection& c) {
    c.ReadRequest();
    c.Write(OkResponse("first"));
    c.AwaitClose();
  });
  const pool::ConnId conn = Connect(peer);
  const Instant now = MonotonicNow();
  EXPECT_EQ("first", Run(conn, {.deadline = now + kPatience}).response.body);
  EXPECT_EQ(CallError::kTimeout,
            Run(conn, {.deadline = now + milliseconds(50)}).error);
}

TEST_F(CallTest, LaterDeadlineAfterAnEarlierOneHolds) {
  ScriptedPeer peer([](PeerConnection& c) {
    c.ReadRequest();
    c.Write(OkResponse("first"));
    c.AwaitClose();
  });
  const pool::ConnId conn = Connect(peer);
  const Instant now = MonotonicNow();
  Run(conn, {.deadline = now + milliseconds(20)});
  EXPECT_EQ(CallError::kTimeout,
            Run(conn, {.deadline = now + milliseconds(80)}).error);
  EXPECT_GE(MonotonicNow(), now + milliseconds(80));
}

TEST_F(CallTest, CancelledCallIsToldOnceAndTheConnectionClosed) {
  std::promise<void> arrived;
  ScriptedPeer peer([&](PeerConnection& c) {
    c.ReadRequest();
    arrived.set_value();
    c.AwaitClose();
  });
  const pool::ConnId conn = Connect(peer);
  Ending ending;
  const CallId call = Start(conn, &ending);
  arrived.get_future().wait();
  upstream().CancelCall(conn, call);
  upstream().CancelCall(conn, call);
  EXPECT_EQ(CallError::kCancelled, ending.Await().error);
  EXPECT_EQ(Verdict::kSentUnknown, ending.Await().verdict);
  EXPECT_EQ(1, pool_.closes(last_id_));
  upstream().Stop();
  EXPECT_EQ(1, ending.count());
}

TEST_F(CallTest, CancellingACallThatHasEndedChangesNothing) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("hi")));
  const pool::ConnId conn = Connect(peer);
  Ending first;
  const CallId call = Start(conn, &first);
  first.Await();
  upstream().CancelCall(conn, call);
  EXPECT_EQ("hi", Run(conn).response.body);
  EXPECT_EQ(0, pool_.closes(last_id_));
}

TEST_F(CallTest, CloseByThePoolEndsTheCall) {
  ScriptedPeer peer([](PeerConnection& c) { c.AwaitClose(); });
  const pool::ConnId conn = Connect(peer);
  Ending ending;
  Start(conn, &ending);
  upstream().Close(conn, pool::CloseReason::kBroken);
  EXPECT_EQ(CallError::kCancelled, ending.Await().error);
  EXPECT_EQ(pool::CloseReason::kBroken, AwaitClosed());
}

TEST_F(CallTest, ResetWithinTheAnswerIsResponseStarted) {
  ScriptedPeer peer([](PeerConnection& c) {
    c.ReadRequest();
    c.Write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    c.Close();
  });
  const CallResult result = Run(Connect(peer));
  EXPECT_EQ(CallError::kReset, result.error);
  EXPECT_EQ(Verdict::kResponseStarted, result.verdict);
  EXPECT_EQ(pool::CloseReason::kError, AwaitClosed());
}

TEST_F(CallTest, CloseBeforeAnyAnswerIsSentUnknown) {
  for (const bool reset : {false, true}) {
    ScriptedPeer peer([reset](PeerConnection& c) {
      c.ReadRequest();
      reset ? c.Reset() : c.Close();
    });
    const CallResult result = Run(Connect(peer));
    EXPECT_EQ(CallError::kReset, result.error);
    EXPECT_EQ(Verdict::kSentUnknown, result.verdict);
  }
}

TEST_F(CallTest, ResetWhileTheBodyIsBeingSentIsPartial) {
  const std::string body(kMoreThanSocketsTake, 'x');
  ScriptedPeer peer([](PeerConnection& c) {
    c.ReadSome();
    c.Reset();
  });
  const CallResult result =
      Run(Connect(peer), {.method = "POST", .body = body});
  EXPECT_EQ(CallError::kReset, result.error);
  EXPECT_EQ(Verdict::kPartial, result.verdict);
  EXPECT_GT(result.bytes_written, 0u);
  EXPECT_LT(result.bytes_written, body.size());
}

TEST_F(CallTest, AnswerBeforeTheBodyWasTakenIsAnAnswer) {
  const std::string body(kMoreThanSocketsTake, 'x');
  std::promise<void> done;
  ScriptedPeer peer([&](PeerConnection& c) {
    c.ReadSome();
    c.Write("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno");
    done.get_future().wait();
  });
  const CallResult result =
      Run(Connect(peer), {.method = "POST", .body = body});
  EXPECT_EQ(CallError::kNone, result.error) << result.message;
  EXPECT_EQ(413, result.response.status);
  EXPECT_EQ(1, pool_.closes(last_id_));
  done.set_value();
}

TEST_F(CallTest, BodyEndingWithTheConnectionIsWhole) {
  for (const bool tls : {false, true}) {
    ScriptedPeer::Options options;
    if (tls) options.tls = LocalhostCert();
    ScriptedPeer peer(options, [](PeerConnection& c) {
      c.ReadRequest();
      c.Write("HTTP/1.1 200 OK\r\n\r\nto the end");
      c.Close();
    });
    const CallResult result = Run(Connect(peer));
    EXPECT_EQ(CallError::kNone, result.error) << result.message;
    EXPECT_EQ("to the end", result.response.body);
    EXPECT_EQ(1, pool_.closes(last_id_));
  }
}

TEST_F(CallTest, BodyCutOffByAFinBelowTlsIsNotWhole) {
  ScriptedPeer peer({.tls = LocalhostCert()}, [](PeerConnection& c) {
    c.ReadRequest();
    c.Write("HTTP/1.1 200 OK\r\n\r\nto the e");
    c.CloseWithoutNotice();
  });
  const CallResult result = Run(Connect(peer));
  EXPECT_EQ(CallError::kReset, result.error);
  EXPECT_EQ(Verdict::kResponseStarted, result.verdict);
}

TEST_F(CallTest, ConnectionCloseIsHonoured) {
  ScriptedPeer peer([](PeerConnection& c) {
    c.ReadRequest();
    c.Write(
        "HTTP/1.1 200 OK\r\nConnection: close\r\n"
        "Content-Length: 2\r\n\r\nhi");
    c.AwaitClose();
  });
  const pool::ConnId conn = Connect(peer);
  EXPECT_EQ("hi", Run(conn).response.body);
  EXPECT_EQ(1, pool_.closes(last_id_));
  const CallResult late = Run(conn);
  EXPECT_EQ(CallError::kConnectionGone, late.error);
  EXPECT_EQ(Verdict::kNotSent, late.verdict);
  EXPECT_EQ(nullptr, upstream().Describe(conn));
}

TEST_F(CallTest, GarbageIsAProtocolError) {
  ScriptedPeer peer(AlwaysAnswer("SSH-2.0-OpenSSH\r\n"));
  const CallResult result = Run(Connect(peer));
  EXPECT_EQ(CallError::kProtocol, result.error);
  EXPECT_EQ(pool::CloseReason::kError, AwaitClosed());
}

TEST_F(CallTest, UnknownConnectionIsConnectionGone) {
  EXPECT_EQ(CallError::kConnectionGone, Run(4711).error);
  EXPECT_EQ(CallError::kConnectionGone, Run(0).error);
  upstream().CancelCall(4711, 1);
  upstream().Close(4711, pool::CloseReason::kIdle);
}

TEST_F(CallTest, StopEndsCallsInFlight) {
  ScriptedPeer peer([](PeerConnection& c) { c.AwaitClose(); });
  options_.loops = 2;
  std::vector<std::unique_ptr<Ending>> endings;
  for (int i = 0; i < 20; ++i) {
    const pool::ConnId conn = Connect(peer);
    endings.push_back(std::make_unique<Ending>());
    Start(conn, endings.back().get());
  }
  upstream().Stop();
  for (const auto& ending : endings) {
    EXPECT_EQ(1, ending->count());
    EXPECT_EQ(CallError::kCancelled, ending->Await().error);
  }
  Ending after;
  Start(*opened_.begin(), &after);
  EXPECT_EQ(1, after.count());
}

TEST_F(CallTest, ManyThreadsCallAtOnce) {
  options_.loops = 2;
  ScriptedPeer peer({.tls = LocalhostCert()}, [](PeerConnection& c) {
    for (;;) {
      const std::string request = c.ReadRequest();
      if (request.empty()) return;
      const size_t end = request.find(' ', 4);
      c.Write(OkResponse(request.substr(4, end - 4)));
    }
  });
  std::vector<pool::ConnId> conns;
  for (int i = 0; i < 8; ++i) conns.push_back(Connect(peer));
  std::atomic<int> right{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      for (int n = 0; n < 100; ++n) {
        const std::string path = "/" + std::to_string(i * 1000 + n);
        right += Run(conns[i], {.path = path}).response.body == path;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(800, right);
}

// Every handler is told once, whatever closes the connection at that moment.
TEST_F(CallTest, CallsRacingWithClosesAllEnd) {
  ScriptedPeer peer(AlwaysAnswer(OkResponse("hi")));
  for (int round = 0; round < 100; ++round) {
    const pool::ConnId conn = Connect(peer);
    std::thread closer(
        [&] { upstream().Close(conn, pool::CloseReason::kShrunk); });
    for (bool open = true; open;) {
      Ending ending;
      Start(conn, &ending);
      open = ending.Await().error == CallError::kNone;
      EXPECT_EQ(1, ending.count());
      // Whoever is told that the connection is gone finds the pool informed.
      if (!open) {
        EXPECT_EQ(1, pool_.closes(conn));
      }
    }
    closer.join();
  }
}

}  // namespace
}  // namespace hotline::upstream
