// An upload ended by the server's WINDOW_UPDATEs.
//
// Every frame of a peer is paid for from a small account, so that a flood ends
// the connection. An upload earned four frames for each DATA frame, usually of
// 16 KiB. A server that reads 512 bytes at a time, and acknowledges each read
// for the stream and the connection, sends sixteen times as many: uploading 1
// MiB to it was PROTOCOL_ERROR, with all other calls of that connection.
//
// Now the bytes sent pay for the updates that acknowledge them, in however
// small increments they come. Updates beyond that are paid for as before.
#include <algorithm>
#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "tests/upstream/codec/http2_driver.h"

namespace hotline::upstream {
namespace {

class UploadUpdatesTest : public ::testing::Test {
 protected:
  void SetUp() override { Connect(1 << 24); }

  // `window`: how many bytes may be on their way to the server.
  void Connect(uint32_t window) {
    codec_ = MakeHttp2Codec(&recorder_, &recorder_, "https");
    Flush(codec_.get());
    ASSERT_TRUE(
        codec_->Feed(SettingsFrame({{4, window}}) + WindowFrame(0, window)));
    bystander_ = codec_->Submit({.authority = "h"});
  }

  StreamId Post(size_t bytes) {
    const std::string body(bytes, 'x');
    return codec_->Submit({.method = "POST", .authority = "h", .body = body});
  }

  // The server reads `bytes` of a body, so many at a time.
  void Read(StreamId id, size_t bytes, size_t at_a_time) {
    for (size_t left = bytes; left > 0;) {
      Flush(codec_.get());
      const size_t size = std::min(left, at_a_time);
      ASSERT_TRUE(codec_->Feed(WindowFrame(0, size) + WindowFrame(id, size)))
          << codec_->error().message << " with " << left << " left";
      left -= size;
    }
  }

  // So many updates that nothing explains pass.
  int Surplus(StreamId id) {
    int passed = 0;
    while (passed < 100000 && codec_->Feed(WindowFrame(id, 1))) ++passed;
    return passed;
  }

  Http2Recorder recorder_;
  std::unique_ptr<Codec> codec_;
  StreamId bystander_ = 0;
};

TEST_F(UploadUpdatesTest, AServerMayReadInPartsOfAnySize) {
  for (const auto& [bytes, at_a_time] :
       {std::pair{1 << 20, 512}, {64 << 10, 1}, {8 << 20, 1500}}) {
    const StreamId id = Post(bytes);
    Read(id, bytes, at_a_time);
    EXPECT_EQ(codec_->VerdictOf(id), Verdict::kSentUnknown);
    ASSERT_TRUE(codec_->Feed(HeadersFrame(id, {{":status", "200"}}, 1)));
    EXPECT_EQ(recorder_.Text(id), "200 body=[] complete");
  }
  ASSERT_TRUE(codec_->Feed(HeadersFrame(bystander_, {{":status", "200"}}, 1)));
  EXPECT_EQ(recorder_.Text(bystander_), "200 body=[] complete");
}

TEST_F(UploadUpdatesTest, ASmallWindowIsHandledAlike) {
  Connect(65535);
  const StreamId id = Post(1 << 20);
  Read(id, 1 << 20, 512);
  EXPECT_EQ(codec_->VerdictOf(id), Verdict::kSentUnknown);
}

TEST_F(UploadUpdatesTest, StreamedUploadsAreHandledAlike) {
  const StreamId id = codec_->OpenStream({.method = "POST", .authority = "h"},
                                         /*end=*/false);
  const std::string piece(64 << 10, 'x');
  for (int i = 0; i < 16; ++i) {
    codec_->Send(id, piece, /*end=*/i == 15);
    Read(id, piece.size(), 16);
  }
  Flush(codec_.get());
  EXPECT_EQ(codec_->VerdictOf(id), Verdict::kSentUnknown);
}

TEST_F(UploadUpdatesTest, UpdatesMayFollowTheAnswerOrACancel) {
  const StreamId answered = Post(1 << 20);
  Flush(codec_.get());
  ASSERT_TRUE(codec_->Feed(HeadersFrame(answered, {{":status", "413"}}, 1)));
  Read(answered, 1 << 20, 100);
  const StreamId cancelled = Post(1 << 20);
  Flush(codec_.get());
  codec_->Cancel(cancelled);
  Read(cancelled, 1 << 20, 100);
  EXPECT_TRUE(codec_->CanSubmit());
}

TEST_F(UploadUpdatesTest, UpdatesBeyondWhatWasSentEndTheConnectionAsBefore) {
  for (const bool stream : {false, true}) {
    Connect(1 << 24);
    const StreamId id = Post(1 << 20);
    Read(id, 1 << 20, 512);
    EXPECT_LT(Surplus(stream ? id : 0), 1100);
  }
  // A server that has taken 1 MiB at once has no million updates left.
  for (const bool stream : {false, true}) {
    Connect(1 << 24);
    const StreamId id = Post(1 << 20);
    Read(id, 1 << 20, 1 << 20);
    EXPECT_LT(Surplus(stream ? id : 0), 1100);
  }
}

}  // namespace
}  // namespace hotline::upstream
