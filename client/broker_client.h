// The C++ client of Hotline's broker.
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
//   // The destructor gives the connection back.
//
// Every call blocks, has a deadline, and returns an absl::Status whose code is
// the gRPC code. GetErrorInfo() tells the reason behind it.
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

// What stands behind an error status of the broker.
struct ErrorInfo {
  // "QUEUE_FULL", "LEASE_EXPIRED", …: the reasons of broker.proto.
  std::string reason;
  // "hotline" for the broker's own errors.
  std::string domain;
  std::map<std::string, std::string> metadata;
  // How long to stay away, when the broker says so.
  std::optional<Duration> retry_after;
  // Why the call waited, for those that ended in the queue.
  std::optional<v1::WaitExplanation> wait;
};

// Nothing when the status carries no ErrorInfo: then the gRPC library made it
// (the broker cannot be reached, the deadline passed on the way, …).
std::optional<ErrorInfo> GetErrorInfo(const absl::Status& status);

// Repeating what failed. Only UNAVAILABLE is ever repeated. Made by the broker
// it means that the upstream processed nothing: every call may be repeated.
// Made by the gRPC library it promises nothing: only calls that do no harm
// twice are repeated (Acquire, Release, Renew, Stats, and Execute of GET, HEAD,
// OPTIONS, TRACE, PUT, DELETE or marked idempotent), a POST never.
struct RetryOptions {
  // Attempts in all; 1 turns repeating off.
  int max_attempts = 3;
  // The pause before the n-th repetition is random, up to
  // initial_backoff * 2^(n-1), at most max_backoff; never shorter than the
  // broker's RetryInfo. A pause that does not fit into the call's deadline
  // ends the call at once.
  Duration initial_backoff = std::chrono::milliseconds(50);
  Duration max_backoff = std::chrono::seconds(1);
};

// Mutual TLS, by PEM files; they are read once, by Create.
struct TlsOptions {
  // The authorities the broker's certificate must come from. Required.
  std::string ca_file;
  // Who we are: our certificate with what leads to its authority, and its key.
  // Both, or neither.
  std::string cert_file;
  std::string key_file;
};

struct BrokerClientOptions {
  // "host:port" or "unix:///path/to/socket".
  std::string address = "127.0.0.1:50051";
  // Unset: without TLS, as on loopback and Unix sockets.
  std::optional<TlsOptions> tls = std::nullopt;
  // For calls that name no timeout of their own. Positive.
  Duration default_timeout = std::chrono::seconds(30);
  // How long a call waits for a connection to the broker, before it is sent,
  // when there is none: a broker that restarts is back within that time, and
  // nothing has been sent that could be processed twice. Never more than half
  // of the time that the call has left; then the call fails. 0: fails at once.
  Duration connect_wait = std::chrono::seconds(1);
  // How long a Lease's destructor may try to give the connection back.
  Duration release_timeout = std::chrono::seconds(1);
  RetryOptions retry = {};
};

struct CallOptions {
  // From the call to its answer, repetitions included. Unset: the client's
  // default_timeout.
  std::optional<Duration> timeout = std::nullopt;
  // Sent as the call's `traceparent`, which ties logs and leases to a trace.
  std::string traceparent = {};
};

class Channel;

// A borrowed connection. Move-only; whoever holds it owes the connection back
// and pays by destroying it.
//
// The destructor releases with OUTCOME_OK: the broker itself sees every byte
// and closes what is not fit for reuse. While an exception unwinds the stack it
// releases with OUTCOME_DISCARD instead, because what was begun on the
// connection may have been left half done. It blocks for release_timeout at
// most; if the broker cannot be reached, the lease ends by its time to live.
//
// Thread-compatible, as a value. Execute may be called from several threads,
// but a lease runs one call at a time: the others get LEASE_BUSY. A Lease may
// outlive the BrokerClient it came from.
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
  // The whole answer: connection, timings, why it waited, when it ends.
  const v1::AcquireResponse& answer() const { return answer_; }

  // Runs a request on this connection; `request.lease_id` is set for you.
  absl::StatusOr<v1::ExecuteResponse> Execute(v1::ExecuteRequest request,
                                              CallOptions options = {}) const;

  // Begins a request whose bodies pass in pieces; `head.lease_id` is set for
  // you.
  absl::StatusOr<ExecuteStream> OpenStream(v1::ExecuteStreamHead head,
                                           CallOptions options = {}) const;

  // Lets the lease live for `ttl` from now (the broker cuts it to its limit).
  absl::Status Renew(Duration ttl, CallOptions options = {});

  // Gives the connection back and empties this lease, whatever the answer: an
  // error here has no second try, the time to live takes care of it.
  absl::Status Release(v1::Outcome outcome = v1::OUTCOME_OK,
                       CallOptions options = {});

  // Lets go without releasing and returns the id: the lease lives on until
  // somebody releases it by id or its time to live ends.
  std::string Detach();

 private:
  friend class BrokerClient;
  Lease(std::shared_ptr<Channel> channel, v1::AcquireResponse answer);
  void GiveBack() noexcept;

  std::shared_ptr<Channel> channel_;  // Null: nothing is owed.
  v1::AcquireResponse answer_;
  int exceptions_at_birth_ = 0;
};

enum class Health {
  kServing,
  kNotServing,
  kUnknownService,
};

// A connection to one broker. Thread-safe; cheap to share, dear to make: one
// per process is enough.
class BrokerClient {
 public:
  // INVALID_ARGUMENT for an address, a number or a file that cannot be meant.
  // Does not connect: the first call does.
  static absl::StatusOr<std::unique_ptr<BrokerClient>> Create(
      BrokerClientOptions options);

  BrokerClient(const BrokerClient&) = delete;
  BrokerClient& operator=(const BrokerClient&) = delete;
  ~BrokerClient();

  // Borrows a connection. A request without a request_id gets a random one, so
  // that repeating it after a lost answer finds the lease instead of leaking
  // it; and, where it names no holder.client_id, this process's name as that. A
  // request_id of your own needs a client_id where callers have no identity.
  absl::StatusOr<Lease> Acquire(v1::AcquireRequest request,
                                CallOptions options = {});

  // Runs one HTTP request, on `request.lease_id` or on any connection.
  absl::StatusOr<v1::ExecuteResponse> Execute(const v1::ExecuteRequest& request,
                                              CallOptions options = {});

  // Opens a tunnel, on `open.lease_id` or on a connection of its own; returns
  // when the upstream can be talked to. A timeout in `options` holds for the
  // whole tunnel; unset, there is none but the broker's for opening it.
  absl::StatusOr<std::unique_ptr<Tunnel>> OpenTunnel(const v1::TunnelOpen& open,
                                                     CallOptions options = {});

  // Begins a request whose bodies pass in pieces, in constant memory.
  ExecuteStream OpenStream(const v1::ExecuteStreamHead& head,
                           CallOptions options = {});

  // By id, for leases that were detached.
  absl::StatusOr<v1::ReleaseResponse> Release(
      std::string_view lease_id, v1::Outcome outcome = v1::OUTCOME_OK,
      CallOptions options = {});
  absl::StatusOr<v1::RenewResponse> Renew(std::string_view lease_id,
                                          Duration ttl,
                                          CallOptions options = {});

  absl::StatusOr<v1::StatsResponse> Stats(const v1::StatsRequest& request,
                                          CallOptions options = {});

  // The standard health check; `service` empty asks for the whole server.
  absl::StatusOr<Health> CheckHealth(std::string_view service,
                                     CallOptions options = {});

 private:
  explicit BrokerClient(std::shared_ptr<Channel> channel);

  const std::shared_ptr<Channel> channel_;
};

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_BROKER_CLIENT_H_
