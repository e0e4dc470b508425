#include "client/broker_client.h"

#include <errno.h>
#include <unistd.h>

#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/random/random.h"
#include "absl/strings/str_format.h"
#include "client/channel.h"
#include "client/proto_time.h"

namespace hotline::client {
namespace {

// 128 random bits.
// "program:4711".
std::string ProcessName() {
  return absl::StrFormat("%.100s:%d", program_invocation_short_name, getpid());
}

std::string RandomId() {
  static thread_local absl::BitGen random;
  return absl::StrFormat("%016x%016x", absl::Uniform<uint64_t>(random),
                         absl::Uniform<uint64_t>(random));
}

absl::StatusOr<v1::ExecuteResponse> ExecuteOn(Channel& channel,
                                              const v1::ExecuteRequest& request,
                                              const CallOptions& options) {
  return channel.Call<v1::ExecuteResponse>(
      options, HarmlessTwice(request), [&](auto* context, auto* response) {
        return channel.broker().Execute(context, request, response);
      });
}

absl::StatusOr<v1::ReleaseResponse> ReleaseOn(Channel& channel,
                                              const v1::ReleaseRequest& request,
                                              const CallOptions& options) {
  return channel.Call<v1::ReleaseResponse>(
      options, /*harmless=*/true, [&](auto* context, auto* response) {
        return channel.broker().Release(context, request, response);
      });
}

absl::StatusOr<v1::ReleaseResponse> ReleaseOn(Channel& channel,
                                              std::string_view lease_id,
                                              v1::Outcome outcome,
                                              const CallOptions& options) {
  v1::ReleaseRequest request;
  request.set_lease_id(lease_id.data(), lease_id.size());
  request.set_outcome(outcome);
  return ReleaseOn(channel, request, options);
}

absl::StatusOr<v1::RenewResponse> RenewOn(Channel& channel,
                                          std::string_view lease_id,
                                          Duration ttl,
                                          const CallOptions& options) {
  v1::RenewRequest request;
  request.set_lease_id(lease_id.data(), lease_id.size());
  *request.mutable_lease_ttl() = ToProto(ttl);
  return channel.Call<v1::RenewResponse>(
      options, /*harmless=*/true, [&](auto* context, auto* response) {
        return channel.broker().Renew(context, request, response);
      });
}

}  // namespace

Lease::Lease(std::shared_ptr<Channel> channel, v1::AcquireResponse answer)
    : channel_(std::move(channel)),
      answer_(std::move(answer)),
      exceptions_at_birth_(std::uncaught_exceptions()) {}

Lease::Lease(Lease&& other) noexcept
    : channel_(std::move(other.channel_)),
      answer_(std::move(other.answer_)),
      exceptions_at_birth_(other.exceptions_at_birth_) {
  other.answer_.Clear();
}

Lease& Lease::operator=(Lease&& other) noexcept {
  if (this == &other) return *this;
  GiveBack();
  channel_ = std::move(other.channel_);
  answer_ = std::move(other.answer_);
  exceptions_at_birth_ = other.exceptions_at_birth_;
  other.answer_.Clear();
  return *this;
}

Lease::~Lease() { GiveBack(); }

void Lease::GiveBack() noexcept {
  if (channel_ == nullptr) return;
  const bool unwinding = std::uncaught_exceptions() > exceptions_at_birth_;
  // An error is dropped: no caller is left to handle it, and the lease expires
  // by itself.
  Release(unwinding ? v1::OUTCOME_DISCARD : v1::OUTCOME_OK,
          {.timeout = channel_->options().release_timeout})
      .IgnoreError();
}

absl::StatusOr<v1::ExecuteResponse> Lease::Execute(v1::ExecuteRequest request,
                                                   CallOptions options) const {
  if (channel_ == nullptr) {
    return absl::FailedPreconditionError("the lease was given back");
  }
  request.set_lease_id(id());
  return ExecuteOn(*channel_, request, options);
}

absl::StatusOr<ExecuteStream> Lease::OpenStream(v1::ExecuteStreamHead head,
                                                CallOptions options) const {
  if (channel_ == nullptr) {
    return absl::FailedPreconditionError("the lease was given back");
  }
  head.set_lease_id(id());
  return ExecuteStream(channel_, head, options);
}

absl::Status Lease::Renew(Duration ttl, CallOptions options) {
  if (channel_ == nullptr) {
    return absl::FailedPreconditionError("the lease was given back");
  }
  absl::StatusOr<v1::RenewResponse> renewed =
      RenewOn(*channel_, id(), ttl, options);
  if (!renewed.ok()) return renewed.status();
  *answer_.mutable_lease()->mutable_expire_time() =
      renewed->lease().expire_time();
  return absl::OkStatus();
}

absl::Status Lease::Release(v1::Outcome outcome, CallOptions options) {
  if (channel_ == nullptr) {
    return absl::FailedPreconditionError("the lease was given back");
  }
  const std::shared_ptr<Channel> channel = std::move(channel_);
  channel_ = nullptr;
  const std::string lease_id = Detach();
  return ReleaseOn(*channel, lease_id, outcome, options).status();
}

std::string Lease::Detach() {
  channel_ = nullptr;
  std::string lease_id =
      std::move(*answer_.mutable_lease()->mutable_lease_id());
  answer_.mutable_lease()->clear_lease_id();
  return lease_id;
}

absl::StatusOr<std::unique_ptr<BrokerClient>> BrokerClient::Create(
    BrokerClientOptions options) {
  if (absl::Status status = CheckOptions(options); !status.ok()) return status;
  auto channel = MakeChannel(options);
  if (!channel.ok()) return channel.status();
  return std::unique_ptr<BrokerClient>(new BrokerClient(
      std::make_shared<Channel>(std::move(options), *std::move(channel))));
}

BrokerClient::BrokerClient(std::shared_ptr<Channel> channel)
    : channel_(std::move(channel)) {}

BrokerClient::~BrokerClient() = default;

absl::StatusOr<Lease> BrokerClient::Acquire(v1::AcquireRequest request,
                                            CallOptions options) {
  if (request.request_id().empty()) {
    request.set_request_id(RandomId());
    // Callers without an identity must set a client_id with it.
    if (request.holder().client_id().empty()) {
      request.mutable_holder()->set_client_id(ProcessName());
    }
  }
  absl::StatusOr<v1::AcquireResponse> answer =
      channel_->Call<v1::AcquireResponse>(
          options, /*harmless=*/true, [&](auto* context, auto* response) {
            return channel_->broker().Acquire(context, request, response);
          });
  if (!answer.ok()) return answer.status();
  return Lease(channel_, *std::move(answer));
}

absl::StatusOr<v1::ExecuteResponse> BrokerClient::Execute(
    const v1::ExecuteRequest& request, CallOptions options) {
  return ExecuteOn(*channel_, request, options);
}

ExecuteStream BrokerClient::OpenStream(const v1::ExecuteStreamHead& head,
                                       CallOptions options) {
  return ExecuteStream(channel_, head, options);
}

absl::StatusOr<v1::ReleaseResponse> BrokerClient::Release(
    std::string_view lease_id, v1::Outcome outcome, CallOptions options) {
  return ReleaseOn(*channel_, lease_id, outcome, options);
}

absl::StatusOr<v1::ReleaseResponse> BrokerClient::Release(
    const v1::ReleaseRequest& request, CallOptions options) {
  return ReleaseOn(*channel_, request, options);
}

absl::StatusOr<v1::RenewResponse> BrokerClient::Renew(std::string_view lease_id,
                                                      Duration ttl,
                                                      CallOptions options) {
  return RenewOn(*channel_, lease_id, ttl, options);
}

absl::StatusOr<v1::StatsResponse> BrokerClient::Stats(
    const v1::StatsRequest& request, CallOptions options) {
  return channel_->Call<v1::StatsResponse>(
      options, /*harmless=*/true, [&](auto* context, auto* response) {
        return channel_->broker().Stats(context, request, response);
      });
}

absl::StatusOr<Health> BrokerClient::CheckHealth(std::string_view service,
                                                 CallOptions options) {
  using grpc::health::v1::HealthCheckResponse;
  grpc::health::v1::HealthCheckRequest request;
  request.set_service(service.data(), service.size());
  auto answer = channel_->Call<HealthCheckResponse>(
      options, /*harmless=*/true, [&](auto* context, auto* response) {
        return channel_->health().Check(context, request, response);
      });
  if (absl::IsNotFound(answer.status())) return Health::kUnknownService;
  if (!answer.ok()) return answer.status();
  return answer->status() == HealthCheckResponse::SERVING ? Health::kServing
                                                          : Health::kNotServing;
}

}  // namespace hotline::client
