// Tunnels as a codec: what each side's bytes and ends become, and how an
// HTTP/1.1 connection comes to be one.
#include "upstream/codec/raw_codec.h"

#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/upstream/codec/http1_driver.h"
#include "upstream/codec/http1.h"

namespace hotline::upstream {
namespace {

using ::testing::HasSubstr;

std::string Flush(Codec* codec) {
  std::string out;
  while (codec->WantsWrite()) {
    std::string piece;
    codec->TakeOutput(&piece);
    codec->OnWritten(piece.size());
    out += piece;
  }
  return out;
}

class RawCodecTest : public ::testing::Test {
 protected:
  StreamId Open() {
    const StreamId stream = codec_->OpenStream({}, /*end=*/false);
    codec_->Feed({});
    return stream;
  }
  // What a connection does with the end of what is sent.
  void WriteEnd() {
    Flush(codec_.get());
    ASSERT_TRUE(codec_->WantsEnd());
    codec_->OnEndWritten();
    EXPECT_FALSE(codec_->WantsEnd());
  }

  Recorder recorder_;
  std::unique_ptr<Codec> codec_ = MakeRawCodec(&recorder_);
};

TEST_F(RawCodecTest, BytesPassBothWaysAsTheyAre) {
  const StreamId stream = Open();
  EXPECT_EQ(101, recorder_.status);
  EXPECT_EQ(0u, codec_->Send(stream, std::string("a\0b", 3), false));
  EXPECT_EQ(std::string("a\0b", 3), Flush(codec_.get()));
  EXPECT_TRUE(codec_->Feed("c\r\n"));
  EXPECT_TRUE(codec_->Feed("d"));
  EXPECT_EQ("c\r\nd", recorder_.body);
  EXPECT_FALSE(recorder_.over());
  EXPECT_FALSE(codec_->WantsEnd());
}

TEST_F(RawCodecTest, WhatTheServerSaysFirstIsKept) {
  EXPECT_TRUE(codec_->Feed("220 "));
  EXPECT_TRUE(codec_->Feed("hello"));
  EXPECT_EQ(0, recorder_.heads);
  Open();
  EXPECT_EQ("220 hello", recorder_.body);
}

TEST_F(RawCodecTest, WhatTheServerSaysFirstIsBounded) {
  codec_ = MakeRawCodec(&recorder_, {.max_unconsumed_bytes = 10});
  codec_->Feed("123456789");
  EXPECT_TRUE(codec_->WantsRead());
  codec_->Feed("0");
  EXPECT_FALSE(codec_->WantsRead());
  const StreamId stream = Open();
  EXPECT_FALSE(codec_->WantsRead());
  codec_->Consume(stream, 1);
  EXPECT_TRUE(codec_->WantsRead());
}

TEST_F(RawCodecTest, TheCallersEndComesAfterItsBytes) {
  const StreamId stream = Open();
  codec_->Send(stream, "last", true);
  EXPECT_FALSE(codec_->WantsEnd());  // Not before they are written.
  WriteEnd();
  EXPECT_EQ(0u, codec_->Send(stream, "more", false));
  EXPECT_FALSE(codec_->WantsWrite());
  codec_->Feed("answer");
  EXPECT_EQ("answer", recorder_.body);
  EXPECT_EQ(0, recorder_.completed);
  codec_->FeedEof();
  EXPECT_EQ(1, recorder_.completed);
  EXPECT_FALSE(codec_->OutlivesEof());
}

TEST_F(RawCodecTest, ThePeersEndLeavesTheCallerToGoOn) {
  const StreamId stream = Open();
  codec_->Feed("all");
  codec_->FeedEof();
  codec_->FeedEof();
  EXPECT_TRUE(codec_->OutlivesEof());
  EXPECT_FALSE(recorder_.over());
  codec_->Send(stream, "still here", false);
  EXPECT_EQ("still here", Flush(codec_.get()));
  codec_->Send(stream, "", true);
  WriteEnd();
  EXPECT_EQ(1, recorder_.completed);
  EXPECT_EQ(0, recorder_.disorders);
}

TEST_F(RawCodecTest, ATunnelIsItsConnectionsLast) {
  const StreamId stream = Open();
  EXPECT_FALSE(codec_->CanSubmit());
  codec_->Send(stream, "", true);
  WriteEnd();
  codec_->FeedEof();
  EXPECT_FALSE(codec_->CanSubmit());
  EXPECT_FALSE(codec_->Feed("late"));
}

TEST_F(RawCodecTest, TheEndWhileIdleIsTheEnd) {
  codec_->Feed("goodbye");
  codec_->FeedEof();
  EXPECT_FALSE(codec_->OutlivesEof());
  EXPECT_FALSE(codec_->CanSubmit());
  EXPECT_EQ(0, recorder_.heads);
}

TEST_F(RawCodecTest, AFastSenderIsAskedToWaitAndToldWhenToGoOn) {
  const StreamId stream = Open();
  const std::string piece(300'000, 'x');
  EXPECT_EQ(piece.size(), codec_->Send(stream, piece, false));
  EXPECT_EQ(0, recorder_.sendable);
  Flush(codec_.get());
  EXPECT_EQ(1, recorder_.sendable);
}

TEST_F(RawCodecTest, ASlowReaderStopsTheReading) {
  const StreamId stream = Open();
  codec_->Feed(std::string(300'000, 'x'));
  EXPECT_FALSE(codec_->WantsRead());
  codec_->Consume(stream, 300'000);
  EXPECT_TRUE(codec_->WantsRead());
}

TEST_F(RawCodecTest, TheVerdictGoesByWhatPassed) {
  const StreamId stream = Open();
  EXPECT_EQ(Verdict::kNotSent, codec_->VerdictOf(stream));
  codec_->Send(stream, "abc", false);
  EXPECT_EQ(Verdict::kNotSent, codec_->VerdictOf(stream));
  Flush(codec_.get());
  EXPECT_EQ(Verdict::kPartial, codec_->VerdictOf(stream));
  codec_->Send(stream, "", true);
  EXPECT_EQ(Verdict::kSentUnknown, codec_->VerdictOf(stream));
  codec_->Feed("x");
  EXPECT_EQ(Verdict::kResponseStarted, codec_->VerdictOf(stream));
}

TEST_F(RawCodecTest, ACancelledTunnelSaysNothingMore) {
  const StreamId stream = Open();
  codec_->Send(stream, "abc", true);
  codec_->Cancel(stream);
  EXPECT_FALSE(codec_->WantsWrite());
  EXPECT_FALSE(codec_->WantsEnd());
  EXPECT_FALSE(codec_->Feed("x"));
  EXPECT_FALSE(recorder_.over());
  EXPECT_EQ("", recorder_.body);
}

// Upgrades.

class UpgradeTest : public ::testing::Test {
 protected:
  // Whether `answer`, whole or byte by byte, makes a tunnel.
  bool Upgrades(const std::string& answer, size_t step) {
    recorder_ = Recorder();
    codec_ = MakeHttp1Codec(&recorder_, {});
    Request request;
    request.authority = "h";
    request.path = "/chat";
    request.upgrade = "WebSocket";
    codec_->OpenStream(request, /*end=*/true);
    request_ = Flush(codec_.get());
    rest_.clear();
    for (size_t i = 0; i < answer.size(); i += step) {
      if (!codec_->Feed(answer.substr(i, step))) return false;
      if (!codec_->TakeUpgrade(&rest_)) continue;
      rest_ += answer.substr(std::min(i + step, answer.size()));
      return true;
    }
    return false;
  }

  Recorder recorder_;
  std::unique_ptr<Codec> codec_;
  std::string request_;
  std::string rest_;
};

TEST_F(UpgradeTest, AgreedToMakesATunnelOfTheConnection) {
  for (const size_t step : {1, 7, 1000}) {
    ASSERT_TRUE(
        Upgrades("HTTP/1.1 100 Continue\r\n\r\n"
                 "HTTP/1.1 101 Switching Protocols\r\n"
                 "connection: keep-alive, Upgrade\r\nupgrade: websocket\r\n"
                 "x: y\r\n\r\nand more\r\n\r\n",
                 step));
    EXPECT_THAT(request_, HasSubstr("GET /chat HTTP/1.1\r\nHost: h\r\n"));
    EXPECT_THAT(request_,
                HasSubstr("Connection: Upgrade\r\nUpgrade: WebSocket\r\n"));
    EXPECT_EQ(101, recorder_.status);
    EXPECT_EQ((Header{"x", "y"}), recorder_.headers.back());
    EXPECT_EQ("and more\r\n\r\n", rest_);
    EXPECT_EQ(0, recorder_.failed);
    EXPECT_FALSE(codec_->CanSubmit());
    codec_ = MakeUpgradedCodec(&recorder_, 1);
    codec_->Feed(rest_);
    EXPECT_EQ("and more\r\n\r\n", recorder_.body);
    EXPECT_EQ(1, recorder_.heads);
    codec_->Send(1, "out", false);
    EXPECT_EQ("out", Flush(codec_.get()));
  }
}

TEST_F(UpgradeTest, AnythingElseIsNoAgreement) {
  for (const char* head :
       {"HTTP/1.1 101 X\r\n\r\n",
        "HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n",
        "HTTP/1.1 101 X\r\nConnection: Upgrade\r\n\r\n",
        "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        "HTTP/1.1 101 X\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket, h2c\r\n\r\n",
        "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Upgrade: h2c\r\n\r\n",
        "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Content-Length: 3\r\n\r\nabc",
        "HTTP/1.0 101 X\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\n\r\n"}) {
    SCOPED_TRACE(head);
    EXPECT_FALSE(Upgrades(head, 1000));
    EXPECT_EQ(0, recorder_.heads);
    EXPECT_EQ(1, recorder_.failed);
    EXPECT_EQ(CallError::kProtocol, recorder_.error);
  }
}

TEST_F(UpgradeTest, ARefusalIsAnAnswerLikeAnyOther) {
  EXPECT_FALSE(
      Upgrades("HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno", 1000));
  EXPECT_EQ(403, recorder_.status);
  EXPECT_EQ("no", recorder_.body);
  EXPECT_EQ(1, recorder_.completed);
}

}  // namespace
}  // namespace hotline::upstream
