// What ServerSession does for its user: events, answers, flow control, drain,
// keep-alive, memory.
#include "net/http2/server_session.h"

#include <malloc.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/net/http2/raw_frames.h"

namespace hotline::net {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::HasSubstr;
using ::testing::StartsWith;

using Fields = std::vector<HeaderField>;

const Fields kHead = {{":status", "200"}, {"content-type", "application/grpc"}};
const Fields kTrailers = {{"grpc-status", "0"}};
constexpr uint16_t kInitialWindow = 4;
constexpr size_t kAnnouncedHead = 128 << 10;

// Frames as text: "HEADERS 1 end".
std::string Text(const std::vector<OutFrame>& frames) {
  static const char* const kNames[] = {
      "DATA",         "HEADERS", "PRIORITY", "RST",           "SETTINGS",
      "PUSH_PROMISE", "PING",    "GOAWAY",   "WINDOW_UPDATE", "CONTINUATION"};
  std::string text;
  for (const OutFrame& frame : frames) {
    if (!text.empty()) text += ", ";
    text +=
        std::string(kNames[frame.type]) + " " + std::to_string(frame.stream);
    if (frame.type == NGHTTP2_DATA) {
      text += " " + std::to_string(frame.payload.size());
    }
    if ((frame.type == NGHTTP2_DATA || frame.type == NGHTTP2_HEADERS) &&
        (frame.flags & kEndStream) != 0) {
      text += " end";
    }
  }
  return text;
}

// Of this process's memory, what is neither a file's nor zeros never written.
size_t AnonymousBytes() {
  std::ifstream file("/proc/self/smaps_rollup");
  constexpr size_t kKibi = 1024;
  for (std::string word; file >> word;) {
    size_t size = 0;
    if (word == "Anonymous:" && file >> size) return size * kKibi;
  }
  return 0;
}

class ServerSessionTest : public ::testing::Test {
 protected:
  void Connect(const std::vector<std::pair<uint16_t, uint32_t>>& settings = {},
               const ServerOptions& options = {}) {
    client_ = std::make_unique<RawClient>(options);
    client_->Connect(settings);
    client_->seen.clear();
  }

  void Answer(int32_t id, std::string_view body) {
    session().Respond(
        stream(id), kHead, body.size(),
        [body](char* to) { body.copy(to, body.size()); }, kTrailers);
  }

  ServerSession& session() { return client_->session(); }
  EventRecorder::Call& call(int32_t id) { return client_->events.calls[id]; }
  ServerStream* stream(int32_t id) { return call(id).stream; }
  std::string Body(int32_t id) {
    std::string body;
    for (const OutFrame& frame : client_->seen) {
      if (frame.type == NGHTTP2_DATA && frame.stream == uint32_t(id)) {
        body += frame.payload;
      }
    }
    return body;
  }

  std::unique_ptr<RawClient> client_ = std::make_unique<RawClient>();
};

// Requests.

TEST_F(ServerSessionTest, TheHandshakeAnnouncesTheLimits) {
  client_->Send(Preface() + Settings());
  const std::vector<OutFrame> frames = client_->Read();
  EXPECT_EQ(Text(frames), "SETTINGS 0, SETTINGS 0, WINDOW_UPDATE 0");
  EXPECT_TRUE(session().ready());
  EXPECT_THAT(frames[0].payload, HasSubstr(Bytes(3, 2) + Bytes(1024, 4)));
  EXPECT_THAT(frames[0].payload,
              HasSubstr(Bytes(6, 2) + Bytes(kAnnouncedHead, 4)));
}

TEST_F(ServerSessionTest, NothingIsSentBeforeThePreface) {
  EXPECT_EQ(session().Output(), "");
  client_->Send(Preface().substr(0, 20));
  EXPECT_EQ(session().Output(), "");
  client_->Send(Preface().substr(20));
  EXPECT_NE(session().Output(), "");
}

TEST_F(ServerSessionTest, ARequestIsReportedInParts) {
  Connect();
  client_->Send(Post(1, kNoFlag, {{"te", "trailers"}, {"x-a", "1"}}));
  EXPECT_EQ(call(1).method, "POST");
  EXPECT_EQ(call(1).path, "/a.B/C");
  EXPECT_EQ(call(1).fields, (FieldList{{"te", "trailers"}, {"x-a", "1"}}));
  EXPECT_FALSE(call(1).ended);
  client_->Send(Data(1, "abc"));
  client_->Send(Data(1, "def", kEndStream));
  EXPECT_EQ(call(1).body, "abcdef");
  EXPECT_TRUE(call(1).ended);
  EXPECT_EQ(client_->events.disorders, 0);
}

TEST_F(ServerSessionTest, TheHostFieldStandsInForTheAuthority) {
  Connect();
  client_->Send(Headers(
      1,
      {{":method", "POST"}, {":scheme", "http"}, {":path", "/"}, {"host", "h"}},
      kEndStream));
  EXPECT_EQ(call(1).authority, "h");
  EXPECT_EQ(call(1).fields, (FieldList{{"host", "h"}}));
}

TEST_F(ServerSessionTest, TrailersOfARequestEndIt) {
  Connect();
  client_->Send(Post(1) + Data(1, "abc") +
                Headers(1, {{"x", "y"}}, kEndStream));
  EXPECT_EQ(call(1).body, "abc");
  EXPECT_TRUE(call(1).ended);
  EXPECT_EQ(call(1).fields, FieldList());
}

TEST_F(ServerSessionTest, ALargeHeadIsAnnouncedAndOtherCallsGoOn) {
  Connect();
  client_->Send(Post(1, kEndStream) +
                Post(3, kEndStream, {{"big", std::string(16200, 'x')}}) +
                Post(5, kEndStream));
  EXPECT_FALSE(call(1).too_large);
  EXPECT_TRUE(call(3).too_large);
  EXPECT_EQ(call(3).path, "/a.B/C");
  EXPECT_EQ(call(3).fields, FieldList());
  EXPECT_FALSE(call(5).too_large);
  session().SubmitHeaders(stream(3), {{":status", "200"}}, true);
  Answer(1, "a");
  Answer(5, "b");
  client_->Read();
  for (int id : {1, 3, 5}) EXPECT_EQ(call(id).end, StreamEnd::kComplete) << id;
}

TEST_F(ServerSessionTest, AHeadOfTheAnnouncedLimitIsAnswered) {
  Connect();
  // Not compressible.
  const std::string half(kAnnouncedHead / 2 - 1024, '\\');
  std::string block = Block(PostFields({{"a", half}, {"b", half}}));
  constexpr size_t kFrameBytes = 16384;
  uint8_t type = NGHTTP2_HEADERS;
  while (block.size() > kFrameBytes) {
    client_->Send(Frame(type, type == NGHTTP2_HEADERS ? kEndStream : kNoFlag, 1,
                        block.substr(0, kFrameBytes)));
    block.erase(0, kFrameBytes);
    type = NGHTTP2_CONTINUATION;
  }
  client_->Send(Frame(type, kEndHeaders, 1, block));
  EXPECT_TRUE(call(1).too_large);
  session().SubmitHeaders(stream(1), {{":status", "200"}}, true);
  client_->Read();
  EXPECT_EQ(call(1).end, StreamEnd::kComplete);
}

// Answers.

TEST_F(ServerSessionTest, AUnaryAnswerIsThreeFramesOfOneWrite) {
  Connect();
  client_->Send(Post(1, kEndStream));
  Answer(1, "hello");
  const std::vector<OutFrame> frames = client_->Read();
  EXPECT_EQ(Text(frames), "HEADERS 1, DATA 1 5, HEADERS 1 end");
  EXPECT_EQ(frames[0].Get(":status"), "200");
  EXPECT_EQ(frames[0].Get("content-type"), "application/grpc");
  EXPECT_EQ(frames[1].payload, "hello");
  EXPECT_EQ(frames[2].Get("grpc-status"), "0");
  EXPECT_EQ(call(1).closed, 1);
  EXPECT_EQ(call(1).end, StreamEnd::kComplete);
  EXPECT_EQ(session().open_streams(), 0u);
}

TEST_F(ServerSessionTest, AnswersFromInsideEventsShareAWrite) {
  Connect();
  client_->events.on_end = [&](ServerStream* stream) {
    Answer(stream->id(), "x");
  };
  client_->Send(Post(1, kEndStream) + Post(3, kEndStream) +
                Post(5, kEndStream));
  const std::string_view out = session().Output();
  session().OnWritten(out.size());
  EXPECT_EQ(session().Output(), "");
  for (int id : {1, 3, 5}) EXPECT_EQ(call(id).closed, 1) << id;
}

TEST_F(ServerSessionTest, AnEmptyMessageHasNoDataFrame) {
  Connect();
  client_->Send(Post(1, kEndStream));
  Answer(1, "");
  EXPECT_EQ(Text(client_->Read()), "HEADERS 1, HEADERS 1 end");
}

TEST_F(ServerSessionTest, AnAnswerMayBeItsHeadersAlone) {
  Connect();
  client_->Send(Post(1, kEndStream));
  session().SubmitHeaders(stream(1), {{":status", "415"}}, /*end=*/true);
  EXPECT_EQ(Text(client_->Read()), "HEADERS 1 end");
  EXPECT_EQ(call(1).end, StreamEnd::kComplete);
}

TEST_F(ServerSessionTest, AStreamedAnswerIsSentAsItComes) {
  Connect();
  client_->Send(Post(1));
  session().SubmitHeaders(stream(1), kHead, false);
  EXPECT_EQ(Text(client_->Read()), "HEADERS 1");
  EXPECT_EQ(session().SubmitData(stream(1), "ab", "cd"), 0u);
  EXPECT_EQ(Text(client_->Read()), "DATA 1 4");
  EXPECT_EQ(session().SubmitData(stream(1), "ef"), 0u);
  session().SubmitTrailers(stream(1), kTrailers);
  client_->Send(Data(1, "", kEndStream));
  EXPECT_EQ(Text(client_->Read()), "DATA 1 2, HEADERS 1 end");
  EXPECT_EQ(Body(1), "abcdef");
  EXPECT_EQ(call(1).sendable, 0);
}

TEST_F(ServerSessionTest, AnEarlyAnswerResetsTheRestOfTheRequest) {
  Connect();
  client_->Send(Post(1));
  Answer(1, "early");
  const std::vector<OutFrame> frames = client_->Read();
  EXPECT_EQ(Text(frames), "HEADERS 1, DATA 1 5, HEADERS 1 end, RST 1");
  EXPECT_EQ(frames[3].Number(), uint32_t{NGHTTP2_NO_ERROR});
  EXPECT_EQ(call(1).end, StreamEnd::kComplete);
  // What crossed the reset does no harm.
  EXPECT_TRUE(client_->Send(Data(1, "late", kEndStream)));
  EXPECT_EQ(call(1).body, "");
}

TEST_F(ServerSessionTest, FramesForClosedStreamsAreForgivenForAWhile) {
  Connect();
  client_->Send(Post(1));
  session().Reset(stream(1), NGHTTP2_CANCEL);
  EXPECT_EQ(Text(client_->Read()), "RST 1");
  EXPECT_EQ(call(1).end, StreamEnd::kReset);
  EXPECT_TRUE(client_->Send(Data(1, "late")));
  client_->now += seconds(9);
  EXPECT_TRUE(client_->Send(Data(1, "late")));
  client_->now += seconds(2);
  EXPECT_FALSE(client_->Send(Data(1, "too late")));
  EXPECT_EQ(session().end(), SessionEnd::kPeerError);
}

TEST_F(ServerSessionTest, ALargeAnswerWaitsForTheWindows) {
  Connect({{kInitialWindow, 100}});
  client_->Send(Post(1, kEndStream));
  std::string body;
  for (int i = 0; i < 1000; ++i) body += static_cast<char>(i);
  Answer(1, body);
  EXPECT_EQ(Text(client_->Read()), "HEADERS 1, DATA 1 100");
  EXPECT_EQ(stream(1)->waiting_bytes(), 900u);
  EXPECT_EQ(Text(client_->Exchange(Window(1, 800))), "DATA 1 800");
  EXPECT_EQ(Text(client_->Exchange(Window(1, 800))),
            "DATA 1 100, HEADERS 1 end");
  EXPECT_EQ(Body(1), body);
  EXPECT_EQ(call(1).end, StreamEnd::kComplete);
}

TEST_F(ServerSessionTest, SubmitDataFillsTheOutputOrACopy) {
  Connect({{kInitialWindow, 20'000}});
  client_->Send(Post(1, kEndStream));
  session().SubmitHeaders(stream(1), kHead, false);
  const auto fill = [](size_t size) {
    return [size](char* to) {
      for (size_t i = 0; i < size; ++i) to[i] = static_cast<char>('a' + i % 26);
    };
  };
  std::string expected;
  for (const size_t size : {size_t{10}, size_t{18'000}, size_t{5'000}}) {
    std::string piece(size, ' ');
    fill(size)(piece.data());
    expected += piece;
  }
  EXPECT_EQ(session().SubmitData(stream(1), 10, fill(10)), 0u);
  EXPECT_EQ(session().SubmitData(stream(1), 18'000, fill(18'000)), 0u);
  EXPECT_EQ(session().SubmitData(stream(1), 5'000, fill(5'000)), 3'010u);
  EXPECT_EQ(session().SubmitData(stream(1), 0, fill(0)), 0u);
  client_->Read();
  client_->Exchange(Window(1, 20'000));
  EXPECT_EQ(Body(1), expected);
}

TEST_F(ServerSessionTest, SubmitDataSaysWhatWaitsAndOnSendableWhenItIsGone) {
  Connect({{kInitialWindow, 4}});
  client_->Send(Post(1));
  session().SubmitHeaders(stream(1), kHead, false);
  EXPECT_EQ(session().SubmitData(stream(1), "abc", "defgh"), 4u);
  client_->events.on_sendable = [&](ServerStream* stream) {
    EXPECT_EQ(session().SubmitData(stream, "ij"), 0u);
  };
  client_->Read();
  EXPECT_EQ(call(1).sendable, 0);
  client_->Exchange(Window(1, 100));
  EXPECT_EQ(call(1).sendable, 1);
  EXPECT_EQ(Body(1), "abcdefghij");
}

TEST_F(ServerSessionTest, AnAnswerOfManyFramesArrivesWhole) {
  Connect({{kInitialWindow, 10'000'000}});
  client_->Send(Window(0, 10'000'000) + Post(1, kEndStream));
  std::string body;
  for (int i = 0; i < 300'000; ++i) body += static_cast<char>(i * 7);
  Answer(1, body);
  client_->Read(1000);
  EXPECT_EQ(Body(1), body);
  EXPECT_EQ(call(1).end, StreamEnd::kComplete);
}

TEST_F(ServerSessionTest, OutputIsBoundedWhileBodiesWait) {
  Connect({{kInitialWindow, 10'000'000}});
  client_->Send(Window(0, 10'000'000) + Post(1, kEndStream));
  Answer(1, std::string(1'000'000, 'x'));
  constexpr size_t kMost = (64 << 10) + 20'000;
  while (stream(1) != nullptr) {
    const size_t size = session().Output().size();
    ASSERT_GT(size, 0u);
    ASSERT_LT(size, kMost);
    session().OnWritten(size);
  }
}

TEST_F(ServerSessionTest, NothingIsProducedWhileTheSocketTakesNothing) {
  Connect();
  client_->Send(Post(1, kEndStream) + Post(3, kEndStream));
  Answer(1, "one");
  const size_t first = session().Output().size();
  session().OnWritten(first - 1);
  Answer(3, "three");
  client_->Send(Ping());
  EXPECT_EQ(session().Output().size(), 1u);
  EXPECT_EQ(call(3).closed, 0);
  session().OnWritten(1);
  EXPECT_GT(session().Output().size(), 1u);
  EXPECT_EQ(call(3).closed, 1);
}

TEST_F(ServerSessionTest, LargeAndSmallAnswersTakeTurns) {
  Connect({{kInitialWindow, 100'000'000}});
  client_->Send(Window(0, 100'000'000) + Post(1));
  session().SubmitHeaders(stream(1), kHead, false);
  session().SubmitData(stream(1), std::string(10'000'000, 'x'));
  client_->Send(Post(3, kEndStream));
  Answer(3, std::string(20'000, 'y'));
  size_t before = 0;
  while (stream(3) != nullptr) {
    const size_t size = session().Output().size();
    session().OnWritten(size);
    before += size;
  }
  EXPECT_LT(before, 300'000u);
  EXPECT_NE(stream(1), nullptr);
}

TEST_F(ServerSessionTest, NothingCanBeSubmittedToAClosedStream) {
  Connect();
  client_->events.on_end = [&](ServerStream* stream) {
    session().Reset(stream, NGHTTP2_INTERNAL_ERROR);
    EXPECT_TRUE(stream->closed());
    session().SubmitHeaders(stream, kHead, false);
    EXPECT_EQ(session().SubmitData(stream, "x"), 0u);
    session().SubmitTrailers(stream, kTrailers);
    session().Reset(stream, NGHTTP2_CANCEL);
    session().Consume(stream, 10);
  };
  client_->Send(Post(1, kEndStream));
  const std::vector<OutFrame> frames = client_->Read();
  EXPECT_EQ(Text(frames), "RST 1");
  EXPECT_EQ(frames[0].Number(), uint32_t{NGHTTP2_INTERNAL_ERROR});
  EXPECT_EQ(call(1).code, uint32_t{NGHTTP2_INTERNAL_ERROR});
}

TEST_F(ServerSessionTest, FieldsThatVaryStayOutOfTheTable) {
  Connect();
  client_->Send(Post(1, kEndStream) + Post(3, kEndStream));
  for (int id : {1, 3}) {
    session().SubmitHeaders(
        stream(id), {{":status", "200"}, {"m", "text", /*indexed=*/false}},
        true);
  }
  const std::vector<OutFrame> frames = client_->Read();
  ASSERT_EQ(frames.size(), 2u);
  EXPECT_EQ(frames[0].payload.size(), frames[1].payload.size());
}

// Resets.

TEST_F(ServerSessionTest, APeersResetClosesTheStream) {
  Connect();
  client_->Send(Post(1) + Rst(1, NGHTTP2_CANCEL));
  EXPECT_EQ(call(1).closed, 1);
  EXPECT_EQ(call(1).end, StreamEnd::kPeerReset);
  EXPECT_EQ(call(1).code, uint32_t{NGHTTP2_CANCEL});
  EXPECT_EQ(Text(client_->Read()), "");
}

TEST_F(ServerSessionTest, AResetWhileTheAnswerWaitsDropsTheAnswer) {
  Connect({{kInitialWindow, 2}});
  client_->Send(Post(1, kEndStream));
  Answer(1, "hello");
  client_->Read();
  client_->Send(Rst(1));
  EXPECT_EQ(call(1).end, StreamEnd::kPeerReset);
  EXPECT_EQ(Text(client_->Read()), "");
}

TEST_F(ServerSessionTest, AResetThatCrossesTheAnswerIsReported) {
  Connect();
  client_->Send(Post(1, kEndStream));
  Answer(1, "hello");
  client_->Read();
  EXPECT_TRUE(client_->Send(Rst(1, NGHTTP2_CANCEL)));
  ASSERT_EQ(client_->events.late_resets.size(), 1u);
  EXPECT_EQ(client_->events.late_resets[0].first, 1);
  EXPECT_EQ(client_->events.late_resets[0].second, uint32_t{NGHTTP2_CANCEL});
  EXPECT_EQ(call(1).end, StreamEnd::kComplete);
}

// gRPC's C core does both: each stream's window is enlarged before an answer
// has used it, and a call that is cancelled at its beginning resets a stream
// that was never opened.
TEST_F(ServerSessionTest, TheHabitsOfGrpcsClientsAreNoFlood) {
  Connect();
  constexpr int kCalls = 1000;
  for (int i = 0; i < kCalls; ++i) {
    ASSERT_TRUE(client_->Send(Post(2 * i + 1, kEndStream)));
  }
  for (int i = 0; i < kCalls; ++i) {
    ASSERT_TRUE(client_->Send(Window(2 * i + 1, 5) + Window(2 * i + 1, 5)));
  }
  EXPECT_TRUE(client_->Send(Rst(2 * kCalls + 1) + Post(2 * kCalls + 3)));
  EXPECT_EQ(client_->events.calls.size(), kCalls + 1u);
  Answer(2 * kCalls - 1, "hello");
  client_->Read();
  EXPECT_EQ(Body(2 * kCalls - 1), "hello");
}

TEST_F(ServerSessionTest, AMalformedRequestIsNeverAnnounced) {
  Connect();
  EXPECT_EQ(Text(client_->Exchange(Post(1, kEndStream, {{"X", "y"}}))),
            "RST 1");
  EXPECT_TRUE(client_->events.calls.empty());
}

TEST_F(ServerSessionTest, AConnectionErrorClosesEveryStream) {
  Connect();
  client_->Send(Post(1) + Post(3) + Post(5));
  client_->Send(Window(0, 0));
  client_->Read();
  for (int id : {1, 3, 5}) {
    EXPECT_EQ(call(id).closed, 1);
    EXPECT_EQ(call(id).end, StreamEnd::kConnection);
    EXPECT_EQ(call(id).code, uint32_t{NGHTTP2_PROTOCOL_ERROR});
  }
  EXPECT_THAT(session().end_text(), HasSubstr("WINDOW_UPDATE"));
}

TEST_F(ServerSessionTest, TheDestructorClosesEveryStream) {
  Connect();
  client_->Send(Post(1) + Data(1, "abc"));
  client_->Destroy();
  EXPECT_EQ(call(1).closed, 1);
  EXPECT_EQ(call(1).end, StreamEnd::kConnection);
}

TEST_F(ServerSessionTest, CloseSaysGoodbyeWithItsReason) {
  Connect();
  client_->Send(Post(1));
  session().Close(NGHTTP2_NO_ERROR, "shutting down");
  client_->Read();
  const OutFrame goaway = client_->First(NGHTTP2_GOAWAY);
  EXPECT_EQ(goaway.Number(0), 1u);
  EXPECT_EQ(goaway.payload.substr(8), "shutting down");
  EXPECT_EQ(call(1).end, StreamEnd::kConnection);
  EXPECT_TRUE(session().finished());
}

// Flow control.

TEST_F(ServerSessionTest, OnlyConsumptionOpensAStreamsWindow) {
  Connect();
  const std::string full(16384, 'x');
  client_->Send(Post(1));
  for (int i = 0; i < 64; ++i) client_->Send(Data(1, full));
  for (const OutFrame& frame : client_->Read()) {
    EXPECT_EQ(frame.type, NGHTTP2_WINDOW_UPDATE);
    EXPECT_EQ(frame.stream, 0u);
  }
  session().Consume(stream(1), 600'000);
  const std::vector<OutFrame> frames = client_->Read();
  EXPECT_EQ(Text(frames), "WINDOW_UPDATE 1");
  EXPECT_EQ(frames[0].Number(), 600'000u);
}

TEST_F(ServerSessionTest, PaddingIsConsumedByItself) {
  ServerOptions options;
  options.stream_window_bytes = 65535;
  Connect({}, options);
  client_->Send(Post(1));
  for (int i = 0; i < 300; ++i) {
    client_->Send(Data(1, '\xff' + std::string(255, '\0') + 'x', kPadded));
    client_->Read();
  }
  EXPECT_EQ(call(1).body.size(), 300u);
  EXPECT_EQ(client_->Count(NGHTTP2_GOAWAY), 0u);
}

TEST_F(ServerSessionTest, TheConnectionsWindowIsWithheldPastTheLimit) {
  ServerOptions options;
  options.max_unconsumed_bytes = 1 << 20;
  options.connection_window_bytes = 1 << 20;
  Connect({}, options);
  const std::string full(16384, 'x');
  client_->Send(Post(1) + Post(3));
  // The limit is reached, and then the window is used up.
  size_t credit = 0;
  for (int i = 0; i < 128; ++i) {
    ASSERT_TRUE(client_->Send(Data(1 + 2 * (i % 2), full)));
    for (const OutFrame& frame : client_->Read()) credit += frame.Number();
  }
  EXPECT_LE(credit, size_t{1} << 20);
  EXPECT_FALSE(client_->Exchange(Data(1, full)).empty());
  EXPECT_EQ(session().end(), SessionEnd::kPeerError);
}

TEST_F(ServerSessionTest, ConsumptionGivesTheWithheldWindowBack) {
  ServerOptions options;
  options.max_unconsumed_bytes = 0;
  Connect({}, options);
  const std::string full(16384, 'x');
  client_->Send(Post(1));
  for (int i = 0; i < 64; ++i) client_->Send(Data(1, full));
  for (int i = 0; i < 3; ++i) {
    client_->Send(Post(3 + 2 * i));
    for (int k = 0; k < 64; ++k) client_->Send(Data(3 + 2 * i, full));
  }
  EXPECT_EQ(Text(client_->Read()), "");
  // By closing, too.
  client_->Send(Rst(1) + Rst(3) + Rst(5));
  const std::vector<OutFrame> frames = client_->Read();
  ASSERT_EQ(Text(frames), "WINDOW_UPDATE 0");
  EXPECT_GE(frames[0].Number(), 2u << 20);
}

// Drain.

TEST_F(ServerSessionTest, ADrainHasTwoStepsAndLosesNothing) {
  Connect();
  client_->Send(Post(1, kEndStream));
  session().StartDrain(client_->now);
  std::vector<OutFrame> frames = client_->Read();
  ASSERT_EQ(Text(frames), "PING 0, GOAWAY 0");
  EXPECT_EQ(frames[1].Number(0), 0x7fffffffu);
  EXPECT_EQ(frames[1].Number(4), uint32_t{NGHTTP2_NO_ERROR});
  // The peer did not know yet.
  client_->Send(Post(3, kEndStream));
  EXPECT_EQ(call(3).path, "/a.B/C");
  frames = client_->Exchange(Ping(frames[0].payload, kAck));
  ASSERT_EQ(Text(frames), "GOAWAY 0");
  EXPECT_EQ(frames[0].Number(0), 3u);
  // Now it does: such a request may be sent elsewhere.
  EXPECT_TRUE(client_->Send(Post(5, kEndStream)));
  EXPECT_EQ(client_->events.calls.count(5), 0u);
  Answer(1, "a");
  client_->Read();
  EXPECT_FALSE(session().finished());
  Answer(3, "b");
  client_->Read();
  EXPECT_EQ(call(3).end, StreamEnd::kComplete);
  EXPECT_TRUE(session().finished());
  EXPECT_EQ(session().end(), SessionEnd::kDone);
}

TEST_F(ServerSessionTest, ADrainGoesOnWithoutAnAcknowledgement) {
  Connect();
  client_->Send(Post(1, kEndStream));
  session().StartDrain(client_->now);
  client_->Read();
  EXPECT_EQ(session().NextTimer(), client_->now + seconds(10));
  client_->now += seconds(10);
  session().OnTimer(client_->now);
  EXPECT_EQ(Text(client_->Read()), "GOAWAY 0");
  Answer(1, "a");
  client_->Read();
  EXPECT_TRUE(session().finished());
}

TEST_F(ServerSessionTest, AnIdleSessionDrainsAtOnce) {
  Connect();
  session().StartDrain(client_->now);
  session().StartDrain(client_->now);
  const std::vector<OutFrame> frames = client_->Read();
  ASSERT_EQ(Text(frames), "PING 0, GOAWAY 0");
  client_->Exchange(Ping(frames[0].payload, kAck));
  EXPECT_TRUE(session().finished());
}

TEST_F(ServerSessionTest, APeersGoAwayEndsAnIdleSession) {
  Connect();
  client_->Send(Post(1, kEndStream) + GoAway(0, 0));
  client_->Read();
  EXPECT_FALSE(session().finished());
  Answer(1, "x");
  client_->Read();
  EXPECT_TRUE(session().finished());
}

// Time.

TEST_F(ServerSessionTest, APeerThatNeverSpeaksIsClosed) {
  EXPECT_EQ(session().NextTimer(), client_->now + seconds(3));
  client_->now += seconds(3);
  session().OnTimer(client_->now);
  EXPECT_EQ(session().end(), SessionEnd::kTimeout);
  EXPECT_EQ(session().Output(), "");
  EXPECT_TRUE(session().finished());
  EXPECT_EQ(session().NextTimer(), kNever);
}

TEST_F(ServerSessionTest, APeerWithoutSettingsIsClosed) {
  client_->Send(Preface());
  client_->Read();
  client_->now += seconds(3);
  session().OnTimer(client_->now);
  client_->Read();
  EXPECT_EQ(client_->First(NGHTTP2_GOAWAY).Number(4),
            uint32_t{NGHTTP2_SETTINGS_TIMEOUT});
}

TEST_F(ServerSessionTest, ASilentPeerIsPingedAndThenClosed) {
  Connect();
  EXPECT_EQ(session().NextTimer(), client_->now + seconds(30));
  client_->now += seconds(30);
  session().OnTimer(client_->now);
  std::vector<OutFrame> frames = client_->Read();
  ASSERT_EQ(Text(frames), "PING 0");
  client_->now += seconds(9);
  client_->Send(Ping(frames[0].payload, kAck));
  session().OnTimer(client_->now);
  EXPECT_EQ(session().end(), SessionEnd::kNone);
  EXPECT_EQ(session().NextTimer(), client_->now + seconds(30));

  client_->now += seconds(30);
  session().OnTimer(client_->now);
  EXPECT_EQ(session().NextTimer(), client_->now + seconds(10));
  client_->now += seconds(10);
  session().OnTimer(client_->now);
  EXPECT_EQ(session().end(), SessionEnd::kTimeout);
}

TEST_F(ServerSessionTest, KeepAliveCanBeOff) {
  ServerOptions options;
  options.keepalive_interval = Duration::zero();
  Connect({}, options);
  EXPECT_EQ(session().NextTimer(), kNever);
}

TEST_F(ServerSessionTest, TooManyPingsAreRefusedAsGrpcDoes) {
  Connect();
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(client_->Send(Ping()));
  EXPECT_FALSE(client_->Send(Ping()));
  client_->Read();
  const OutFrame goaway = client_->First(NGHTTP2_GOAWAY);
  EXPECT_EQ(goaway.Number(4), uint32_t{NGHTTP2_ENHANCE_YOUR_CALM});
  EXPECT_EQ(goaway.payload.substr(8), "too_many_pings");
  EXPECT_EQ(session().end(), SessionEnd::kFlood);
}

TEST_F(ServerSessionTest, PingsAtTheirIntervalAreFine) {
  Connect();
  for (int i = 0; i < 100; ++i) {
    client_->now += seconds(5);
    ASSERT_TRUE(client_->Send(Ping()));
    client_->Read();
  }
}

TEST_F(ServerSessionTest, PingsBetweenAnswersAreFine) {
  Connect();
  for (int id = 1; id < 2000; id += 2) {
    ASSERT_TRUE(client_->Send(Post(id, kEndStream)));
    Answer(id, "x");
    client_->Read();
    ASSERT_TRUE(client_->Send(Ping())) << id;
  }
}

// Peers that do not speak HTTP/2.

TEST_F(ServerSessionTest, Http1IsAnsweredInHttp1) {
  for (const std::string begin : {"GET / HTTP/1.1\r\n", "POST /x", "PRINT"}) {
    RawClient client;
    EXPECT_FALSE(client.Send(begin));
    const std::string out(client.session().Output());
    client.session().OnWritten(out.size());
    EXPECT_THAT(out, StartsWith("HTTP/1.1 426 Upgrade Required\r\n"));
    const size_t body = out.find("\r\n\r\n") + 4;
    EXPECT_THAT(out, HasSubstr("Content-Length: " +
                               std::to_string(out.size() - body) + "\r\n"));
    EXPECT_THAT(out, HasSubstr("HTTP/2 only"));
    EXPECT_EQ(client.session().end(), SessionEnd::kHttp1);
    EXPECT_TRUE(client.session().finished());
  }
}

TEST_F(ServerSessionTest, TlsIsRecognized) {
  EXPECT_FALSE(client_->Send("\x16\x03\x01"));
  EXPECT_EQ(session().end(), SessionEnd::kTls);
  EXPECT_EQ(session().Output(), "");
  EXPECT_TRUE(session().finished());
}

// Memory.

TEST_F(ServerSessionTest, AnIdleSessionIsSmall) {
  constexpr int kSessions = 200;
  ServerMemory memory;
  EventRecorder events;
  const ServerOptions options;
  const Instant now = Instant{} + minutes(1);
  const std::string hello = Preface() + Settings() + SettingsAck();
  std::vector<std::unique_ptr<ServerSession>> sessions;
  sessions.reserve(kSessions);
  events.on_end = [&](ServerStream* stream) {
    static_cast<ServerSession*>(stream->user)
        ->Respond(
            stream, kHead, 10, [](char* to) { std::fill_n(to, 10, 'x'); },
            kTrailers);
  };
  events.keep_no_calls = true;
  const size_t before = mallinfo2().uordblks;
  for (int i = 0; i < kSessions; ++i) {
    sessions.push_back(
        std::make_unique<ServerSession>(&events, &memory, &options, now));
    ServerSession* const session = sessions.back().get();
    events.on_request = [session](ServerStream* stream) {
      stream->user = session;
    };
    session->Receive(hello, now);
    for (int id = 1; id < 10; id += 2) {
      session->Receive(
          Post(id, kEndStream,
               {{"te", "trailers"}, {"content-type", "application/grpc"}}),
          now);
      session->OnWritten(session->Output().size());
    }
    EXPECT_EQ(session->open_streams(), 0u);
  }
  const size_t used = (mallinfo2().uordblks - before) / kSessions;
  RecordProperty("bytes", static_cast<int>(used));
  EXPECT_LT(used, 6'500u);
  // The tables of streams, beside the heap.
  const size_t anonymous = AnonymousBytes();
  for (const auto& session : sessions) session->OnTimer(now + seconds(30));
  EXPECT_GT(anonymous, AnonymousBytes() + kSessions * 3000);
}

TEST_F(ServerSessionTest, ASessionWorksOnAfterItsMemoryWasGivenBack) {
  Connect();
  uint32_t id = 1;
  for (int round = 0; round < 20; ++round) {
    // More streams each time, until the table grows.
    const uint32_t first = id;
    for (int i = 0; i < 1 + 20 * round; ++i, id += 2) {
      client_->Send(Post(id, kEndStream));
    }
    for (uint32_t open = first; open < id; open += 2) Answer(open, "x");
    client_->Read();
    EXPECT_EQ(session().open_streams(), 0u);
    client_->now += seconds(30);
    session().OnTimer(client_->now);
    const std::vector<OutFrame> frames = client_->Read();
    ASSERT_EQ(Text(frames), "PING 0");
    client_->Send(Ping(frames[0].payload, kAck));
  }
  // Not while a stream is open, or is still to be reset.
  client_->Send(Post(id));
  client_->now += seconds(30);
  session().OnTimer(client_->now);
  client_->Stall();
  session().Reset(stream(id), NGHTTP2_CANCEL);
  client_->Send(Ping("whatever", kAck));
  client_->now += seconds(30);
  session().OnTimer(client_->now);
  EXPECT_THAT(Text(client_->Read()), HasSubstr("RST " + std::to_string(id)));
}

TEST_F(ServerSessionTest, SessionsThatShareMemoryDoNotMixTheirFrames) {
  ServerMemory memory;
  EventRecorder events;
  const ServerOptions options;
  const Instant now = Instant{} + minutes(1);
  const std::string hello = Preface() + Settings() + SettingsAck();
  ServerSession one(&events, &memory, &options, now);
  ServerSession two(&events, &memory, &options, now);
  for (ServerSession* session : {&one, &two}) {
    session->Receive(hello, now);
    session->OnWritten(session->Output().size());
  }
  one.Receive(Post(1, kEndStream), now);
  two.Receive(Post(3, kEndStream), now);
  OutReader first, second;
  // Two heads with other fields each, begun before either is written.
  const std::string a(9000, 'a'), b(9000, 'b');
  one.SubmitHeaders(events.calls[1].stream, {{":status", "200"}, {"x", a}},
                    true);
  two.SubmitHeaders(events.calls[3].stream, {{":status", "200"}, {"x", b}},
                    true);
  const std::string_view from_one = one.Output();
  const std::string_view from_two = two.Output();
  EXPECT_EQ(first.Read(from_one)[0].Get("x"), a);
  EXPECT_EQ(second.Read(from_two)[0].Get("x"), b);
}

TEST_F(ServerSessionTest, HeadsLargerThanAFrameAreContinued) {
  Connect();
  client_->Send(Post(1, kEndStream));
  session().SubmitHeaders(
      stream(1), {{":status", "200"}, {"x", std::string(40'000, '~')}}, true);
  std::string types;
  const std::string out(session().Output());
  for (size_t at = 0; at + 9 <= out.size();) {
    types += static_cast<char>('0' + out[at + 3]);
    at += 9 + (static_cast<unsigned char>(out[at]) << 16 |
               static_cast<unsigned char>(out[at + 1]) << 8 |
               static_cast<unsigned char>(out[at + 2]));
  }
  EXPECT_THAT(types, StartsWith("199"));
  EXPECT_EQ(call(1).end, StreamEnd::kComplete);
}

}  // namespace
}  // namespace hotline::net
