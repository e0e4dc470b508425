// Bodies piece by piece, both ways, at the slower end's pace; by both codecs.
#include <memory>
#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/upstream/codec/http2_driver.h"
#include "upstream/codec/http1.h"
#include "upstream/codec/http2.h"

namespace hotline::upstream {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr size_t kMany = 1 << 20;

class Http1StreamingTest : public ::testing::Test {
 protected:
  StreamId Open(std::string_view method, bool end,
                std::span<const HeaderView> headers = {}) {
    return codec_->OpenStream(
        {.method = method, .authority = "h", .headers = headers}, end);
  }
  std::string Take() { return Flush(codec_.get()); }

  Http2Recorder recorder_;
  std::unique_ptr<Codec> codec_ = MakeHttp1Codec(&recorder_);
};

TEST_F(Http1StreamingTest, ABodyOfUnknownLengthGoesInChunks) {
  const StreamId id = Open("POST", false);
  EXPECT_EQ(Take(),
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
  EXPECT_EQ(codec_->Send(id, "hello", false), 0u);
  EXPECT_EQ(Take(), "5\r\nhello\r\n");
  EXPECT_EQ(codec_->Send(id, "", false), 0u);
  EXPECT_FALSE(codec_->WantsWrite());
  codec_->Send(id, std::string(300, 'x'), false);
  codec_->Send(id, "!", true);
  EXPECT_EQ(Take(),
            "12c\r\n" + std::string(300, 'x') + "\r\n1\r\n!\r\n0\r\n\r\n");
  EXPECT_EQ(codec_->Send(id, "more", true), 0u);
  EXPECT_FALSE(codec_->WantsWrite());
  EXPECT_TRUE(codec_->Feed("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
  EXPECT_EQ(recorder_.Text(id), "200 content-length=[0] body=[] complete");
  EXPECT_TRUE(codec_->CanSubmit());
}

TEST_F(Http1StreamingTest, ABodyOfKnownLengthGoesAsItIs) {
  const HeaderView length[] = {{"content-length", "10"}};
  const StreamId id = Open("PUT", false, length);
  codec_->Send(id, "01234", false);
  EXPECT_EQ(codec_->VerdictOf(id), Verdict::kNotSent);
  EXPECT_THAT(Take(), EndsWith("content-length: 10\r\n\r\n01234"));
  EXPECT_EQ(codec_->VerdictOf(id), Verdict::kPartial);
  codec_->Send(id, "56789", true);
  EXPECT_EQ(Take(), "56789");
  EXPECT_EQ(codec_->VerdictOf(id), Verdict::kSentUnknown);
}

TEST_F(Http1StreamingTest, NoBodyIsSaidAsForWholeRequests) {
  Open("GET", true);
  EXPECT_EQ(Take(), "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  codec_ = MakeHttp1Codec(&recorder_);
  Open("POST", true);
  EXPECT_EQ(Take(), "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
}

TEST_F(Http1StreamingTest, TheSenderWaitsForTheSocket) {
  const StreamId id = Open("POST", false);
  const std::string piece(100000, 'x');
  EXPECT_EQ(codec_->Send(id, piece, false), 0u);
  EXPECT_EQ(codec_->Send(id, piece, false), 0u);
  EXPECT_GT(codec_->Send(id, piece, false), 0u);
  EXPECT_EQ(recorder_.sendable[id], 0);
  Take();
  EXPECT_EQ(recorder_.sendable[id], 1);
  EXPECT_EQ(codec_->Send(id, piece, false), 0u);
  Take();
  EXPECT_EQ(recorder_.sendable[id], 1);
}

TEST_F(Http1StreamingTest, ASlowReaderStopsTheReading) {
  const StreamId id = Open("GET", true);
  Take();
  EXPECT_TRUE(
      codec_->Feed("HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n"));
  EXPECT_TRUE(codec_->WantsRead());
  EXPECT_TRUE(codec_->Feed(std::string(kMany - 1, 'x')));
  EXPECT_TRUE(codec_->WantsRead());
  EXPECT_TRUE(codec_->Feed("x"));
  EXPECT_FALSE(codec_->WantsRead());
  codec_->Consume(id + 1, 1);
  EXPECT_FALSE(codec_->WantsRead());
  codec_->Consume(id, 1);
  EXPECT_TRUE(codec_->WantsRead());
}

TEST_F(Http1StreamingTest, WholeRequestsConsumeByThemselves) {
  codec_->Submit({.authority = "h"});
  Take();
  EXPECT_TRUE(
      codec_->Feed("HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n"));
  EXPECT_TRUE(codec_->Feed(std::string(3 * kMany, 'x')));
  EXPECT_TRUE(codec_->WantsRead());
}

TEST_F(Http1StreamingTest, AfterTheAnswerNothingIsHeldAgainstTheNext) {
  StreamId id = Open("GET", true);
  Take();
  EXPECT_TRUE(
      codec_->Feed("HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n" +
                   std::string(kMany, 'x')));
  EXPECT_TRUE(codec_->WantsRead());
  EXPECT_TRUE(codec_->CanSubmit());
  codec_->Consume(id, kMany);
  id = Open("GET", true);
  EXPECT_TRUE(codec_->WantsRead());
}

TEST_F(Http1StreamingTest, BothWaysAtOnce) {
  const StreamId id = Open("POST", false);
  codec_->Send(id, "a", false);
  Take();
  EXPECT_TRUE(
      codec_->Feed("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                   "1\r\nA\r\n"));
  codec_->Send(id, "b", true);
  Take();
  EXPECT_TRUE(codec_->Feed("1\r\nB\r\n0\r\n\r\n"));
  EXPECT_EQ(recorder_.Text(id),
            "200 transfer-encoding=[chunked] body=[AB] complete");
  EXPECT_TRUE(codec_->CanSubmit());
}

TEST_F(Http1StreamingTest, AnAnswerBeforeTheRequestsEndIsTheConnectionsLast) {
  const StreamId id = Open("POST", false);
  codec_->Send(id, "a", false);
  Take();
  EXPECT_TRUE(codec_->Feed("HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n"));
  EXPECT_EQ(recorder_.completed, 1);
  EXPECT_FALSE(codec_->CanSubmit());
  EXPECT_EQ(codec_->Send(id, "b", true), 0u);
  EXPECT_FALSE(codec_->WantsWrite());
}

TEST_F(Http1StreamingTest, AnUnfinishedRequestWasSentInPart) {
  const StreamId id = Open("POST", false);
  codec_->Send(id, "a", false);
  Take();
  codec_->FeedEof();
  EXPECT_EQ(recorder_.Text(id), "error reset PARTIAL");
}

class Http2StreamingTest : public ::testing::Test {
 protected:
  void Connect(const Http2Peer::Options& options = {},
               const Http2Limits& limits = {}) {
    recorder_ = Http2Recorder();
    peer_ = std::make_unique<Http2Peer>(options);
    codec_ = MakeHttp2Codec(&recorder_, &recorder_, "https", limits);
    Exchange();
  }

  StreamId Open(bool end) {
    return codec_->OpenStream({.method = "POST", .authority = "h"}, end);
  }

  void Exchange() {
    for (;;) {
      const std::string out = Flush(codec_.get());
      ASSERT_TRUE(peer_->Feed(out));
      const std::string in = peer_->TakeOutput();
      if (out.empty() && in.empty()) return;
      ASSERT_TRUE(codec_->Feed(in)) << codec_->error().message;
    }
  }

  Http2Recorder recorder_;
  std::unique_ptr<Http2Peer> peer_;
  std::unique_ptr<Codec> codec_;
};

TEST_F(Http2StreamingTest, ABodyGoesPieceByPiece) {
  Connect();
  const StreamId id = Open(false);
  Exchange();
  EXPECT_EQ(peer_->requests[id].Get(":method"), "POST");
  EXPECT_EQ(peer_->requests[id].Get("content-length"), "");
  for (const char* piece : {"hel", "", "lo"}) {
    EXPECT_EQ(codec_->Send(id, piece, false), 0u);
    Exchange();
  }
  EXPECT_EQ(peer_->requests[id].body, "hello");
  EXPECT_FALSE(peer_->requests[id].ended);
  EXPECT_EQ(codec_->VerdictOf(id), Verdict::kPartial);
  EXPECT_EQ(codec_->Send(id, "", true), 0u);
  Exchange();
  EXPECT_TRUE(peer_->requests[id].ended);
  EXPECT_EQ(codec_->VerdictOf(id), Verdict::kSentUnknown);
  EXPECT_EQ(codec_->Send(id, "more", true), 0u);
  EXPECT_FALSE(codec_->WantsWrite());
  peer_->Answer(id, {{":status", "200"}}, "hi", {{"t", "1"}});
  Exchange();
  EXPECT_EQ(recorder_.Text(id), "200 body=[hi] trailer t=[1] complete");
}

TEST_F(Http2StreamingTest, TheCallersLengthIsPassedOn) {
  Connect();
  const HeaderView length[] = {{"Content-Length", "5"}};
  const StreamId id = codec_->OpenStream(
      {.method = "PUT", .authority = "h", .headers = length}, false);
  codec_->Send(id, "hello", true);
  Exchange();
  EXPECT_EQ(peer_->requests[id].Get("content-length"), "5");
  EXPECT_TRUE(peer_->requests[id].ended);
}

TEST_F(Http2StreamingTest, TheSenderWaitsForThePeersWindow) {
  Connect({.stream_window = 1000, .consumes = false});
  const StreamId id = Open(false);
  EXPECT_EQ(codec_->Send(id, std::string(600, 'a'), false), 0u);
  EXPECT_EQ(codec_->Send(id, std::string(600, 'b'), false), 200u);
  EXPECT_EQ(codec_->Send(id, std::string(600, 'c'), false), 800u);
  Exchange();
  EXPECT_EQ(peer_->requests[id].body.size(), 1000u);
  EXPECT_EQ(recorder_.sendable[id], 0);
  peer_->Consume(id, 600);
  Exchange();
  EXPECT_EQ(peer_->requests[id].body.size(), 1600u);
  EXPECT_EQ(recorder_.sendable[id], 0);
  peer_->Consume(id, 1000);
  Exchange();
  EXPECT_EQ(
      peer_->requests[id].body,
      std::string(600, 'a') + std::string(600, 'b') + std::string(600, 'c'));
  EXPECT_EQ(recorder_.sendable[id], 1);
}

TEST_F(Http2StreamingTest, TheSenderWaitsForTheSocket) {
  Connect({.stream_window = 8 << 20, .connection_window = 8 << 20});
  const StreamId id = Open(false);
  const std::string piece(100000, 'x');
  EXPECT_EQ(codec_->Send(id, piece, false), 0u);
  EXPECT_EQ(codec_->Send(id, piece, false), 0u);
  EXPECT_GT(codec_->Send(id, piece, false), 0u);
  std::string out;
  codec_->TakeOutput(&out);
  EXPECT_EQ(recorder_.sendable[id], 0);
  EXPECT_TRUE(codec_->WantsWrite());
  out.clear();
  codec_->TakeOutput(&out);
  EXPECT_EQ(recorder_.sendable[id], 1);
}

TEST_F(Http2StreamingTest, MoreMayBeSentFromInsideTheEvent) {
  Connect({.stream_window = 1000});
  const StreamId id = Open(false);
  std::string all;
  const auto send = [&] {
    while (all.size() < 100000) {
      const std::string piece(700, static_cast<char>('a' + all.size() % 26));
      all += piece;
      if (codec_->Send(id, piece, all.size() >= 100000) > 0) return;
    }
  };
  recorder_.on_sendable = [&](StreamId) { send(); };
  send();
  Exchange();
  EXPECT_TRUE(peer_->requests[id].body == all);
  EXPECT_TRUE(peer_->requests[id].ended);
}

TEST_F(Http2StreamingTest, ASlowReaderStopsItsStreamAndNoOther) {
  Connect();
  const StreamId slow = Open(true);
  const StreamId whole = codec_->Submit({.authority = "h"});
  Exchange();
  peer_->Answer(slow, {{":status", "200"}}, std::string(5 << 20, 's'));
  peer_->Answer(whole, {{":status", "200"}}, std::string(30 << 20, 'w'));
  Exchange();
  EXPECT_TRUE(codec_->WantsRead());
  EXPECT_EQ(recorder_.streams[slow].body.size(), kMany);
  EXPECT_EQ(recorder_.streams[whole].body.size(), 30u << 20);
  // As much as is consumed comes after, in steps of half a window.
  codec_->Consume(slow, kMany / 2);
  Exchange();
  EXPECT_EQ(recorder_.streams[slow].body.size(), kMany + kMany / 2);
  while (!recorder_.streams[slow].over()) {
    codec_->Consume(slow, kMany);
    Exchange();
  }
  EXPECT_EQ(recorder_.streams[slow].body.size(), 5u << 20);
}

TEST_F(Http2StreamingTest, ReadersThatStandStillHoldTheirOwnWindowsOnly) {
  Connect();
  for (int i = 0; i < 40; ++i) {
    const StreamId id = Open(true);
    Exchange();
    peer_->Answer(id, {{":status", "200"}}, std::string(2 << 20, 's'));
  }
  Exchange();
  size_t held = 0;
  for (const auto& [id, stream] : recorder_.streams) held += stream.body.size();
  // More than the connection's window in all: it opens as data arrives.
  EXPECT_EQ(held, 40 * (1u << 20));
  const StreamId id = codec_->Submit({.authority = "h"});
  Exchange();
  peer_->Answer(id, {{":status", "200"}}, "ok");
  Exchange();
  EXPECT_EQ(recorder_.Text(id), "200 body=[ok] complete");
}

TEST_F(Http2StreamingTest, ConsumingFromInsideTheEventKeepsItFlowing) {
  Connect();
  const StreamId id = Open(true);
  size_t got = 0;
  recorder_.on_body = [&](StreamId stream, std::string_view piece) {
    got += piece.size();
    recorder_.streams[stream].body.clear();
    codec_->Consume(stream, piece.size());
  };
  Exchange();
  peer_->Answer(id, {{":status", "200"}}, std::string(40 << 20, 'x'));
  Exchange();
  EXPECT_EQ(got, 40u << 20);
  EXPECT_EQ(recorder_.completed, 1);
}

TEST_F(Http2StreamingTest, AStreamThatWaitsForItsCallerHoldsNobodyUp) {
  Connect();
  const StreamId idle = Open(false);
  const StreamId other = codec_->Submit(
      {.method = "POST", .authority = "h", .body = std::string(300, 'x')});
  Exchange();
  EXPECT_TRUE(peer_->requests[other].ended);
  EXPECT_FALSE(codec_->WantsWrite());
  codec_->Send(idle, "x", true);
  Exchange();
  EXPECT_TRUE(peer_->requests[idle].ended);
}

TEST_F(Http2StreamingTest, BothWaysAtOnce) {
  Connect();
  const StreamId id = Open(false);
  codec_->Send(id, "a", false);
  Exchange();
  ASSERT_TRUE(codec_->Feed(HeadersFrame(id, {{":status", "200"}}) +
                           DataFrame(id, "A")));
  codec_->Send(id, "b", true);
  Exchange();
  EXPECT_EQ(peer_->requests[id].body, "ab");
  ASSERT_TRUE(codec_->Feed(DataFrame(id, "B", kEndStream)));
  EXPECT_EQ(recorder_.Text(id), "200 body=[AB] complete");
}

TEST_F(Http2StreamingTest, AnAnswerBeforeTheRequestsEndStopsTheRequest) {
  Connect();
  const StreamId id = Open(false);
  codec_->Send(id, "a", false);
  Exchange();
  peer_->Answer(id, {{":status", "413"}}, "no");
  Exchange();
  EXPECT_EQ(recorder_.Text(id), "413 body=[no] complete");
  EXPECT_EQ(peer_->requests[id].code, NGHTTP2_CANCEL);
  EXPECT_EQ(codec_->Send(id, "b", true), 0u);
  EXPECT_TRUE(codec_->CanSubmit());
}

TEST_F(Http2StreamingTest, ACancelledUploadSendsNothingMore) {
  Connect({.stream_window = 1000, .consumes = false});
  const StreamId id = Open(false);
  EXPECT_GT(codec_->Send(id, std::string(5000, 'x'), false), 0u);
  Exchange();
  codec_->Cancel(id);
  Exchange();
  EXPECT_TRUE(peer_->requests[id].reset);
  EXPECT_EQ(peer_->requests[id].body.size(), 1000u);
  EXPECT_EQ(recorder_.sendable[id], 0);
}

TEST_F(Http2StreamingTest, LongBodiesBothWaysTakeConstantMemory) {
  Connect({.stream_window = 1 << 20, .connection_window = 1 << 20});
  const StreamId id = Open(false);
  Exchange();
  constexpr uint64_t kTotal = 64 << 20;
  const std::string piece(64 << 10, 'x');
  ASSERT_TRUE(codec_->Feed(HeadersFrame(id, {{":status", "200"}})));
  uint64_t sent = 0;
  uint64_t got = 0;
  size_t unconsumed = 0;
  size_t most_held = 0;
  bool waits = false;
  recorder_.on_sendable = [&](StreamId) { waits = false; };
  recorder_.on_body = [&](StreamId, std::string_view body) {
    got += body.size();
    unconsumed += body.size();
    recorder_.streams[id].body.clear();
  };
  while (sent < kTotal || got < kTotal) {
    if (sent < kTotal && !waits) {
      sent += piece.size();
      const size_t held = codec_->Send(id, piece, sent == kTotal);
      most_held = std::max(most_held, held);
      waits = held > 0;
    }
    if (got < kTotal && unconsumed < kMany / 2) {
      ASSERT_TRUE(codec_->Feed(DataFrame(id, piece.substr(0, 16384))));
    } else {
      codec_->Consume(id, unconsumed);
      unconsumed = 0;
    }
    std::string out;
    codec_->TakeOutput(&out);
    codec_->OnWritten(out.size());
    EXPECT_LE(out.size(), (256u << 10) + (17u << 10));
    ASSERT_TRUE(peer_->Feed(out));
    peer_->requests[id].body.clear();
    ASSERT_TRUE(codec_->Feed(peer_->TakeOutput()));
  }
  Exchange();
  EXPECT_TRUE(peer_->requests[id].ended);
  EXPECT_LE(most_held, piece.size());
}

}  // namespace
}  // namespace hotline::upstream
