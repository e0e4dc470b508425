// Many calls over one Session stream to the broker: the fast client.
//
//   auto session = BrokerSession::Create({});
//   absl::StatusOr<SessionLease> lease = (*session)->Acquire(wanted);
//   auto answer = lease->Execute(request);
//
// Any number of threads call; their items share the stream. While one message
// is being written, what arrives goes into the next one, so messages grow with
// the load and a lone caller waits for nobody. CallOptions::traceparent becomes
// the holder's trace of an Acquire; an Execute in a session has none.
//
// When the stream is lost (the broker died, the connection was cut), it is
// opened anew with backoff and full jitter, and every call is told the truth:
//   written, not answered   ABORTED/SESSION_LOST: it may have been processed.
//                           Nothing is ever sent twice
//   not written yet         goes out on the next stream, within its deadline;
//                           without a connection for connect_wait, or after
//                           max_attempts failures to open one:
//                           UNAVAILABLE/SESSION_UNAVAILABLE
//   on a lease of it        NOT_FOUND/LEASE_LOST: the broker has taken it back
// A broker that drains has not looked at what it did not answer: that is sent
// again. Errors made here carry an ErrorInfo with the domain "hotline.client"
// and `written` ("true", "false"); the broker's own are as those of
// BrokerClient.
#ifndef HOTLINE_CLIENT_BROKER_SESSION_H_
#define HOTLINE_CLIENT_BROKER_SESSION_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/broker_client.h"
#include "client/status.h"
#include "hotline/v1/broker.pb.h"

namespace hotline::client {

class SessionCore;

struct BrokerSessionOptions {
  // The address, the default timeout, and how opening a stream is repeated.
  BrokerClientOptions client = {};
  // Items written and not answered; others wait here. At most what the broker
  // allows (session.max_items_in_flight), or it refuses some. 1 to 65536.
  int max_in_flight = 1024;
  // Calls that wait here; more are RESOURCE_EXHAUSTED/SESSION_QUEUE_FULL. At
  // least 1.
  int max_queued = 65536;
};

// A lease that ends with its session at the latest. Move-only; the destructor
// gives it back without waiting for the answer: with OUTCOME_OK, or with
// OUTCOME_DISCARD while an exception unwinds the stack. Thread-compatible; may
// outlive the BrokerSession (its lease does not).
class SessionLease {
 public:
  SessionLease(SessionLease&& other) noexcept;
  SessionLease& operator=(SessionLease&& other) noexcept;
  SessionLease(const SessionLease&) = delete;
  SessionLease& operator=(const SessionLease&) = delete;
  ~SessionLease();

  // The proof of ownership: keep it out of logs. Empty after Release or a move.
  const std::string& id() const { return answer_.lease().lease_id(); }
  const v1::AcquireResponse& answer() const { return answer_; }
  // The stream it was acquired on is gone, and the lease with it.
  bool lost() const;

  // As those of Lease.
  absl::StatusOr<v1::ExecuteResponse> Execute(v1::ExecuteRequest request,
                                              CallOptions options = {}) const;
  absl::Status Renew(Duration ttl, CallOptions options = {});
  absl::Status Release(v1::Outcome outcome = v1::OUTCOME_OK,
                       CallOptions options = {});

 private:
  friend class BrokerSession;
  SessionLease(std::shared_ptr<SessionCore> core, uint64_t stream,
               v1::AcquireResponse answer);
  void GiveBack() noexcept;

  std::shared_ptr<SessionCore> core_;  // Null: nothing is owed.
  uint64_t stream_ = 0;
  v1::AcquireResponse answer_;
  int exceptions_at_birth_ = 0;
};

// One session. Thread-safe.
class BrokerSession {
 public:
  // INVALID_ARGUMENT for what cannot be meant. Does not connect: the first call
  // does.
  static absl::StatusOr<std::unique_ptr<BrokerSession>> Create(
      BrokerSessionOptions options);
  // Ends the stream and its leases; calls under way end with
  // CANCELLED/SESSION_CLOSED. Waits for callbacks that run: not from inside
  // one.
  ~BrokerSession();
  BrokerSession(const BrokerSession&) = delete;
  BrokerSession& operator=(const BrokerSession&) = delete;

  // Block until the answer or the deadline.
  absl::StatusOr<SessionLease> Acquire(v1::AcquireRequest request,
                                       CallOptions options = {});
  absl::StatusOr<v1::ExecuteResponse> Execute(v1::ExecuteRequest request,
                                              CallOptions options = {});

  // The same, without blocking: `done` is called once, from a thread of gRPC's
  // or from inside the call, and must not block.
  template <typename T>
  using Done = absl::AnyInvocable<void(absl::StatusOr<T>)>;
  void AcquireAsync(v1::AcquireRequest request, CallOptions options,
                    Done<SessionLease> done);
  void ExecuteAsync(v1::ExecuteRequest request, CallOptions options,
                    Done<v1::ExecuteResponse> done);

  // The ground floor: any item (its id is chosen here) and its result as it
  // came, which lives only until `done` returns; null with an error that was
  // made on this side. Leases acquired this way are the caller's to release.
  // An `error` in the result comes as the status.
  using ItemDone = absl::AnyInvocable<void(absl::Status, v1::SessionResult*)>;
  void Call(std::unique_ptr<v1::SessionItem> item, CallOptions options,
            ItemDone done);

 private:
  explicit BrokerSession(std::shared_ptr<SessionCore> core);

  const std::shared_ptr<SessionCore> core_;
};

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_BROKER_SESSION_H_
