// Valid answers that were refused.
//
// More than 16 interim answers, a status above 599, a Content-Length where
// there is no content, HTTP/1.2: each was PROTOCOL_ERROR, although RFC 9110,
// 9112 and 9113 allow them or define how to read them. On HTTP/2 some errors of
// one stream ended the connection, and one error of the connection did not.
//
// Now interim answers are limited by their bytes and the call's deadline, the
// status is left to the caller, a status without content has none whatever its
// length says, and an error ends the stream or the connection that it belongs
// to.
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "tests/fakes/test_certs.h"
#include "tests/server/broker/broker_fixture.h"
#include "tests/upstream/codec/http2_server.h"

namespace hotline::server {
namespace {

using testing::CertFiles;
using testing::PeerConnection;
using testing::ScriptedPeer;
using testing::TestCa;
using upstream::DataFrame;
using upstream::Http2Exchange;
using upstream::Http2Peer;
using upstream::RunHttp2ByteByByte;
using upstream::RunHttp2Whole;
using upstream::ServeHttp2;
using upstream::StreamId;
using upstream::WindowFrame;

class AllowedAnswersTest : public BrokerTest {
 protected:
  AllowedAnswersTest() : ca_("allowed") {
    upstream_options_.ca_file = ca_.cert();
  }

  const TestCa ca_;
};

std::string Times(int n, const std::string& text) {
  std::string all;
  for (int i = 0; i < n; ++i) all += text;
  return all;
}

struct Answer {
  std::string bytes;
  uint32_t status;
  std::string body;
  bool reused = true;  // Whether its connection serves the next call.
};

TEST_F(AllowedAnswersTest, OverHttp1) {
  const std::string ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
  const std::vector<Answer> answers = {
      {Times(200, "HTTP/1.1 102 Processing\r\n\r\n") + ok, 200, "hi"},
      {"HTTP/1.1 103 Early Hints\r\nContent-Length: 7\r\n\r\n" + ok, 200, "hi",
       false},
      {"HTTP/1.1 600 Odd\r\nContent-Length: 2\r\n\r\nhi", 600, "hi"},
      {"HTTP/1.1 999 Denied\r\nContent-Length: 2\r\n\r\nhi", 999, "hi"},
      {"HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, "hi"},
      {"HTTP/1.1 204 None\r\nContent-Length: 7\r\n\r\n", 204, "", false},
      {"HTTP/1.1 304 Same\r\nContent-Length: 7\r\n\r\n", 304, ""},
      {"HTTP/1.1 205 Reset\r\nContent-Length: 0\r\n\r\n", 205, ""},
  };
  for (const Answer& answer : answers) {
    SCOPED_TRACE(answer.bytes.substr(0, 100));
    ScriptedPeer peer(testing::AlwaysAnswer(answer.bytes));
    for (const bool reused : {false, answer.reused}) {
      const auto call = Execute(peer);
      ASSERT_EQ("OK", call->Wait()) << call->error().message;
      EXPECT_EQ(answer.status, call->response.status());
      EXPECT_EQ(answer.body, call->response.body());
      EXPECT_EQ(reused, call->response.receipt().connection().reused());
    }
  }
}

TEST_F(AllowedAnswersTest, OverHttp2) {
  const CertFiles cert(ca_.Issue("localhost", "DNS:localhost"));
  for (const char* status : {"204", "205", "304", "600", "999"}) {
    SCOPED_TRACE(status);
    const bool content = status[0] > '5';
    ScriptedPeer peer(
        {.tls = cert, .alpn = "h2"},
        ServeHttp2({}, [&](Http2Peer& p, StreamId id, const auto&) {
          p.Answer(id, {{":status", status}, {"content-length", "2"}},
                   content ? "hi" : "");
        }));
    for (const bool reused : {false, true}) {
      const auto call = Execute(peer);
      ASSERT_EQ("OK", call->Wait()) << call->error().message;
      EXPECT_EQ(status, std::to_string(call->response.status()));
      EXPECT_EQ(content ? "hi" : "", call->response.body());
      EXPECT_EQ(reused, call->response.receipt().connection().reused());
    }
  }
}

// Of three streams the first one's answer is at fault.
struct Mistake {
  std::string frames;
  bool connection = false;  // Whether it is the connection's.
};

TEST(Http2MistakesTest, EndTheStreamOrTheConnectionTheyBelongTo) {
  const std::string others =
      upstream::HeadersFrame(3, {{":status", "200"}}, upstream::kEndStream) +
      upstream::HeadersFrame(5, {{":status", "200"}}, upstream::kEndStream);
  const std::string head = upstream::HeadersFrame(1, {{":status", "200"}});
  const std::vector<Mistake> mistakes = {
      {DataFrame(1, "x")},
      {DataFrame(1, "", upstream::kEndStream)},
      {WindowFrame(1, 0)},
      {head + WindowFrame(1, 0)},
      {WindowFrame(1, 0x7fffffff)},
      {upstream::Frame(NGHTTP2_PRIORITY, 0, 1, "1234")},
      {WindowFrame(0, 0), true},
      {WindowFrame(0, 0x7fffffff), true},
      {WindowFrame(1, 0x7fffffff - 65535) +
           upstream::SettingsFrame({{4, 65536}}),
       true},
      {upstream::SettingsFrame({{4, 0x80000000}}), true},
  };
  for (size_t i = 0; i < mistakes.size(); ++i) {
    SCOPED_TRACE(i);
    const std::string answer = mistakes[i].frames + others;
    Http2Exchange exchange;
    exchange.answer = answer;
    exchange.three = true;
    for (const auto& outcome :
         {RunHttp2Whole(exchange), RunHttp2ByteByByte(exchange)}) {
      EXPECT_EQ(outcome.open, !mistakes[i].connection) << outcome.problem;
      EXPECT_THAT(outcome.events,
                  ::testing::HasSubstr(mistakes[i].connection
                                           ? "3: error reset SENT_UNKNOWN\n"
                                           : "3: 200 body=[] complete\n"));
      EXPECT_THAT(outcome.events,
                  ::testing::HasSubstr(mistakes[i].connection
                                           ? "1: error reset SENT_UNKNOWN\n"
                                           : "error protocol"));
    }
  }
}

}  // namespace
}  // namespace hotline::server
