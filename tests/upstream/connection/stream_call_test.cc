// Streamed calls over loopback: both protocols, both ways, every kind of end.
#include <algorithm>
#include <future>
#include <thread>

#include "tests/upstream/codec/http2_server.h"
#include "tests/upstream/upstream_fixture.h"

namespace hotline::upstream {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr size_t kMiB = 1 << 20;
// What may come before somebody consumes it, and what one read brings on top.
constexpr size_t kMostUnconsumed = kMiB + 128 * 1024;
// Of one SendBody after the other, if each waits for OnSendable.
constexpr size_t kMostHeld = 600 * 1024;

std::string Pattern(size_t size) {
  std::string text(size, 'x');
  for (size_t i = 0; i < size; i += 101) text[i] = 'a' + i / 101 % 26;
  return text;
}

// One streamed call: remembers what it is told, sends and consumes.
class Stream final : public StreamHandler {
 public:
  Stream(Upstream* upstream, pool::ConnId conn)
      : upstream_(upstream), conn_(conn) {}

  // Unless told otherwise it consumes at once what comes.
  bool consumes = true;
  std::function<void()> on_head;

  void Open(Request head, bool end) {
    if (head.authority.empty()) head.authority = "localhost";
    upstream_->OpenStream(conn_, head, end, this, MonotonicNow());
  }
  // Sends in pieces, each when there is room for it.
  void SendAll(std::string_view body, size_t piece = 50'000) {
    do {
      const std::string_view next = body.substr(0, piece);
      body.remove_prefix(next.size());
      {
        std::lock_guard lock(mu_);
        sendable_ = false;
      }
      const size_t held =
          upstream_->SendBody(conn_, call(), next, body.empty());
      EXPECT_LE(held, kMostHeld);
      {
        std::lock_guard lock(mu_);
        ++sent_;
        changed_.notify_all();
      }
      if (held > 0 && !body.empty()) {
        Await([&] { return sendable_ || done_ > 0; });
      }
    } while (!body.empty());
  }
  size_t Send(std::string_view piece, bool end = false) {
    return upstream_->SendBody(conn_, call(), piece, end);
  }
  void Consume(size_t bytes) { upstream_->Consume(conn_, call(), bytes); }
  void Cancel() { upstream_->CancelCall(conn_, call()); }

  void OnHead(int status, std::vector<Header> headers) override {
    std::unique_lock lock(mu_);
    EXPECT_EQ(0, status_);
    EXPECT_EQ(0, done_);
    status_ = status;
    headers_ = std::move(headers);
    changed_.notify_all();
    lock.unlock();
    if (on_head) on_head();
  }
  void OnBody(std::string piece) override {
    const size_t size = piece.size();
    {
      std::lock_guard lock(mu_);
      EXPECT_NE(0, status_);
      EXPECT_EQ(0, done_);
      body_ += piece;
      changed_.notify_all();
    }
    if (consumes) Consume(size);
  }
  void OnTrailers(std::vector<Header> trailers) override {
    std::lock_guard lock(mu_);
    EXPECT_EQ(0, done_);
    trailers_ = std::move(trailers);
  }
  void OnSendable() override {
    std::lock_guard lock(mu_);
    EXPECT_EQ(0, done_);
    ++sendables_;
    sendable_ = true;
    changed_.notify_all();
  }
  void OnDone(CallResult result) override {
    std::lock_guard lock(mu_);
    ++done_;
    result_ = std::move(result);
    changed_.notify_all();
  }

  template <typename F>
  void Await(F&& condition) {
    std::unique_lock lock(mu_);
    EXPECT_TRUE(changed_.wait_for(lock, kPatience, condition));
  }
  void AwaitHead() {
    Await([&] { return status_ != 0 || done_ > 0; });
  }
  // Until so many pieces have been sent by SendAll.
  void AwaitSent(int pieces) {
    Await([&] { return sent_ >= pieces || done_ > 0; });
  }
  void AwaitBody(size_t size) {
    Await([&] { return body_.size() >= size || done_ > 0; });
  }
  const CallResult& AwaitDone() {
    Await([&] { return done_ > 0; });
    return result_;
  }
  template <typename F>
  auto Look(F&& look) {
    std::lock_guard lock(mu_);
    return look(*this);
  }
  std::string body() {
    return Look([](Stream& s) { return s.body_; });
  }
  size_t size() {
    return Look([](Stream& s) { return s.body_.size(); });
  }
  int status() {
    return Look([](Stream& s) { return s.status_; });
  }
  int done() {
    return Look([](Stream& s) { return s.done_; });
  }

  std::vector<Header> headers_;
  std::vector<Header> trailers_;

 private:
  Upstream* const upstream_;
  const pool::ConnId conn_;
  std::mutex mu_;
  std::condition_variable changed_;
  int status_ = 0;
  std::string body_;
  int sendables_ = 0;
  bool sendable_ = false;
  int sent_ = 0;
  int done_ = 0;
  CallResult result_;
};

enum class Protocol { kHttp1, kHttp1Tls, kHttp2 };

// Speaks every protocol; a request's body is what it answers with, unless the
// test says otherwise.
class StreamCallTest : public UpstreamTest,
                       public ::testing::WithParamInterface<Protocol> {
 protected:
  bool http2() const { return GetParam() == Protocol::kHttp2; }
  ScriptedPeer::Options PeerOptions() const {
    ScriptedPeer::Options options;
    if (GetParam() != Protocol::kHttp1) options.tls = LocalhostCert();
    if (http2()) options.alpn = "h2";
    return options;
  }
  // Answers each request, when it is there whole, with `body(its body)`.
  std::unique_ptr<ScriptedPeer> Serve(
      std::function<std::string(std::string)> body,
      Http2Peer::Options options = {}) {
    if (http2()) {
      return std::make_unique<ScriptedPeer>(
          PeerOptions(),
          ServeHttp2(options, [body](Http2Peer& peer, StreamId id,
                                     const Http2Peer::Asked& request) {
            peer.Answer(id, {{":status", "200"}, {"a", "b"}},
                        body(request.body), {{"t", "1"}});
          }));
    }
    return std::make_unique<ScriptedPeer>(PeerOptions(), [body](PeerConnection&
                                                                    c) {
      for (;;) {
        const std::string request = c.ReadRequest();
        if (request.empty()) return;
        const std::string answer = body(BodyOf(request));
        c.Write(
            "HTTP/1.1 200 OK\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n" +
            (answer.empty() ? "" : Chunk(answer)) + "0\r\nt: 1\r\n\r\n");
      }
    });
  }
  // Reads requests to their end and never answers.
  std::unique_ptr<ScriptedPeer> Silent() {
    if (http2()) {
      return std::make_unique<ScriptedPeer>(
          PeerOptions(),
          ServeHttp2({}, [](Http2Peer&, StreamId, const auto&) {}));
    }
    return std::make_unique<ScriptedPeer>(
        PeerOptions(), [](PeerConnection& c) { c.AwaitClose(); });
  }

  static std::string Chunk(std::string_view data) {
    char head[32];
    snprintf(head, sizeof head, "%zx\r\n", data.size());
    return head + std::string(data) + "\r\n";
  }
  // Of a request in chunks, as ReadRequest gives it.
  static std::string BodyOf(std::string_view request) {
    std::string body;
    const bool chunked =
        request.find("Transfer-Encoding: chunked") != request.npos;
    request.remove_prefix(request.find("\r\n\r\n") + 4);
    if (!chunked) return std::string(request);
    for (;;) {
      const size_t size = std::stoul(std::string(request.substr(0, 16)), 0, 16);
      if (size == 0) return body;
      request.remove_prefix(request.find("\r\n") + 2);
      body += request.substr(0, size);
      request.remove_prefix(size + 2);
    }
  }
  static std::string Same(std::string body) { return body; }

  std::unique_ptr<Stream> NewStream(pool::ConnId conn) {
    return std::make_unique<Stream>(&upstream(), conn);
  }
};

INSTANTIATE_TEST_SUITE_P(
    , StreamCallTest,
    ::testing::Values(Protocol::kHttp1, Protocol::kHttp1Tls, Protocol::kHttp2),
    [](const auto& info) {
      return info.param == Protocol::kHttp1      ? "Http1"
             : info.param == Protocol::kHttp1Tls ? "Http1Tls"
                                                 : "Http2";
    });

TEST_P(StreamCallTest, ARequestWithoutABodyIsAnswered) {
  const auto peer = Serve([](std::string) { return "hello"; });
  const auto stream = NewStream(Connect(*peer));
  stream->Open({.path = "/"}, true);
  const CallResult& result = stream->AwaitDone();
  EXPECT_EQ(CallError::kNone, result.error) << result.message;
  EXPECT_EQ(Verdict::kComplete, result.verdict);
  EXPECT_EQ(200, stream->status());
  EXPECT_TRUE(std::count(stream->headers_.begin(), stream->headers_.end(),
                         Header{"a", "b"}));
  EXPECT_EQ("hello", stream->body());
  EXPECT_EQ((std::vector<Header>{{"t", "1"}}), stream->trailers_);
  EXPECT_EQ(0, result.response.status);
  EXPECT_EQ("", result.response.body);
  EXPECT_GT(result.bytes_written, 0u);
  EXPECT_GT(result.bytes_read, 5u);
  EXPECT_GT(result.first_byte.count(), 0);
  EXPECT_EQ(1, stream->done());
}

TEST_P(StreamCallTest, BodiesOfEverySizeComeBackEqual) {
  const auto peer = Serve(Same, {.stream_window = 65535});
  const pool::ConnId conn = Connect(*peer);
  for (const size_t size :
       {size_t{0}, size_t{1}, size_t{65536}, 3 * kMiB, 9 * kMiB + 17}) {
    const std::string body = Pattern(size);
    const auto stream = NewStream(conn);
    stream->Open({.method = "POST"}, false);
    stream->SendAll(body);
    const CallResult& result = stream->AwaitDone();
    EXPECT_EQ(CallError::kNone, result.error) << result.message;
    EXPECT_TRUE(body == stream->body()) << size;
    EXPECT_GE(result.bytes_written, size);
  }
  EXPECT_EQ(1, peer->accepted());
  EXPECT_EQ(0, pool_.closes(last_id_));
}

TEST_P(StreamCallTest, WholeAndStreamedCallsTakeTurnsOnAConnection) {
  const auto peer = Serve(Same);
  const pool::ConnId conn = Connect(*peer);
  for (int i = 0; i < 50; ++i) {
    const std::string text = std::to_string(i);
    EXPECT_EQ(text, Run(conn, {.method = "POST", .body = text}).response.body);
    const auto stream = NewStream(conn);
    stream->Open({.method = "POST"}, false);
    stream->Send(text, true);
    EXPECT_EQ(CallError::kNone, stream->AwaitDone().error);
    EXPECT_EQ(text, stream->body());
  }
  EXPECT_EQ(1, peer->accepted());
}

TEST_P(StreamCallTest, AReaderThatStandsStillStopsThePeer) {
  const std::string body = Pattern(24 * kMiB);
  const auto peer = Serve([&](std::string) { return body; });
  const auto stream = NewStream(Connect(*peer));
  stream->consumes = false;
  stream->Open({}, true);
  size_t consumed = 0;
  size_t most = 0;
  // Whatever has come when there is enough to stop at is all there is.
  while (consumed < body.size()) {
    stream->AwaitBody(std::min(body.size(), consumed + kMiB - 64 * 1024));
    most = std::max(most, stream->size() - consumed);
    const size_t step = std::min(stream->size() - consumed, kMiB / 2);
    ASSERT_GT(step, 0u);
    consumed += step;
    stream->Consume(step);
  }
  EXPECT_EQ(CallError::kNone, stream->AwaitDone().error);
  EXPECT_TRUE(body == stream->body());
  EXPECT_LE(most, kMostUnconsumed);
}

TEST_P(StreamCallTest, ASlowPeerHoldsTheSenderUp) {
  // It reads nothing of the body before this is set.
  std::promise<void> reads;
  std::unique_ptr<ScriptedPeer> peer;
  if (http2()) {
    peer = std::make_unique<ScriptedPeer>(
        PeerOptions(), ServeHttp2({.stream_window = 1000, .consumes = false},
                                  [](Http2Peer&, StreamId, const auto&) {}));
  } else {
    peer = std::make_unique<ScriptedPeer>(PeerOptions(), [&](auto& c) {
      reads.get_future().wait();
      c.AwaitClose();
    });
  }
  const auto stream = NewStream(Connect(*peer));
  stream->Open({.method = "POST"}, false);
  const std::string piece(100'000, 'x');
  size_t sent = 0;
  size_t held = 0;
  while ((held = stream->Send(piece)) == 0) {
    sent += piece.size();
    ASSERT_LT(sent, 64 * kMiB) << "nobody stops the sender";
  }
  EXPECT_LE(held, kMostHeld);
  EXPECT_EQ(0, stream->done());
  reads.set_value();
  stream->Cancel();
  EXPECT_EQ(CallError::kCancelled, stream->AwaitDone().error);
  EXPECT_EQ(Verdict::kPartial, stream->AwaitDone().verdict);
  EXPECT_EQ(0u, stream->Send(piece));
}

TEST_P(StreamCallTest, TheAnswerMayBeginBeforeTheRequestEnds) {
  std::unique_ptr<ScriptedPeer> peer;
  if (http2()) {
    peer = std::make_unique<ScriptedPeer>(PeerOptions(), [](auto& c) {
      Http2Peer p({});
      bool head = false;
      c.Write(p.TakeOutput());
      for (;;) {
        const std::string input = c.ReadSome();
        if (input.empty() || !p.Feed(input)) return;
        std::string out = p.TakeOutput();
        if (!p.requests.empty() && !std::exchange(head, true)) {
          out += HeadersFrame(1, {{":status", "200"}}) + DataFrame(1, "early ");
        } else if (!p.requests.empty() && p.requests[1].ended) {
          out += DataFrame(1, p.requests[1].body, kEndStream);
        }
        c.Write(out);
      }
    });
  } else {
    peer = std::make_unique<ScriptedPeer>(PeerOptions(), [](auto& c) {
      std::string got = c.ReadSome();
      c.Write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nearly ");
      while (got.find("\r\n0\r\n\r\n") == got.npos) {
        const std::string more = c.ReadSome();
        if (more.empty()) return;
        got += more;
      }
      c.Write(BodyOf(got));
      c.AwaitClose();
    });
  }
  const auto stream = NewStream(Connect(*peer));
  stream->Open({.method = "POST"}, false);
  stream->AwaitBody(6);
  EXPECT_EQ("early ", stream->body());
  EXPECT_EQ(0, stream->done());
  stream->Send("la");
  stream->Send("te", true);
  EXPECT_EQ(CallError::kNone, stream->AwaitDone().error);
  EXPECT_EQ("early late", stream->body());
  EXPECT_EQ(0, pool_.closes(last_id_));
}

TEST_P(StreamCallTest, TheDeadlineEndsAStreamThatWaits) {
  const auto peer = Silent();
  const auto stream = NewStream(Connect(*peer));
  const Instant start = MonotonicNow();
  stream->Open({.method = "POST", .deadline = start + milliseconds(50)}, false);
  stream->Send("x");
  const CallResult& result = stream->AwaitDone();
  EXPECT_EQ(CallError::kTimeout, result.error);
  EXPECT_EQ(Verdict::kPartial, result.verdict);
  EXPECT_GE(MonotonicNow() - start, milliseconds(50));
  EXPECT_EQ(http2() ? 0 : 1, pool_.closes(last_id_));
}

TEST_P(StreamCallTest, TheDeadlineEndsAStreamWhoseReaderStandsStill) {
  const auto peer = Serve([](std::string) { return Pattern(8 * kMiB); });
  const pool::ConnId conn = Connect(*peer);
  const auto stream = NewStream(conn);
  stream->consumes = false;
  stream->Open({.deadline = MonotonicNow() + seconds(2)}, true);
  EXPECT_EQ(CallError::kTimeout, stream->AwaitDone().error);
  EXPECT_EQ(Verdict::kResponseStarted, stream->AwaitDone().verdict);
  EXPECT_LE(stream->size(), kMostUnconsumed);
  if (http2()) {
    // Its own reset, and nothing else.
    EXPECT_EQ(CallError::kResponseTooLarge, Run(conn).error);
  }
}

TEST_P(StreamCallTest, CancelledFromInsideItsOwnEventItEndsOnce) {
  const auto peer = Serve([](std::string) { return Pattern(8 * kMiB); });
  const auto stream = NewStream(Connect(*peer));
  stream->on_head = [&] { stream->Cancel(); };
  stream->consumes = false;
  stream->Open({}, true);
  EXPECT_EQ(CallError::kCancelled, stream->AwaitDone().error);
  stream->Consume(1000);
  EXPECT_EQ(0u, stream->Send("x", true));
  EXPECT_EQ(1, stream->done());
}

TEST_P(StreamCallTest, CancelledAtAnyMomentItEndsOnce) {
  const auto peer = Serve(Same);
  for (int i = 0; i < 60; ++i) {
    const auto stream = NewStream(Connect(*peer));
    stream->Open({.method = "POST"}, false);
    std::thread sender([&] { stream->SendAll(Pattern(kMiB), 10'000); });
    // While it is sent, then while the answer comes.
    if (i < 30) {
      stream->AwaitSent(i * 4);
    } else {
      stream->AwaitBody((i - 30) * 35'000);
    }
    stream->Cancel();
    sender.join();
    const CallError error = stream->AwaitDone().error;
    EXPECT_TRUE(error == CallError::kCancelled || error == CallError::kNone);
    EXPECT_EQ(1, stream->done());
  }
}

TEST_P(StreamCallTest, APeerThatDiesBreaksTheStreamOff) {
  std::unique_ptr<ScriptedPeer> peer;
  peer = std::make_unique<ScriptedPeer>(PeerOptions(), [this](auto& c) {
    Http2Peer p({});
    std::string out = p.TakeOutput();
    c.Write(http2() ? out : "");
    std::string got;
    while (http2() ? p.requests.empty() : got.empty()) {
      got = c.ReadSome();
      if (got.empty() || (http2() && !p.Feed(got))) return;
    }
    c.Write(http2() ? p.TakeOutput() + HeadersFrame(1, {{":status", "200"}}) +
                          DataFrame(1, "half")
                    : "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
    c.ReadSome();
    c.Reset();
  });
  const auto stream = NewStream(Connect(*peer));
  stream->Open({.method = "POST"}, false);
  stream->AwaitBody(4);
  stream->Send("and now it dies");
  const CallResult& result = stream->AwaitDone();
  EXPECT_EQ(CallError::kReset, result.error);
  EXPECT_EQ(Verdict::kResponseStarted, result.verdict);
  EXPECT_EQ("half", stream->body());
  EXPECT_EQ(1, pool_.closes(last_id_));
}

TEST_P(StreamCallTest, ClosingAndStoppingEndStreams) {
  const auto peer = Silent();
  const auto first = NewStream(Connect(*peer));
  first->Open({.method = "POST"}, false);
  upstream().Close(last_id_, pool::CloseReason::kShrunk);
  EXPECT_EQ(CallError::kCancelled, first->AwaitDone().error);
  const auto second = NewStream(Connect(*peer));
  second->Open({.method = "POST"}, false);
  upstream().Stop();
  EXPECT_EQ(CallError::kCancelled, second->AwaitDone().error);
  EXPECT_EQ(1, second->done());
}

TEST_P(StreamCallTest, WithoutItsConnectionAStreamIsNotSent) {
  const auto peer = Silent();
  const pool::ConnId conn = Connect(*peer);
  upstream().Close(conn, pool::CloseReason::kShrunk);
  AwaitClosed();
  const auto stream = NewStream(conn);
  stream->Open({}, true);
  EXPECT_EQ(CallError::kConnectionGone, stream->AwaitDone().error);
  EXPECT_EQ(Verdict::kNotSent, stream->AwaitDone().verdict);
  EXPECT_EQ(0u, stream->Send("x"));
}

TEST_P(StreamCallTest, AStandstillOnHttp2LeavesItsNeighboursAlone) {
  if (!http2()) return;
  const auto peer = Serve(
      [](std::string body) { return body.empty() ? Pattern(8 * kMiB) : body; });
  const pool::ConnId conn = Connect(*peer);
  const auto stalled = NewStream(conn);
  stalled->consumes = false;
  stalled->Open({}, true);
  stalled->AwaitBody(kMiB);
  for (int i = 0; i < 20; ++i) {
    const std::string body = Pattern(200'000);
    const auto stream = NewStream(conn);
    stream->Open({.method = "POST"}, false);
    stream->SendAll(body);
    EXPECT_EQ(CallError::kNone, stream->AwaitDone().error);
    EXPECT_TRUE(body == stream->body());
  }
  EXPECT_EQ(kMiB, stalled->size());
  EXPECT_EQ(0, stalled->done());
  stalled->consumes = true;
  stalled->Consume(kMiB);
  EXPECT_EQ(CallError::kNone, stalled->AwaitDone().error);
  EXPECT_EQ(8 * kMiB, stalled->size());
  EXPECT_EQ(1, peer->accepted());
}

}  // namespace
}  // namespace hotline::upstream
