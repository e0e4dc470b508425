#include "upstream/codec/http1.h"

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/fakes/rows.h"
#include "tests/upstream/codec/http1_driver.h"

namespace hotline::upstream {
namespace {

using ::testing::HasSubstr;

enum Fate {
  kOpen,         // Fit for the next request.
  kClosing,      // Nothing wrong, but no further request.
  kRefused,      // Feed said no.
  kUnsolicited,  // Feed said no, to bytes that nobody had asked for.
};

struct Row {
  std::string name{};
  std::string answer{};
  std::string events{};
  Fate fate = kOpen;
  std::string method = "GET";
  bool eof = false;
  std::string message{};  // A part of the error's.
};

const char kOk[] = "HTTP/1.1 200 OK\r\n";
const char kChunked[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const char kChunkedEvents[] = "200 transfer-encoding=[chunked]";
const char kBroken[] = "error protocol RESPONSE_STARTED";

std::vector<Row> WholeAnswers() {
  std::vector<Row> rows;
  for (const auto& row : testing::ReadRows(
           "tests/upstream/codec/http1_whole_answers.tsv", 4, 27)) {
    rows.push_back({.name = row[0],
                    .answer = testing::Unescape(row[3]),
                    .events = testing::Unescape(row[2]),
                    .method = row[1]});
  }
  return rows;
}

std::vector<Row> LastAnswers() {
  const std::string ok = kOk, chunked = kChunked;
  return {
      {"Connection: close",
       ok + "Connection: close\r\nContent-Length: 0\r\n\r\n",
       "200 connection=[close] content-length=[0] body=[] complete", kClosing},
      {"close among others",
       ok + "Connection: Foo , CLOSE\r\nContent-Length: 0\r\n\r\n",
       "200 connection=[Foo , CLOSE] content-length=[0] body=[] complete",
       kClosing},
      {"close wins over keep-alive in HTTP/1.0",
       "HTTP/1.0 200 OK\r\nConnection: keep-alive, close\r\n"
       "Content-Length: 0\r\n\r\n",
       "200 connection=[keep-alive, close] content-length=[0] body=[] complete",
       kClosing},
      {"close in the trailers", chunked + "0\r\nConnection: close\r\n\r\n",
       "200 transfer-encoding=[chunked] body=[] trailer connection=[close] "
       "complete",
       kClosing},
      {"HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
       "200 content-length=[1] body=[x] complete", kClosing},
      {"the same length twice",
       ok + "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
       "200 content-length=[1] content-length=[1] body=[x] complete", kClosing},
      {"the same length in a list", ok + "Content-Length: 1, 1\r\n\r\nx",
       "200 content-length=[1, 1] body=[x] complete", kClosing},
      {"204 that announces a body",
       "HTTP/1.1 204 No\r\nContent-Length: 3\r\n\r\n",
       "204 content-length=[3] body=[] complete", kClosing},
      {"204 that announces chunks",
       "HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n",
       "204 transfer-encoding=[chunked] body=[] complete", kClosing},
      {"interim answer with a length",
       "HTTP/1.1 103 Early Hints\r\nContent-Length: 3\r\n\r\n" + ok +
           "Content-Length: 1\r\n\r\nx",
       "200 content-length=[1] body=[x] complete", kClosing},
      {"interim answer with chunks",
       "HTTP/1.1 100 C\r\nTransfer-Encoding: chunked\r\n\r\n" + ok +
           "Content-Length: 1\r\n\r\nx",
       "200 content-length=[1] body=[x] complete", kClosing},
      {"body until the end", ok + "\r\nall of it",
       "200 body=[all of it] complete", kClosing, "GET", /*eof=*/true},
      {"empty body until the end", ok + "\r\n", "200 body=[] complete",
       kClosing, "GET", /*eof=*/true},
      {"the end after a whole answer", ok + "Content-Length: 1\r\n\r\nx",
       "200 content-length=[1] body=[x] complete", kClosing, "GET",
       /*eof=*/true},
  };
}

std::vector<Row> BytesAfterTheAnswer() {
  const std::string ok = kOk, chunked = kChunked;
  return {
      {"a byte after the body", ok + "Content-Length: 1\r\n\r\nxy",
       "200 content-length=[1] body=[x] complete", kUnsolicited},
      {"a body after HEAD", ok + "Content-Length: 1\r\n\r\nx",
       "200 content-length=[1] body=[] complete", kUnsolicited, "HEAD"},
      {"a body after 304", "HTTP/1.1 304 N\r\nContent-Length: 1\r\n\r\nx",
       "304 content-length=[1] body=[] complete", kUnsolicited},
      {"a second answer",
       ok + "Content-Length: 0\r\n\r\n" + ok + "Content-Length: 0\r\n\r\n",
       "200 content-length=[0] body=[] complete", kUnsolicited},
      {"a line break after the chunks", chunked + "0\r\n\r\n\r\n",
       "200 transfer-encoding=[chunked] body=[] complete", kUnsolicited},
  };
}

std::vector<Row> BrokenHeads() {
  std::vector<Row> rows;
  for (const auto& row : testing::ReadRows(
           "tests/upstream/codec/http1_broken_heads.tsv", 3, 40)) {
    rows.push_back({.name = row[0],
                    .answer = testing::Unescape(row[2]),
                    .events = kBroken,
                    .fate = kRefused,
                    .message = row[1]});
  }
  return rows;
}

std::vector<Row> BrokenFraming() {
  const std::string ok = kOk;
  const auto bad = [&](const char* name, const std::string& headers,
                       const char* version = "HTTP/1.1 200 OK\r\n") {
    return Row{name, version + headers + "\r\n0\r\n\r\n", kBroken, kRefused};
  };
  return {
      bad("length, then coding",
          "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
      bad("coding, then length",
          "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
      bad("lengths that differ", "Content-Length: 5\r\nContent-Length: 6\r\n"),
      bad("lengths that differ, in a list", "Content-Length: 5, 6\r\n"),
      bad("empty length", "Content-Length:\r\n"),
      bad("signed length", "Content-Length: +5\r\n"),
      bad("negative length", "Content-Length: -5\r\n"),
      bad("hexadecimal length", "Content-Length: 0x5\r\n"),
      bad("length with a space", "Content-Length: 5 5\r\n"),
      bad("length with a comma", "Content-Length: 5,\r\n"),
      bad("length past 64 bits", "Content-Length: 18446744073709551616\r\n"),
      bad("unknown coding", "Transfer-Encoding: gzip\r\n"),
      bad("identity", "Transfer-Encoding: identity\r\n"),
      bad("coding before chunked", "Transfer-Encoding: gzip, chunked\r\n"),
      bad("coding after chunked", "Transfer-Encoding: chunked, gzip\r\n"),
      bad("chunked twice", "Transfer-Encoding: chunked, chunked\r\n"),
      bad("chunked in two headers",
          "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
      bad("codings in two headers",
          "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"),
      bad("almost chunked", "Transfer-Encoding: xchunked\r\n"),
      bad("quoted chunked", "Transfer-Encoding: \"chunked\"\r\n"),
      bad("empty coding", "Transfer-Encoding:\r\n"),
      bad("chunked in HTTP/1.0", "Transfer-Encoding: chunked\r\n",
          "HTTP/1.0 200 OK\r\n"),
  };
}

std::vector<Row> BrokenChunks() {
  std::vector<Row> rows;
  for (const auto& row : testing::ReadRows(
           "tests/upstream/codec/http1_broken_chunks.tsv", 4, 28)) {
    rows.push_back({.name = row[0],
                    .answer = kChunked + testing::Unescape(row[3]),
                    .events = std::string(kChunkedEvents) + " body=[" + row[1] +
                              "] " + kBroken,
                    .fate = kRefused,
                    .message = row[2]});
  }
  return rows;
}

std::vector<Row> BrokenOff() {
  const std::string ok = kOk;
  const auto cut = [](const char* name, const std::string& answer,
                      const std::string& events) {
    return Row{name, answer, events, kClosing, "GET", /*eof=*/true};
  };
  const std::string started = "error reset RESPONSE_STARTED";
  return {
      cut("nothing came", "", "error reset SENT_UNKNOWN"),
      cut("within the version", "HTT", started),
      cut("within the head", ok + "A: b", started),
      cut("after an interim answer", "HTTP/1.1 100 C\r\n\r\n", started),
      cut("within the body", ok + "Content-Length: 5\r\n\r\nhel",
          "200 content-length=[5] body=[hel] " + started),
      cut("before the body", ok + "Content-Length: 5\r\n\r\n",
          "200 content-length=[5] body=[] " + started),
      cut("before a chunk", kChunked,
          std::string(kChunkedEvents) + " body=[] " + started),
      cut("within a chunk", std::string(kChunked) + "5\r\nhel",
          std::string(kChunkedEvents) + " body=[hel] " + started),
      cut("after a chunk", std::string(kChunked) + "3\r\nhel\r\n",
          std::string(kChunkedEvents) + " body=[hel] " + started),
      cut("before the last line break", std::string(kChunked) + "0\r\n",
          std::string(kChunkedEvents) + " body=[] " + started),
      cut("within the trailers", std::string(kChunked) + "0\r\nA: b\r\n",
          std::string(kChunkedEvents) + " body=[] " + started),
  };
}

void Expect(const Row& row, const Outcome& outcome) {
  EXPECT_EQ(outcome.events, row.events);
  EXPECT_EQ(outcome.disorders, 0);
  EXPECT_EQ(outcome.reusable, row.fate == kOpen);
  EXPECT_EQ(outcome.unsolicited, row.fate == kUnsolicited);
  EXPECT_EQ(outcome.open,
            row.fate == kOpen || (row.fate == kClosing && !row.eof));
  EXPECT_THAT(outcome.message, HasSubstr(row.message));
}

// Whole, byte by byte, and in pieces of random length: always the same.
void Play(const std::vector<Row>& rows) {
  std::mt19937 random(20240521);
  for (const Row& row : rows) {
    SCOPED_TRACE(row.name);
    const Exchange exchange{row.method, row.answer, row.eof, {}};
    const Outcome whole = RunWhole(exchange);
    Expect(row, whole);
    EXPECT_EQ(RunByteByByte(exchange), whole);
    for (int i = 0; i < 20; ++i) {
      const size_t most = 1 + random() % 40;
      EXPECT_EQ(
          Run(exchange,
              [&](size_t left) { return 1 + random() % std::min(left, most); }),
          whole);
    }
  }
}

TEST(Http1Test, WholeAnswersLeaveTheConnectionOpen) { Play(WholeAnswers()); }
TEST(Http1Test, SomeAnswersAreTheLastOnTheirConnection) { Play(LastAnswers()); }
TEST(Http1Test, BytesAfterTheAnswerCloseTheConnection) {
  Play(BytesAfterTheAnswer());
}
TEST(Http1Test, BrokenHeadsAreRefused) { Play(BrokenHeads()); }
TEST(Http1Test, DoubtfulFramingIsRefused) { Play(BrokenFraming()); }
TEST(Http1Test, BrokenChunksAreRefused) { Play(BrokenChunks()); }
TEST(Http1Test, AnswersThatBreakOffAreErrors) { Play(BrokenOff()); }

// A codec with its events, and verbs to make stories of.
class Http1StoryTest : public ::testing::Test {
 protected:
  // Returns what is to be written.
  std::string Submit(const Request& request) {
    recorder_ = Recorder();
    stream_ = codec_->Submit(request);
    std::string out;
    codec_->TakeOutput(&out);
    return out;
  }
  std::string SubmitAndWrite(const Request& request = {.authority = "h"}) {
    std::string out = Submit(request);
    codec_->OnWritten(out.size());
    return out;
  }

  Recorder recorder_;
  std::unique_ptr<Codec> codec_ = MakeHttp1Codec(&recorder_);
  StreamId stream_ = 0;
};

const char kAnswer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const char kAnswered[] = "200 content-length=[2] body=[ok] complete";

TEST_F(Http1StoryTest, ARequestIsWrittenWithHostAndNothingUncalledFor) {
  EXPECT_EQ(Submit({.authority = "example.com:8443", .path = "/a?b"}),
            "GET /a?b HTTP/1.1\r\nHost: example.com:8443\r\n\r\n");
}

TEST_F(Http1StoryTest, HeadersAreWrittenAsTheyAreAndHostOnce) {
  const HeaderView headers[] = {
      {"X-One", "1"}, {"hOST", "example.com"}, {"x-two", ""}};
  EXPECT_EQ(Submit({.authority = "example.com", .headers = headers}),
            "GET / HTTP/1.1\r\nHost: example.com\r\nX-One: 1\r\nx-two: \r\n"
            "\r\n");
}

TEST_F(Http1StoryTest, ABodyComesWithItsLength) {
  EXPECT_EQ(Submit({.method = "DELETE", .authority = "h", .body = "12345"}),
            "DELETE / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n12345");
}

TEST_F(Http1StoryTest, AnEmptyBodyHasALengthWhereOneIsExpected) {
  for (const char* method : {"POST", "PUT", "PATCH"}) {
    Recorder recorder;
    const auto codec = MakeHttp1Codec(&recorder);
    codec->Submit({.method = method, .authority = "h"});
    std::string out;
    codec->TakeOutput(&out);
    EXPECT_EQ(out, std::string(method) +
                       " / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
  }
  EXPECT_EQ(Submit({.method = "DELETE", .authority = "h"}),
            "DELETE / HTTP/1.1\r\nHost: h\r\n\r\n");
}

TEST_F(Http1StoryTest, OutputIsAppendedToWhatIsThere) {
  codec_->Submit({.authority = "h"});
  std::string out = "before ";
  codec_->TakeOutput(&out);
  EXPECT_EQ(out, "before GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  codec_->TakeOutput(&out);
  EXPECT_EQ(out, "before GET / HTTP/1.1\r\nHost: h\r\n\r\n");
}

TEST_F(Http1StoryTest, OneRequestAfterTheOtherNeverTwoAtOnce) {
  StreamId last = 0;
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(codec_->CanSubmit());
    SubmitAndWrite();
    EXPECT_GT(stream_, last);
    last = stream_;
    EXPECT_FALSE(codec_->CanSubmit());
    EXPECT_TRUE(codec_->Feed(kAnswer));
    EXPECT_EQ(recorder_.Text(), kAnswered);
  }
}

TEST_F(Http1StoryTest, HeadThenGetDoNotMixUpTheirBodies) {
  SubmitAndWrite({.method = "HEAD", .authority = "h"});
  EXPECT_TRUE(codec_->Feed("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"));
  SubmitAndWrite();
  EXPECT_TRUE(codec_->Feed(kAnswer));
  EXPECT_EQ(recorder_.Text(), kAnswered);
  EXPECT_TRUE(codec_->CanSubmit());
}

TEST_F(Http1StoryTest, TheLimitHoldsForEachAnswerAnew) {
  const std::string answer =
      "HTTP/1.1 204 OK\r\nA: " + std::string(60000, 'a') + "\r\n\r\n";
  for (int i = 0; i < 3; ++i) {
    SubmitAndWrite();
    EXPECT_TRUE(codec_->Feed(answer));
    EXPECT_EQ(recorder_.completed, 1);
  }
}

TEST_F(Http1StoryTest, NothingOfAnAnswerIsLeftForTheNext) {
  std::string interim;
  for (int i = 0; i < 10; ++i) interim += "HTTP/1.1 103 Early Hints\r\n\r\n";
  const std::string extension = ";" + std::string(4000, 'e');
  for (int i = 0; i < 3; ++i) {
    SubmitAndWrite();
    EXPECT_TRUE(codec_->Feed(interim + kChunked));
    for (int chunk = 0; chunk < 10; ++chunk) {
      EXPECT_TRUE(codec_->Feed("1" + extension + "\r\nx\r\n"));
    }
    EXPECT_TRUE(codec_->Feed("0\r\nT: 1\r\n\r\n"));
    EXPECT_EQ(recorder_.Text(), std::string(kChunkedEvents) +
                                    " body=[xxxxxxxxxx] trailer t=[1] "
                                    "complete");
    EXPECT_TRUE(codec_->CanSubmit());
  }
}

TEST_F(Http1StoryTest, WithBytesLeftOverTheConnectionIsUnfitAtOnce) {
  SubmitAndWrite();
  bool fit = true;
  recorder_.on_complete = [&] { fit = codec_->CanSubmit(); };
  EXPECT_FALSE(codec_->Feed(std::string(kAnswer) + "!"));
  EXPECT_EQ(recorder_.Text(), kAnswered);
  EXPECT_FALSE(fit);
}

TEST_F(Http1StoryTest, AHeadOfExactlyTheLimitPasses) {
  const std::string answer = "HTTP/1.1 204 \r\nA: aaa\r\n\r\n";
  for (int slack : {0, -1}) {
    const Exchange exchange{
        .answer = answer,
        .limits = {static_cast<int64_t>(answer.size()) + slack}};
    EXPECT_EQ(RunWhole(exchange).events,
              slack == 0 ? "204 a=[aaa] body=[] complete" : kBroken);
    EXPECT_EQ(RunByteByByte(exchange), RunWhole(exchange));
  }
}

TEST_F(Http1StoryTest, AnEarlyAnswerIsDeliveredAndTheConnectionClosed) {
  const std::string out =
      Submit({.method = "POST", .authority = "h", .body = "0123456789"});
  codec_->OnWritten(out.size() - 1);
  EXPECT_TRUE(codec_->Feed(kAnswer));
  EXPECT_EQ(recorder_.Text(), kAnswered);
  EXPECT_FALSE(codec_->CanSubmit());
}

TEST_F(Http1StoryTest, AnAnswerThatOvertakesTheRequestsEndMayKeepIt) {
  const std::string out =
      Submit({.method = "POST", .authority = "h", .body = "0123456789"});
  codec_->OnWritten(out.size() - 1);
  EXPECT_TRUE(codec_->Feed(std::string_view(kAnswer).substr(0, 20)));
  codec_->OnWritten(1);
  EXPECT_TRUE(codec_->Feed(std::string_view(kAnswer).substr(20)));
  EXPECT_EQ(recorder_.Text(), kAnswered);
  EXPECT_TRUE(codec_->CanSubmit());
}

TEST_F(Http1StoryTest, ATimeoutNoticeSentBeforeTheRequestIsNotItsAnswer) {
  Submit({.authority = "h"});
  EXPECT_FALSE(
      codec_->Feed("HTTP/1.1 408 Request Timeout\r\n"
                   "Connection: close\r\nContent-Length: 0\r\n\r\n"));
  EXPECT_EQ(recorder_.Text(), "error gone NOT_SENT");
  EXPECT_TRUE(codec_->error().unsolicited);
  EXPECT_FALSE(codec_->CanSubmit());
}

TEST_F(Http1StoryTest, BytesWithNoRequestAreUnsolicited) {
  EXPECT_FALSE(codec_->Feed("H"));
  EXPECT_TRUE(codec_->error().unsolicited);
  EXPECT_EQ(recorder_.Text(), "");
  EXPECT_FALSE(codec_->CanSubmit());
  EXPECT_FALSE(codec_->Feed("more"));
}

TEST_F(Http1StoryTest, ABrokenAnswerIsNotUnsolicited) {
  SubmitAndWrite();
  EXPECT_FALSE(codec_->Feed("nonsense"));
  EXPECT_FALSE(codec_->error().unsolicited);
  EXPECT_THAT(codec_->error().message, HasSubstr("HTTP/1."));
}

TEST_F(Http1StoryTest, NoBytesAreNoNews) {
  EXPECT_TRUE(codec_->Feed(""));
  SubmitAndWrite();
  EXPECT_TRUE(codec_->Feed(""));
  codec_->FeedEof();
  EXPECT_EQ(recorder_.Text(), "error reset SENT_UNKNOWN");
}

TEST_F(Http1StoryTest, TheVerdictGoesByWhatTheSocketTook) {
  for (const auto& [missing, text] :
       {std::pair{-1, "error gone NOT_SENT"},
        std::pair{1, "error reset PARTIAL"},
        std::pair{0, "error reset SENT_UNKNOWN"}}) {
    codec_ = MakeHttp1Codec(&recorder_);
    const std::string out = Submit({.authority = "h"});
    if (missing >= 0) codec_->OnWritten(out.size() - missing);
    codec_->FeedEof();
    EXPECT_EQ(recorder_.Text(), text);
    EXPECT_FALSE(codec_->CanSubmit());
  }
}

TEST_F(Http1StoryTest, TheVerdictStartsAnewWithEachRequest) {
  SubmitAndWrite();
  EXPECT_TRUE(codec_->Feed(kAnswer));
  Submit({.authority = "h"});
  codec_->FeedEof();
  EXPECT_EQ(recorder_.Text(), "error gone NOT_SENT");
}

TEST_F(Http1StoryTest, TheEndOfAnIdleConnectionTellsNobody) {
  codec_->FeedEof();
  EXPECT_EQ(recorder_.Text(), "");
  EXPECT_FALSE(codec_->CanSubmit());
  EXPECT_FALSE(codec_->error().unsolicited);
}

TEST_F(Http1StoryTest, ACancelledStreamSaysNothingMore) {
  SubmitAndWrite();
  codec_->Cancel(stream_);
  EXPECT_FALSE(codec_->Feed(kAnswer));
  codec_->FeedEof();
  EXPECT_EQ(recorder_.Text(), "");
  EXPECT_FALSE(codec_->CanSubmit());
  EXPECT_FALSE(codec_->error().unsolicited);
}

TEST_F(Http1StoryTest, CancellingAStreamThatIsOverChangesNothing) {
  SubmitAndWrite();
  EXPECT_TRUE(codec_->Feed(kAnswer));
  codec_->Cancel(stream_);
  codec_->Cancel(0);
  EXPECT_TRUE(codec_->CanSubmit());
}

TEST_F(Http1StoryTest, AHandlerMayCancelFromInsideItsEvent) {
  for (const std::string body : {"Content-Length: 4\r\n\r\nmore",
                                 "Transfer-Encoding: chunked\r\n\r\n"
                                 "4\r\nmore\r\n0\r\n\r\n",
                                 "\r\nmore"}) {
    codec_ = MakeHttp1Codec(&recorder_);
    SubmitAndWrite();
    recorder_.on_body = [this] { codec_->Cancel(stream_); };
    // In two pieces, so that what is parsed lies in the codec's own buffer.
    EXPECT_TRUE(codec_->Feed("HTTP/1.1 200 OK\r\n"));
    EXPECT_FALSE(codec_->Feed(body));
    EXPECT_EQ(recorder_.body, "more");
    EXPECT_FALSE(recorder_.over());
    EXPECT_FALSE(codec_->CanSubmit());
  }
}

TEST_F(Http1StoryTest, LargeBodiesPassThroughWithoutBeingKept) {
  SubmitAndWrite();
  const std::string piece(1 << 16, 'x');
  EXPECT_TRUE(codec_->Feed("HTTP/1.1 200 OK\r\nContent-Length: " +
                           std::to_string(64 * piece.size()) + "\r\n\r\n"));
  for (int i = 0; i < 64; ++i) {
    EXPECT_TRUE(codec_->Feed(piece));
    EXPECT_EQ(recorder_.body.size(), piece.size());
    recorder_.body.clear();
  }
  EXPECT_EQ(recorder_.completed, 1);
  EXPECT_TRUE(codec_->CanSubmit());
}

// Requests whose body follows piece by piece.
class Http1StreamTest : public Http1StoryTest {
 protected:
  // Returns what is to be written.
  std::string Open(const Request& head, bool end = false) {
    recorder_ = Recorder();
    stream_ = codec_->OpenStream(head, end);
    return Take();
  }
  std::string Take() {
    std::string out;
    codec_->TakeOutput(&out);
    codec_->OnWritten(out.size());
    return out;
  }
};

TEST_F(Http1StreamTest, ABodyWithoutALengthGoesInChunks) {
  EXPECT_EQ(Open({.method = "POST", .authority = "h"}),
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
  EXPECT_EQ(codec_->Send(stream_, "0123456789abcdefg", false), 0u);
  EXPECT_EQ(codec_->Send(stream_, "", false), 0u);
  EXPECT_EQ(codec_->Send(stream_, "x", true), 0u);
  EXPECT_EQ(Take(), "11\r\n0123456789abcdefg\r\n1\r\nx\r\n0\r\n\r\n");
  EXPECT_TRUE(codec_->Feed(kAnswer));
  EXPECT_EQ(recorder_.Text(), kAnswered);
  EXPECT_TRUE(codec_->CanSubmit());
}

TEST_F(Http1StreamTest, ABodyWithALengthGoesAsItIs) {
  const HeaderView headers[] = {{"content-length", "5"}};
  EXPECT_EQ(Open({.method = "PUT", .authority = "h", .headers = headers}),
            "PUT / HTTP/1.1\r\nHost: h\r\ncontent-length: 5\r\n\r\n");
  codec_->Send(stream_, "hel", false);
  codec_->Send(stream_, "lo", true);
  EXPECT_EQ(Take(), "hello");
  EXPECT_TRUE(codec_->Feed(kAnswer));
  EXPECT_TRUE(codec_->CanSubmit());
}

TEST_F(Http1StreamTest, ABodyShorterThanItsLengthSpoilsTheConnection) {
  const HeaderView headers[] = {{"content-length", "5"}};
  Open({.method = "PUT", .authority = "h", .headers = headers});
  codec_->Send(stream_, "hel", true);
  Take();
  EXPECT_TRUE(codec_->Feed(kAnswer));
  EXPECT_EQ(recorder_.Text(), kAnswered);
  EXPECT_FALSE(codec_->CanSubmit());
}

TEST_F(Http1StreamTest, ABodyLongerThanItsLengthIsCutAndSpoilsIt) {
  const HeaderView headers[] = {{"content-length", "5"}};
  Open({.method = "PUT", .authority = "h", .headers = headers});
  codec_->Send(stream_, "hello, GET / HTTP/1.1", true);
  EXPECT_EQ(Take(), "hello");
  EXPECT_TRUE(codec_->Feed(kAnswer));
  EXPECT_EQ(recorder_.Text(), kAnswered);
  EXPECT_FALSE(codec_->CanSubmit());
}

TEST_F(Http1StreamTest, ALengthWithoutItsBodySpoilsTheConnection) {
  const HeaderView headers[] = {{"content-length", "5"}};
  Open({.method = "PUT", .authority = "h", .headers = headers}, /*end=*/true);
  EXPECT_TRUE(codec_->Feed(kAnswer));
  EXPECT_FALSE(codec_->CanSubmit());
}

TEST_F(Http1StreamTest, WithoutABodyItIsLikeSubmit) {
  EXPECT_EQ(Open({.authority = "h"}, /*end=*/true),
            "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_TRUE(codec_->Feed(kAnswer));
  EXPECT_EQ(Open({.method = "POST", .authority = "h"}, /*end=*/true),
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
  EXPECT_TRUE(codec_->Feed(kAnswer));
  EXPECT_TRUE(codec_->CanSubmit());
}

TEST_F(Http1StreamTest, UntilItsEndIsSentARequestIsPartial) {
  Open({.method = "POST", .authority = "h"});
  EXPECT_EQ(codec_->VerdictOf(stream_), Verdict::kPartial);
  codec_->Send(stream_, "x", true);
  EXPECT_EQ(codec_->VerdictOf(stream_), Verdict::kPartial);
  Take();
  EXPECT_EQ(codec_->VerdictOf(stream_), Verdict::kSentUnknown);
}

TEST_F(Http1StreamTest, AnAnswerBeforeTheBodysEndIsTheLast) {
  Open({.method = "POST", .authority = "h"});
  EXPECT_TRUE(codec_->Feed(kAnswer));
  EXPECT_EQ(recorder_.Text(), kAnswered);
  EXPECT_FALSE(codec_->CanSubmit());
  EXPECT_EQ(codec_->Send(stream_, "late", true), 0u);
  EXPECT_FALSE(codec_->WantsWrite());
}

TEST_F(Http1StreamTest, AFastSenderIsAskedToWaitAndToldWhenToGoOn) {
  Open({.method = "POST", .authority = "h"});
  const std::string piece(64 << 10, 'x');
  int sent = 0;
  while (codec_->Send(stream_, piece, false) == 0) ASSERT_LT(++sent, 100);
  EXPECT_EQ(recorder_.sendable, 0);
  Take();
  EXPECT_EQ(recorder_.sendable, 1);
  Take();
  EXPECT_EQ(recorder_.sendable, 1);
}

TEST_F(Http1StreamTest, ASlowReaderStopsTheReading) {
  Open({.authority = "h"}, /*end=*/true);
  EXPECT_TRUE(codec_->Feed("HTTP/1.1 200 OK\r\n\r\n"));
  const std::string piece(64 << 10, 'x');
  int fed = 0;
  while (codec_->WantsRead()) {
    EXPECT_TRUE(codec_->Feed(piece));
    ASSERT_LT(++fed, 100);
  }
  codec_->Consume(stream_, piece.size());
  EXPECT_TRUE(codec_->WantsRead());
  EXPECT_TRUE(codec_->Feed(piece));
  EXPECT_FALSE(codec_->WantsRead());
}

}  // namespace
}  // namespace hotline::upstream
