// A caller's connection: requests, answers, floods, drain and close.
#include "server/front/caller_connection.h"

#include <numeric>

#include "grpc/health/v1/health.pb.h"
#include "tests/server/front/front_fixture.h"

namespace hotline::server {
namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

constexpr char kCheck[] = "/grpc.health.v1.Health/Check";
constexpr char kWatch[] = "/grpc.health.v1.Health/Watch";
constexpr char kExecute[] = "/hotline.v1.Broker/Execute";

std::string Check(const std::string& service = "") {
  HealthCheckRequest request;
  request.set_service(service);
  return Prefixed(request);
}

int StatusIn(const std::string& message) {
  HealthCheckResponse response;
  EXPECT_TRUE(response.ParseFromString(message));
  return response.status();
}

using CallerConnectionTest = FrontTest;

// Requests.

TEST_F(CallerConnectionTest, ACallIsAnswered) {
  auto caller = Connected();
  caller->Send(RawCaller::Call(1, kCheck, Check()));
  const RawCaller::Answer& answer = caller->Await(1);
  EXPECT_EQ(answer.status, "0");
  ASSERT_EQ(answer.messages.size(), 1u);
  EXPECT_EQ(StatusIn(answer.messages[0]), HealthCheckResponse::SERVING);
}

TEST_F(CallerConnectionTest, ARequestMayComeByteByByte) {
  auto caller = Connected();
  const std::string body = Check();
  caller->Send(RawCaller::Head(1, kCheck));
  for (const char byte : body) {
    caller->Send(net::Data(1, std::string(1, byte)));
  }
  caller->Send(net::Data(1, "", net::kEndStream));
  EXPECT_EQ(caller->Await(1).status, "0");
}

TEST_F(CallerConnectionTest, AnUnknownMethodIsUnimplemented) {
  auto caller = Connected();
  uint32_t stream = 1;
  for (const std::string path :
       {"/grpc.health.v1.Health/Chuck", "/hotline.v1.Broker/Nothing",
        "/hotline.v1.Admin/Stats",
        "/grpc.reflection.v1.ServerReflection/None"}) {
    caller->Send(RawCaller::Call(stream, path, Check()));
    EXPECT_EQ(caller->Await(stream).status, "12") << path;
    stream += 2;
  }
}

TEST_F(CallerConnectionTest, AMessageThatIsNoProtobufIsInvalid) {
  auto caller = Connected();
  caller->Send(RawCaller::Call(1, kExecute, Prefixed("\xff\xff\xff")));
  const RawCaller::Answer& answer = caller->Await(1);
  EXPECT_EQ(answer.status, "3");
  EXPECT_NE(answer.text.find("hotline.v1.ExecuteRequest"), std::string::npos);
  EXPECT_TRUE(answer.has_details);
  const auto counts = rpc_metrics_.Read(RpcMethod::kExecute, 3).counts;
  EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), uint64_t{0}), 1u);
}

TEST_F(CallerConnectionTest, AUnaryCallTakesExactlyOneMessage) {
  auto caller = Connected();
  caller->Send(RawCaller::Call(1, kCheck, ""));
  EXPECT_EQ(caller->Await(1).status, "12");
  caller->Send(RawCaller::Call(3, kCheck, Check() + Check()));
  EXPECT_EQ(caller->Await(3).status, "12");
}

TEST_F(CallerConnectionTest, ATruncatedBodyIsInternal) {
  auto caller = Connected();
  caller->Send(RawCaller::Call(1, kCheck, Check("some").substr(0, 7)));
  EXPECT_EQ(caller->Await(1).status, "13");
}

TEST_F(CallerConnectionTest, AMessageLargerThanTheWindowIsReceived) {
  auto caller = Connected();
  const std::string body = Check(std::string(3 << 20, 's'));
  caller->Send(RawCaller::Head(1, kCheck));
  constexpr size_t kFrame = 16 << 10;
  uint64_t window = 1 << 20;
  for (size_t at = 0; at < body.size(); at += kFrame) {
    const std::string piece = body.substr(at, kFrame);
    ASSERT_TRUE(caller->ReadUntil([&] {
      return at + piece.size() <= window + caller->credit;
    })) << at;
    caller->Send(net::Data(1, piece));
  }
  caller->Send(net::Data(1, "", net::kEndStream));
  EXPECT_EQ(caller->Await(1).status, "5");
}

TEST_F(CallerConnectionTest, ATooLargeMessageIsRefusedByItsPrefix) {
  auto caller = Connected();
  caller->Send(RawCaller::Head(1, kCheck) +
               net::Data(1, std::string("\0\x01\0\0\0x", 6)));
  EXPECT_EQ(caller->Await(1).status, "8");
  // The connection is still usable.
  caller->Send(RawCaller::Call(3, kCheck, Check()));
  EXPECT_EQ(caller->Await(3).status, "0");
}

TEST_F(CallerConnectionTest, AnIncompleteRequestEndsAtItsDeadline) {
  auto caller = Connected();
  caller->Send(RawCaller::Head(1, kExecute, {{"grpc-timeout", "50m"}}));
  EXPECT_EQ(caller->Await(1).status, "4");
  // A deadline in the far future is valid.
  caller->Send(
      RawCaller::Call(3, kCheck, Check(), {{"grpc-timeout", "99999999H"}}));
  EXPECT_EQ(caller->Await(3).status, "0");
}

// An HTTP client that does not speak gRPC gets an explanation once its request
// is complete. Until then the rules of HTTP/2 apply to it.
TEST_F(CallerConnectionTest, ARequestThatIsNotGrpcIsAnsweredInHttp) {
  auto caller = Connected();
  caller->Send(net::Post(1) + net::Data(1, "x"));
  caller->Send(net::Post(3) + net::Headers(3, {{"a", "b"}}));
  EXPECT_EQ(caller->Await(3).status, "reset");
  EXPECT_TRUE(caller->Await(3).head.empty());
  caller->Send(net::Data(1, "", net::kEndStream));
  EXPECT_EQ(caller->Await(1).head.at(0).second, "415");
  EXPECT_NE(caller->raw.find("serves gRPC only"), std::string::npos);
  caller->Send(RawCaller::Call(5, kCheck, Check()));
  EXPECT_EQ(caller->Await(5).status, "0");
}

TEST_F(CallerConnectionTest, AGoAwayWithoutCallsEndsTheConnection) {
  auto caller = Connected();
  caller->Send(RawCaller::Call(1, kCheck, Check()));
  caller->Await(1);
  caller->Send(net::GoAway(0, NGHTTP2_NO_ERROR));
  caller->ReadToEnd();
  caller->Close();
  EXPECT_TRUE(Closed());
}

// Health.

TEST_F(CallerConnectionTest, HealthIsReportedByService) {
  health_.Set("a", false);
  const struct {
    const char* service;
    const char* status;
    int health;
  } rows[] = {{"", "0", HealthCheckResponse::SERVING},
              {"a", "0", HealthCheckResponse::NOT_SERVING},
              {"b", "5", 0}};
  auto caller = Connected();
  uint32_t stream = 1;
  for (const auto& row : rows) {
    caller->Send(RawCaller::Call(stream, kCheck, Check(row.service)));
    const RawCaller::Answer& answer = caller->Await(stream);
    EXPECT_EQ(answer.status, row.status) << row.service;
    if (!answer.messages.empty()) {
      EXPECT_EQ(StatusIn(answer.messages[0]), row.health) << row.service;
    }
    stream += 2;
  }
}

TEST_F(CallerConnectionTest, AWatchReportsEachChangeOnce) {
  auto caller = Connected();
  caller->Send(RawCaller::Call(1, kWatch, Check("a")));
  const RawCaller::Answer& answer = caller->AwaitMessages(1, 1);
  health_.Set("a", true);
  front_->OnHealthChanged();
  caller->AwaitMessages(1, 2);
  front_->OnHealthChanged();  // Nothing has changed.
  health_.Set("a", false);
  front_->OnHealthChanged();
  caller->AwaitMessages(1, 3);
  std::vector<int> told;
  for (const std::string& message : answer.messages) {
    told.push_back(StatusIn(message));
  }
  EXPECT_EQ(told, (std::vector<int>{HealthCheckResponse::SERVICE_UNKNOWN,
                                    HealthCheckResponse::SERVING,
                                    HealthCheckResponse::NOT_SERVING}));
  EXPECT_FALSE(answer.ended);
}

// Clients of other protocols, and floods.

TEST_F(CallerConnectionTest, Http1IsAnsweredAndClosed) {
  auto caller = Caller();
  caller->Send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  caller->ReadToEnd();
  EXPECT_TRUE(caller->raw.starts_with("HTTP/1.1 426 ")) << caller->raw;
  EXPECT_EQ(Refused(Refusal::kHttp1), 1u);
  caller->Close();
  EXPECT_TRUE(Closed());
}

TEST_F(CallerConnectionTest, TlsOnAPlainPortIsClosed) {
  auto caller = Caller();
  caller->Send(std::string("\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", 11));
  caller->ReadToEnd();
  EXPECT_EQ(Refused(Refusal::kPlainPort), 1u);
  caller->Close();
  EXPECT_TRUE(Closed());
}

TEST_F(CallerConnectionTest, AFloodIsCutOffAndSaysWhy) {
  auto caller = Connected();
  std::string pings;
  for (int i = 0; i < 20'000; ++i) pings += net::Ping();
  caller->Send(pings);
  caller->ReadToEnd();
  ASSERT_GE(caller->Count(NGHTTP2_GOAWAY), 1u);
  EXPECT_EQ(Refused(Refusal::kResets), 1u);
  caller->Close();
  EXPECT_TRUE(Closed());
}

TEST_F(CallerConnectionTest, AFloodAffectsNoOtherCaller) {
  auto other = Connected();
  auto caller = Connected();
  std::string resets;
  for (uint32_t i = 0; i < 5000; ++i) {
    resets += RawCaller::Head(2 * i + 1, kCheck) + net::Rst(2 * i + 1);
  }
  caller->Send(resets);
  caller->ReadToEnd();
  EXPECT_EQ(Refused(Refusal::kResets), 1u);
  other->Send(RawCaller::Call(1, kCheck, Check()));
  EXPECT_EQ(other->Await(1).status, "0");
}

// The end.

TEST_F(CallerConnectionTest, ACallerThatLeavesIsForgotten) {
  auto caller = Connected();
  caller->Send(RawCaller::Call(1, kWatch, Check()));
  caller->AwaitMessages(1, 1);
  caller = nullptr;
  EXPECT_TRUE(hotline::Eventually([&] { return front_->idle(); }));
}

TEST_F(CallerConnectionTest, ADrainEndsWatchesAndThenTheConnection) {
  auto caller = Connected();
  caller->Send(RawCaller::Call(1, kWatch, Check()));
  caller->AwaitMessages(1, 1);
  front_->StartDrain();
  EXPECT_EQ(caller->Await(1).status, "14");
  ASSERT_TRUE(
      caller->ReadUntil([&] { return caller->Count(NGHTTP2_PING) == 1; }));
  for (const net::OutFrame& frame : caller->frames) {
    if (frame.type == NGHTTP2_PING) {
      caller->Send(net::Ping(frame.payload, net::kAck));
    }
  }
  caller->ReadToEnd();
  EXPECT_EQ(caller->Count(NGHTTP2_GOAWAY), 2u);
  caller->Close();
  EXPECT_TRUE(Closed());
}

TEST_F(CallerConnectionTest, CutOffClosesEveryConnection) {
  auto caller = Connected();
  caller->Send(RawCaller::Call(1, kWatch, Check()));
  caller->AwaitMessages(1, 1);
  front_->CutOff();
  caller->ReadToEnd();
  EXPECT_TRUE(hotline::Eventually([&] { return front_->idle(); }));
  // A connection accepted later is closed, too.
  Caller()->ReadToEnd();
}

}  // namespace
}  // namespace hotline::server
