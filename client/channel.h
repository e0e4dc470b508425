// The gRPC side of BrokerClient: stubs, deadlines and the retry loop. Internal
// to the client library; its only header that includes gRPC.
#ifndef HOTLINE_CLIENT_CHANNEL_H_
#define HOTLINE_CLIENT_CHANNEL_H_

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/time.h"
#include "client/broker_client.h"
#include "client/idle_poller.h"
#include "client/retry.h"
#include "client/status.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "hotline/v1/broker.grpc.pb.h"

namespace hotline::client {

// INVALID_ARGUMENT for invalid options.
absl::Status CheckOptions(const BrokerClientOptions& options);

// A separate connection, made when first needed.
absl::StatusOr<std::shared_ptr<grpc::Channel>> MakeChannel(
    const BrokerClientOptions& options);

// Thread-safe. Shared by a client and the leases that it acquired.
class Channel {
 public:
  Channel(BrokerClientOptions options, std::shared_ptr<grpc::Channel> channel);

  const BrokerClientOptions& options() const { return options_; }
  // Waits, before a stream is begun, as long as options().connect_wait allows.
  void AwaitConnection(const CallOptions& call);

  v1::Broker::Stub& broker() { return *broker_; }
  grpc::health::v1::Health::Stub& health() { return *health_; }

  // The context of a stream: with a deadline only if the call sets one.
  static void PrepareStream(grpc::ClientContext& context,
                            const CallOptions& call);

  // The context of a call that is not retried.
  void Prepare(grpc::ClientContext& context, const CallOptions& call) const {
    const Duration timeout = call.timeout.value_or(options_.default_timeout);
    Prepare(context, SaturatingAdd(MonotonicNow(), timeout), call);
  }

  // Makes a unary call until it succeeds, must not be retried, or has no time
  // left. `attempt` is called with (ClientContext*, Response*).
  template <typename Response, typename Attempt>
  absl::StatusOr<Response> Call(const CallOptions& call, bool harmless,
                                const Attempt& attempt);

 private:
  static void Prepare(grpc::ClientContext& context, Instant deadline,
                      const CallOptions& call);
  // Waits for a connection, at most for `*wait` and half of the time until
  // `deadline`. Subtracts the time waited from `*wait`.
  void AwaitConnection(Instant deadline, Duration* wait);
  static double Random();

  const BrokerClientOptions options_;
  const std::shared_ptr<grpc::Channel> channel_;
  IdlePoller poller_;
  const std::unique_ptr<v1::Broker::Stub> broker_;
  const std::unique_ptr<grpc::health::v1::Health::Stub> health_;
};

template <typename Response, typename Attempt>
absl::StatusOr<Response> Channel::Call(const CallOptions& call, bool harmless,
                                       const Attempt& attempt) {
  const Duration timeout = call.timeout.value_or(options_.default_timeout);
  const Instant deadline = SaturatingAdd(MonotonicNow(), timeout);
  Duration wait = options_.connect_wait;
  for (int attempts = 1;; ++attempts) {
    AwaitConnection(deadline, &wait);
    grpc::ClientContext context;
    Prepare(context, deadline, call);
    Response response;
    const grpc::Status status = attempt(&context, &response);
    if (status.ok()) return response;
    absl::Status failure = MakeStatus(
        status.error_code(), status.error_message(), status.error_details());
    const std::optional<Duration> pause =
        RetryPause(failure, harmless, attempts, deadline - MonotonicNow(),
                   Random(), options_.retry);
    if (!pause.has_value()) return failure;
    std::this_thread::sleep_for(*pause);
  }
}

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_CHANNEL_H_
