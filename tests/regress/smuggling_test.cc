// A request smuggled in a header.
//
// With execute.forward_traceparent the caller's metadata was forwarded
// unchanged. The listener accepts CR and LF in metadata, so a caller could end
// the header and the request and begin another one, on a pooled connection,
// whose next user received the answer to it.
//
// Here metadata that is not a W3C traceparent is ignored, and every request is
// checked where it is written: no output contains more than one request, on
// HTTP/1.1 and HTTP/2, whatever part of the input hides it.
#include <atomic>
#include <future>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/lease_id.h"
#include "server/broker/http_head.h"
#include "tests/server/broker/broker_fixture.h"
#include "tests/upstream/codec/http2_server.h"

namespace hotline::server {
namespace {

using testing::CertFiles;
using testing::OkResponse;
using testing::PeerConnection;
using testing::ScriptedPeer;
using testing::TestCa;
using upstream::Http2Peer;
using upstream::ServeHttp2;
using upstream::StreamId;

const std::string kGood =
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

std::vector<std::string> BadOnes() {
  return {
      "x\r\n\r\nGET /stolen HTTP/1.1\r\nHost: a\r\n",
      kGood + "\r\nx-injected: 1",
      kGood + "\r\n\r\nGET /stolen HTTP/1.1\r\nHost: a\r\n\r\n",
      kGood + "\n",
      kGood + "\r",
      kGood + std::string(1, '\0'),
      kGood + " ",
      " " + kGood,
      kGood + "-",
      kGood + "-00",
      kGood.substr(0, 54),
      "ff" + kGood.substr(2),
      "0G" + kGood.substr(2),
      "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
      "00-00000000000000000000000000000000-b7ad6b7169203331-01",
      "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
      "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01",
      "01" + kGood.substr(2) + "x",
      "01" + kGood.substr(2) + "-a\r\nx: y",
      "01" + kGood.substr(2) + "-\xff",
      "01" + kGood.substr(2) + "-" + std::string(200, 'a'),
      "trace",
  };
}

TEST(TraceparentTest, OnlyTheStandardsFormIsOne) {
  for (const std::string& bad : BadOnes()) EXPECT_FALSE(IsTraceparent(bad));
  EXPECT_FALSE(IsTraceparent(""));
  EXPECT_TRUE(IsTraceparent(kGood));
  // What a later version may look like.
  EXPECT_TRUE(IsTraceparent("01" + kGood.substr(2)));
  EXPECT_TRUE(IsTraceparent("cc" + kGood.substr(2) + "-what.comes"));
}

class SmugglingTest : public BrokerTest {
 protected:
  SmugglingTest() {
    settings_.forward_traceparent = true;
    upstream_options_.ca_file = Ca().cert();
  }

  static const TestCa& Ca() {
    static const auto* const ca = new TestCa("smuggling");
    return *ca;
  }

  std::string Get(const std::string& url, const std::string& traceparent) {
    TestExecute call;
    call.request.set_url(url);
    return Go(&call, std::chrono::seconds(20), traceparent)->Wait();
  }
};

TEST_F(SmugglingTest, NoMetadataMakesASecondRequestOnHttp1) {
  std::mutex mu;
  std::string received;
  ScriptedPeer peer([&](PeerConnection& connection) {
    for (;;) {
      const std::string request = connection.ReadRequest();
      if (request.empty()) return;
      {
        std::lock_guard lock(mu);
        received += request;
      }
      connection.Write(OkResponse("x"));
    }
  });
  const std::string url = peer.target() + "/";
  ASSERT_EQ("OK", Get(url, ""));
  std::string plain;
  {
    std::lock_guard lock(mu);
    plain = std::exchange(received, "");
  }
  for (const std::string& bad : BadOnes()) {
    EXPECT_EQ("OK", Get(url, bad));
    std::lock_guard lock(mu);
    EXPECT_EQ(plain, std::exchange(received, "")) << bad;
  }
  EXPECT_EQ("OK", Get(url, kGood));
  std::lock_guard lock(mu);
  EXPECT_NE(std::string::npos, received.find("traceparent: " + kGood + "\r\n"));
  EXPECT_EQ(1, peer.accepted());
}

TEST_F(SmugglingTest, NoMetadataIsAHeaderOnHttp2UnlessItIsATraceparent) {
  std::mutex mu;
  std::vector<std::string> seen;
  const CertFiles cert = Ca().Issue("http2", "DNS:localhost");
  ScriptedPeer peer({.tls = cert, .alpn = "h2"},
                    ServeHttp2({}, [&](Http2Peer& server, StreamId id,
                                       const Http2Peer::Asked& request) {
                      {
                        std::lock_guard lock(mu);
                        seen.push_back(request.Get("traceparent"));
                      }
                      server.Answer(id, {{":status", "200"}}, "x");
                    }));
  const std::string url = peer.target() + "/";
  for (const std::string& bad : BadOnes()) EXPECT_EQ("OK", Get(url, bad));
  EXPECT_EQ("OK", Get(url, kGood));
  std::lock_guard lock(mu);
  ASSERT_EQ(BadOnes().size() + 1, seen.size());
  EXPECT_EQ(kGood, seen.back());
  seen.pop_back();
  for (const std::string& trace : seen) EXPECT_EQ("", trace);
  EXPECT_EQ(1, peer.accepted());
}

// Past every check of a caller's input: what is on its way to the wire.
struct Part {
  const char* what;
  upstream::Request request;
};

std::vector<Part> BadParts() {
  static const upstream::HeaderView kValue[] = {{"x-a", "b\r\nx-b: c"}};
  static const upstream::HeaderView kTab[] = {{"x-a", "\x1b[31m"}};
  static const upstream::HeaderView kName[] = {{"x-a: b\r\nx-b", "c"}};
  static const upstream::HeaderView kPseudo[] = {{":path", "/other"}};
  static const upstream::HeaderView kChunked[] = {
      {"Transfer-Encoding", "chunked"}};
  static const upstream::HeaderView kLengths[] = {{"content-length", "1"},
                                                  {"Content-Length", "0"}};
  static const upstream::HeaderView kLength[] = {{"content-length", "1, 0"}};
  return {
      {"method", {.method = "GET / HTTP/1.1\r\nx: "}},
      {"no method", {.method = ""}},
      {"authority", {.authority = "a\r\nx-b: c"}},
      {"path", {.path = "/ HTTP/1.1\r\nHost: b\r\n\r\nGET /"}},
      {"no path", {.path = ""}},
      {"upgrade", {.upgrade = "websocket\r\nx-b: c"}},
      {"value", {.headers = kValue}},
      {"control character", {.headers = kTab}},
      {"name", {.headers = kName}},
      {"pseudo-header", {.headers = kPseudo}},
      {"chunked", {.headers = kChunked}},
      {"two lengths", {.headers = kLengths}},
      {"a list of lengths", {.headers = kLength}},
  };
}

class Written : public upstream::CallHandler {
 public:
  void OnDone(upstream::CallResult result) override {
    done.set_value(std::move(result));
  }
  std::promise<upstream::CallResult> done;
};

TEST_F(SmugglingTest, WhatIsMoreThanOneRequestIsNotWritten) {
  std::atomic<int> requests{0};
  ScriptedPeer http1([&](PeerConnection& connection) {
    while (!connection.ReadRequest().empty()) {
      ++requests;
      connection.Write(OkResponse("x"));
    }
  });
  ScriptedPeer http2(
      {.tls = Ca().Issue("written", "DNS:localhost"), .alpn = "h2"},
      ServeHttp2({},
                 [&](Http2Peer& server, StreamId id, const Http2Peer::Asked&) {
                   ++requests;
                   server.Answer(id, {{":status", "200"}}, "x");
                 }));
  for (const ScriptedPeer* peer : {&http1, &http2}) {
    requests = 0;
    auto lease = Acquire(peer->target());
    ASSERT_EQ("OK", lease->Wait());
    const auto id = DecodeLeaseId(lease->response.lease().lease_id());
    const pool::CallStart start = pool_->BeginCall(*id, 1, MonotonicNow());
    const auto run = [&](upstream::Request request) {
      if (request.authority.empty()) request.authority = "localhost";
      Written written;
      upstream_->StartCall(start.conn, request, &written, MonotonicNow());
      return written.done.get_future().get();
    };
    for (const Part& part : BadParts()) {
      const upstream::CallResult result = run(part.request);
      EXPECT_EQ(upstream::CallError::kBadRequest, result.error) << part.what;
      EXPECT_EQ(upstream::Verdict::kNotSent, result.verdict) << part.what;
    }
    EXPECT_EQ(0, requests);
    // The connection has come to no harm.
    EXPECT_EQ(200, run({}).response.status);
    EXPECT_EQ(1, requests);
    EXPECT_EQ(1, peer->accepted());
    pool_->EndCall(*id, MonotonicNow());
    EXPECT_EQ("OK", Release(lease->response.lease().lease_id()));
  }
}

}  // namespace
}  // namespace hotline::server
