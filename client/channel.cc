#include "client/channel.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "absl/random/random.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/read_file.h"

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

absl::StatusOr<std::string> ReadPem(const std::string& path) {
  constexpr size_t kMostBytes = 1 << 20;
  auto text = ReadFile(path, kMostBytes + 1);
  if (!text.ok()) return absl::InvalidArgumentError(text.status().message());
  if (text->size() > kMostBytes || text->find("-----BEGIN") == text->npos) {
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

}  // namespace

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
  if (options.connect_wait < Duration(0) || options.connect_wait > kHour) {
    return absl::InvalidArgumentError("connect_wait is not from 0 to 1 h");
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

absl::StatusOr<std::shared_ptr<grpc::Channel>> MakeChannel(
    const BrokerClientOptions& options) {
  auto credentials = CredentialsOf(options.tls);
  if (!credentials.ok()) return credentials.status();
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxReceiveBytes);
  // Retries are decided here, by the contract, not by the library.
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  // The broker is local: proxies in the environment do not apply.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // Reconnects to a restarted broker within a second, including the library's
  // jitter of 20 %. (The minimum is not changed: it is also the time limit of
  // an attempt to connect.)
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
  // Each client of a process has a connection of its own.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(options.address, *credentials, arguments);
}

Channel::Channel(BrokerClientOptions options,
                 std::shared_ptr<grpc::Channel> channel)
    : options_(std::move(options)),
      channel_(channel),
      poller_(channel),
      broker_(v1::Broker::NewStub(channel)),
      health_(grpc::health::v1::Health::NewStub(channel)) {}

void Channel::AwaitConnection(const CallOptions& call) {
  const Duration timeout = call.timeout.value_or(options_.default_timeout);
  Duration wait = options_.connect_wait;
  AwaitConnection(SaturatingAdd(MonotonicNow(), timeout), &wait);
}

void Channel::AwaitConnection(Instant deadline, Duration* wait) {
  poller_.StartOnce();
  if (channel_->GetState(/*try_to_connect=*/false) == GRPC_CHANNEL_READY) {
    return;
  }
  const Instant now = MonotonicNow();
  const Duration most = std::min(*wait, (deadline - now) / 2);
  if (most <= Duration(0)) return;
  channel_->WaitForConnected(InFuture(most));
  *wait -= MonotonicNow() - now;
}

void Channel::Prepare(grpc::ClientContext& context, Instant deadline,
                      const CallOptions& call) {
  context.set_deadline(InFuture(deadline - MonotonicNow()));
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

}  // namespace hotline::client
