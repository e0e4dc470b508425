// Answers, good and bad, in every split.
#include <algorithm>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/fakes/rows.h"
#include "tests/net/http2/frame_text.h"
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
  std::string method = "GET";
  std::string events{};   // Of stream 1.
  std::string message{};  // A part of the stream's error.
  Fate fate = kOpen;
  std::string answer{};
};

constexpr char kBroken[] = "error protocol RESPONSE_STARTED";

std::vector<Row> GoodAnswers() {
  std::vector<Row> rows;
  for (const auto& row : testing::ReadRows(
           "tests/upstream/codec/http2_good_answers.tsv", 4, 28)) {
    rows.push_back({.name = row[0],
                    .method = row[1],
                    .events = testing::Unescape(row[2]),
                    .answer = net::ParseFrames(row[3])});
  }
  return rows;
}

std::vector<Row> BadHeads() {
  std::vector<Row> rows;
  for (const auto& row :
       testing::ReadRows("tests/upstream/codec/bad_answer_heads.tsv", 3, 28)) {
    rows.push_back(
        {.name = row[0],
         .events = kBroken,
         .message = row[2],
         .answer = HeadersFrame(1, net::ParseFields(row[1]), kEndStream)});
  }
  return rows;
}

std::vector<Row> BadAnswers() {
  std::vector<Row> rows;
  for (const auto& row :
       testing::ReadRows("tests/upstream/codec/http2_bad_answers.tsv", 6, 31)) {
    EXPECT_TRUE(row[4] == "open" || row[4] == "gone") << row[0];
    rows.push_back({.name = row[0],
                    .method = row[1],
                    .events = row[2],
                    .message = row[3],
                    .fate = row[4] == "open" ? kOpen : kGone,
                    .answer = net::ParseFrames(row[5])});
  }
  return rows;
}

std::vector<Row> BrokenConnections() {
  std::vector<Row> rows;
  for (const auto& row : testing::ReadRows(
           "tests/upstream/codec/http2_broken_connections.tsv", 3, 32)) {
    rows.push_back({.name = row[0],
                    .events = row[1],
                    .fate = kRefused,
                    .answer = net::ParseFrames(row[2])});
  }
  return rows;
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
  const std::string answer =
      net::ParseFrames("HEADERS(1 end_stream end_headers [200; a=bcd])");
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
  const std::string head = net::ParseFrames("HEADERS(1 end_headers [200])");
  for (const auto& [answer, events] :
       std::vector<std::pair<std::string, std::string>>{
           {"", "error reset SENT_UNKNOWN"},
           {HeadersFrame(1, {{":status", "100"}}),
            "error reset RESPONSE_STARTED"},
           {head + DataFrame(1, "x"),
            "200 body=[x] error reset RESPONSE_STARTED"},
           {head.substr(0, 12), "error reset RESPONSE_STARTED"},
           {head.substr(0, 5), "error reset SENT_UNKNOWN"},
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
