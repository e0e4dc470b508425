// Tunnel: bytes of the caller's to the upstream, one message at a time, and
// back. What waits to be sent to the caller is bounded by what the tunnel lets
// come in before it is told that it was sent (Tunnel::OnWritten).
#include <deque>
#include <memory>
#include <utility>

#include "hotline/v1/broker.pb.h"
#include "server/broker/broker.h"
#include "server/broker/call.h"
#include "server/front/caller_connection.h"
#include "server/front/front_loop.h"
#include "server/front/server_call.h"

namespace hotline::server {
namespace {

constexpr size_t kMaxDataBytes = 1 << 20;

ErrorPtr BadMessage(const char* field, const char* message) {
  return FromInput({"BAD_MESSAGE", field, message});
}

// Whether what still waits for the caller is not worth waiting for: the caller
// is the reason for the end.
bool EndsAtOnce(const ErrorPtr& error) {
  return error != nullptr &&
         (error->code == absl::StatusCode::kDeadlineExceeded ||
          error->code == absl::StatusCode::kCancelled ||
          error->code == absl::StatusCode::kInvalidArgument);
}

class TunnelOnStream final : public ServerCall,
                             private TunnelCaller,
                             private Completion {
 public:
  explicit TunnelOnStream(const CallOrigin& origin)
      : ServerCall(origin, RpcMethod::kTunnel) {
    ArmDeadline();
    ReadNext();
  }

  void OnSendable() override {
    blocked_ = false;
    NoteWritten(std::exchange(waiting_bytes_, 0));
    SendQueued();
  }

  // The tunnel is told of a turn's bytes at once, and never from inside of its
  // own call.
  void OnTurnEnd() override {
    parts_.tunnel->OnWritten(std::exchange(written_, 0));
  }

 private:
  // ServerCall:
  void OnMessage(std::string_view message) override;
  void OnHalfClose() override {
    if (parts_.tunnel == nullptr) return End(NotOpened());
    parts_.tunnel->EndSend();
  }
  void CancelRun() override {
    if (completed_) return EndRun(std::move(error_));
    parts_.call->Cancel();
  }

  // TunnelCaller:
  void Write(v1::TunnelResponse message) override {
    OnLoop([this, message = std::move(message)]() mutable {
      if (over()) return;
      queue_.push_back(std::move(message));
      SendQueued();
    });
  }
  void AskForMore() override {
    OnLoop([this] { ReadNext(); });
  }

  // Completion:
  void OnComplete(ErrorPtr error) override {
    OnLoop([this, error = std::move(error)]() mutable {
      if (queue_.empty() || over() || EndsAtOnce(error)) {
        return EndRun(std::move(error));
      }
      completed_ = true;
      error_ = std::move(error);
    });
  }

  static ErrorPtr NotOpened() {
    return BadMessage("open", "the first message of a tunnel opens it");
  }
  void Open();
  void SendQueued();
  void NoteWritten(size_t bytes) {
    if (bytes == 0) return;
    if (written_ == 0) home().AtTurnEnd(this);
    written_ += bytes;
  }

  v1::TunnelRequest request_;
  TunnelParts parts_;
  std::deque<v1::TunnelResponse> queue_;
  bool blocked_ = false;      // OnSendable follows.
  size_t waiting_bytes_ = 0;  // Of data, until then.
  size_t written_ = 0;        // Of data, not reported yet.
  bool completed_ = false;    // With error_, once the queue is empty.
  ErrorPtr error_;
};

void TunnelOnStream::OnMessage(std::string_view message) {
  if (ErrorPtr error = Parse(message, &request_)) return End(std::move(error));
  if (parts_.tunnel == nullptr) {
    return request_.has_open() ? Open() : End(NotOpened());
  }
  if (!request_.has_data()) {
    return End(BadMessage("data", "after the first message only data"));
  }
  if (request_.data().size() > kMaxDataBytes) {
    return End(BadMessage("data", "at most 1048576 bytes in one message"));
  }
  // Else AskForMore follows.
  if (parts_.tunnel->Send(request_.data())) ReadNext();
}

void TunnelOnStream::Open() {
  parts_ = home().parts().broker->NewTunnel(std::move(*request_.mutable_open()),
                                            TakeContext(), this, this);
  BeginRun();
  const std::shared_ptr<Call> call = parts_.call;
  call->Start();
}

void TunnelOnStream::SendQueued() {
  while (!queue_.empty() && !blocked_ && !over()) {
    const v1::TunnelResponse message = std::move(queue_.front());
    queue_.pop_front();
    blocked_ = Send(message) > 0;
    if (blocked_) {
      waiting_bytes_ = message.data().size();
    } else {
      NoteWritten(message.data().size());
    }
  }
  if (completed_ && queue_.empty()) EndRun(std::move(error_));
}

}  // namespace

ServerCall* NewTunnelCall(const CallOrigin& origin) {
  return new TunnelOnStream(origin);
}

}  // namespace hotline::server
