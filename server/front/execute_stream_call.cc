// ExecuteStream: hands messages on, one at a time in each direction.
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

class ExecuteStreamCall final : public ServerCall, private StreamPeer {
 public:
  explicit ExecuteStreamCall(const CallOrigin& origin)
      : ServerCall(origin, RpcMethod::kExecuteStream) {
    ArmDeadline();
    call_ =
        home().parts().broker->NewExecuteStream(&last_, TakeContext(), this);
    BeginRun();
    call_->AsCall()->Start();
  }

  void OnSendable() override {
    if (std::exchange(writing_, false)) call_->OnWritten();
  }

 private:
  // ServerCall:
  void OnMessage(std::string_view message) override {
    if (ErrorPtr error = Parse(message, &request_)) {
      return End(std::move(error));
    }
    call_->OnRead(&request_);
  }
  void OnHalfClose() override { call_->OnRead(nullptr); }
  void CancelRun() override { call_->AsCall()->Cancel(); }

  // StreamPeer:
  void Read() override {
    OnLoop([this] { ReadNext(); });
  }
  void Write(v1::ExecuteStreamResponse message) override {
    OnLoop([this, message = std::move(message)] {
      if (over()) return;  // Cancelled.
      writing_ = Send(message) > 0;
      if (!writing_) call_->OnWritten();
    });
  }
  // The end was END_STREAM. Most callers that break off only reset the stream.
  void Confirm() override {
    OnLoop([this] {
      if (!over()) call_->OnConfirmed();
    });
  }
  void OnComplete(ErrorPtr error) override {
    OnLoop([this, error = std::move(error)]() mutable {
      if (error == nullptr && !over()) Send(last_);
      EndRun(std::move(error));
    });
  }

  std::shared_ptr<StreamedCall> call_;
  v1::ExecuteStreamRequest request_;
  v1::ExecuteStreamResponse last_;
  bool writing_ = false;  // A message waits; OnSendable follows.
};

}  // namespace

ServerCall* NewExecuteStreamCall(const CallOrigin& origin) {
  return new ExecuteStreamCall(origin);
}

}  // namespace hotline::server
