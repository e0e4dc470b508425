// One attempt of a call: the slot or lease that it runs on, the upstream's call
// on that connection, and how it ended.
//
//   attempt.Take(std::move(slot));
//   attempt.Start(request, handler, now);
//   ...                              // Maybe attempt.Cancel() meanwhile.
//   attempt.End(std::move(result));  // In CallHandler::OnDone.
//   attempt.Release(pool::Outcome::kOk, now);
//
// A call that tries again reuses its Attempt, after Release.
//
// Thread safety: Cancel and CancelOn may be called from any thread. The rest is
// for the thread that drives the call; OnDone may come, and the next attempt
// begin, on another thread before Start or Open has returned.
//
// Invariants:
//   1. A cancelled Attempt stays cancelled: an upstream call that is begun
//      later is cancelled as soon as it has begun.
//   2. The slot is given back exactly once (pool::SlotLease).
#ifndef HOTLINE_SERVER_BROKER_ATTEMPT_H_
#define HOTLINE_SERVER_BROKER_ATTEMPT_H_

#include <atomic>
#include <cstdint>
#include <utility>

#include "base/lease_id.h"
#include "base/mutex.h"
#include "base/time.h"
#include "pool/pool.h"
#include "pool/slot_lease.h"
#include "server/broker/error.h"
#include "upstream/upstream.h"

namespace hotline::server {

class Attempt {
 public:
  explicit Attempt(upstream::Upstream* upstream) : upstream_(upstream) {}

  // Begins the next attempt, on `slot`.
  void Take(pool::SlotLease slot);
  const pool::SlotLease& slot() const { return slot_; }
  // Of the attempt, from 1.
  uint64_t number() const { return number_; }

  // Begin the upstream's call; see Upstream::StartCall and OpenStream.
  void Start(const upstream::Request& request, upstream::CallHandler* handler,
             Instant now);
  void Open(const upstream::Request& head, bool end,
            upstream::StreamHandler* handler, Instant now);

  // Ends the upstream's call with kCancelled.
  void Cancel();
  // The same if the attempt is a call on `lease`.
  void CancelOn(const LeaseId& lease);

  // The upstream's call has ended. Keeps nothing of a failed answer.
  void End(upstream::CallResult result) {
    result_ = std::move(result);
    if (result_.error != upstream::CallError::kNone) result_.response = {};
  }
  upstream::CallResult& result() { return result_; }
  const upstream::CallResult& result() const { return result_; }

  // Gives the slot back. Before the answer goes out: the caller's next call
  // should find the connection free.
  void Release(pool::Outcome outcome, Instant now) {
    slot_.Release(outcome, now);
  }

 private:
  // Stores the name of the upstream's call for Cancel.
  void Name(uint64_t number, pool::ConnId conn, upstream::CallId call);

  upstream::Upstream* const upstream_;
  pool::SlotLease slot_;
  upstream::CallResult result_;
  std::atomic<uint64_t> number_{0};

  Mutex mu_;
  LeaseId lease_ ABSL_GUARDED_BY(mu_);  // If it is a call on a lease.
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  // Of the latest call that has a name; 0 before. It may have ended: to cancel
  // it then does nothing.
  pool::ConnId conn_ ABSL_GUARDED_BY(mu_) = 0;
  upstream::CallId call_ ABSL_GUARDED_BY(mu_) = 0;
};

// Whether the upstream cannot have processed the request.
bool WasNotProcessed(upstream::Verdict verdict);

// Errors that every kind of call gives for a failed attempt. `target` is
// canonical.
//
// UNAVAILABLE/TLS_FAILED: the upstream refused the handshake after our end.
ErrorPtr RefusedByTls(const std::string& target,
                      const upstream::CallResult& result);
// UNAVAILABLE or ABORTED/UPSTREAM_RESET, by the verdict.
ErrorPtr ResetByUpstream(const std::string& target,
                         const upstream::CallResult& result);
// INTERNAL/PROTOCOL_ERROR.
ErrorPtr NotHttp(const std::string& target, const upstream::CallResult& result);

// Adds the verdict and the bytes that passed to the error's metadata.
ErrorPtr WithVerdict(ErrorPtr error, const upstream::CallResult& result);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_ATTEMPT_H_
