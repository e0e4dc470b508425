// The use cases: borrow, run, give back, look. No gRPC in it.
//
// A call is an object of its own (Call) that goes through phases: it waits in
// the pool's line, runs on a connection, maybe backs off and tries again, and
// completes exactly once. No thread waits for any of it: the phases are driven
// by the thread that asked, by whoever frees a connection, and by the loops.
//
// Thread safety: every method may be called from any thread. None blocks.
#ifndef HOTLINE_SERVER_BROKER_BROKER_H_
#define HOTLINE_SERVER_BROKER_BROKER_H_

#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/lease_id.h"
#include "base/mutex.h"
#include "base/time.h"
#include "hotline/v1/broker.pb.h"
#include "pool/pool.h"
#include "server/broker/answer_memory.h"
#include "server/broker/call_metrics.h"
#include "server/broker/error.h"
#include "server/broker/gatekeeper.h"
#include "server/broker/identity.h"
#include "server/broker/options.h"
#include "server/broker/overload.h"
#include "server/broker/policy.h"
#include "server/broker/retry_budget.h"
#include "upstream/upstream.h"

namespace hotline::server {

// What comes with a call beside its message.
struct CallContext {
  Instant arrival{};
  // The caller's, on our clock; kNever when it gave none.
  Instant deadline = kNever;
  std::string traceparent;  // From the metadata, W3C's form; may be empty.
  // Holds the leases of requests that name no holder, and names the session
  // that all of them are bound to. May be null.
  std::shared_ptr<const pool::Holder> holder;
  IdentityPtr identity;  // Null: nobody in particular.
  // Where its answers go. Null: the same place as all others that say so.
  AnswerMemory::CallerPtr answers;

  // What the caller's leases are marked with.
  uint64_t owner() const { return identity == nullptr ? 0 : identity->owner; }
};

// Told once that a call is over; null means success, and that the response is
// filled. From any thread, no lock held, maybe from inside Start.
class Completion {
 public:
  virtual ~Completion() = default;
  virtual void OnComplete(ErrorPtr error) = 0;
};

// A call under way. Keeps itself alive until it has completed.
class Call : public std::enable_shared_from_this<Call> {
 public:
  virtual ~Call() = default;
  virtual void Start() = 0;
  // The caller is gone: whatever is under way ends as soon as it can, and the
  // completion is told. Harmless when it has completed.
  virtual void Cancel() = 0;
  // The process is going: completes with what the contract says of a call in
  // its phase.
  virtual void Abort() = 0;
  // The lease was given back as unfit: what runs on it ends.
  virtual void OnLeaseGone(const LeaseId& /*lease*/) {}
};

// Where a tunnel's messages for its caller go. One at a time, from any thread,
// no lock held; none after the completion. Must not block.
class TunnelCaller {
 public:
  virtual ~TunnelCaller() = default;
  // To be written after those before it; Tunnel::OnWritten follows.
  virtual void Write(v1::TunnelResponse message) = 0;
  // More may be sent: after `opened`, and after Send has said no. In this case
  // maybe before Send has returned.
  virtual void AskForMore() = 0;
};

// What a tunnel's caller does. Nothing happens when it is over. Send and
// EndSend one at a time.
class Tunnel {
 public:
  virtual ~Tunnel() = default;
  // For the upstream. False: no more before AskForMore.
  virtual bool Send(std::string_view data) = 0;
  virtual void EndSend() = 0;
  // So much of the upstream's data has gone to the caller.
  virtual void OnWritten(size_t bytes) = 0;
};

// A tunnel as a call; `tunnel` lives as long as `call`.
struct TunnelParts {
  std::shared_ptr<Call> call;
  Tunnel* tunnel = nullptr;
};

// A stream of calls, as the broker knows it: something to be told when the
// process goes.
class OpenSession : public std::enable_shared_from_this<OpenSession> {
 public:
  virtual ~OpenSession() = default;
  // No new leases: end as soon as nothing is held and nothing runs.
  virtual void OnDrain() = 0;
  // End now; what still runs is aborted and answered first.
  virtual void OnAbort() = 0;
};

// The caller's end of a streamed call. Asked by one thread at a time, from any
// thread, no lock held, and never after OnComplete; what it answers may come
// from inside of what it is asked.
class StreamPeer : public Completion {
 public:
  // Asks for the caller's next message: StreamedCall::OnRead follows, once.
  virtual void Read() = 0;
  // Sends one message: OnWritten follows, once, when there is room for the
  // next. One at a time, Confirm included.
  virtual void Write(v1::ExecuteStreamResponse message) = 0;
  // The caller's side seems to have ended. OnConfirmed follows, once, if it was
  // the caller that ended it, and nothing if it broke off.
  virtual void Confirm() = 0;
  // OnComplete with null: `last` of NewExecuteStream is still to be sent.
};

// A call whose bodies pass in pieces.
class StreamedCall {
 public:
  virtual ~StreamedCall() = default;
  // What came, which may be taken apart; null: no more will come.
  virtual void OnRead(v1::ExecuteStreamRequest* message) = 0;
  virtual void OnWritten() = 0;
  virtual void OnConfirmed() = 0;
  // It, as any other call.
  virtual std::shared_ptr<Call> AsCall() = 0;
};

class Broker {
 public:
  // The pool, the upstream and the metrics must outlive the broker and every
  // call.
  Broker(const BrokerSettings& settings, uint32_t instance, pool::Pool* pool,
         upstream::Upstream* upstream, CallMetrics* metrics);
  ~Broker();
  Broker(const Broker&) = delete;
  Broker& operator=(const Broker&) = delete;

  // The request and response must live until completion.
  std::shared_ptr<Call> NewAcquire(const v1::AcquireRequest* request,
                                   v1::AcquireResponse* response,
                                   CallContext context, Completion* completion);
  std::shared_ptr<Call> NewExecute(const v1::ExecuteRequest* request,
                                   v1::ExecuteResponse* response,
                                   CallContext context, Completion* completion);
  // `caller` and `completion` must live until completion.
  TunnelParts NewTunnel(v1::TunnelOpen open, CallContext context,
                        TunnelCaller* caller, Completion* completion);

  // Acquires what can be lent at once, with no Call made for it. False: do it
  // the other way, nothing has happened.
  bool AcquireIdle(const v1::AcquireRequest& request,
                   const BrokerSettings& settings, const CallContext& context,
                   v1::AcquireResponse* response, LeaseId* lease);

  // `last` must live until completion; the peer as long as it is asked.
  std::shared_ptr<StreamedCall> NewExecuteStream(
      v1::ExecuteStreamResponse* last, CallContext context, StreamPeer* peer);

  ErrorPtr Release(const v1::ReleaseRequest& request,
                   v1::ReleaseResponse* response, const CallContext& context);
  ErrorPtr Renew(const v1::RenewRequest& request, v1::RenewResponse* response,
                 const CallContext& context);
  ErrorPtr Stats(const v1::StatsRequest& request, v1::StatsResponse* response,
                 const CallContext& context);

  // Their session has ended, and so do they, with the calls that run on them.
  void Reclaim(const std::vector<LeaseId>& leases, Instant now);
  // Whether it is a lease still.
  bool IsHeld(const LeaseId& lease, Instant now);

  // From Add to Remove a session is counted and told of a drain (at once, when
  // it has begun already). Add returns its number, from 1.
  uint64_t AddSession(OpenSession* session);
  void RemoveSession(OpenSession* session);

  // Whether the policy lets this caller do it; for what is answered on the spot
  // and for opening a session.
  ErrorPtr Authorize(RpcMethod rpc, const CallContext& context,
                     std::string_view target);

  void Reconfigure(const BrokerSettings& settings);
  std::shared_ptr<const BrokerSettings> settings() const;

  // For /metrics.
  const Gatekeeper& gatekeeper() const { return gatekeeper_; }
  const Overload& overload() const { return overload_; }
  AnswerMemory& answers() { return answers_; }
  const AnswerMemory& answers() const { return answers_; }

  // No new leases, and no new calls without one; what runs goes on.
  void StartDrain(Instant now);
  // Nothing runs and nobody holds a lease.
  bool Drained(Instant now) const;
  // Completes every call that still runs, as Call::Abort says, and ends the
  // sessions. A call that starts later completes at once in the same way.
  void AbortCalls();

 private:
  friend class PooledCall;
  friend class AcquireCall;
  friend class RequestCall;
  friend class ExecuteCall;
  friend class TunnelCall;
  friend class StreamCall;
  class Registry;

  // An answer came on a connection of `target`: maybe its address asks for a
  // rest.
  void CoolDown(const CoolDownSettings& settings, const std::string& target,
                pool::Handle handle, int status,
                const std::vector<upstream::Header>& headers, Instant now);
  void AddDesyncs(v1::StatsResponse* response) const;
  // Null for kOk. Of the others it may be that somebody tried what is not his.
  ErrorPtr LeaseError(pool::LeaseStatus status, RpcMethod rpc,
                      const CallContext& context);
  // The budget of a target; shared by the tail when there are too many.
  std::shared_ptr<RetryBudget> BudgetOf(const std::string& target);

  const uint32_t instance_;
  const std::chrono::system_clock::time_point start_time_;
  pool::Pool* const pool_;
  upstream::Upstream* const upstream_;
  CallMetrics* const metrics_;
  const std::unique_ptr<Registry> registry_;
  Gatekeeper gatekeeper_;
  Overload overload_;
  AnswerMemory answers_;
  const AnswerMemory::CallerPtr unknown_caller_ =
      std::make_shared<AnswerMemory::Caller>();
  std::atomic<bool> aborted_{false};

  mutable Mutex settings_mu_;
  std::shared_ptr<const BrokerSettings> settings_ ABSL_GUARDED_BY(settings_mu_);
};

// The lease that `text` names when this caller says it; null when it is not a
// lease id. A lease of another identity is found to be one only by the pool.
std::optional<LeaseId> PresentedLease(const std::string& text,
                                      const CallContext& context);

// The caller's deadline less a margin (5 % of what remains, 2 to 50 ms), so
// that our explained error arrives before the library's bare one.
Instant WithMargin(Instant deadline, Instant now);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_BROKER_H_
