#include "client/broker_client.h"

#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/fake_broker.h"

namespace hotline::client {
namespace {

using grpc::Status;
using grpc::StatusCode;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::AllOf;
using testing::Ge;
using testing::Le;

class BrokerClientTest : public testing::Test {
 protected:
  BrokerClientTest() {
    broker_.acquire.Answer([](const auto&, auto* response, int call) {
      response->mutable_lease()->set_lease_id("lease-" + std::to_string(call));
      return Status::OK;
    });
    client_ = Connect(FastRetries());
  }

  // A client of this test's broker, with negligible retry pauses.
  BrokerClientOptions FastRetries() const {
    BrokerClientOptions options;
    options.address = broker_.address();
    options.retry.initial_backoff = milliseconds(1);
    options.retry.max_backoff = milliseconds(2);
    return options;
  }

  static std::unique_ptr<BrokerClient> Connect(BrokerClientOptions options) {
    auto client = BrokerClient::Create(std::move(options));
    EXPECT_TRUE(client.ok()) << client.status();
    return *std::move(client);
  }

  absl::StatusOr<Lease> Borrow() {
    v1::AcquireRequest request;
    request.set_target("https://upstream.test");
    return client_->Acquire(request);
  }

  absl::StatusOr<v1::ExecuteResponse> Run(const std::string& method) {
    v1::ExecuteRequest request;
    request.set_url("https://upstream.test/");
    request.set_method(method);
    return client_->Execute(request);
  }

  FakeBroker broker_;
  std::unique_ptr<BrokerClient> client_;
};

TEST_F(BrokerClientTest, RefusesInvalidAddressesAndNumbers) {
  for (const char* address :
       {"", "localhost", ":50051", "host:", "host:0", "host:65536", "host:12x",
        "http://host:1", "unix:relative", "unix:///"}) {
    BrokerClientOptions options;
    options.address = address;
    EXPECT_TRUE(absl::IsInvalidArgument(BrokerClient::Create(options).status()))
        << address;
  }
  BrokerClientOptions options;
  options.address = "unix:///" + std::string(107, 'x');
  EXPECT_FALSE(BrokerClient::Create(options).ok());
  options = {};
  options.default_timeout = Duration(0);
  EXPECT_FALSE(BrokerClient::Create(options).ok());
  options = {};
  options.retry.max_attempts = 0;
  EXPECT_FALSE(BrokerClient::Create(options).ok());
}

TEST_F(BrokerClientTest, EveryCallCarriesADeadline) {
  // On the wire gRPC rounds timeouts up by as much as 2 %.
  ASSERT_TRUE(Run("GET").ok());
  v1::ExecuteRequest request;
  ASSERT_TRUE(client_->Execute(request, {.timeout = seconds(5)}).ok());
  ASSERT_TRUE(Borrow().ok());
  EXPECT_THAT(broker_.execute.remaining_ms(),
              testing::ElementsAre(AllOf(Ge(25'000), Le(30'600)),
                                   AllOf(Ge(3'000), Le(5'100))));
  EXPECT_THAT(broker_.acquire.remaining_ms(),
              testing::ElementsAre(AllOf(Ge(25'000), Le(30'600))));
  EXPECT_THAT(broker_.release.remaining_ms(), testing::ElementsAre(Le(1'020)));
}

TEST_F(BrokerClientTest, ADestroyedLeaseIsReleasedOnce) {
  {
    absl::StatusOr<Lease> lease = Borrow();
    ASSERT_TRUE(lease.ok());
    Lease moved = *std::move(lease);
    EXPECT_EQ(moved.id(), "lease-1");
    EXPECT_TRUE(broker_.release.requests().empty());
  }
  ASSERT_EQ(broker_.release.requests().size(), 1u);
  EXPECT_EQ(broker_.release.requests()[0].lease_id(), "lease-1");
  EXPECT_EQ(broker_.release.requests()[0].outcome(), v1::OUTCOME_OK);
}

TEST_F(BrokerClientTest, AssigningALeaseReleasesTheFormerOne) {
  absl::StatusOr<Lease> first = Borrow();
  absl::StatusOr<Lease> second = Borrow();
  ASSERT_TRUE(first.ok() && second.ok());
  *first = *std::move(second);
  ASSERT_EQ(broker_.release.requests().size(), 1u);
  EXPECT_EQ(broker_.release.requests()[0].lease_id(), "lease-1");
  EXPECT_EQ(first->id(), "lease-2");
}

TEST_F(BrokerClientTest, ALeaseLostToAnExceptionIsDiscarded) {
  try {
    absl::StatusOr<Lease> lease = Borrow();
    throw std::runtime_error("half done");
  } catch (const std::runtime_error&) {
  }
  ASSERT_EQ(broker_.release.requests().size(), 1u);
  EXPECT_EQ(broker_.release.requests()[0].outcome(), v1::OUTCOME_DISCARD);
}

TEST_F(BrokerClientTest, AnExplicitReleaseHasItsOutcomeAndIsTheLast) {
  absl::StatusOr<Lease> lease = Borrow();
  ASSERT_TRUE(lease.ok());
  EXPECT_TRUE(lease->Release(v1::OUTCOME_BROKEN).ok());
  EXPECT_EQ(lease->id(), "");
  EXPECT_TRUE(absl::IsFailedPrecondition(lease->Release()));
  EXPECT_TRUE(absl::IsFailedPrecondition(lease->Renew(seconds(1))));
  EXPECT_TRUE(absl::IsFailedPrecondition(
      lease->Execute(v1::ExecuteRequest()).status()));
  lease = absl::UnknownError("gone");
  ASSERT_EQ(broker_.release.requests().size(), 1u);
  EXPECT_EQ(broker_.release.requests()[0].outcome(), v1::OUTCOME_BROKEN);
}

TEST_F(BrokerClientTest, ADetachedLeaseIsNotReleased) {
  {
    absl::StatusOr<Lease> lease = Borrow();
    ASSERT_TRUE(lease.ok());
    EXPECT_EQ(lease->Detach(), "lease-1");
  }
  EXPECT_TRUE(broker_.release.requests().empty());
}

TEST_F(BrokerClientTest, ALeaseOutlivesItsClientAndADeadBroker) {
  absl::StatusOr<Lease> lease = Borrow();
  ASSERT_TRUE(lease.ok());
  client_.reset();
  EXPECT_TRUE(lease->Execute(v1::ExecuteRequest()).ok());
  EXPECT_EQ(broker_.execute.requests()[0].lease_id(), "lease-1");
  broker_.Stop();
  const Instant start = MonotonicNow();
  lease = absl::UnknownError("gone");
  EXPECT_LT(MonotonicNow() - start, seconds(5));
}

TEST_F(BrokerClientTest, RenewExtendsTheLease) {
  broker_.renew.Answer([](const auto& request, auto* response, int) {
    EXPECT_EQ(request.lease_id(), "lease-1");
    EXPECT_EQ(request.lease_ttl().seconds(), 90);
    EXPECT_EQ(request.lease_ttl().nanos(), 500'000'000);
    response->mutable_lease()->mutable_expire_time()->set_seconds(4711);
    return Status::OK;
  });
  absl::StatusOr<Lease> lease = Borrow();
  ASSERT_TRUE(lease.ok());
  ASSERT_TRUE(lease->Renew(milliseconds(90'500)).ok());
  EXPECT_EQ(lease->answer().lease().expire_time().seconds(), 4711);
  EXPECT_EQ(lease->id(), "lease-1");
}

TEST_F(BrokerClientTest, AnErrorHasItsReason) {
  broker_.acquire.Answer([](const auto&, auto*, int) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_nanos(250'000'000);
    v1::WaitExplanation wait;
    wait.set_limit("target_connections");
    wait.set_place(7);
    return BrokerError(StatusCode::RESOURCE_EXHAUSTED, "QUEUE_FULL",
                       "1024 callers wait", {&retry, &wait},
                       {{"waiters", "1024"}});
  });
  const absl::Status status = Borrow().status();
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_EQ(status.message(), "1024 callers wait");
  const std::optional<ErrorInfo> info = GetErrorInfo(status);
  ASSERT_TRUE(info.has_value());
  EXPECT_EQ(info->reason, "QUEUE_FULL");
  EXPECT_EQ(info->domain, "hotline");
  EXPECT_EQ(info->metadata.at("waiters"), "1024");
  EXPECT_EQ(info->retry_after, milliseconds(250));
  ASSERT_TRUE(info->wait.has_value());
  EXPECT_EQ(info->wait->place(), 7);
  EXPECT_EQ(broker_.acquire.requests().size(), 1u) << "no retry on it";
}

TEST_F(BrokerClientTest, AStatusWithoutDetailsHasNoErrorInfo) {
  broker_.stats.Answer([](const auto&, auto*, int) {
    return Status(StatusCode::INTERNAL, "bare");
  });
  const absl::Status bare = client_->Stats({}).status();
  EXPECT_TRUE(absl::IsInternal(bare));
  EXPECT_FALSE(GetErrorInfo(bare).has_value());
  broker_.stats.Answer([](const auto&, auto*, int) {
    return Status(StatusCode::INTERNAL, "garbled", "\xff\xff\xff");
  });
  EXPECT_FALSE(GetErrorInfo(client_->Stats({}).status()).has_value());
  EXPECT_FALSE(GetErrorInfo(absl::OkStatus()).has_value());
}

TEST_F(BrokerClientTest, RepeatsAPostThatTheBrokerSaysDidNotArrive) {
  broker_.execute.Answer([](const auto&, auto* response, int call) {
    if (call < 3) {
      return BrokerError(StatusCode::UNAVAILABLE, "CONNECT_FAILED", "refused");
    }
    response->set_status(201);
    return Status::OK;
  });
  const auto answer = Run("POST");
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->status(), 201);
  EXPECT_EQ(broker_.execute.requests().size(), 3u);
}

TEST_F(BrokerClientTest, StopsAfterTheConfiguredAttempts) {
  broker_.execute.Answer([](const auto&, auto*, int) {
    return BrokerError(StatusCode::UNAVAILABLE, "DNS_FAILED", "no such name");
  });
  EXPECT_EQ(GetErrorInfo(Run("GET").status())->reason, "DNS_FAILED");
  EXPECT_EQ(broker_.execute.requests().size(), 3u);
}

TEST_F(BrokerClientTest, NeverRepeatsAPostOnABareUnavailable) {
  broker_.execute.Answer([](const auto&, auto*, int) {
    return Status(StatusCode::UNAVAILABLE, "connection reset");
  });
  EXPECT_TRUE(absl::IsUnavailable(Run("POST").status()));
  EXPECT_EQ(broker_.execute.requests().size(), 1u);
  EXPECT_TRUE(absl::IsUnavailable(Run("GET").status()));
  EXPECT_EQ(broker_.execute.requests().size(), 4u);
}

TEST_F(BrokerClientTest, ARepeatedAcquireHasTheSameRequestId) {
  broker_.acquire.Answer([](const auto&, auto* response, int call) {
    if (call == 1) return Status(StatusCode::UNAVAILABLE, "went away");
    response->mutable_lease()->set_lease_id("lease");
    return Status::OK;
  });
  ASSERT_TRUE(Borrow().ok());
  ASSERT_TRUE(Borrow().ok());
  const auto requests = broker_.acquire.requests();
  ASSERT_EQ(requests.size(), 3u);
  EXPECT_EQ(requests[0].request_id().size(), 32u);
  EXPECT_EQ(requests[0].request_id(), requests[1].request_id());
  EXPECT_NE(requests[0].request_id(), requests[2].request_id());
}

TEST_F(BrokerClientTest, KeepsTheRequestIdOfTheCaller) {
  v1::AcquireRequest request;
  request.set_request_id("mine");
  ASSERT_TRUE(client_->Acquire(request).ok());
  EXPECT_EQ(broker_.acquire.requests()[0].request_id(), "mine");
}

TEST_F(BrokerClientTest, ARetryThatWouldOutlastTheDeadlineIsNotMade) {
  broker_.execute.Answer([](const auto&, auto*, int) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(60);
    return BrokerError(StatusCode::UNAVAILABLE, "DRAINING", "going", {&retry});
  });
  const Instant start = MonotonicNow();
  EXPECT_EQ(GetErrorInfo(Run("GET").status())->reason, "DRAINING");
  EXPECT_LT(MonotonicNow() - start, seconds(10));
  EXPECT_EQ(broker_.execute.requests().size(), 1u);
}

TEST_F(BrokerClientTest, AnAbsentBrokerIsUnavailableWithoutErrorInfo) {
  broker_.Stop();
  const absl::Status status = Run("GET").status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_FALSE(GetErrorInfo(status).has_value());
}

TEST_F(BrokerClientTest, HealthTellsServingFromNotServingFromUnknown) {
  using grpc::health::v1::HealthCheckResponse;
  broker_.health.Answer([](const auto& request, auto* response, int) {
    if (request.service() == "nobody") {
      return Status(StatusCode::NOT_FOUND, "unknown");
    }
    response->set_status(request.service().empty()
                             ? HealthCheckResponse::SERVING
                             : HealthCheckResponse::NOT_SERVING);
    return Status::OK;
  });
  EXPECT_EQ(*client_->CheckHealth(""), Health::kServing);
  EXPECT_EQ(*client_->CheckHealth("x"), Health::kNotServing);
  EXPECT_EQ(*client_->CheckHealth("nobody"), Health::kUnknownService);
}

TEST_F(BrokerClientTest, CarriesBodiesAsLargeAsTheContractAllows) {
  broker_.execute.Answer([](const auto& request, auto* response, int) {
    response->set_body(request.body());
    return Status::OK;
  });
  v1::ExecuteRequest request;
  request.set_body(std::string(3 << 20, 'x'));
  const auto answer = client_->Execute(request);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->body().size(), size_t{3} << 20);
}

}  // namespace
}  // namespace hotline::client
