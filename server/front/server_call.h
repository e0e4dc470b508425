// A call on one stream of a caller's connection, up to the broker: messages in
// and out, half-close, deadline, cancellation, status, metrics.
//
// A call is plain state of its connection's loop: no lock. What the broker says
// on another thread comes by mailbox (OnLoop), in order. A call lives as long
// as its stream or its run in the broker, whichever ends last, and then deletes
// itself.
//
//   stream:  OnData/OnEnd ──> OnMessage, OnHalfClose   (when it reads)
//            OnClosed     ──> CancelRun                (if it has not finished)
//   run:     BeginRun ... completion ──> EndRun ──> Finish
//   End (a fault of the caller, the deadline): Finish, or CancelRun and Finish
//
// A message is asked for by ReadNext, one at a time. The caller gets credit for
// what was read, and for a message that has come in part as far as Assembly
// allows; what a call does not read yet waits within the stream's window.
//
// Invariants:
// 1. Every call whose stream is open at the end of its run gets one status.
// 2. Nothing is sent after Finish, and nothing without a stream.
// 3. OnMessage and OnHalfClose are called while the call is neither over nor
//    cancelled; OnHalfClose once, for a request that is complete.
#ifndef HOTLINE_SERVER_FRONT_SERVER_CALL_H_
#define HOTLINE_SERVER_FRONT_SERVER_CALL_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/time.h"
#include "net/http2/server_session.h"
#include "net/loop.h"
#include "server/broker/call.h"
#include "server/broker/error.h"
#include "server/broker/rpc.h"
#include "server/front/assembly.h"
#include "server/front/grpc_wire.h"

namespace google::protobuf {
class MessageLite;
}  // namespace google::protobuf

namespace hotline::server {

class CallerConnection;
class FrontLoop;

// What a call begins with. The views of `request` and `fields` live during the
// constructor.
struct CallOrigin {
  CallerConnection* connection = nullptr;
  net::ServerStream* stream = nullptr;
  GrpcRequest request;
  // The request's metadata, and the other fields of its head.
  absl::Span<const net::HeaderField> fields;
  Instant now{};
};

class ServerCall : private Assembly::Member {
 public:
  // More than the broker's own limit on bodies: its typed error comes first.
  static constexpr size_t kMaxMessageBytes = 8 << 20;

  // Keeps a call alive.
  class Ref {
   public:
    explicit Ref(ServerCall* call) : call_(call) { ++call_->holders_; }
    Ref(Ref&& other) noexcept : call_(std::exchange(other.call_, nullptr)) {}
    Ref& operator=(Ref&&) = delete;
    ~Ref() {
      if (call_ != nullptr) call_->Release();
    }
    ServerCall* operator->() const { return call_; }

   private:
    ServerCall* call_;
  };

  ServerCall(const ServerCall&) = delete;
  ServerCall& operator=(const ServerCall&) = delete;

  // --- From the connection and its loop ---
  void OnData(std::string_view bytes);
  void OnEnd();
  void OnClosed(net::StreamEnd end);
  // Nothing waits any more, after Send had said that something does.
  virtual void OnSendable() {}
  // After FrontLoop::AtTurnEnd.
  virtual void OnTurnEnd() {}
  // The connection is about to be cut off. Ends a call that waits for the rest
  // of its request: it has not reached the broker, which ends the others
  // (Broker::AbortCalls).
  void OnCutOff();

  // Sets the timer, if there is a deadline and the call is not over: for calls
  // whose deadline the broker does not watch, or not yet.
  void ArmDeadline();
  // From here on the broker watches it.
  void DisarmDeadline();
  bool request_complete() const { return ended_; }
  bool listed = false;  // CallerConnection's: it is among the incomplete ones.

 protected:
  // `method`: null for calls that are not the broker's.
  ServerCall(const CallOrigin& origin, std::optional<RpcMethod> method);
  virtual ~ServerCall();

  // --- What a kind of call does ---
  // `message` is valid during the call.
  virtual void OnMessage(std::string_view message) = 0;
  virtual void OnHalfClose() = 0;
  // Ends what runs in the broker; its completion follows.
  virtual void CancelRun() = 0;
  // The stream is gone; called once, before CancelRun.
  virtual void OnStreamGone(net::StreamEnd /*end*/) {}

  // --- Input ---
  // Asks for the next message, or the end.
  void ReadNext();
  // Null, or why `bytes` are no such message.
  ErrorPtr Parse(std::string_view bytes, google::protobuf::MessageLite* into);

  // --- The run ---
  // The call's context; once.
  CallContext TakeContext() { return std::move(context_); }
  const CallContext& context() const { return context_; }
  // Between these two the call lives, with a stream or without.
  void BeginRun() {
    running_ = true;
    ++holders_;
  }
  // Finishes, unless End has said how. Nothing of the call may be used after.
  void EndRun(ErrorPtr error);
  // Ends the call for a reason of the front's own. Does nothing when over.
  void End(ErrorPtr error);
  bool running() const { return running_; }
  // Finished, about to be, or without a stream.
  bool over() const {
    return finished_ || ending_ != nullptr || stream_ == nullptr;
  }

  // --- Output; each does nothing without a stream ---
  void SendHeaders();
  // Return how many bytes wait; more than 0: OnSendable follows.
  size_t Send(const google::protobuf::MessageLite& message);
  // `message` is encoded.
  size_t SendEncoded(std::string_view message);
  // Null: OK. Counts the call, and sends its status.
  void Finish(ErrorPtr error);
  // The same with one message before it, whose `size` bytes `encode` writes.
  // For calls that have sent nothing.
  void FinishWith(size_t size, absl::FunctionRef<void(uint8_t*)> encode);
  void FinishWith(const google::protobuf::MessageLite& message);

  // Does `work` on the call's loop: at once when called there, unless something
  // is in the mailbox already. REQUIRES: the call is kept alive until then.
  template <typename Work>
  void OnLoop(Work work) {
    if (RunsHere() && mails_.load(std::memory_order_acquire) == 0) {
      return work();
    }
    mails_.fetch_add(1, std::memory_order_acq_rel);
    Post([this, work = std::move(work)]() mutable {
      mails_.fetch_sub(1, std::memory_order_acq_rel);
      work();
    });
  }

  FrontLoop& home() const { return home_; }
  // Null when the stream is gone.
  CallerConnection* connection() const { return connection_; }
  net::ServerStream* stream() const { return stream_; }

 private:
  // Assembly::Member:
  void OnAssemblyRoom() override { Credit(); }

  void Pump();
  // Gives the caller credit for what was read.
  void Credit();
  void LeaveAssembly();
  void OnDeadline();
  void Record(absl::StatusCode code);
  void SendStatus(const Error* error);
  void Release() {
    if (--holders_ == 0) delete this;
  }
  bool RunsHere() const;
  void Post(net::Loop::Work work);

  FrontLoop& home_;
  CallerConnection* connection_;
  net::ServerStream* stream_;
  const std::optional<RpcMethod> method_;
  const Instant start_;
  const Instant deadline_;
  CallContext context_;
  MessageReader reader_;
  net::Loop::Deadline timer_;

  uint64_t received_ = 0;  // Bytes of the body.
  uint64_t credited_ = 0;
  size_t assembled_ = 0;  // Of those, for a message that is not complete.

  int holders_ = 1;  // The stream.
  std::atomic<int> mails_{0};
  ErrorPtr ending_;  // Why End was called.
  bool running_ = false;
  bool finished_ = false;
  bool headers_sent_ = false;
  bool ended_ = false;    // The caller has ended its side.
  bool reading_ = false;  // A message is asked for.
  bool pumping_ = false;
};

// Statuses of the transport's own, without an ErrorInfo: no reason.
ErrorPtr PlainError(absl::StatusCode code, std::string_view text);

// --- The kinds of calls; each owns itself ---

ServerCall* NewUnaryCall(RpcMethod method, const CallOrigin& origin);
ServerCall* NewExecuteStreamCall(const CallOrigin& origin);
ServerCall* NewTunnelCall(const CallOrigin& origin);
ServerCall* NewSessionCall(const CallOrigin& origin);
ServerCall* NewWatchEventsCall(const CallOrigin& origin);
ServerCall* NewHealthCheckCall(const CallOrigin& origin);
ServerCall* NewHealthWatchCall(const CallOrigin& origin);
ServerCall* NewReflectionCall(const CallOrigin& origin);

// Serves a method of a further service. Null: there is no such method.
using CallFactory = ServerCall* (*)(const CallOrigin& origin);

// By the service and the method that the request names. Null: there is none.
ServerCall* NewServerCall(const CallOrigin& origin);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_FRONT_SERVER_CALL_H_
