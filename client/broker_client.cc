#include "client/broker_client.h"

#include <grpc/support/time.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/random/random.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/channel.h"
#include "client/proto_time.h"

namespace hotline::client {
namespace {

// Longer than any body the broker sends (3 MiB), with its headers.
constexpr int kMaxReceiveBytes = 8 << 20;
// sockaddr_un holds 108 bytes with the final zero.
constexpr size_t kMaxSocketPath = 107;

constexpr absl::string_view kUnixPrefix = "unix:///";

absl::Status CheckAddress(const std::string& address) {
  const auto bad = [&address](absl::string_view why) {
    return absl::InvalidArgumentError(
        absl::StrCat("address \"", address, "\": ", why));
  };
  if (address.compare(0, 5, "unix:") == 0) {
    if (address.compare(0, kUnixPrefix.size(), kUnixPrefix.data()) != 0) {
      return bad("a socket is written unix:///path");
    }
    const size_t path = address.size() - (kUnixPrefix.size() - 1);
    if (path < 2) return bad("no path");
    if (path > kMaxSocketPath) return bad("path longer than 107 bytes");
    return absl::OkStatus();
  }
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos || colon == 0) return bad("not host:port");
  if (address.find("//") != std::string::npos) return bad("not host:port");
  const std::string port = address.substr(colon + 1);
  if (port.empty() || port.size() > 5 ||
      !std::all_of(port.begin(), port.end(), absl::ascii_isdigit) ||
      std::stoi(port) < 1 || std::stoi(port) > 65535) {
    return bad("the port is not a number from 1 to 65535");
  }
  return absl::OkStatus();
}

absl::Status CheckOptions(const BrokerClientOptions& options) {
  if (absl::Status status = CheckAddress(options.address); !status.ok()) {
    return status;
  }
  constexpr Duration kHour = std::chrono::hours(1);
  const RetryOptions& retry = options.retry;
  if (options.default_timeout <= Duration(0) ||
      options.release_timeout <= Duration(0)) {
    return absl::InvalidArgumentError("a timeout must be positive");
  }
  if (retry.max_attempts < 1 || retry.max_attempts > 100) {
    return absl::InvalidArgumentError("max_attempts is not from 1 to 100");
  }
  if (retry.initial_backoff < Duration(0) || retry.max_backoff < Duration(0) ||
      retry.initial_backoff > kHour || retry.max_backoff > kHour) {
    return absl::InvalidArgumentError("a backoff is not from 0 to 1 h");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadPem(const std::string& path) {
  constexpr size_t kMostBytes = 1 << 20;
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::string text(kMostBytes + 1, '\0');
  if (file) file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!file && !file.eof()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", std::strerror(errno != 0 ? errno : EIO)));
  }
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.size() > kMostBytes || text.find("-----BEGIN") == text.npos) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": not a PEM file"));
  }
  return text;
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> CredentialsOf(
    const std::optional<TlsOptions>& tls) {
  if (!tls.has_value()) return grpc::InsecureChannelCredentials();
  if (tls->ca_file.empty() || tls->cert_file.empty() != tls->key_file.empty()) {
    return absl::InvalidArgumentError(
        "TLS needs the authorities' file, and a certificate and its key "
        "together or not at all");
  }
  grpc::SslCredentialsOptions pem;
  const std::pair<const std::string&, std::string&> files[] = {
      {tls->ca_file, pem.pem_root_certs},
      {tls->cert_file, pem.pem_cert_chain},
      {tls->key_file, pem.pem_private_key}};
  for (const auto& [path, text] : files) {
    if (path.empty()) continue;
    absl::StatusOr<std::string> read = ReadPem(path);
    if (!read.ok()) return read.status();
    text = *std::move(read);
  }
  return grpc::SslCredentials(pem);
}

// 128 random bits.
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
                                              std::string_view lease_id,
                                              v1::Outcome outcome,
                                              const CallOptions& options) {
  v1::ReleaseRequest request;
  request.set_lease_id(lease_id.data(), lease_id.size());
  request.set_outcome(outcome);
  return channel.Call<v1::ReleaseResponse>(
      options, /*harmless=*/true, [&](auto* context, auto* response) {
        return channel.broker().Release(context, request, response);
      });
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

Channel::Channel(BrokerClientOptions options,
                 std::shared_ptr<grpc::Channel> channel)
    : options_(std::move(options)),
      broker_(v1::Broker::NewStub(channel)),
      health_(grpc::health::v1::Health::NewStub(channel)) {}

void Channel::Prepare(grpc::ClientContext& context, Instant deadline,
                      const CallOptions& call) {
  // The deadline goes by the monotonic clock, as ours does.
  const Duration remaining = deadline - MonotonicNow();
  context.set_deadline(
      gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                   gpr_time_from_nanos(remaining.count(), GPR_TIMESPAN)));
  if (!call.traceparent.empty()) {
    context.AddMetadata("traceparent", call.traceparent);
  }
}

void Channel::PrepareStream(grpc::ClientContext& context,
                            const CallOptions& call) {
  if (call.timeout.has_value()) {
    return Prepare(context, SaturatingAdd(MonotonicNow(), *call.timeout), call);
  }
  if (!call.traceparent.empty()) {
    context.AddMetadata("traceparent", call.traceparent);
  }
}

double Channel::Random() {
  static thread_local absl::BitGen random;
  return absl::Uniform<double>(random, 0.0, 1.0);
}

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
  // An error is dropped: nobody is left to hear of it, and the lease has an
  // end of its own.
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
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxReceiveBytes);
  // Repeating is decided here, by the contract, and not by the library.
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  // The broker is near: a proxy in the environment is meant for others.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // A broker that was restarted is found again within a second. (The minimum
  // is left alone: it is also how long an attempt to connect may take.)
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  auto credentials = CredentialsOf(options.tls);
  if (!credentials.ok()) return credentials.status();
  auto channel =
      grpc::CreateCustomChannel(options.address, *credentials, arguments);
  return std::unique_ptr<BrokerClient>(new BrokerClient(
      std::make_shared<Channel>(std::move(options), std::move(channel))));
}

BrokerClient::BrokerClient(std::shared_ptr<Channel> channel)
    : channel_(std::move(channel)) {}

BrokerClient::~BrokerClient() = default;

absl::StatusOr<Lease> BrokerClient::Acquire(v1::AcquireRequest request,
                                            CallOptions options) {
  if (request.request_id().empty()) request.set_request_id(RandomId());
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

absl::StatusOr<v1::ReleaseResponse> BrokerClient::Release(
    std::string_view lease_id, v1::Outcome outcome, CallOptions options) {
  return ReleaseOn(*channel_, lease_id, outcome, options);
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
