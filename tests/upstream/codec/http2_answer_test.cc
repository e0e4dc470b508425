// Answers, good and bad, in every split. Frames are made by hand.
#include <algorithm>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/fakes/rows.h"
#include "tests/upstream/codec/http2_driver.h"
#include "upstream/codec/http2.h"

namespace hotline::upstream {
namespace {

using ::testing::HasSubstr;

enum Fate {
  kOpen,     // Fit for the next request.
  kGone,     // Nothing wrong, but no further request.
  kRefused,  // Feed said no.
};

struct Row {
  std::string name{};
  std::string answer{};
  std::string events{};  // Of stream 1.
  Fate fate = kOpen;
  const char* method = "GET";
  std::string message{};  // A part of the stream's error.
};

constexpr char kBroken[] = "error protocol RESPONSE_STARTED";

std::string Times(int n, const std::string& text) {
  std::string all;
  for (int i = 0; i < n; ++i) all += text;
  return all;
}

std::string Head(const Fields& more = {}, uint8_t flags = kNoFlag) {
  Fields fields = {{":status", "200"}};
  fields.insert(fields.end(), more.begin(), more.end());
  return HeadersFrame(1, fields, flags);
}

std::string End(std::string_view data = {}) {
  return DataFrame(1, data, kEndStream);
}

std::string Interim(const std::string& status) {
  return HeadersFrame(1, {{":status", status}, {"link", "x"}});
}

std::vector<Row> GoodAnswers() {
  const std::string block = Block({{":status", "200"}, {"a", "b"}});
  const std::string ok = "200 body=[] complete";
  return {
      {"a head alone", Head({}, kEndStream), ok},
      {"a body", Head({{"content-length", "5"}}) + End("hello"),
       "200 content-length=[5] body=[hello] complete"},
      {"a body in pieces, the end apart",
       Head() + DataFrame(1, "he") + DataFrame(1, "llo") + End(),
       "200 body=[hello] complete"},
      {"padding is no body",
       Head() + DataFrame(1, std::string("\3hi\0\0\0", 6), kPadded) +
           DataFrame(1, std::string("\0", 1), kPadded | kEndStream),
       "200 body=[hi] complete"},
      {"names repeat, order is kept",
       Head({{"b", "1"}, {"a", ""}, {"b", "two words"}}, kEndStream),
       "200 b=[1] a=[] b=[two words] body=[] complete"},
      {"bytes above ASCII in a value", Head({{"a", "\xc3\xa9"}}, kEndStream),
       "200 a=[\xc3\xa9] body=[] complete"},
      {"interim answers are passed over",
       Interim("100") + Interim("103") + Head({{"a", "b"}}) + End("x"),
       "200 a=[b] body=[x] complete"},
      {"a thousand interim answers",
       Times(1000, HeadersFrame(1, {{":status", "102"}})) + Head() + End("x"),
       "200 body=[x] complete"},
      {"an interim answer with a length",
       HeadersFrame(1, {{":status", "103"}, {"content-length", "7"}}) +
           Head({{"content-length", "1"}}) + End("x"),
       "200 content-length=[1] body=[x] complete"},
      {"status 600", HeadersFrame(1, {{":status", "600"}}) + End("x"),
       "600 body=[x] complete"},
      {"status 999", HeadersFrame(1, {{":status", "999"}}) + End("x"),
       "999 body=[x] complete"},
      {"204 with a length",
       HeadersFrame(1, {{":status", "204"}, {"content-length", "9"}},
                    kEndStream),
       "204 content-length=[9] body=[] complete"},
      {"204 with a length, the end apart",
       HeadersFrame(1, {{":status", "204"}, {"content-length", "9"}}) + End(),
       "204 content-length=[9] body=[] complete"},
      {"205 with a length",
       HeadersFrame(1, {{":status", "205"}, {"content-length", "9"}},
                    kEndStream),
       "205 content-length=[9] body=[] complete"},
      {"205 with a length and a body",
       HeadersFrame(1, {{":status", "205"}, {"content-length", "2"}}) +
           End("ab"),
       "205 content-length=[2] body=[ab] complete"},
      {"trailers",
       Head() + DataFrame(1, "x") +
           HeadersFrame(1, {{"t", "1"}, {"u", "2"}}, kEndStream),
       "200 body=[x] trailer t=[1] trailer u=[2] complete"},
      {"trailers without a body",
       Head() + HeadersFrame(1, {{"t", "1"}}, kEndStream),
       "200 body=[] trailer t=[1] complete"},
      {"HEAD with a length", Head({{"content-length", "9"}}, kEndStream),
       "200 content-length=[9] body=[] complete", kOpen, "HEAD"},
      {"204", HeadersFrame(1, {{":status", "204"}}, kEndStream),
       "204 body=[] complete"},
      {"304 with the length of what it stands for",
       HeadersFrame(1, {{":status", "304"}, {"content-length", "9"}},
                    kEndStream),
       "304 content-length=[9] body=[] complete"},
      {"an error status is an answer",
       HeadersFrame(1, {{":status", "503"}}) + End("no"),
       "503 body=[no] complete"},
      {"a head in three frames",
       Frame(NGHTTP2_HEADERS, kEndStream, 1, block.substr(0, 3)) +
           Frame(NGHTTP2_CONTINUATION, kNoFlag, 1, block.substr(3, 4)) +
           Frame(NGHTTP2_CONTINUATION, kEndHeaders, 1, block.substr(7)),
       "200 a=[b] body=[] complete"},
      {"a head with padding and priority",
       Frame(NGHTTP2_HEADERS, kEndHeaders | kEndStream | kPadded | kPriority, 1,
             Bytes(2, 1) + Bytes(0, 4) + Bytes(7, 1) + block + Bytes(0, 2)),
       "200 a=[b] body=[] complete"},
      {"the connection's own frames in between",
       Head() + Frame(NGHTTP2_PING, kNoFlag, 0, "12345678") +
           DataFrame(1, "x") + SettingsFrame({{1, 0}, {1, 4096}}) +
           WindowFrame(0, 5) + WindowFrame(1, 5) +
           Frame(NGHTTP2_PRIORITY, kNoFlag, 1, Bytes(0, 5)) + End("y"),
       "200 body=[xy] complete"},
      {"PRIORITY of other streams, whatever it says",
       Frame(NGHTTP2_PRIORITY, kNoFlag, 1, Bytes(1, 4) + Bytes(0, 1)) + Head() +
           Frame(NGHTTP2_PRIORITY, kNoFlag, 9, "1234") + End("x"),
       "200 body=[x] complete"},
      {"frames of unknown type",
       Frame(0xbb, 0xff, 1, "whatever") + Head() + Frame(0xa, 0, 0, "") + End(),
       ok},
      {"a reset after the answer", Head() + End("x") + ResetFrame(1, 0),
       "200 body=[x] complete"},
      {"999 fields", Head(Fields(999, {"a", ""}), kEndStream),
       "200" + Times(999, " a=[]") + " body=[] complete"},
  };
}

// "200; a=b": the fields of an answer's head, with C escapes.
Fields FieldsOf(const std::string& text) {
  Fields fields;
  for (absl::string_view field : absl::StrSplit(text, "; ")) {
    if (field == "200") {
      fields = {{":status", "200"}};
      continue;
    }
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(field, absl::MaxSplits('=', 1));
    fields.emplace_back(testing::Unescape(std::string(parts.first)),
                        testing::Unescape(std::string(parts.second)));
  }
  return fields;
}

std::vector<Row> BadHeads() {
  std::vector<Row> rows;
  for (const auto& row :
       testing::ReadRows("tests/upstream/codec/bad_answer_heads.tsv", 3, 28)) {
    rows.push_back({row[0], HeadersFrame(1, FieldsOf(row[1]), kEndStream),
                    kBroken, kOpen, "GET", row[2]});
  }
  return rows;
}

std::vector<Row> BadAnswers() {
  const auto bad = [](const char* name, std::string answer,
                      const char* message = "") {
    return Row{name, answer, kBroken, kOpen, "GET", message};
  };
  const auto broken_off = [](const char* name, std::string answer,
                             std::string events, const char* method = "GET") {
    return Row{name, answer, events + kBroken, kOpen, method, ""};
  };
  return {
      bad("101", HeadersFrame(1, {{":status", "101"}})),
      bad("a length with a sign", Head({{"content-length", "+1"}}) + End("x")),
      bad("the same length twice",
          Head({{"content-length", "1"}, {"content-length", "1"}}) + End("x")),
      bad("a status after an interim answer's fields",
          HeadersFrame(1, {{"a", "b"}, {":status", "103"}})),
      bad("the body after an interim answer", Interim("100") + End("x")),
      bad("interim answers without end",
          Times(1600, HeadersFrame(1, {{":status", "103"}})), "limit"),
      bad("1000 fields", Head(Fields(1000, {"a", ""}), kEndStream), "limit"),
      bad("a head too long",
          Frame(NGHTTP2_HEADERS, kEndStream, 1,
                Block({{":status", "200"}, {"a", std::string(16000, 'x')}})) +
              Times(4, Frame(NGHTTP2_CONTINUATION, kNoFlag, 1,
                             Block({{"a", std::string(16000, 'x')}}))) +
              Frame(NGHTTP2_CONTINUATION, kEndHeaders, 1),
          "limit"),
      broken_off("a body too short",
                 Head({{"content-length", "5"}}) + End("hell"),
                 "200 content-length=[5] body=[hell] "),
      broken_off(
          "a body too long",
          Head({{"content-length", "2"}}) + DataFrame(1, "ab") + End("c"),
          "200 content-length=[2] body=[ab] "),
      broken_off("HEAD with a body",
                 Head({{"content-length", "2"}}) + End("ab"),
                 "200 content-length=[2] body=[] ", "HEAD"),
      broken_off("304 with a body",
                 HeadersFrame(1, {{":status", "304"}}) + End("ab"),
                 "304 body=[] "),
      broken_off("204 with a body",
                 HeadersFrame(1, {{":status", "204"}}) + End("ab"),
                 "204 body=[] "),
      broken_off(
          "205 with a body too short",
          HeadersFrame(1, {{":status", "205"}, {"content-length", "3"}}) +
              End("ab"),
          "205 content-length=[3] body=[ab] "),
      broken_off("a length in the trailers that is another one",
                 Head({{"content-length", "1"}}) + DataFrame(1, "a") +
                     HeadersFrame(1, {{"content-length", "2"}}, kEndStream),
                 "200 content-length=[1] body=[a] "),
      broken_off("trailers that do not end",
                 Head() + HeadersFrame(1, {{"t", "1"}}) + End(),
                 "200 body=[] "),
      broken_off("a pseudo-header in the trailers",
                 Head() + HeadersFrame(1, {{":status", "200"}}, kEndStream),
                 "200 body=[] "),
      broken_off("trailers too long",
                 Head() + HeadersFrame(1, Fields(1001, {"a", ""}), kEndStream),
                 "200 body=[] "),
      {"a body before the head", DataFrame(1, "x") + Head() + End("y"),
       "error protocol SENT_UNKNOWN", kOpen, "GET", "before its head"},
      {"an empty body before the head", End(), "error protocol SENT_UNKNOWN",
       kOpen, "GET", "before its head"},
      {"a window opened by nothing", WindowFrame(1, 0),
       "error protocol SENT_UNKNOWN", kOpen, "GET", "by nothing"},
      {"a window opened by nothing within the answer",
       Head() + WindowFrame(1, 0) + End("x"),
       "200 body=[] " + std::string(kBroken), kOpen, "GET", "by nothing"},
      {"a window of the stream opened too far", WindowFrame(1, 0x7fffffff),
       "error protocol SENT_UNKNOWN", kOpen, "GET", "flow control"},
      {"PRIORITY of four bytes", Frame(NGHTTP2_PRIORITY, kNoFlag, 1, "1234"),
       "error protocol SENT_UNKNOWN", kOpen, "GET", "PRIORITY"},
      {"reset", ResetFrame(1, NGHTTP2_INTERNAL_ERROR),
       "error reset SENT_UNKNOWN", kOpen, "GET", "INTERNAL_ERROR"},
      {"reset within the answer",
       Head() + DataFrame(1, "x") + ResetFrame(1, NGHTTP2_NO_ERROR),
       "200 body=[x] error reset RESPONSE_STARTED", kOpen, "GET", "NO_ERROR"},
      {"reset with a code that nobody knows", ResetFrame(1, 4711),
       "error reset SENT_UNKNOWN", kOpen, "GET", "error 4711"},
      {"refused", ResetFrame(1, NGHTTP2_REFUSED_STREAM),
       "error reset REFUSED_BY_PEER", kOpen, "GET", "REFUSED_STREAM"},
      {"refused after it had begun",
       Head() + ResetFrame(1, NGHTTP2_REFUSED_STREAM),
       "200 body=[] error reset RESPONSE_STARTED"},
      {"no more streams", GoAwayFrame(0, NGHTTP2_NO_ERROR),
       "error reset REFUSED_BY_PEER", kGone},
      {"no more streams but this one",
       GoAwayFrame(1, NGHTTP2_NO_ERROR) + Head() + End("x"),
       "200 body=[x] complete", kGone},
  };
}

// With a frame of the stream's own, which is at fault then; or with another,
// and the stream has nothing to do with it.
std::vector<Row> BrokenConnections() {
  const auto dead = [](const char* name, std::string answer,
                       std::string events = "error reset SENT_UNKNOWN") {
    return Row{name, answer, events, kRefused};
  };
  const std::string unanswered = "error protocol SENT_UNKNOWN";
  const std::string begun = "200 body=[] error protocol RESPONSE_STARTED";
  return {
      dead("another protocol", "HTTP/1.1 400 Bad Request\r\n\r\n"),
      dead("a frame too long", Head() + Bytes(16385, 3) + Bytes(1, 6), begun),
      dead("a frame too long before the head", Bytes(16385, 3) + Bytes(1, 6),
           unanswered),
      dead("a field that is not in the table",
           Frame(NGHTTP2_HEADERS, kEndHeaders, 1, "\xbf"), kBroken),
      dead("a table larger than ours",
           Frame(NGHTTP2_HEADERS, kEndHeaders, 1, "\x3f\xff\xff\x03"), kBroken),
      dead("a stream that was not opened",
           HeadersFrame(3, {{":status", "200"}})),
      dead("a body for a stream that was not opened", DataFrame(3, "x")),
      dead("a reset for a stream that was not opened", ResetFrame(3, 0)),
      dead("a window for a stream that was not opened", WindowFrame(3, 1)),
      dead("a stream of the server's", HeadersFrame(2, {{":status", "200"}})),
      dead("a body for the connection", DataFrame(0, "x")),
      dead("something between a head's parts",
           Frame(NGHTTP2_HEADERS, kNoFlag, 1, "\x88") + DataFrame(1, "x"),
           kBroken),
      dead("a continuation of nothing",
           Frame(NGHTTP2_CONTINUATION, kEndHeaders, 1, "\x88"), unanswered),
      dead("a pushed stream",
           Frame(NGHTTP2_PUSH_PROMISE, kEndHeaders, 1,
                 Bytes(2, 4) + Block({{":method", "GET"}})),
           unanswered),
      dead("a window opened by nothing", WindowFrame(0, 0)),
      dead("a window opened too far", WindowFrame(0, 0x7fffffff)),
      dead("a window opened too far by SETTINGS",
           WindowFrame(1, 0x7fffffff - 65535) + SettingsFrame({{4, 65536}})),
      dead("an update of three bytes",
           Frame(NGHTTP2_WINDOW_UPDATE, kNoFlag, 1, "123"), unanswered),
      dead("PRIORITY of the connection",
           Frame(NGHTTP2_PRIORITY, kNoFlag, 0, Bytes(0, 5))),
      dead("PRIORITY between a head's parts",
           Frame(NGHTTP2_HEADERS, kNoFlag, 1, "\x88") +
               Frame(NGHTTP2_PRIORITY, kNoFlag, 1, Bytes(0, 5)),
           kBroken),
      dead("an update by nothing between a head's parts",
           Frame(NGHTTP2_HEADERS, kNoFlag, 1, "\x88") + WindowFrame(1, 0),
           kBroken),
      dead("PING of seven bytes", Frame(NGHTTP2_PING, 0, 0, "1234567")),
      dead("PING of a stream", Frame(NGHTTP2_PING, 0, 1, "12345678"),
           unanswered),
      dead("SETTINGS of a stream", Frame(NGHTTP2_SETTINGS, 0, 1, ""),
           unanswered),
      dead("half of a setting", Frame(NGHTTP2_SETTINGS, 0, 0, "12345")),
      dead("push turned on", SettingsFrame({{2, 1}})),
      dead("a window of 2^31", SettingsFrame({{4, 0x80000000}})),
      dead("frames of 100 bytes", SettingsFrame({{5, 100}})),
      dead("33 settings",
           SettingsFrame(std::vector<std::pair<uint16_t, uint32_t>>(33))),
      dead("acknowledged what was not sent",
           Times(2, Frame(NGHTTP2_SETTINGS, kAck, 0))),
      dead("a farewell that goes back", GoAwayFrame(1, 0) + GoAwayFrame(3, 0)),
      dead("padding longer than the frame",
           Head() + DataFrame(1, "\5abc", kPadded), begun),
  };
}

class Http2AnswerTest : public ::testing::Test {
 protected:
  static void Check(const std::vector<Row>& rows) {
    for (const Row& row : rows) {
      SCOPED_TRACE(row.name);
      CheckRow(row);
    }
  }

  static void CheckRow(const Row& row) {
    const Http2Exchange exchange{.method = row.method,
                                 .answer = row.answer,
                                 .limits = {},
                                 .settings = {}};
    const Http2Outcome whole = RunHttp2Whole(exchange);
    EXPECT_THAT(whole.events, HasSubstr("1: " + row.events + "\n"));
    EXPECT_THAT(whole.message, HasSubstr(row.message));
    EXPECT_EQ(whole.open, row.fate != kRefused) << whole.problem;
    EXPECT_EQ(whole.problem.empty(), row.fate != kRefused);
    EXPECT_EQ(whole.reusable, row.fate == kOpen);
    EXPECT_EQ(whole.streams, 0u);
    EXPECT_EQ(whole.disorders, 0);
    EXPECT_EQ(RunHttp2ByteByByte(exchange), whole);
    // Two pieces, wherever the cut.
    const size_t step = std::max<size_t>(row.answer.size() / 300, 1);
    for (size_t at = 1; at < row.answer.size(); at += step) {
      ASSERT_EQ(RunHttp2(exchange,
                         [&](size_t left) {
                           return left == row.answer.size() ? at : left;
                         }),
                whole)
          << "cut at " << at;
    }
    std::minstd_rand random(1);
    for (int i = 0; i < 10; ++i) {
      ASSERT_EQ(RunHttp2(exchange,
                         [&](size_t left) {
                           return 1 + random() % std::min<size_t>(left, 20);
                         }),
                whole);
    }
  }
};

TEST_F(Http2AnswerTest, GoodAnswersAreTakenInEverySplit) {
  Check(GoodAnswers());
}

TEST_F(Http2AnswerTest, BadAnswersEndTheirStreamAndNothingElse) {
  Check(BadHeads());
  Check(BadAnswers());
}

TEST_F(Http2AnswerTest, BrokenFramingEndsTheConnection) {
  Check(BrokenConnections());
}

TEST_F(Http2AnswerTest, AHeadOfExactlyTheLimitPasses) {
  const std::string answer = Head({{"a", "bcd"}}, kEndStream);
  const int64_t size = (7 + 3 + 32) + (1 + 3 + 32);
  for (int slack : {0, -1}) {
    Http2Exchange exchange{.answer = answer, .limits = {}, .settings = {}};
    exchange.limits.max_header_bytes = size + slack;
    EXPECT_THAT(
        RunHttp2Whole(exchange).events,
        HasSubstr(slack == 0 ? "200 a=[bcd] body=[] complete" : kBroken));
  }
}

TEST_F(Http2AnswerTest, AHeadNearTheDefaultLimitPassesInManyFrames) {
  const std::string block =
      Block({{":status", "200"}, {"a", std::string(65000, 'x')}});
  std::string answer = Frame(NGHTTP2_HEADERS, kEndStream, 1, "");
  for (size_t at = 0; at < block.size(); at += 16000) {
    const bool last = at + 16000 >= block.size();
    answer += Frame(NGHTTP2_CONTINUATION, last ? kEndHeaders : kNoFlag, 1,
                    block.substr(at, 16000));
  }
  const Http2Outcome outcome =
      RunHttp2Whole({.answer = answer, .limits = {}, .settings = {}});
  EXPECT_THAT(outcome.events, HasSubstr("x] body=[] complete"));
  EXPECT_TRUE(outcome.reusable);
}

TEST_F(Http2AnswerTest, TheEndOfTheConnectionEndsTheStream) {
  for (const auto& [answer, events] :
       std::vector<std::pair<std::string, std::string>>{
           {"", "error reset SENT_UNKNOWN"},
           {Interim("100"), "error reset RESPONSE_STARTED"},
           {Head() + DataFrame(1, "x"),
            "200 body=[x] error reset RESPONSE_STARTED"},
           {Head().substr(0, 12), "error reset RESPONSE_STARTED"},
           {Head().substr(0, 5), "error reset SENT_UNKNOWN"},
       }) {
    const Http2Outcome outcome = RunHttp2Whole(
        {.answer = answer, .eof = true, .limits = {}, .settings = {}});
    EXPECT_THAT(outcome.events, HasSubstr("1: " + events + "\n"));
    EXPECT_FALSE(outcome.reusable);
  }
}

TEST_F(Http2AnswerTest, WhoAnswersInHttp1IsToldApart) {
  Http2Recorder recorder;
  const auto codec = MakeHttp2Codec(&recorder, &recorder, "https");
  EXPECT_FALSE(codec->Feed("HTTP/1.1 400 Bad Request\r\n\r\n"));
  EXPECT_THAT(codec->error().message, HasSubstr("HTTP/1"));
  EXPECT_FALSE(codec->CanSubmit());
  EXPECT_FALSE(codec->error().unsolicited);
}

TEST_F(Http2AnswerTest, TheFirstFrameMustBeSettings) {
  Http2Recorder recorder;
  const auto codec = MakeHttp2Codec(&recorder, &recorder, "https");
  EXPECT_FALSE(codec->Feed(Frame(NGHTTP2_PING, kNoFlag, 0, "12345678")));
  EXPECT_THAT(codec->error().message, HasSubstr("SETTINGS"));
}

}  // namespace
}  // namespace hotline::upstream
