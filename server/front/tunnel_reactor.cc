#include "server/front/tunnel_reactor.h"

#include <deque>
#include <memory>
#include <optional>
#include <utility>

#include "base/mutex.h"
#include "server/front/status.h"

namespace hotline::server {
namespace {

constexpr size_t kMaxDataBytes = 1 << 20;

ErrorPtr BadMessage(const char* field, const char* message) {
  return FromInput({"BAD_MESSAGE", field, message});
}

// Reads one message at a time, the next when the tunnel has room for it, and
// writes one at a time. What waits to be written is bounded by what the tunnel
// lets come in before it was written.
//
// gRPC says the same of a caller that has ended its side and of one that broke
// off. Only the first still takes messages: so an empty one is written, and
// when it has gone, the end is passed on. To the upstream a tunnel that broke
// off must not look complete.
class TunnelReactor final : public TunnelServerReactor,
                            public TunnelCaller,
                            public Completion {
 public:
  TunnelReactor(Broker* broker, RpcMetrics* metrics, CallContext context)
      : broker_(broker),
        metrics_(metrics),
        context_(std::move(context)),
        start_(context_.arrival) {
    StartRead(&request_);
  }

  // grpc::ServerBidiReactor:
  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override { delete this; }

  // TunnelCaller, Completion:
  void Write(v1::TunnelResponse message) override {
    Enqueue({std::move(message)});
  }
  void AskForMore() override { StartRead(&request_); }
  void OnComplete(ErrorPtr error) override;

 private:
  struct Outgoing {
    v1::TunnelResponse message;
    bool confirms = false;  // That the caller has ended its side.
  };

  void Open();
  void Enqueue(Outgoing outgoing);
  // The caller broke the rules.
  void Refuse(ErrorPtr error);
  void FinishWith(const grpc::Status& status);

  Broker* const broker_;
  RpcMetrics* const metrics_;
  CallContext context_;
  const Instant start_;
  v1::TunnelRequest request_;
  // Set once, before the second read is begun.
  TunnelParts parts_;

  Mutex mu_;
  // The first one is being written.
  std::deque<Outgoing> queue_ ABSL_GUARDED_BY(mu_);
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  std::shared_ptr<Call> call_ ABSL_GUARDED_BY(mu_);  // For OnCancel.
  ErrorPtr refused_ ABSL_GUARDED_BY(mu_);
  // How it ended, to be told when everything is written.
  std::optional<grpc::Status> status_ ABSL_GUARDED_BY(mu_);
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
};

void TunnelReactor::OnReadDone(bool ok) {
  if (parts_.tunnel == nullptr) {
    if (!ok || !request_.has_open()) {
      return FinishWith(ToStatus(
          BadMessage("open", "the first message of a tunnel opens it")));
    }
    return Open();
  }
  if (!ok) return Enqueue({{}, /*confirms=*/true});
  if (!request_.has_data()) {
    return Refuse(BadMessage("data", "after the first message only data"));
  }
  if (request_.data().size() > kMaxDataBytes) {
    return Refuse(BadMessage("data", "at most 1048576 bytes in one message"));
  }
  if (parts_.tunnel->Send(request_.data())) StartRead(&request_);
}

void TunnelReactor::Open() {
  parts_ = broker_->NewTunnel(std::move(*request_.mutable_open()),
                              std::move(context_), this, this);
  const std::shared_ptr<Call> call = parts_.call;
  bool cancelled;
  {
    MutexLock lock(&mu_);
    call_ = call;
    cancelled = cancelled_;
  }
  call->Start();
  if (cancelled) call->Cancel();
}

void TunnelReactor::Refuse(ErrorPtr error) {
  {
    MutexLock lock(&mu_);
    refused_ = std::move(error);
  }
  parts_.call->Cancel();
}

void TunnelReactor::OnCancel() {
  std::shared_ptr<Call> call;
  {
    MutexLock lock(&mu_);
    cancelled_ = true;
    call = call_;
  }
  if (call != nullptr) call->Cancel();
}

void TunnelReactor::Enqueue(Outgoing outgoing) {
  const v1::TunnelResponse* next;
  {
    MutexLock lock(&mu_);
    // The caller's end may come when all is over.
    if (finished_ || status_) return;
    queue_.push_back(std::move(outgoing));
    if (queue_.size() > 1) return;
    next = &queue_.front().message;
  }
  StartWrite(next);
}

void TunnelReactor::OnWriteDone(bool ok) {
  size_t written;
  bool ended;
  const v1::TunnelResponse* next = nullptr;
  std::optional<grpc::Status> status;
  {
    MutexLock lock(&mu_);
    if (finished_) return;
    written = queue_.front().message.data().size();
    ended = ok && queue_.front().confirms;
    queue_.pop_front();
    // Nobody reads them: OnCancel has come, or will.
    if (!ok) queue_.clear();
    if (!queue_.empty()) {
      next = &queue_.front().message;
    } else if (status_) {
      status = std::move(status_);
      finished_ = true;
    }
  }
  if (next != nullptr) StartWrite(next);
  if (written > 0) parts_.tunnel->OnWritten(written);
  if (ended) parts_.tunnel->EndSend();
  if (status) FinishWith(*status);
}

void TunnelReactor::OnComplete(ErrorPtr error) {
  grpc::Status status;
  {
    MutexLock lock(&mu_);
    if (refused_ != nullptr) error = std::move(refused_);
    status = ToStatus(error);
    // What came before the end goes first, unless the caller is the reason why
    // it waits.
    const bool at_once = error != nullptr &&
                         (error->code == absl::StatusCode::kDeadlineExceeded ||
                          error->code == absl::StatusCode::kCancelled ||
                          error->code == absl::StatusCode::kInvalidArgument);
    if (!at_once && !queue_.empty()) {
      status_ = std::move(status);
      return;
    }
    finished_ = true;
  }
  FinishWith(status);
}

void TunnelReactor::FinishWith(const grpc::Status& status) {
  metrics_->RecordRpc(RpcMethod::kTunnel, status.error_code(),
                      MonotonicNow() - start_);
  Finish(status);
}

}  // namespace

TunnelServerReactor* NewTunnelReactor(Broker* broker, RpcMetrics* metrics,
                                      CallContext context) {
  return new TunnelReactor(broker, metrics, std::move(context));
}

}  // namespace hotline::server
