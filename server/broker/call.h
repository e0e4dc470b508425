// The calls that a Broker runs, as their callers see them.
//
//   class Reply : public Completion { void OnComplete(ErrorPtr) override; };
//   auto call = broker.NewExecute(&request, &answer, context, &reply);
//   call->Start();
//   ...
//   call->Cancel();  // Optional; OnComplete follows in any case.
//
// A front implements the receiving ends (Completion, StreamPeer, TunnelCaller)
// and drives the calls; nothing here knows how messages are carried.
//
// Thread safety: the methods of a call may be called from any thread, none
// blocks. The receiving ends are called from any thread, without a lock held,
// possibly before Start returns; they must not block either.
//
// Invariants:
//   1. A started call completes exactly once. Nothing follows the completion.
//   2. A started call keeps itself alive until it has completed.
//   3. Cancel and Abort after the completion do nothing.
#ifndef HOTLINE_SERVER_BROKER_CALL_H_
#define HOTLINE_SERVER_BROKER_CALL_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/lease_id.h"
#include "base/time.h"
#include "hotline/v1/broker.pb.h"
#include "pool/types.h"
#include "server/broker/answer_memory.h"
#include "server/broker/error.h"
#include "server/broker/identity.h"
#include "server/broker/options.h"

namespace hotline::server {

// The circumstances of a call, beside its message.
struct CallContext {
  Instant arrival{};
  // The caller's, on our clock; kNever without one.
  Instant deadline = kNever;
  std::string traceparent;  // W3C Trace Context, from the metadata; or empty.
  // The holder of leases whose requests name none; it also identifies the
  // session that all leases of the call are bound to. May be null.
  std::shared_ptr<const pool::Holder> holder;
  IdentityPtr identity;  // Null: the caller has no identity.
  // The connection or session that the answers go to. Null: one that all calls
  // without one share.
  AnswerMemory::CallerPtr answers;
  // The loop that the caller's connection lives on.
  pool::LoopIndex loop = pool::kNoLoop;
  // Null: the broker's settings when the call is made.
  std::shared_ptr<const BrokerSettings> settings;

  // The owner of the caller's leases (LeaseId::owner).
  uint64_t owner() const { return identity == nullptr ? 0 : identity->owner; }
};

// Receives the end of a call.
class Completion {
 public:
  virtual ~Completion() = default;
  // Null: success, and the response is filled.
  virtual void OnComplete(ErrorPtr error) = 0;
};

class Call : public std::enable_shared_from_this<Call> {
 public:
  virtual ~Call() = default;
  // Once.
  virtual void Start() = 0;
  // Ends the call as soon as possible because its caller is gone.
  virtual void Cancel() = 0;
  // Ends the call because the process ends: DRAINING if nothing was sent, else
  // the error that its phase calls for.
  virtual void Abort() = 0;
  // `lease` was given back as unfit, or its holder is gone: ends the call if it
  // runs on that lease.
  virtual void OnLeaseGone(const LeaseId& /*lease*/) {}

  // Identifies the call to the pool and the registry until it has completed.
  pool::CallTag tag() const { return reinterpret_cast<uintptr_t>(this); }
};

// The caller's end of a tunnel. Called by one thread at a time.
class TunnelCaller {
 public:
  virtual ~TunnelCaller() = default;
  // Sends a message after those before it; Tunnel::OnWritten follows.
  virtual void Write(v1::TunnelResponse message) = 0;
  // Tunnel::Send may be called: after `opened`, and after Send returned false,
  // in that case possibly before it has returned.
  virtual void AskForMore() = 0;
};

// The upstream's end of a tunnel. All methods do nothing once the tunnel is
// over. Send and EndSend are called by one thread at a time.
class Tunnel {
 public:
  virtual ~Tunnel() = default;
  // False: no more until AskForMore.
  virtual bool Send(std::string_view data) = 0;
  virtual void EndSend() = 0;
  // `bytes` of the upstream's data were sent to the caller.
  virtual void OnWritten(size_t bytes) = 0;
};

// A tunnel as a call; `tunnel` lives as long as `call`.
struct TunnelParts {
  std::shared_ptr<Call> call;
  Tunnel* tunnel = nullptr;
};

// The caller's end of a streamed call. Called by one thread at a time; may
// answer from inside the call.
class StreamPeer : public Completion {
 public:
  // Reads the caller's next message; StreamedCall::OnRead follows, once.
  virtual void Read() = 0;
  // Sends one message; OnWritten follows, once, when there is room for the
  // next. One Write or Confirm at a time.
  virtual void Write(v1::ExecuteStreamResponse message) = 0;
  // Finds out whether the caller has ended its side or broken off. OnConfirmed
  // follows, once, if it has ended it; nothing follows otherwise.
  virtual void Confirm() = 0;
  // OnComplete with null: `last` of NewExecuteStream is still to be sent.
};

// A call whose bodies pass in pieces.
class StreamedCall {
 public:
  virtual ~StreamedCall() = default;
  // The message that was read, which may be moved from; null: the end.
  virtual void OnRead(v1::ExecuteStreamRequest* message) = 0;
  virtual void OnWritten() = 0;
  virtual void OnConfirmed() = 0;
  // The same object.
  virtual std::shared_ptr<Call> AsCall() = 0;
};

// The lease that `text` names when this caller presents it; nothing if it is
// not a lease id. Only the pool finds out whether the lease is another owner's.
std::optional<LeaseId> PresentedLease(const std::string& text,
                                      const CallContext& context);

// The caller's deadline less a margin (5 % of what remains, 2 to 50 ms), so
// that our explained error arrives before the library's bare one.
Instant WithMargin(Instant deadline, Instant now);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_CALL_H_
