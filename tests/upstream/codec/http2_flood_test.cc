// A hostile server: 10 000 frames of each kind that costs more than it gives.
#include <malloc.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/upstream/codec/http2_driver.h"
#include "upstream/codec/http2.h"

namespace hotline::upstream {
namespace {

using ::testing::HasSubstr;

constexpr int kFrames = 10000;

// Of this process; stays 0 under sanitizers, which have a heap of their own.
size_t HeapBytes() { return mallinfo2().uordblks; }

struct Flood {
  const char* name;
  std::string frame;
  std::string before;  // Once, ahead of them.
  const char* message = "of no use";
  int most = 1100;  // That may pass before the connection is cut off.
};

// Streams: 1 is over, 3 is open and has its head, 5 is open, 7 is cancelled.
std::vector<Flood> Floods() {
  const std::string head = HeadersFrame(3, {{":status", "200"}});
  std::vector<std::pair<uint16_t, uint32_t>> settings;
  for (uint16_t i = 0; i < 32; ++i) settings.push_back({i + 1000, i});
  return {
      {"SETTINGS", SettingsFrame(), ""},
      {"large SETTINGS", SettingsFrame(settings), ""},
      {"SETTINGS that move all windows", SettingsFrame({{4, 0}, {4, 65535}}),
       ""},
      {"SETTINGS that change the limit", SettingsFrame({{3, 7}, {3, 9}}), ""},
      {"PING", Frame(NGHTTP2_PING, kNoFlag, 0, "12345678"), ""},
      {"answers to no PING", Frame(NGHTTP2_PING, kAck, 0, "12345678"), ""},
      {"PRIORITY", Frame(NGHTTP2_PRIORITY, kNoFlag, 3, Bytes(0, 5)), ""},
      {"PRIORITY of streams that are not",
       Frame(NGHTTP2_PRIORITY, kNoFlag, 999, Bytes(0, 5)), ""},
      {"RST_STREAM of what is over", ResetFrame(1, NGHTTP2_CANCEL), ""},
      {"WINDOW_UPDATE", WindowFrame(0, 1), ""},
      {"WINDOW_UPDATE of a stream", WindowFrame(3, 1), ""},
      {"WINDOW_UPDATE of what is over", WindowFrame(1, 1), ""},
      {"GOAWAY", GoAwayFrame(7, 0, std::string(1000, 'x')), ""},
      {"empty DATA", DataFrame(3, ""), head},
      {"DATA of padding",
       DataFrame(3, Bytes(200, 1) + std::string(200, '\0'), kPadded), head},
      {"empty DATA for what is over", DataFrame(1, ""), ""},
      {"HEADERS for what is over", HeadersFrame(1, {{":status", "200"}}), ""},
      {"HEADERS for what is cancelled", HeadersFrame(7, {{":status", "200"}}),
       ""},
      // As many as fit in the limit on heads are an answer's, the rest is not.
      {"interim answers", HeadersFrame(3, {{":status", "103"}}), "",
       "of no use", 65536 / 42 + 1100},
      {"trailers that do not end", HeadersFrame(3, {{"a", "b"}}), head},
      {"ALTSVC", Frame(0xa, 0, 0, "whatever"), ""},
      {"ORIGIN", Frame(0xc, 0, 0, "whatever"), ""},
      {"frames of unknown type", Frame(0xfe, 0xff, 3, "whatever"), ""},
      {"empty CONTINUATION", Frame(NGHTTP2_CONTINUATION, kNoFlag, 3),
       Frame(NGHTTP2_HEADERS, kNoFlag, 3, "\x88"), "many frames", 20},
      {"full CONTINUATION",
       Frame(NGHTTP2_CONTINUATION, kNoFlag, 3,
             Block({{"a", std::string(16000, 'x')}})),
       Frame(NGHTTP2_HEADERS, kNoFlag, 3, "\x88"), "many frames", 20},
      // Each byte of it names a field of 4000 bytes.
      {"a bomb of headers",
       Frame(NGHTTP2_CONTINUATION, kNoFlag, 3, std::string(16384, '\xbe')),
       Frame(NGHTTP2_HEADERS, kNoFlag, 3,
             "\x88\x40\x01" + std::string("a\x7f\xa1\x1e") +
                 std::string(4000, 'x')),
       "many frames", 20},
      {"bombs one after the other",
       Frame(NGHTTP2_HEADERS, kEndHeaders, 7, std::string(16384, '\xbe')),
       Frame(NGHTTP2_HEADERS, kEndHeaders, 7,
             "\x88\x40\x01" + std::string("a\x7f\xa1\x1e") +
                 std::string(4000, 'x'))},
  };
}

class Http2FloodTest : public ::testing::Test {
 protected:
  void Connect(const Http2Limits& limits = {}) {
    recorder_ = Http2Recorder();
    codec_ = MakeHttp2Codec(&recorder_, &recorder_, "https", limits);
    ASSERT_TRUE(
        codec_->Feed(SettingsFrame() + Frame(NGHTTP2_SETTINGS, kAck, 0)));
  }

  StreamId Submit() { return codec_->Submit({.authority = "h"}); }

  void ConnectWithStreams() {
    Connect();
    for (int i = 0; i < 4; ++i) Submit();
    codec_->Cancel(7);
    Flush(codec_.get());
    ASSERT_TRUE(
        codec_->Feed(HeadersFrame(1, {{":status", "200"}}, kEndStream)));
  }

  Http2Recorder recorder_;
  std::unique_ptr<Codec> codec_;
};

TEST_F(Http2FloodTest, EachIsCutOffWithBoundedMemory) {
  for (const Flood& flood : Floods()) {
    SCOPED_TRACE(flood.name);
    ConnectWithStreams();
    ASSERT_TRUE(codec_->Feed(flood.before)) << codec_->error().message;
    const size_t heap = HeapBytes();
    size_t most_heap = heap;
    int passed = 0;
    size_t open = codec_->open_streams();
    while (passed < kFrames && codec_->Feed(flood.frame)) {
      open = codec_->open_streams();
      most_heap = std::max(most_heap, HeapBytes());
      ++passed;
    }
    EXPECT_LT(passed, flood.most);
    EXPECT_LT(most_heap - heap, 200u << 10);
    EXPECT_THAT(codec_->error().message, HasSubstr(flood.message));
    EXPECT_EQ(codec_->open_streams(), 0u);
    // It is a bystander, unless there was no other left to blame.
    EXPECT_EQ(recorder_.streams[5].error,
              open > 1 ? CallError::kReset : CallError::kProtocol);
    EXPECT_EQ(recorder_.streams[5].verdict, Verdict::kSentUnknown);
    EXPECT_FALSE(recorder_.streams[7].over());
    EXPECT_FALSE(codec_->CanSubmit());
    // Nobody read what we answered: that is bounded too.
    EXPECT_LT(Flush(codec_.get()).size(), 64u << 10);
  }
}

TEST_F(Http2FloodTest, EachIsCutOffInOnePieceAndWhenWeKeepAnswering) {
  for (const Flood& flood : Floods()) {
    SCOPED_TRACE(flood.name);
    std::string all = flood.before;
    for (int i = 0; i < flood.most + 100; ++i) all += flood.frame;
    ConnectWithStreams();
    EXPECT_FALSE(codec_->Feed(all));
    EXPECT_THAT(codec_->error().message, HasSubstr(flood.message));

    ConnectWithStreams();
    ASSERT_TRUE(codec_->Feed(flood.before));
    int passed = 0;
    while (passed < kFrames && codec_->Feed(flood.frame)) {
      Flush(codec_.get());
      ++passed;
    }
    EXPECT_LT(passed, flood.most);
  }
}

TEST_F(Http2FloodTest, TheLimitIsAnOption) {
  Connect({.max_useless_frames = 10});
  const std::string ping = Frame(NGHTTP2_PING, kNoFlag, 0, "12345678");
  int passed = 0;
  for (; codec_->Feed(ping); ++passed) Flush(codec_.get());
  // SETTINGS and their acknowledgement have been paid for already.
  EXPECT_EQ(passed, 8);
}

TEST_F(Http2FloodTest, ThePeerIsToldToCalmDown) {
  Connect();
  Flush(codec_.get());
  while (codec_->Feed(WindowFrame(0, 1))) {
  }
  const std::string out = Flush(codec_.get());
  EXPECT_THAT(out, HasSubstr(Bytes(NGHTTP2_ENHANCE_YOUR_CALM, 4)));
  EXPECT_EQ(out[3], NGHTTP2_GOAWAY);
}

TEST_F(Http2FloodTest, WhoAsksAndNeverReadsIsCutOff) {
  Connect();
  const StreamId id = Submit();
  Flush(codec_.get());
  ASSERT_TRUE(codec_->Feed(HeadersFrame(id, {{":status", "200"}})));
  // The body pays for the pings; but nobody takes the answers.
  const std::string frames =
      DataFrame(id, "x") + Frame(NGHTTP2_PING, kNoFlag, 0, "12345678");
  int passed = 0;
  while (passed < kFrames && codec_->Feed(frames)) ++passed;
  EXPECT_LT(passed, 1100);
  EXPECT_THAT(codec_->error().message, HasSubstr("read"));
  EXPECT_LT(Flush(codec_.get()).size(), 64u << 10);
}

// What is not a flood.

TEST_F(Http2FloodTest, TinyPiecesWithPingsAreFineWhileTheyAreWritten) {
  Connect();
  const StreamId id = Submit();
  Flush(codec_.get());
  ASSERT_TRUE(codec_->Feed(HeadersFrame(id, {{":status", "200"}})));
  const std::string frames =
      DataFrame(id, "x") + Frame(NGHTTP2_PING, kNoFlag, 0, "12345678");
  for (int i = 0; i < 50000; ++i) {
    ASSERT_TRUE(codec_->Feed(frames)) << i;
    if (i % 100 == 0) Flush(codec_.get());
  }
  ASSERT_TRUE(codec_->Feed(DataFrame(id, "", kEndStream)));
  EXPECT_EQ(recorder_.streams[id].body.size(), 50000u);
}

TEST_F(Http2FloodTest, UpdatesOfWindowsForEachFrameOfAnUploadAreFine) {
  Connect();
  const std::string body(40 << 20, 'x');
  Request request;
  request.method = "POST";
  request.authority = "h";
  request.body = body;
  const StreamId id = codec_->Submit(request);
  while (codec_->VerdictOf(id) != Verdict::kSentUnknown) {
    std::string out;
    codec_->TakeOutput(&out);
    codec_->OnWritten(out.size());
    std::string updates;
    for (size_t at = 0; at + 9 <= out.size();) {
      const auto byte = [&](size_t i) {
        return static_cast<unsigned char>(out[at + i]);
      };
      if (at == 0 && out[0] == 'P') at += 24;  // The preface.
      const size_t size = byte(0) << 16 | byte(1) << 8 | byte(2);
      if (byte(3) == NGHTTP2_DATA && size > 0) {
        updates += WindowFrame(0, size) + WindowFrame(id, size);
      }
      at += 9 + size;
    }
    ASSERT_TRUE(codec_->Feed(updates)) << codec_->error().message;
  }
  EXPECT_EQ(codec_->VerdictOf(id), Verdict::kSentUnknown);
}

TEST_F(Http2FloodTest, RefusingEveryRequestIsNoFlood) {
  Connect();
  for (int i = 0; i < 5000; ++i) {
    const StreamId id = Submit();
    Flush(codec_.get());
    ASSERT_TRUE(codec_->Feed(WindowFrame(0, 1) + WindowFrame(id, 1) +
                             ResetFrame(id, NGHTTP2_REFUSED_STREAM)))
        << i;
  }
  EXPECT_EQ(recorder_.failed, 5000);
}

TEST_F(Http2FloodTest, WhatCrossesAResetIsNoFlood) {
  Connect();
  for (int i = 0; i < 100; ++i) {
    const StreamId id = Submit();
    Flush(codec_.get());
    ASSERT_TRUE(codec_->Feed(HeadersFrame(id, {{":status", "200"}}) +
                             DataFrame(id, "x")));
    codec_->Cancel(id);
    Flush(codec_.get());
    std::string crossing;
    for (int k = 0; k < 500; ++k) crossing += DataFrame(id, "xxxxxxxxxx");
    ASSERT_TRUE(codec_->Feed(crossing)) << codec_->error().message;
  }
}

TEST_F(Http2FloodTest, LargeHeadsInManyPartsAreNoFlood) {
  Connect();
  const std::string part = Block({{"a", std::string(10000, 'x')}});
  for (int i = 0; i < 2000; ++i) {
    const StreamId id = Submit();
    Flush(codec_.get());
    ASSERT_TRUE(
        codec_->Feed(Frame(NGHTTP2_HEADERS, kEndStream, id, "\x88") +
                     Frame(NGHTTP2_CONTINUATION, kNoFlag, id, part) +
                     Frame(NGHTTP2_CONTINUATION, kNoFlag, id, part) +
                     Frame(NGHTTP2_CONTINUATION, kEndHeaders, id, part)))
        << codec_->error().message;
  }
  EXPECT_EQ(recorder_.completed, 2000);
}

TEST_F(Http2FloodTest, StrayBodiesEndWhenTheyAreMoreThanResetsExplain) {
  Connect();
  const StreamId id = Submit();
  Flush(codec_.get());
  codec_->Cancel(id);
  Flush(codec_.get());
  const std::string frame = DataFrame(id, std::string(1000, 'x'));
  int passed = 0;
  while (passed < kFrames && codec_->Feed(frame)) {
    Flush(codec_.get());
    ++passed;
  }
  EXPECT_LT(passed, (1 << 20) / 1000 + 1100);
  EXPECT_GT(passed, 1000);
}

}  // namespace
}  // namespace hotline::upstream
