// The table of calls on a codec that does nothing by itself.
#include "upstream/connection/call_table.h"

#include <chrono>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace hotline::upstream {
namespace {

using std::chrono::seconds;

constexpr Instant kStart = Instant{} + seconds(1000);

class StubCodec final : public Codec {
 public:
  Traits traits() const override { return {.multiplexed = true}; }
  StreamId Submit(const Request&) override { return last += 2; }
  StreamId OpenStream(const Request&, bool) override { return last += 2; }
  size_t Send(StreamId, std::string_view piece, bool) override {
    return piece.size();
  }
  void Consume(StreamId stream, size_t bytes) override {
    consumed[stream] += bytes;
  }
  bool CanSubmit() const override { return true; }
  size_t open_streams() const override { return 0; }
  Verdict VerdictOf(StreamId) const override { return verdict; }
  bool Feed(std::string_view) override { return true; }
  void FeedEof() override {}
  void Cancel(StreamId stream) override { cancelled.push_back(stream); }
  void TakeOutput(std::string*) override {}
  bool WantsWrite() const override { return false; }
  void OnWritten(size_t) override {}
  const Error& error() const override { return none; }

  StreamId last = 0;
  Verdict verdict = Verdict::kSentUnknown;
  std::map<StreamId, size_t> consumed;
  std::vector<StreamId> cancelled;
  const Error none;
};

// Records what it is told, in words.
class Recorder final : public StreamHandler {
 public:
  void OnHead(int status, std::vector<Header>) override {
    text += "head " + std::to_string(status) + " ";
  }
  void OnBody(std::string piece) override { text += "body " + piece + " "; }
  void OnTrailers(std::vector<Header>) override { text += "trailers "; }
  void OnSendable() override { text += "sendable "; }
  void OnDone(CallResult done) override {
    text += "done";
    result = std::move(done);
  }

  std::string text;
  CallResult result;
};

class Room final : public AnswerRoom {
 public:
  bool Grow(CallId, size_t, size_t) override { return open; }
  bool open = true;
};

class CallTableTest : public ::testing::Test {
 protected:
  CallTableTest() {
    table_.SetCodec(&codec_);
    table_.set_now(kStart);
  }

  // Returns the call's stream.
  StreamId Begin(Recorder* handler, const Request& request = {}) {
    return table_.Begin(request, handler, nullptr, true, kStart).stream;
  }
  StreamId BeginStream(Recorder* handler) {
    return table_.Begin({}, handler, handler, false, kStart).stream;
  }

  StubCodec codec_;
  Probation probation_{kStart};
  CallTable table_{&probation_};
};

TEST_F(CallTableTest, ACallEndsOnceAndItsHandlerIsCalledByDeliver) {
  Recorder call;
  const StreamId stream = Begin(&call);
  EXPECT_TRUE(table_.busy());
  table_.OnHead(stream, 200, {});
  table_.OnBody(stream, "hello");
  table_.OnComplete(stream);
  table_.OnStreamError(stream, CallError::kReset, Verdict::kPartial, "late");
  EXPECT_FALSE(table_.Cancel(stream, CallError::kCancelled));
  EXPECT_FALSE(table_.busy());
  EXPECT_TRUE(table_.has_ended());
  EXPECT_EQ(call.text, "");

  table_.TakeNews().Deliver(nullptr);
  EXPECT_EQ(call.text, "done");
  EXPECT_EQ(call.result.error, CallError::kNone);
  EXPECT_EQ(call.result.response.status, 200);
  EXPECT_EQ(call.result.response.body, "hello");
  EXPECT_FALSE(table_.has_news());
}

TEST_F(CallTableTest, OverdueCallsExpireAndOthersGoOn) {
  Recorder soon, late;
  const StreamId first = Begin(&soon, {.deadline = kStart + seconds(5)});
  Begin(&late, {.deadline = kStart + seconds(9)});
  EXPECT_EQ(table_.Due(), kStart + seconds(5));
  EXPECT_EQ(table_.Expire(), 0);
  table_.set_now(kStart + seconds(5));
  EXPECT_EQ(table_.Expire(), 1);
  EXPECT_EQ(table_.Due(), kStart + seconds(9));
  EXPECT_EQ(codec_.cancelled, std::vector<StreamId>{first});
  EXPECT_EQ(table_.TakeErrors(), 1);
  EXPECT_EQ(table_.TakeErrors(), 0);
  table_.TakeNews().Deliver(nullptr);
  EXPECT_EQ(soon.result.error, CallError::kTimeout);
  EXPECT_EQ(late.text, "");
  EXPECT_TRUE(table_.busy());
}

TEST_F(CallTableTest, ALostConnectionEndsAllCallsByTheirVerdict) {
  const struct {
    Verdict verdict;
    bool refused;  // The TLS handshake.
    CallError error;
    Verdict result;
  } rows[] = {
      {Verdict::kNotSent, false, CallError::kConnectionGone, Verdict::kNotSent},
      {Verdict::kPartial, false, CallError::kReset, Verdict::kPartial},
      {Verdict::kSentUnknown, false, CallError::kReset, Verdict::kSentUnknown},
      {Verdict::kSentUnknown, true, CallError::kTlsRefused,
       Verdict::kRefusedByPeer},
      {Verdict::kResponseStarted, true, CallError::kReset,
       Verdict::kResponseStarted},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(ToString(row.verdict));
    codec_.verdict = row.verdict;
    Recorder first, second;
    Begin(&first);
    Begin(&second);
    table_.LoseAll("gone", row.refused);
    EXPECT_FALSE(table_.busy());
    table_.TakeNews().Deliver(nullptr);
    for (const Recorder* call : {&first, &second}) {
      EXPECT_EQ(call->text, "done");
      EXPECT_EQ(call->result.error, row.error);
      EXPECT_EQ(call->result.verdict, row.result);
    }
  }
}

TEST_F(CallTableTest, ABodyPastTheLimitFailsOrIsTruncated) {
  Recorder failed, truncated;
  const StreamId first = Begin(&failed, {.max_response_bytes = 4});
  const StreamId second =
      Begin(&truncated, {.max_response_bytes = 4, .truncate = true});
  for (const StreamId stream : {first, second}) {
    table_.OnHead(stream, 200, {});
    table_.OnBody(stream, "abcd");
    table_.OnBody(stream, "e");
  }
  table_.TakeNews().Deliver(nullptr);
  EXPECT_EQ(failed.result.error, CallError::kResponseTooLarge);
  EXPECT_EQ(truncated.result.error, CallError::kNone);
  EXPECT_TRUE(truncated.result.response.truncated);
  EXPECT_EQ(truncated.result.response.body, "abcd");
  EXPECT_EQ(codec_.cancelled, (std::vector<StreamId>{first, second}));
}

TEST_F(CallTableTest, AStreamedAnswerIsDeliveredInOrderAndOnce) {
  Recorder call;
  const StreamId stream = BeginStream(&call);
  EXPECT_EQ(call.call(), stream);
  table_.OnHead(stream, 200, {});
  table_.OnBody(stream, "a");
  table_.OnBody(stream, "b");
  table_.TakeNews().Deliver(nullptr);
  EXPECT_EQ(call.text, "head 200 body ab ");
  table_.OnBody(stream, "c");
  table_.OnTrailers(stream, {});
  table_.OnComplete(stream);
  table_.TakeNews().Deliver(nullptr);
  EXPECT_EQ(call.text, "head 200 body ab body c trailers done");
  EXPECT_FALSE(table_.Consume(stream, 1)) << "it has ended";
}

TEST_F(CallTableTest, BytesSentAreHeldBackUntilTheStreamIsSendable) {
  Recorder call;
  const StreamId stream = BeginStream(&call);
  EXPECT_TRUE(table_.Send(stream, "12345", false));
  EXPECT_EQ(table_.TakeHeld(), 5u);
  table_.OnSendable(stream);
  table_.TakeNews().Deliver(nullptr);
  EXPECT_EQ(call.text, "sendable ");
  // Room that the flush itself makes is not reported apart.
  EXPECT_TRUE(table_.Send(stream, "12345", false));
  table_.OnSendable(stream);
  EXPECT_EQ(table_.TakeHeld(), 0u);
  EXPECT_FALSE(table_.has_news());
}

TEST_F(CallTableTest, AnAnswerWithoutRoomIsNotConsumedUntilResumed) {
  Room room;
  room.open = false;
  Recorder call;
  const StreamId stream = Begin(&call, {.room = &room});
  table_.OnHead(stream, 200, {});
  EXPECT_FALSE(table_.Resume(stream)) << "it does not wait";
  const std::string piece(3 * Codec::kFirstWindow, 'x');
  table_.OnBody(stream, piece);
  EXPECT_EQ(codec_.consumed[stream], 0u);
  EXPECT_TRUE(table_.starved());
  EXPECT_TRUE(table_.Resume(stream));
  EXPECT_FALSE(table_.starved());
  EXPECT_EQ(codec_.consumed[stream], piece.size());
}

}  // namespace
}  // namespace hotline::upstream
