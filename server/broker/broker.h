// The use cases of Hotline: acquire a connection, execute a request, stream it,
// open a tunnel, give back, look at statistics. It decides who may do what
// (policy, quotas, overload), lets the pool choose the connection and the
// upstream run the call, and explains every failure. No gRPC and no HTTP/2
// towards callers in it.
//
// Everything that may have to wait is a Call (call.h): it waits in the pool's
// line, runs on a connection, backs off and tries again if it may, and
// completes exactly once. The rest (Release, Renew, Stats) is answered at once.
//
// Thread safety: every method may be called from any thread. None blocks.
//
// Invariants:
//   1. The settings that a call runs under do not change while it runs.
//   2. A call that starts after AbortCalls is aborted at once.
//   3. No use case is carried out for a caller whom the policy denies it.
#ifndef HOTLINE_SERVER_BROKER_BROKER_H_
#define HOTLINE_SERVER_BROKER_BROKER_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/lease_id.h"
#include "base/mutex.h"
#include "base/time.h"
#include "hotline/v1/broker.pb.h"
#include "pool/pool.h"
#include "server/broker/answer_memory.h"
#include "server/broker/call.h"
#include "server/broker/call_metrics.h"
#include "server/broker/error.h"
#include "server/broker/gatekeeper.h"
#include "server/broker/identity.h"
#include "server/broker/options.h"
#include "server/broker/overload.h"
#include "server/broker/policy.h"
#include "upstream/upstream.h"

namespace hotline::server {

struct BrokerParts;
class EventLog;
class EventWatch;
class ExecuteAnswer;
class OpenSession;
class Registry;

class Broker {
 public:
  // All must outlive the broker, and the broker every call, session and watch.
  Broker(const BrokerSettings& settings, uint32_t instance, pool::Pool* pool,
         upstream::Upstream* upstream, CallMetrics* metrics, EventLog* events);
  ~Broker();
  Broker(const Broker&) = delete;
  Broker& operator=(const Broker&) = delete;

  // --- Calls ---

  // The request and the response or answer must live until completion.
  std::shared_ptr<Call> NewAcquire(const v1::AcquireRequest* request,
                                   v1::AcquireResponse* response,
                                   CallContext context, Completion* completion);
  std::shared_ptr<Call> NewExecute(const v1::ExecuteRequest* request,
                                   ExecuteAnswer* answer, CallContext context,
                                   Completion* completion);
  // `caller` and `completion` must live until completion.
  TunnelParts NewTunnel(v1::TunnelOpen open, CallContext context,
                        TunnelCaller* caller, Completion* completion);
  // `last` and the peer must live until completion.
  std::shared_ptr<StreamedCall> NewExecuteStream(
      v1::ExecuteStreamResponse* last, CallContext context, StreamPeer* peer);

  // --- Answered at once ---

  ErrorPtr Release(const v1::ReleaseRequest& request,
                   v1::ReleaseResponse* response, const CallContext& context) {
    LeaseId released;
    return Release(request, response, context, &released);
  }
  // Sets `lease` to the one that the request names, if there is one.
  ErrorPtr Release(const v1::ReleaseRequest& request,
                   v1::ReleaseResponse* response, const CallContext& context,
                   LeaseId* lease);
  ErrorPtr Renew(const v1::RenewRequest& request, v1::RenewResponse* response,
                 const CallContext& context);
  ErrorPtr Stats(const v1::StatsRequest& request, v1::StatsResponse* response,
                 const CallContext& context);

  // --- Sessions ---

  // Acquires an idle connection without making a Call. False: nothing has
  // happened; NewAcquire will answer.
  bool AcquireIdle(const v1::AcquireRequest& request,
                   const CallContext& context, v1::AcquireResponse* response,
                   LeaseId* lease);
  // Ends leases whose session is gone, and the calls that run on them.
  void Reclaim(const std::vector<LeaseId>& leases, Instant now);
  // Ends a lease whose Acquire was answered, but not to its caller any more
  // (the stream was reset), unless something has used it.
  void ReleaseIfUnused(const LeaseId& lease, Instant now);
  // Whether the lease has not ended.
  bool IsHeld(const LeaseId& lease, Instant now);
  // Between Add and Remove a session counts, and is called on a drain. Add
  // returns the session's number, from 1; it calls OnDrain if a drain has
  // begun.
  uint64_t AddSession(OpenSession* session);
  void RemoveSession(OpenSession* session);
  // Whether the policy allows this caller to open one. Null: it does.
  ErrorPtr AuthorizeSession(const CallContext& context);

  // --- Events ---

  // Makes the watch that the request asks for, as far as the policy allows it
  // to the caller.
  ErrorPtr WatchEvents(const v1::WatchEventsRequest& request,
                       const CallContext& context,
                       std::unique_ptr<EventWatch>* watch);
  // The same for an operator, who sees the holders of all leases.
  ErrorPtr WatchEventsAsOperator(const v1::WatchEventsRequest& request,
                                 const IdentityPtr& who, Instant now,
                                 std::unique_ptr<EventWatch>* watch);
  EventLog& events() const;

  // --- Operators ---

  // Null: the policy allows `who` to operate on `target` (canonical; empty: the
  // whole broker).
  ErrorPtr AuthorizeAdmin(const IdentityPtr& who, std::string_view target,
                          Instant now);
  // Ends the lease of this pool::LeaseRow::id, and the call that runs on it,
  // which sets `call_ended`. LEASE_UNKNOWN: there is none.
  ErrorPtr EndLease(uint64_t row_id, Instant now, bool* call_ended);

  // While it is drained, new leases and new calls without one are refused; who
  // waits or runs goes on, and connections stay open. Returns what it was
  // before.
  bool SetDrained(bool drained);
  bool drained() const;

  // --- The process ---

  void Reconfigure(const BrokerSettings& settings);
  std::shared_ptr<const BrokerSettings> settings() const;

  // Refuses new leases, and new calls without one; what runs continues.
  void StartDrain(Instant now);
  // Another process serves callers from now on. Sessions end once nothing runs
  // on them and no lease is held; everything else is served, because callers
  // call until they know.
  void HandOver();
  // After HandOver: sessions begin no more than what their leases need, so that
  // those under a steady load end, too.
  void LeaveSessions();
  // Nothing runs and no lease is held.
  bool Drained(Instant now) const;
  // Aborts every call that still runs, and ends the sessions and watches.
  void AbortCalls();
  bool aborted() const;

  // For metrics and tests.
  const Gatekeeper& gatekeeper() const;
  const Overload& overload() const;
  const Registry& registry() const;
  const AnswerMemory& answers() const;
  AnswerMemory& answers();

 private:
  // The context's, or else the current ones.
  std::shared_ptr<const BrokerSettings> SettingsOf(
      const CallContext& context) const;
  // `context` with settings.
  CallContext WithSettings(CallContext context) const;
  // Null: `rpc` is allowed. For what is answered at once.
  ErrorPtr Authorize(const BrokerSettings& settings, RpcMethod rpc,
                     const CallContext& context, std::string_view target);
  // Pool::ReleaseNamed, also for an Acquire that has no place in line at the
  // moment.
  pool::LeaseStatus ReleaseNamed(const std::string& target,
                                 const std::string& id, pool::Outcome outcome,
                                 Instant now, LeaseId* lease,
                                 pool::CallTag* running);
  // Ends the call that runs on a lease that has ended; `running` 0: none.
  void EndCallOn(const LeaseId& lease, pool::CallTag running);

  const uint32_t instance_;
  const std::chrono::system_clock::time_point start_time_;
  const std::unique_ptr<BrokerParts> parts_;

  mutable Mutex settings_mu_;
  std::shared_ptr<const BrokerSettings> settings_ ABSL_GUARDED_BY(settings_mu_);
  // Changes with settings_, so that each thread can keep a reference to them.
  std::atomic<uint64_t> settings_version_;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_BROKER_H_
