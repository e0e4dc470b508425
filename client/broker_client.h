// C++ client of Hotline's broker.
//
//   auto client = BrokerClient::Create({.address = "127.0.0.1:50051"});
//   hotline::v1::ExecuteRequest request;
//   request.set_url("https://api.example.com/v1/things");
//   auto answer = (*client)->Execute(request);
//
// Several requests on one connection:
//
//   hotline::v1::AcquireRequest wanted;
//   wanted.set_target("https://api.example.com");
//   absl::StatusOr<Lease> lease = (*client)->Acquire(wanted);
//   if (lease.ok()) lease->Execute(request);
//   // The destructor releases the lease.
//
// Every call blocks, has a deadline, and returns an absl::Status whose code is
// the gRPC code. GetErrorInfo() returns the reason.
#ifndef HOTLINE_CLIENT_BROKER_CLIENT_H_
#define HOTLINE_CLIENT_BROKER_CLIENT_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/time.h"
#include "client/execute_stream.h"
#include "client/tunnel.h"
#include "hotline/v1/broker.pb.h"

namespace hotline::client {

// The details of an error status of the broker.
struct ErrorInfo {
  // "QUEUE_FULL", "LEASE_EXPIRED", …: the reasons of broker.proto.
  std::string reason;
  // "hotline" for the broker's own errors.
  std::string domain;
  std::map<std::string, std::string> metadata;
  // The field of the request at fault, such as "headers[3].name"; empty: none.
  std::string field;
  // How long to wait before retrying, if the broker says so.
  std::optional<Duration> retry_after;
  // Why the call waited, if it ended in the queue.
  std::optional<v1::WaitExplanation> wait;
};

// nullopt if the status carries no ErrorInfo: then it comes from the gRPC
// library (the broker cannot be reached, the deadline passed in transit, …).
std::optional<ErrorInfo> GetErrorInfo(const absl::Status& status);

// Retries of failed calls. Only UNAVAILABLE is retried. From the broker it
// means that the upstream processed nothing: every call may be repeated. From
// the gRPC library it promises nothing: only calls that are harmless to repeat
// are retried (Acquire, Release, Renew, Stats, and Execute of GET, HEAD,
// OPTIONS, TRACE, PUT, DELETE or marked idempotent), never a POST.
struct RetryOptions {
  // Attempts including the first; 1 disables retries.
  int max_attempts = 3;
  // The backoff before the n-th retry is random, up to
  // initial_backoff * 2^(n-1), at most max_backoff; never shorter than the
  // broker's RetryInfo. If it exceeds the call's deadline, the call fails at
  // once.
  Duration initial_backoff = std::chrono::milliseconds(50);
  Duration max_backoff = std::chrono::seconds(1);
};

// PEM files for mutual TLS, read once by Create.
struct TlsOptions {
  // Required. The authorities to verify the broker's certificate against.
  std::string ca_file;
  // The client's certificate with the chain to its authority, and its private
  // key. Both or neither.
  std::string cert_file;
  std::string key_file;
};

struct BrokerClientOptions {
  // "host:port" or "unix:///path/to/socket".
  std::string address = "127.0.0.1:50051";
  // Unset: no TLS, as on loopback and Unix sockets.
  std::optional<TlsOptions> tls = std::nullopt;
  // For calls that set no timeout. Positive.
  Duration default_timeout = std::chrono::seconds(30);
  // How long a call waits for a connection to the broker if there is none. A
  // broker that restarts is back within that time, and nothing has been sent
  // yet that could be processed twice. At most half of the call's remaining
  // time is used; then the call fails. 0: fails at once.
  Duration connect_wait = std::chrono::seconds(1);
  // Limit on the release by a Lease's destructor.
  Duration release_timeout = std::chrono::seconds(1);
  RetryOptions retry = {};
};

struct CallOptions {
  // From the call to its answer, including retries. Unset: the client's
  // default_timeout.
  std::optional<Duration> timeout = std::nullopt;
  // Sent as the call's `traceparent`, which ties logs and leases to a trace.
  std::string traceparent = {};
};

class Channel;

// A borrowed connection. Move-only; the destructor releases it.
//
// The destructor releases with OUTCOME_OK: the broker sees every byte and
// closes a connection that is not fit for reuse. While an exception unwinds the
// stack it releases with OUTCOME_DISCARD instead, because work on the
// connection may be unfinished. It blocks for at most release_timeout; if the
// broker cannot be reached, the lease expires after its time to live.
//
// Thread-compatible. Execute may be called from several threads, but a lease
// runs one call at a time: the others get LEASE_BUSY. A Lease may outlive the
// BrokerClient that acquired it.
class Lease {
 public:
  Lease(Lease&& other) noexcept;
  Lease& operator=(Lease&& other) noexcept;
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  ~Lease();

  // The proof of ownership: keep it out of logs. Empty after Release, Detach
  // or a move.
  const std::string& id() const { return answer_.lease().lease_id(); }
  // The whole answer: connection, timings, reason for a wait, expiry.
  const v1::AcquireResponse& answer() const { return answer_; }

  // Runs a request on this connection; sets `request.lease_id`.
  absl::StatusOr<v1::ExecuteResponse> Execute(v1::ExecuteRequest request,
                                              CallOptions options = {}) const;

  // Begins a request with streamed bodies; sets `head.lease_id`.
  absl::StatusOr<ExecuteStream> OpenStream(v1::ExecuteStreamHead head,
                                           CallOptions options = {}) const;

  // Sets the time to live to `ttl` from now (limited by the broker).
  absl::Status Renew(Duration ttl, CallOptions options = {});

  // Releases the connection and empties this object even if it fails: an error
  // cannot be retried, and the lease then expires by itself.
  absl::Status Release(v1::Outcome outcome = v1::OUTCOME_OK,
                       CallOptions options = {});

  // Empties this object without releasing, and returns the id: the lease lasts
  // until it is released by id or expires.
  std::string Detach();

 private:
  friend class BrokerClient;
  Lease(std::shared_ptr<Channel> channel, v1::AcquireResponse answer);
  void GiveBack() noexcept;

  std::shared_ptr<Channel> channel_;  // Null: empty.
  v1::AcquireResponse answer_;
  int exceptions_at_birth_ = 0;
};

enum class Health {
  kServing,
  kNotServing,
  kUnknownService,
};

// A connection to one broker. Thread-safe; cheap to share, expensive to create:
// one per process suffices.
class BrokerClient {
 public:
  // INVALID_ARGUMENT for an invalid address, number or file. Does not connect;
  // the first call does.
  static absl::StatusOr<std::unique_ptr<BrokerClient>> Create(
      BrokerClientOptions options);

  BrokerClient(const BrokerClient&) = delete;
  BrokerClient& operator=(const BrokerClient&) = delete;
  ~BrokerClient();

  // Borrows a connection. A request without a request_id gets a random one, so
  // that a retry after a lost answer finds the lease instead of leaking it, and
  // without a holder.client_id this process's name. A request_id of your own
  // needs a client_id if the caller has no identity.
  absl::StatusOr<Lease> Acquire(v1::AcquireRequest request,
                                CallOptions options = {});

  // Runs one HTTP request, on `request.lease_id` or on any connection.
  absl::StatusOr<v1::ExecuteResponse> Execute(const v1::ExecuteRequest& request,
                                              CallOptions options = {});

  // Opens a tunnel, on `open.lease_id` or on a connection borrowed for it;
  // returns when it is open. A timeout in `options` applies to the whole
  // tunnel; without one, only the broker's limit on opening applies.
  absl::StatusOr<std::unique_ptr<Tunnel>> OpenTunnel(const v1::TunnelOpen& open,
                                                     CallOptions options = {});

  // Begins a request with streamed bodies, in constant memory.
  ExecuteStream OpenStream(const v1::ExecuteStreamHead& head,
                           CallOptions options = {});

  // By id, for detached leases.
  absl::StatusOr<v1::ReleaseResponse> Release(
      std::string_view lease_id, v1::Outcome outcome = v1::OUTCOME_OK,
      CallOptions options = {});
  // Also by the target and request_id of an Acquire whose answer was lost.
  absl::StatusOr<v1::ReleaseResponse> Release(const v1::ReleaseRequest& request,
                                              CallOptions options = {});
  absl::StatusOr<v1::RenewResponse> Renew(std::string_view lease_id,
                                          Duration ttl,
                                          CallOptions options = {});

  absl::StatusOr<v1::StatsResponse> Stats(const v1::StatsRequest& request,
                                          CallOptions options = {});

  // The standard health check; an empty `service` means the whole server.
  absl::StatusOr<Health> CheckHealth(std::string_view service,
                                     CallOptions options = {});

 private:
  explicit BrokerClient(std::shared_ptr<Channel> channel);

  const std::shared_ptr<Channel> channel_;
};

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_BROKER_CLIENT_H_
