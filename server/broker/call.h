// What Acquire and Execute have in common: the way to a slot of the pool.
#ifndef HOTLINE_SERVER_BROKER_CALL_H_
#define HOTLINE_SERVER_BROKER_CALL_H_

#include <memory>
#include <string>

#include "base/mutex.h"
#include "server/broker/broker.h"
#include "server/broker/connection_options.h"

namespace hotline::server {

// Phases, and who moves them on. Every change happens under mu_ and bumps
// step_, so that whoever comes late (an id to store, a timer) sees that it is.
//
//   kIdle ──Start──> kWaiting ──grant──> kRunning ──> kDone
//                      │  ^                 │
//                 refused │             (Execute: try again)
//                      v  │                 │
//                    kBackoff <─────────────┘
//
// Cancel and Abort set `ended_` and then end the phase they find: a place in
// line by Pool::Cancel (which decides the race against a grant), a back-off by
// themselves, a running call through EndRunning.
class PooledCall : public Call, protected pool::Waiter {
 public:
  void Start() final;
  void Cancel() final { End(Ended::kCancelled); }
  void Abort() final { End(Ended::kAborted); }

 protected:
  enum class Phase : uint8_t { kIdle, kWaiting, kRunning, kBackoff, kDone };
  enum class Ended : uint8_t { kNo, kCancelled, kAborted };

  PooledCall(Broker* broker, CallContext context, Completion* completion);

  // What a policy calls it.
  virtual RpcMethod rpc() const = 0;
  // Bytes of the request that are worth counting.
  virtual int64_t request_bytes() const { return 0; }
  // Checks the request, sets key_ and the rest of acquire_, and goes on: to
  // Seek, or by itself. An error completes the call.
  virtual ErrorPtr Prepare(Instant now) = 0;
  // The slot is ours; phase kRunning. Must lead to Complete, TryAgain or Seek.
  virtual void OnSlot(const pool::Grant& grant) = 0;
  // End what runs; it will complete by itself. Called without mu_.
  virtual void EndRunning() {}
  // A last word on an error before it goes out.
  virtual ErrorPtr Judge(ErrorPtr error) { return error; }
  // Just before the completion is told.
  virtual void OnCompleting(const ErrorPtr& error) = 0;

  // Whether the policy allows it; asks once. Seek and BeginRunning do it, so
  // nothing can be begun without; a call may do it before, when key_ says where
  // it goes. Sets quota_.
  ErrorPtr Authorize();
  // Gets in line for a slot. `acquire_` says which.
  void Seek(Instant now);
  // Seeks again after a back-off of full jitter for the n-th retry; at once
  // with n = 0.
  void SeekLater(int n, Instant now);
  // Moves to kRunning without a slot (on a lease). Not null: the call has
  // ended, or must not be.
  ErrorPtr BeginRunning();
  // The same before it is known what the call will run on: it runs in so far as
  // others can end it, and Seek or BeginRunning follows.
  ErrorPtr BeginAsking();
  // Tells the completion, once, and lets go of the call.
  void Complete(ErrorPtr error);
  // What a call that was cancelled or aborted completes with.
  ErrorPtr EndedError() const;
  Ended ended() const;

  // pool::Waiter:
  void OnGrant(const pool::Grant& grant) final;
  void OnReject(pool::Rejection rejection) final;

  Broker* const broker_;
  const CallContext context_;
  const std::shared_ptr<const BrokerSettings> settings_;
  Instant deadline_ = kNever;  // Absolute, with the margin taken off.
  pool::HostPoolKey key_;
  pool::AcquireRequest acquire_;
  int max_attempts_ = 1;
  int attempts_ = 1;     // The one that is under way included.
  Quota quota_;          // What the caller may have.
  Duration waited_{0};   // For slots, in all.
  pool::WaitInfo wait_;  // Of the last wait.

 private:
  void End(Ended how);
  void OnRefused(const pool::Rejection& rejection, Instant now);
  void CompleteRefused(const pool::Rejection& rejection);

  // Whether the caller may have one more waiter; else it must not wait.
  bool MayWait();

  Completion* const completion_;
  bool authorized_ = false;
  bool entered_ = false;        // Counted by the broker's Overload.
  QuotaToken place_;            // In line.
  std::shared_ptr<Call> self_;  // From Start to Complete.
  Instant seek_start_{};
  // Of this call's own last dial that failed and was tried again.
  ErrorPtr dial_error_;

  mutable Mutex mu_;
  Phase phase_ ABSL_GUARDED_BY(mu_) = Phase::kIdle;
  Ended ended_ ABSL_GUARDED_BY(mu_) = Ended::kNo;
  uint64_t step_ ABSL_GUARDED_BY(mu_) = 0;
  pool::WaiterId waiter_ ABSL_GUARDED_BY(mu_) = 0;
};

// 64 bits nobody can guess.
uint64_t UnguessableBits();

// A random duration below min(cap, base * 2^(n-1)); zero for n = 0.
Duration FullJitter(int n, Duration base, Duration cap);

// Fills what the pool and the upstream know of a connection.
void FillConnection(const upstream::Upstream& upstream, pool::ConnId conn,
                    pool::Handle handle, uint64_t uses, Instant ready_since,
                    Instant now, v1::ConnectionInfo* out);

void FillDialTimings(const pool::DialTimings& dial, v1::Timings* out);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_CALL_H_
