// The base of all calls that need a connection: the way from Start to a slot,
// again if that fails, and to the completion.
//
//   kIdle ──Start──> kWaiting ──slot──> kRunning ──> kDone
//                      │  ^                │
//                 refused │             SeekLater
//                      v  │                │
//                    kBackoff <────────────┘
//
// A kind of call derives from it, says in Prepare what it needs, and runs what
// it is for once OnSlot brings a slot. No thread waits for any of this: a phase
// is ended by the caller's thread, by the thread that frees a connection, or by
// a loop's timer.
//
// Thread safety: Start, Cancel, Abort, ended and completed may be called from
// any thread. Everything else, the terms included, is for the thread that
// drives the call, one at a time.
//
// Invariants:
//   1. Every change of phase happens under mu_ and increments step_: a place in
//      line or a timer that arrives late finds that it is.
//   2. Cancel, Abort and Supersede set ended_ and then end the phase that they
//      find: a place in line by Pool::Cancel, which decides the race against a
//      grant; a back-off directly; a running call by OnEnded. A slot that is
//      granted afterwards goes straight back.
//   3. A call does not begin to run or wait without the policy's consent.
#ifndef HOTLINE_SERVER_BROKER_POOLED_CALL_H_
#define HOTLINE_SERVER_BROKER_POOLED_CALL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/functional/function_ref.h"
#include "base/mutex.h"
#include "base/time.h"
#include "pool/pool.h"
#include "pool/slot_lease.h"
#include "server/broker/call.h"
#include "server/broker/call_record.h"
#include "server/broker/parts.h"
#include "server/broker/proto_time.h"

namespace hotline::server {

// What a call is about, and how far its way to a slot has come.
struct CallTerms {
  // REQUIRES: the context has settings.
  explicit CallTerms(CallContext from)
      : context(std::move(from)), settings(*context.settings) {}

  const CallContext context;
  const BrokerSettings& settings;  // The context's.
  Instant deadline = kNever;       // Absolute; the margin is taken off.
  pool::HostPoolKey key;
  pool::AcquireRequest acquire;
  int max_attempts = 1;
  int attempts = 1;          // The current one included.
  Quota quota;               // Of the caller, from the policy.
  Duration waited{0};        // For slots, in total.
  pool::WaitInfo wait;       // Of the last wait.
  pool::DialTimings dial;    // Of the connection, if it was made for this call.
  Instant expires = kNever;  // Of the lease that was granted.
  pool::ConnId conn = 0;     // Of the latest slot; 0: none.
  bool reused = false;       // That connection had been used before.
  std::string span;          // See CallRecord::span.
};

class PooledCall : public Call, private pool::Waiter {
 public:
  void Start() final;
  void Cancel() final { End(Ended::kCancelled); }
  void Abort() final { End(Ended::kAborted); }

  // Ends the call with SUPERSEDED because a Release, or the same Acquire again,
  // names its request_id: while it waits in line or backs off, or, with
  // `backing_off`, while it backs off. False: it does not, and is not ended.
  bool Supersede(bool backing_off = false);

  enum class Ended : uint8_t { kNo, kCancelled, kAborted, kSuperseded };

  RpcMethod rpc() const { return rpc_; }
  CallTerms& terms() { return terms_; }
  const CallTerms& terms() const { return terms_; }
  Ended ended() const;
  bool completed() const;
  // The error of a call that was ended.
  ErrorPtr EndedError() const;

  // Asks the policy, once, whether the caller may do this. Seek and RunOnLease
  // do so; a call may do it before them once terms().key is set.
  ErrorPtr Authorize();
  // Gets in line for the slot that terms().acquire describes.
  void Seek(Instant now);
  // The same after the n-th back-off (full jitter); at once with n = 0.
  void SeekLater(int n, Instant now);
  // Runs the call on the lease that its caller presents, instead of Seek: leads
  // to OnSlot. `check` compares the lease with the call and takes over what it
  // needs of it.
  ErrorPtr RunOnLease(
      const std::string& lease_id,
      absl::FunctionRef<ErrorPtr(const pool::CallStart& start)> check,
      Instant now);
  // Enters kRunning before it is known what the call will run on, so that
  // Cancel and Abort lead to OnEnded. Not null: the call has ended.
  ErrorPtr BeginRunning();
  // Ends the call. Only the first time counts.
  void Complete(ErrorPtr error);

 protected:
  // `request_bytes` count against the memory limit.
  PooledCall(BrokerParts* parts, RpcMethod rpc, int64_t request_bytes,
             CallContext context, Completion* completion);

  BrokerParts* const parts_;
  CallTerms terms_;

 private:
  enum class Phase : uint8_t { kIdle, kWaiting, kRunning, kBackoff, kDone };

  // Checks the request, sets the terms and goes on, usually by Seek. An error
  // completes the call.
  virtual ErrorPtr Prepare(Instant now) = 0;
  // The phase is kRunning. Must lead to Complete or SeekLater.
  virtual void OnSlot(pool::SlotLease slot, Instant now) = 0;
  // Cancelled or aborted: end what runs, which then completes the call.
  virtual void OnEnded() {}
  // Returns the error that the caller gets; `error` is not null.
  virtual ErrorPtr Judge(ErrorPtr error) { return error; }
  // Fills what the kind of call knows.
  virtual void Describe(CallRecord* /*record*/) {}

  // pool::Waiter:
  void OnGrant(const pool::Grant& grant) final;
  void OnReject(pool::Rejection rejection) final;

  void End(Ended how);
  // Tells the observer, which is not null, of the end.
  void Report(const Error* error);
  // What ended_ requires of a call in this phase.
  void EndPhase(Phase phase, pool::WaiterId waiter);
  // Makes a call with a request_id known to NamedWaits, once.
  void ListLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void OnAcquired(pool::AcquireResult result, bool may_wait, uint64_t step,
                  Instant now);
  void OnRefused(const pool::Rejection& rejection, Instant now);
  ErrorPtr ErrorOf(const pool::Rejection& rejection) const;
  void CompleteRefused(const pool::Rejection& rejection);
  // Whether the call may wait: the caller wants to, and its quota has room.
  bool TakePlaceInLine();

  const RpcMethod rpc_;
  const int64_t request_bytes_;
  Completion* const completion_;
  bool authorized_ = false;
  bool entered_ = false;  // Counted by Overload.
  QuotaToken place_in_line_;
  std::shared_ptr<Call> self_;  // From Start to Complete.
  // Of this call's own last dial that failed and was tried again.
  ErrorPtr dial_error_;

  mutable Mutex mu_;
  Phase phase_ ABSL_GUARDED_BY(mu_) = Phase::kIdle;
  Ended ended_ ABSL_GUARDED_BY(mu_) = Ended::kNo;
  uint64_t step_ ABSL_GUARDED_BY(mu_) = 0;
  pool::WaiterId waiter_ ABSL_GUARDED_BY(mu_) = 0;
  bool listed_ ABSL_GUARDED_BY(mu_) = false;  // In NamedWaits.
};

// 64 unpredictable bits.
uint64_t UnguessableBits();

// A random duration below min(cap, base * 2^(n-1)); zero for n = 0.
Duration FullJitter(int n, Duration base, Duration cap);

// Fills what is known of a slot's connection. `facts` is null if it is gone.
void FillConnection(const upstream::ConnectionFacts* facts,
                    const pool::SlotLease& slot, Instant now,
                    v1::ConnectionInfo* out);

void FillDialTimings(const pool::DialTimings& dial, v1::Timings* out);

// Fills the wait and the dial of a call that had to wait for its slot, into an
// AcquireResponse, a Receipt or a TunnelOpened.
template <typename Out>
void FillWaited(const CallTerms& terms, Out* out) {
  if (terms.wait.limit == pool::WaitLimit::kNone) return;
  FillDuration(terms.waited, out->mutable_timings()->mutable_wait());
  FillDialTimings(terms.dial, out->mutable_timings());
  FillWait(terms.wait, out->mutable_wait());
}

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_POOLED_CALL_H_
