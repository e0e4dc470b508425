// ExecuteStream with every room but gRPC: what is forwarded, when a request is
// repeated, and how a call ends at each stage.
#include <atomic>
#include <deque>
#include <functional>
#include <vector>

#include "tests/fakes/test_certs.h"
#include "tests/server/broker/broker_fixture.h"
#include "tests/upstream/codec/http2_server.h"

namespace hotline::server {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::AlwaysAnswer;
using testing::OkResponse;
using testing::PeerConnection;
using testing::ScriptedPeer;
using upstream::Echo;
using upstream::Http2Peer;
using upstream::ServeHttp2;
using upstream::StreamId;

constexpr auto kPatience = seconds(30);

// The caller's end: sends its messages whenever the call reads, and accepts the
// answer as it arrives or one message at a time.
class TestStream final : public StreamPeer {
 public:
  bool takes = true;        // False: messages wait for Take().
  bool breaks_off = false;  // Never confirms the end of its side.

  // --- The caller's actions ---
  void SendHead(const v1::ExecuteStreamHead& head) {
    v1::ExecuteStreamRequest message;
    *message.mutable_head() = head;
    Send(std::move(message));
  }
  void SendBody(std::string piece) {
    v1::ExecuteStreamRequest message;
    message.set_body(std::move(piece));
    Send(std::move(message));
  }
  void Send(v1::ExecuteStreamRequest message) {
    Push(std::make_unique<v1::ExecuteStreamRequest>(std::move(message)));
  }
  void End() { Push(nullptr); }
  // Accepts one message of the answer.
  void Take() {
    Await([this] { return writing_; });
    {
      std::lock_guard lock(mu_);
      writing_ = false;
    }
    call->OnWritten();
  }

  // "OK", or the error's reason; "STUCK" if the call does not end in time.
  std::string Wait() {
    std::unique_lock lock(mu_);
    if (!cv_.wait_for(lock, kPatience, [this] { return done_; })) {
      return "STUCK";
    }
    return error_ == nullptr ? "OK" : error_->reason;
  }
  template <typename F>
  void Await(F&& condition) {
    std::unique_lock lock(mu_);
    EXPECT_TRUE(cv_.wait_for(lock, kPatience, condition));
  }
  void AwaitHead() {
    Await([this] { return status_ != 0 || done_; });
  }
  void AwaitBody(size_t size) {
    Await([&] { return body_.size() >= size || done_; });
  }
  // Waits until the call has read all messages and reads again.
  void AwaitAsked() {
    Await([this] { return asked_ || done_; });
  }
  const Error& error() const { return *error_; }
  std::string verdict() const {
    for (const auto& [name, value] : error_->metadata) {
      if (name == "verdict") return value;
    }
    return "";
  }
  const v1::Receipt& receipt() const { return last.end().receipt(); }
  int status() const { return status_; }
  const std::string& body() const { return body_; }
  size_t reads() {
    std::lock_guard lock(mu_);
    return reads_;
  }

  v1::ExecuteStreamResponse last;
  std::shared_ptr<StreamedCall> call;

 private:
  using Message = std::unique_ptr<v1::ExecuteStreamRequest>;

  void Read() override {
    Message message;
    {
      std::lock_guard lock(mu_);
      EXPECT_FALSE(asked_);
      EXPECT_FALSE(done_);
      ++reads_;
      if (to_send_.empty()) {
        asked_ = true;
        cv_.notify_all();
        return;
      }
      message = std::move(to_send_.front());
      to_send_.pop_front();
    }
    call->OnRead(message.get());
  }
  void Push(Message message) {
    {
      std::lock_guard lock(mu_);
      if (!asked_) return to_send_.push_back(std::move(message));
      asked_ = false;
    }
    call->OnRead(message.get());
  }
  void Write(v1::ExecuteStreamResponse message) override {
    {
      std::lock_guard lock(mu_);
      EXPECT_FALSE(writing_);
      EXPECT_FALSE(done_);
      EXPECT_EQ(status_ == 0, message.has_head());
      if (message.has_head()) status_ = message.head().status();
      EXPECT_LE(message.body().size(), 256u << 10);
      body_ += message.body();
      writing_ = !takes;
      cv_.notify_all();
    }
    if (takes) call->OnWritten();
  }
  void Confirm() override {
    if (!breaks_off) call->OnConfirmed();
  }
  void OnComplete(ErrorPtr error) override {
    std::lock_guard lock(mu_);
    EXPECT_FALSE(done_);
    done_ = true;
    error_ = std::move(error);
    cv_.notify_all();
  }

  std::mutex mu_;
  std::condition_variable cv_;
  std::deque<Message> to_send_;  // Null: the end.
  bool asked_ = false;
  size_t reads_ = 0;
  bool writing_ = false;
  int status_ = 0;
  std::string body_;
  bool done_ = false;
  ErrorPtr error_;
};

const testing::TestCa& Ca() {
  static const auto* const ca = new testing::TestCa("stream");
  return *ca;
}
const testing::CertFiles& Cert() {
  static const auto* const cert =
      new testing::CertFiles(Ca().Issue("localhost", "DNS:localhost"));
  return *cert;
}

class StreamBrokerTest : public BrokerTest {
 protected:
  StreamBrokerTest() { upstream_options_.ca_file = Ca().cert(); }

  v1::ExecuteStreamHead Head(const ScriptedPeer& peer,
                             const std::string& method = "POST") {
    v1::ExecuteStreamHead head;
    head.set_url(peer.target() + "/");
    head.set_method(method);
    return head;
  }
  std::unique_ptr<TestStream> Open(Duration deadline = seconds(20)) {
    auto stream = std::make_unique<TestStream>();
    CallContext context;
    context.arrival = MonotonicNow();
    context.deadline = context.arrival + deadline;
    stream->call =
        broker_->NewExecuteStream(&stream->last, context, stream.get());
    stream->call->AsCall()->Start();
    return stream;
  }
  std::unique_ptr<TestStream> Open(const v1::ExecuteStreamHead& head,
                                   Duration deadline = seconds(20)) {
    auto stream = Open(deadline);
    stream->SendHead(head);
    return stream;
  }
  std::unique_ptr<ScriptedPeer> Serve2(upstream::Http2Serve serve,
                                       Http2Peer::Options options = {}) {
    return std::make_unique<ScriptedPeer>(
        ScriptedPeer::Options{.tls = Cert(), .alpn = "h2"},
        ServeHttp2(options, std::move(serve)));
  }
  uint64_t Ended(const std::string& result) {
    uint64_t count = 0;
    for (const CallMetrics::Row& row : metrics_.Read()) {
      for (size_t i = 0; i < kExecuteResults.size(); ++i) {
        if (kExecuteResults[i] == result) count += row.results[i];
      }
    }
    return count;
  }
};

// Answers with the request itself.
ScriptedPeer::Script Repeat() {
  return [](PeerConnection& c) {
    for (;;) {
      const std::string request = c.ReadRequest();
      if (request.empty() || !c.Write(OkResponse(request))) return;
    }
  };
}

TEST_F(StreamBrokerTest, BodiesPassBothWaysPieceByPiece) {
  const auto peer = Serve2([](Http2Peer& p, StreamId id,
                              const Http2Peer::Asked& request) {
    p.Answer(id, {{":status", "201"}, {"a", "b"}}, request.body, {{"t", "1"}});
  });
  auto stream = Open(Head(*peer));
  std::string all;
  for (int i = 0; i < 40; ++i) {
    const std::string piece(1 + i * 5000, static_cast<char>('a' + i % 26));
    all += piece;
    stream->SendBody(piece);
  }
  stream->End();
  ASSERT_EQ("OK", stream->Wait()) << stream->error().message;
  EXPECT_EQ(201, stream->status());
  EXPECT_TRUE(all == stream->body());
  ASSERT_EQ(1, stream->last.end().trailers_size());
  EXPECT_EQ("t", stream->last.end().trailers(0).name());
  EXPECT_EQ("h2", stream->receipt().connection().protocol());
  EXPECT_EQ(1, stream->receipt().attempts());
  EXPECT_GT(stream->receipt().timings().total().nanos(), 0);
  EXPECT_EQ(1u, Ended("ok"));
}

TEST_F(StreamBrokerTest, TheMessageAfterTheHeadDecidesTheFraming) {
  const ScriptedPeer peer(Repeat());
  auto none = Open(Head(peer, "GET"));
  none->End();
  ASSERT_EQ("OK", none->Wait());
  EXPECT_EQ(none->body().find("ransfer"), std::string::npos) << none->body();
  EXPECT_EQ(none->body().find("ength"), std::string::npos) << none->body();

  auto chunked = Open(Head(peer));
  chunked->SendBody("hello");
  chunked->End();
  ASSERT_EQ("OK", chunked->Wait());
  EXPECT_NE(chunked->body().find("5\r\nhello\r\n0\r\n\r\n"), std::string::npos);

  v1::ExecuteStreamHead head = Head(peer);
  head.set_content_length(5);
  auto known = Open(head);
  known->SendBody("hel");
  known->SendBody("lo");  // Completes the announced length.
  ASSERT_EQ("OK", known->Wait());
  EXPECT_NE(known->body().find("content-length: 5\r\n\r\nhello"),
            std::string::npos)
      << known->body();
  EXPECT_EQ(1, peer.accepted());
}

TEST_F(StreamBrokerTest, AnEmptyPieceSendsTheHeadByItself) {
  std::atomic<bool> head{false};
  const ScriptedPeer peer([&](PeerConnection& c) {
    std::string got = c.ReadSome();
    head = true;
    c.Write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nh");
    while (got.find("\r\n0\r\n\r\n") == got.npos) got += c.ReadSome();
    c.Write("ello");
    c.AwaitClose();
  });
  auto stream = Open(Head(peer));
  stream->AwaitAsked();
  EXPECT_FALSE(head);
  EXPECT_EQ(0, peer.accepted());  // No connection is borrowed yet.
  stream->SendBody("");
  stream->AwaitBody(1);
  stream->SendBody("x");
  stream->End();
  ASSERT_EQ("OK", stream->Wait());
  EXPECT_EQ("hello", stream->body());
}

TEST_F(StreamBrokerTest, BadInputChangesNothing) {
  const ScriptedPeer peer(Repeat());
  const auto refused = [&](std::function<void(TestStream&)> act,
                           const std::string& reason,
                           const std::string& field) {
    auto stream = Open();
    act(*stream);
    EXPECT_EQ(reason, stream->Wait()) << field;
    EXPECT_EQ(absl::StatusCode::kInvalidArgument, stream->error().code);
    EXPECT_EQ(field, stream->error().field);
  };
  const auto with = [&](auto set) {
    v1::ExecuteStreamHead head = Head(peer);
    set(head);
    return [head](TestStream& s) { s.SendHead(head); };
  };
  refused([](auto& s) { s.SendBody("x"); }, "BAD_OPTION", "head");
  refused([](auto& s) { s.End(); }, "BAD_OPTION", "head");
  refused([](auto& s) { s.Send({}); }, "BAD_OPTION", "part");
  refused(with([](auto& h) { h.set_url("ftp://x/"); }), "BAD_URL", "url");
  refused(with([](auto& h) { h.set_method("CONNECT"); }), "BAD_METHOD",
          "method");
  refused(with([](auto& h) { h.add_headers()->set_name("Content-Length"); }),
          "BAD_HEADER", "headers[0].name");
  refused(with([](auto& h) { h.set_content_length(-1); }), "BAD_OPTION",
          "content_length");
  refused(with([](auto& h) { h.mutable_timeout()->set_seconds(-1); }),
          "BAD_OPTION", "timeout");
  refused(
      [&](TestStream& s) {
        v1::ExecuteStreamHead head = Head(peer);
        head.set_lease_id("nonsense");
        s.SendHead(head);
        s.End();
      },
      "BAD_LEASE_ID", "lease_id");
  EXPECT_EQ(0, peer.accepted());
}

TEST_F(StreamBrokerTest, AFaultMidwayEndsTheCall) {
  const ScriptedPeer peer([](PeerConnection& c) { c.AwaitClose(); });
  v1::ExecuteStreamHead head = Head(peer);
  head.set_content_length(5);
  auto longer = Open(head);
  longer->SendBody("123");
  longer->AwaitAsked();
  longer->SendBody("456");
  EXPECT_EQ("BAD_OPTION", longer->Wait());
  EXPECT_EQ("content_length", longer->error().field);

  auto shorter = Open(head);
  shorter->SendBody("123");
  shorter->AwaitAsked();
  shorter->End();
  EXPECT_EQ("BAD_OPTION", shorter->Wait());
  EXPECT_EQ("content_length", shorter->error().field);

  auto twice = Open(Head(peer));
  twice->SendBody("123");
  twice->AwaitAsked();
  twice->SendHead(head);
  EXPECT_EQ("BAD_OPTION", twice->Wait());
  EXPECT_EQ("head", twice->error().field);
}

TEST_F(StreamBrokerTest, AnUploadThatIsBrokenOffNeverLooksComplete) {
  std::mutex mu;
  std::string got;
  const ScriptedPeer peer([&](PeerConnection& c) {
    for (std::string some; !(some = c.ReadSome()).empty();) {
      std::lock_guard lock(mu);
      got += some;
    }
  });
  auto stream = Open(Head(peer));
  stream->breaks_off = true;
  stream->SendBody("half");
  stream->AwaitAsked();
  EXPECT_TRUE(Eventually([&](const auto&) {
    std::lock_guard lock(mu);
    return got.find("half") != got.npos;
  }));
  stream->End();
  stream->call->AsCall()->Cancel();
  EXPECT_EQ("CANCELLED", stream->Wait());
  EXPECT_TRUE(Eventually([&](const auto&) { return peer.open() == 0; }));
  std::lock_guard lock(mu);
  EXPECT_NE(got.find("half"), got.npos);
  EXPECT_EQ(got.find("0\r\n\r\n"), got.npos);
}

TEST_F(StreamBrokerTest, ARefusedRequestIsRepeatedWhileItIsBuffered) {
  std::atomic<int> asked{0};
  const auto peer = std::make_unique<ScriptedPeer>(
      ScriptedPeer::Options{.tls = Cert(), .alpn = "h2"},
      [&](PeerConnection& c) {
        Http2Peer p({.stream_window = 1 << 20, .connection_window = 1 << 20});
        p.on_request = [&](StreamId id) {
          if (asked++ % 2 == 0) p.Reset(id, NGHTTP2_REFUSED_STREAM);
        };
        p.on_end = [&](StreamId id) {
          if (!p.requests[id].reset) Echo(p, id, p.requests[id]);
        };
        c.Write(p.TakeOutput());
        for (;;) {
          const std::string input = c.ReadSome();
          if (input.empty() || !p.Feed(input)) return;
          if (!c.Write(p.TakeOutput())) return;
        }
      });
  auto small = Open(Head(*peer));
  small->SendBody("some");
  small->SendBody("thing");
  small->End();
  ASSERT_EQ("OK", small->Wait()) << small->error().message;
  EXPECT_EQ("/something", small->body());
  ASSERT_EQ(1, small->receipt().failed_attempts_size());
  EXPECT_EQ("REFUSED_BY_PEER", small->receipt().failed_attempts(0));
}

TEST_F(StreamBrokerTest, ARequestNoLongerBufferedIsNotRepeated) {
  const auto peer = std::make_unique<ScriptedPeer>(
      ScriptedPeer::Options{.tls = Cert(), .alpn = "h2"},
      [&](PeerConnection& c) {
        Http2Peer p({.stream_window = 1 << 20, .connection_window = 1 << 20});
        c.Write(p.TakeOutput());
        for (;;) {
          const std::string input = c.ReadSome();
          if (input.empty() || !p.Feed(input)) return;
          for (const auto& [id, request] : p.requests) {
            if (request.body.size() > 300'000 && !request.reset) {
              p.Reset(id, NGHTTP2_REFUSED_STREAM);
            }
          }
          if (!c.Write(p.TakeOutput())) return;
        }
      });
  auto stream = Open(Head(*peer, "PUT"));
  for (int i = 0; i < 4; ++i) stream->SendBody(std::string(100'000, 'x'));
  EXPECT_EQ("UPSTREAM_RESET", stream->Wait());
  // Nothing was processed, so the caller may repeat the request.
  EXPECT_EQ(absl::StatusCode::kUnavailable, stream->error().code);
  EXPECT_EQ("REFUSED_BY_PEER", stream->verdict());
}

TEST_F(StreamBrokerTest, AFailedConnectionIsReplacedWhereTheContractAllows) {
  // Each connection serves one request and closes at the second.
  const ScriptedPeer peer([](PeerConnection& c) {
    if (c.ReadRequest().empty()) return;
    c.Write(OkResponse("first"));
    c.ReadRequest();
    c.Reset();
  });
  const auto once = [&](const std::string& method) {
    auto stream = Open(Head(peer, method));
    stream->SendBody("x");
    stream->End();
    return stream;
  };
  ASSERT_EQ("OK", once("PUT")->Wait());
  auto again = once("PUT");
  ASSERT_EQ("OK", again->Wait()) << again->error().message;
  EXPECT_EQ(2, again->receipt().attempts());
  auto never = once("POST");
  EXPECT_EQ("UPSTREAM_RESET", never->Wait());
  EXPECT_EQ(absl::StatusCode::kAborted, never->error().code);
  EXPECT_EQ("SENT_UNKNOWN", never->verdict());
}

TEST_F(StreamBrokerTest, ATruncatedAnswerIsNotRestarted) {
  const ScriptedPeer peer([](PeerConnection& c) {
    c.ReadSome();
    c.Write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    c.ReadSome();
    c.Reset();
  });
  auto stream = Open(Head(peer, "GET"));
  stream->SendBody("");
  stream->AwaitHead();
  stream->SendBody("now");
  EXPECT_EQ("UPSTREAM_RESET", stream->Wait());
  EXPECT_EQ(absl::StatusCode::kAborted, stream->error().code);
  EXPECT_EQ("RESPONSE_STARTED", stream->verdict());
  EXPECT_EQ(200, stream->status());
  EXPECT_EQ(1, peer.accepted());
  EXPECT_EQ(1u, Ended("upstream_reset"));
}

TEST_F(StreamBrokerTest, OneDeadlineHoldsAtEveryStage) {
  const ScriptedPeer silent([](PeerConnection& c) { c.AwaitClose(); });
  EXPECT_EQ("CALLER_TIMEOUT", Open(milliseconds(50))->Wait());
  auto asking = Open(Head(silent), milliseconds(100));
  EXPECT_EQ("CALLER_TIMEOUT", asking->Wait());
  EXPECT_EQ(absl::StatusCode::kDeadlineExceeded, asking->error().code);
  EXPECT_EQ(0, silent.accepted());

  v1::ExecuteStreamHead head = Head(silent);
  head.mutable_timeout()->set_nanos(100'000'000);
  auto running = Open(head);
  running->SendBody("x");
  EXPECT_EQ("UPSTREAM_TIMEOUT", running->Wait());
  EXPECT_EQ("PARTIAL", running->verdict());

  const ScriptedPeer quick(AlwaysAnswer(OkResponse("hello")));
  auto answering = Open(milliseconds(300));
  answering->takes = false;
  answering->SendHead(Head(quick));
  answering->End();
  EXPECT_EQ("CALLER_TIMEOUT", answering->Wait());
  EXPECT_EQ(200, answering->status());
}

class StageTest : public StreamBrokerTest,
                  public ::testing::WithParamInterface<bool> {
 protected:
  StageTest() { target_config_.max_connections = 1; }
  // Cancels as the caller would, or aborts as a shutdown would.
  void End(TestStream& stream) {
    GetParam() ? stream.call->AsCall()->Cancel() : broker_->AbortCalls();
  }
  void ExpectEnd(TestStream& stream, const std::string& aborted) {
    EXPECT_EQ(GetParam() ? "CANCELLED" : aborted, stream.Wait());
    const absl::StatusCode code = stream.error().code;
    if (GetParam()) {
      EXPECT_EQ(absl::StatusCode::kCancelled, code);
    } else {
      EXPECT_EQ(aborted == "DRAINING" ? absl::StatusCode::kUnavailable
                                      : absl::StatusCode::kAborted,
                code);
    }
    EXPECT_TRUE(Eventually([&](const pool::Snapshot& now) {
      for (const auto& row : now.targets) {
        if (row.leases > 0 || row.waiters > 0) return false;
      }
      return true;
    }));
    EXPECT_TRUE(broker_->Drained(MonotonicNow()));
  }
};

INSTANTIATE_TEST_SUITE_P(, StageTest, ::testing::Bool(), [](const auto& info) {
  return info.param ? "Cancelled" : "Aborted";
});

TEST_P(StageTest, BeforeTheHead) {
  auto stream = Open();
  End(*stream);
  ExpectEnd(*stream, "DRAINING");
}

TEST_P(StageTest, BeforeTheBody) {
  const ScriptedPeer peer(Repeat());
  auto stream = Open(Head(peer));
  stream->AwaitAsked();
  End(*stream);
  ExpectEnd(*stream, "DRAINING");
  EXPECT_EQ(0, peer.accepted());
}

TEST_P(StageTest, InLine) {
  const ScriptedPeer peer([](PeerConnection& c) { c.AwaitClose(); });
  auto holder = Acquire(peer.target());
  ASSERT_EQ("OK", holder->Wait());
  auto stream = Open(Head(peer));
  stream->SendBody("x");
  ASSERT_TRUE(Eventually([](const pool::Snapshot& now) {
    return !now.targets.empty() && now.targets[0].waiters == 1;
  }));
  End(*stream);
  EXPECT_EQ(GetParam() ? "CANCELLED" : "DRAINING", stream->Wait());
  Release(holder->response.lease().lease_id());
  ExpectEnd(*stream, "DRAINING");
}

TEST_P(StageTest, InTheMiddleOfTheBody) {
  const ScriptedPeer peer([](PeerConnection& c) { c.AwaitClose(); });
  auto stream = Open(Head(peer));
  stream->SendBody("x");
  stream->AwaitAsked();
  End(*stream);
  ExpectEnd(*stream, "UPSTREAM_RESET");
}

TEST_P(StageTest, InTheMiddleOfTheAnswer) {
  const ScriptedPeer peer([](PeerConnection& c) {
    c.ReadRequest();
    c.Write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    c.AwaitClose();
  });
  auto stream = Open(Head(peer));
  stream->End();
  stream->AwaitBody(4);
  End(*stream);
  ExpectEnd(*stream, "UPSTREAM_RESET");
}

TEST_P(StageTest, WithTheAnswerInHand) {
  const ScriptedPeer peer(AlwaysAnswer(OkResponse("hello")));
  auto stream = Open();
  stream->takes = false;
  stream->SendHead(Head(peer));
  stream->End();
  stream->AwaitHead();
  ASSERT_TRUE(Eventually(
      [](const pool::Snapshot& now) { return now.targets[0].leases == 0; }));
  End(*stream);
  ExpectEnd(*stream, "UPSTREAM_RESET");
}

TEST_F(StreamBrokerTest, OnALeaseItRunsAlone) {
  const ScriptedPeer peer([](PeerConnection& c) {
    std::string got;
    while (got.find("\r\n0\r\n\r\n") == got.npos) got += c.ReadSome();
    c.Write(OkResponse("hello"));
    c.AwaitClose();
  });
  auto lease = Acquire(peer.target());
  ASSERT_EQ("OK", lease->Wait());
  const std::string id = lease->response.lease().lease_id();
  v1::ExecuteStreamHead head = Head(peer);
  head.set_lease_id(id);
  auto stream = Open(head);
  stream->SendBody("x");
  stream->AwaitAsked();
  auto second = Open(head);
  second->End();
  EXPECT_EQ("LEASE_BUSY", second->Wait());
  stream->End();
  ASSERT_EQ("OK", stream->Wait());
  EXPECT_EQ(lease->response.connection().connection_id(),
            stream->receipt().connection().connection_id());

  // A release as broken ends the running call.
  auto broken = Open(head);
  broken->SendBody("x");
  broken->AwaitAsked();
  EXPECT_EQ("OK", Release(id, v1::OUTCOME_BROKEN));
  EXPECT_EQ("UPSTREAM_RESET", broken->Wait());
  EXPECT_EQ(absl::StatusCode::kAborted, broken->error().code);
  auto late = Open(head);
  late->End();
  EXPECT_EQ("LEASE_EXPIRED", late->Wait());
}

TEST_F(StreamBrokerTest, ReleaseAsOkLetsTheStreamEndFirst) {
  const ScriptedPeer peer([](PeerConnection& c) {
    std::string got;
    while (got.find("\r\n0\r\n\r\n") == got.npos) got += c.ReadSome();
    c.Write(OkResponse("hello"));
    c.AwaitClose();
  });
  auto lease = Acquire(peer.target());
  ASSERT_EQ("OK", lease->Wait());
  v1::ExecuteStreamHead head = Head(peer);
  head.set_lease_id(lease->response.lease().lease_id());
  auto stream = Open(head);
  stream->SendBody("x");
  stream->AwaitAsked();
  EXPECT_EQ("OK", Release(head.lease_id()));
  stream->End();
  EXPECT_EQ("OK", stream->Wait());
}

TEST_F(StreamBrokerTest, ACallerThatDoesNotReadStopsTheUpstream) {
  constexpr size_t kTotal = 128 << 20;
  // More than sockets and the broker buffer, and far less than the body.
  constexpr size_t kMost = 32 << 20;
  std::atomic<size_t> written{0};
  const ScriptedPeer peer([&](PeerConnection& c) {
    c.ReadRequest();
    c.Write("HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(kTotal) +
            "\r\n\r\n");
    const std::string piece(64 << 10, 'x');
    while (written < kTotal && c.Write(piece)) written += piece.size();
    c.AwaitClose();
  });
  auto stream = Open();
  stream->takes = false;
  stream->SendHead(Head(peer, "GET"));
  stream->End();
  for (int i = 0; i < 20; ++i) stream->Take();
  EXPECT_LT(written, kMost);
  stream->call->AsCall()->Cancel();
  EXPECT_EQ("CANCELLED", stream->Wait());
  EXPECT_LT(written, kMost);
}

TEST_F(StreamBrokerTest, AnUpstreamThatDoesNotReadStopsTheCaller) {
  const auto peer = Serve2([](Http2Peer&, StreamId, const Http2Peer::Asked&) {},
                           {.stream_window = 100'000, .consumes = false});
  auto stream = Open(Head(*peer));
  constexpr size_t kPieces = 1000;
  for (size_t i = 0; i < kPieces; ++i) {
    stream->SendBody(std::string(100'000, 'x'));
  }
  // Once the window is used up, only one more piece is read.
  const auto quick = Serve2(Echo);
  auto other = Open(Head(*quick));
  other->End();
  EXPECT_EQ("OK", other->Wait());
  EXPECT_LE(stream->reads(), 6u);
  stream->call->AsCall()->Cancel();
  EXPECT_EQ("CANCELLED", stream->Wait());
}

TEST_F(StreamBrokerTest, AnEarlyAnswerEndsAnUpload) {
  const auto peer = std::make_unique<ScriptedPeer>([](PeerConnection& c) {
    c.ReadSome();
    c.Write("HTTP/1.1 413 Too large\r\nContent-Length: 2\r\n\r\nno");
    c.AwaitClose();
  });
  auto stream = Open(Head(*peer));
  stream->SendBody(std::string(1000, 'x'));
  ASSERT_EQ("OK", stream->Wait());
  EXPECT_EQ(413, stream->status());
  EXPECT_EQ("no", stream->body());
  stream->SendBody("late");
  stream->End();
}

}  // namespace
}  // namespace hotline::server
