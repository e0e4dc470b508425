// Many calls over one Session stream to the broker: the fastest client.
//
//   auto session = BrokerSession::Create({});
//   absl::StatusOr<SessionLease> lease = (*session)->Acquire(wanted);
//   auto answer = lease->Execute(request);
//
// Calls from any number of threads share the stream. Calls that arrive while a
// message is being written go into the next message, so batches grow with the
// load and a single caller never waits for a batch to fill.
// CallOptions::traceparent becomes the holder's trace of an Acquire; an Execute
// in a session has none.
//
// A lost stream (the broker died, the connection was cut) is reopened with
// backoff and full jitter. Calls in progress then end as follows:
//   written, not answered   ABORTED/SESSION_LOST: it may have been processed;
//                           nothing is ever sent twice
//   not written yet         sent on the next stream, within its deadline; or
//                           UNAVAILABLE/SESSION_UNAVAILABLE after connect_wait
//                           without a connection, or after max_attempts
//                           failures to open a stream
//   on a lease of it        NOT_FOUND/LEASE_LOST: the broker has reclaimed it
// A draining broker has not processed the calls that it did not answer; they
// are sent again. Errors made by the client carry an ErrorInfo with the domain
// "hotline.client" and `written` ("true" or "false"); the broker's errors are
// those of BrokerClient.
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
  // The address, the default timeout, and retries of opening a stream.
  BrokerClientOptions client = {};
  // Items written and not answered; further ones wait in the client. If it
  // exceeds the broker's session.max_items_in_flight, the broker refuses some.
  // 1 to 65536.
  int max_in_flight = 1024;
  // Calls waiting in the client; further ones are
  // RESOURCE_EXHAUSTED/SESSION_QUEUE_FULL. At least 1.
  int max_queued = 65536;
};

// A lease that ends with its session at the latest. Move-only; the destructor
// releases it without waiting for the answer: with OUTCOME_OK, or with
// OUTCOME_DISCARD while an exception unwinds the stack. Thread-compatible. The
// object may outlive the BrokerSession; the lease does not.
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
  // Whether the stream it was acquired on has ended, and the lease with it.
  bool lost() const;

  // As in Lease.
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

  std::shared_ptr<SessionCore> core_;  // Null: empty.
  uint64_t stream_ = 0;
  v1::AcquireResponse answer_;
  int exceptions_at_birth_ = 0;
};

// One session. Thread-safe.
class BrokerSession {
 public:
  // INVALID_ARGUMENT for invalid options. Does not connect; the first call
  // does.
  static absl::StatusOr<std::unique_ptr<BrokerSession>> Create(
      BrokerSessionOptions options);
  // Ends the stream and its leases; calls in progress end with
  // CANCELLED/SESSION_CLOSED. Waits for running callbacks, so it must not be
  // called from one.
  ~BrokerSession();
  BrokerSession(const BrokerSession&) = delete;
  BrokerSession& operator=(const BrokerSession&) = delete;

  // Block until the answer or the deadline.
  absl::StatusOr<SessionLease> Acquire(v1::AcquireRequest request,
                                       CallOptions options = {});
  absl::StatusOr<v1::ExecuteResponse> Execute(v1::ExecuteRequest request,
                                              CallOptions options = {});

  // The same without blocking: `done` is called once, on a gRPC thread or
  // within this call, and must not block.
  template <typename T>
  using Done = absl::AnyInvocable<void(absl::StatusOr<T>)>;
  void AcquireAsync(v1::AcquireRequest request, CallOptions options,
                    Done<SessionLease> done);
  void ExecuteAsync(v1::ExecuteRequest request, CallOptions options,
                    Done<v1::ExecuteResponse> done);

  // The lowest level: any item (its id is assigned here) and its unprocessed
  // result, which is valid only until `done` returns; null for errors made by
  // the client. The caller has to release leases acquired this way. An `error`
  // in the result is passed as the status.
  using ItemDone = absl::AnyInvocable<void(absl::Status, v1::SessionResult*)>;
  void Call(std::unique_ptr<v1::SessionItem> item, CallOptions options,
            ItemDone done);

 private:
  explicit BrokerSession(std::shared_ptr<SessionCore> core);

  const std::shared_ptr<SessionCore> core_;
};

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_BROKER_SESSION_H_
