// Leading and trailing blanks that cost a connection.
//
// A caller's header value with a space or a tab at either end was sent
// unchanged. HTTP/1.1 servers drop such blanks. For HTTP/2 servers the request
// is malformed: some reset its stream, some end the connection with every other
// call on it.
//
// Blanks around a value are not part of it (RFC 9110, 5.5); they are not sent.
#include <mutex>
#include <string>

#include "tests/fakes/test_certs.h"
#include "tests/server/broker/broker_fixture.h"
#include "tests/upstream/codec/http2_server.h"

namespace hotline::server {
namespace {

using testing::CertFiles;
using testing::OkResponse;
using testing::PeerConnection;
using testing::ScriptedPeer;
using testing::TestCa;
using upstream::HeaderView;
using upstream::Http2Peer;
using upstream::Request;
using upstream::ServeHttp2;
using upstream::StreamId;

class HeaderBlanksTest : public BrokerTest {
 protected:
  HeaderBlanksTest() : ca_("blanks") { upstream_options_.ca_file = ca_.cert(); }

  void Send(const ScriptedPeer& peer) {
    TestExecute call;
    call.request.set_url(peer.target() + "/");
    for (const auto& [name, value] : {std::pair{"x-both", " \t a b\t "},
                                      {"x-blank", " \t "},
                                      {"x-empty", ""},
                                      {"X-Plain", "c"}}) {
      v1::Header* const header = call.request.add_headers();
      header->set_name(name);
      header->set_value(value);
    }
    ASSERT_EQ("OK", Go(&call)->Wait()) << call.error().message;
    EXPECT_EQ(200u, call.response.status());
  }

  const TestCa ca_;
};

TEST_F(HeaderBlanksTest, AreNotSentOverHttp1) {
  std::string got;
  std::mutex mu;
  ScriptedPeer peer([&](PeerConnection& connection) {
    const std::string request = connection.ReadRequest();
    {
      std::lock_guard lock(mu);
      got = request;
    }
    connection.Write(OkResponse("fine"));
    connection.AwaitClose();
  });
  Send(peer);
  std::lock_guard lock(mu);
  for (const char* line : {"\r\nx-both: a b\r\n", "\r\nx-blank: \r\n",
                           "\r\nx-empty: \r\n", "\r\nX-Plain: c\r\n"}) {
    EXPECT_NE(got.find(line), std::string::npos) << line << " in " << got;
  }
}

TEST_F(HeaderBlanksTest, AreNotSentOverHttp2) {
  const CertFiles cert(ca_.Issue("localhost", "DNS:localhost"));
  std::string got;
  std::mutex mu;
  // This server resets streams with such values.
  ScriptedPeer peer(
      {.tls = cert, .alpn = "h2"},
      ServeHttp2({}, [&](Http2Peer& p, StreamId id,
                         const Http2Peer::Asked& request) {
        std::lock_guard lock(mu);
        for (const char* name : {"x-both", "x-blank", "x-empty", "x-plain"}) {
          got += request.Get(name) + ";";
        }
        p.Answer(id, {{":status", "200"}});
      }));
  Send(peer);
  std::lock_guard lock(mu);
  EXPECT_EQ("a b;;;c;", got);
}

// What the codecs themselves read of a request goes by the same values.
TEST(HeaderBlanksCodecTest, ALengthWithBlanksIsUnderstood) {
  const HeaderView headers[] = {{"content-length", " 5\t"},
                                {"te", " trailers"}};
  const Request head{.method = "PUT", .authority = "h", .headers = headers};
  upstream::Recorder recorder;
  const auto http1 = upstream::MakeHttp1Codec(&recorder);
  const StreamId id = http1->OpenStream(head, /*end=*/false);
  http1->Send(id, "hello", /*end=*/true);
  std::string out;
  http1->TakeOutput(&out);
  EXPECT_EQ(out,
            "PUT / HTTP/1.1\r\nHost: h\r\ncontent-length: 5\r\nte: trailers\r\n"
            "\r\nhello");

  upstream::Http2Recorder events;
  const auto http2 = upstream::MakeHttp2Codec(&events, &events, "https");
  Http2Peer peer({});
  ASSERT_TRUE(peer.Feed(upstream::Flush(http2.get())));
  ASSERT_TRUE(http2->Feed(peer.TakeOutput()));
  const StreamId stream = http2->OpenStream(head, /*end=*/false);
  http2->Send(stream, "hello", /*end=*/true);
  ASSERT_TRUE(peer.Feed(upstream::Flush(http2.get())));
  EXPECT_EQ(peer.requests[stream].Get("content-length"), "5");
  EXPECT_EQ(peer.requests[stream].Get("te"), "trailers");
  EXPECT_TRUE(peer.requests[stream].ended);
}

}  // namespace
}  // namespace hotline::server
