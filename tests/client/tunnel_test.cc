#include "client/tunnel.h"

#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "client/broker_client.h"
#include "gtest/gtest.h"
#include "tests/client/fake_broker.h"

namespace hotline::client {
namespace {

class TunnelTest : public testing::Test {
 protected:
  TunnelTest() {
    auto client = BrokerClient::Create({.address = broker_.address()});
    EXPECT_TRUE(client.ok()) << client.status();
    client_ = *std::move(client);
  }

  absl::StatusOr<std::unique_ptr<Tunnel>> Open() {
    v1::TunnelOpen open;
    open.set_target("tcp://upstream.test:1");
    return client_->OpenTunnel(open);
  }

  // Reads the first message and reports the tunnel as open.
  static std::string Accept(FakeBroker::TunnelStream* stream) {
    v1::TunnelRequest request;
    EXPECT_TRUE(stream->Read(&request));
    v1::TunnelResponse response;
    response.mutable_opened()->mutable_connection()->set_protocol("tcp");
    stream->Write(response);
    return request.open().target();
  }
  static void Send(FakeBroker::TunnelStream* stream, const std::string& data) {
    v1::TunnelResponse response;
    response.set_data(data);
    stream->Write(response);
  }

  FakeBroker broker_;
  std::unique_ptr<BrokerClient> client_;
};

TEST_F(TunnelTest, BytesPassAndEachDirectionEndsSeparately) {
  broker_.tunnel = [](FakeBroker::TunnelStream* stream) {
    EXPECT_EQ(Accept(stream), "tcp://upstream.test:1");
    Send(stream, "hello");
    v1::TunnelResponse response;
    response.mutable_end();
    stream->Write(response);
    uint64_t bytes = 0;
    v1::TunnelRequest request;
    while (stream->Read(&request)) {
      EXPECT_LE(request.data().size(), size_t{1} << 20);
      bytes += request.data().size();
    }
    response.mutable_receipt()->set_bytes_sent(bytes);
    stream->Write(response);
    return grpc::Status::OK;
  };
  auto tunnel = Open();
  ASSERT_TRUE(tunnel.ok()) << tunnel.status();
  EXPECT_EQ((*tunnel)->opened().connection().protocol(), "tcp");
  EXPECT_EQ((*tunnel)->Read(), "hello");
  EXPECT_EQ((*tunnel)->Read(), std::nullopt);
  // Longer than the largest message.
  EXPECT_TRUE((*tunnel)->Write(std::string(3 << 20, 'x')));
  (*tunnel)->CloseWrite();
  const auto receipt = (*tunnel)->Finish();
  ASSERT_TRUE(receipt.ok()) << receipt.status();
  EXPECT_EQ(receipt->bytes_sent(), uint64_t{3} << 20);
  EXPECT_EQ((*tunnel)->Read(), std::nullopt);
}

TEST_F(TunnelTest, OpeningReturnsARefusal) {
  broker_.tunnel = [](FakeBroker::TunnelStream*) {
    return BrokerError(grpc::StatusCode::FAILED_PRECONDITION, "UPGRADE_REFUSED",
                       "no", {}, {{"status", "404"}});
  };
  const auto tunnel = Open();
  EXPECT_EQ(tunnel.status().code(), absl::StatusCode::kFailedPrecondition);
  const auto info = GetErrorInfo(tunnel.status());
  ASSERT_TRUE(info.has_value());
  EXPECT_EQ(info->reason, "UPGRADE_REFUSED");
  EXPECT_EQ(info->metadata.at("status"), "404");
}

TEST_F(TunnelTest, AFailureIsReportedAfterTheBytesBeforeIt) {
  broker_.tunnel = [](FakeBroker::TunnelStream* stream) {
    Accept(stream);
    Send(stream, "last words");
    return BrokerError(grpc::StatusCode::ABORTED, "UPSTREAM_RESET", "reset");
  };
  auto tunnel = Open();
  ASSERT_TRUE(tunnel.ok()) << tunnel.status();
  EXPECT_EQ((*tunnel)->Read(), "last words");
  EXPECT_EQ((*tunnel)->Read(), std::nullopt);
  EXPECT_EQ((*tunnel)->Finish().status().code(), absl::StatusCode::kAborted);
  EXPECT_FALSE((*tunnel)->Write(std::string(1 << 20, 'x')));
}

TEST_F(TunnelTest, CancelAndDestructionEndTheTunnel) {
  broker_.tunnel = [](FakeBroker::TunnelStream* stream) {
    Accept(stream);
    v1::TunnelRequest request;
    while (stream->Read(&request)) {
    }
    return grpc::Status::CANCELLED;
  };
  auto tunnel = Open();
  ASSERT_TRUE(tunnel.ok()) << tunnel.status();
  std::thread other([&] { (*tunnel)->Cancel(); });
  EXPECT_EQ((*tunnel)->Finish().status().code(), absl::StatusCode::kCancelled);
  other.join();
  auto forgotten = Open();
  ASSERT_TRUE(forgotten.ok()) << forgotten.status();
}

}  // namespace
}  // namespace hotline::client
