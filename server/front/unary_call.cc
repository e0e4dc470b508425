#include "server/front/unary_call.h"

#include <memory>
#include <optional>
#include <utility>

#include "base/recycling.h"
#include "hotline/v1/broker.pb.h"
#include "server/broker/broker.h"
#include "server/broker/call.h"
#include "server/broker/execute_answer.h"
#include "server/front/caller_connection.h"
#include "server/front/front_loop.h"

namespace hotline::server {
namespace {

// What is answered at once.
template <typename Request, typename Response,
          ErrorPtr (Broker::*kAnswer)(const Request&, Response*,
                                      const CallContext&)>
class PromptCall final
    : public UnaryCall<Request, Response>,
      public Recycled<PromptCall<Request, Response, kAnswer>> {
 public:
  using UnaryCall<Request, Response>::UnaryCall;

 private:
  void Start() override {
    Broker* const broker = this->home().parts().broker;
    ErrorPtr error =
        (broker->*kAnswer)(this->request(), this->response(), this->context());
    if (error != nullptr) return this->Finish(std::move(error));
    this->FinishWithResponse();
  }
};

// What runs as a Call of the broker's.
template <typename Request, typename Response>
class RunningCall : public UnaryCall<Request, Response>, public Completion {
 public:
  using UnaryCall<Request, Response>::UnaryCall;

 protected:
  virtual std::shared_ptr<Call> NewCall(Broker* broker, CallContext context,
                                        Completion* completion) = 0;
  // The answer is in response() and not sent yet.
  virtual void OnSuccess() {}

 private:
  void Start() override {
    call_ = NewCall(this->home().parts().broker, this->TakeContext(), this);
    this->BeginRun();
    // It may complete at once, and end with the stream.
    const std::shared_ptr<Call> call = call_;
    call->Start();
  }

  void CancelRun() override { call_->Cancel(); }

  void OnComplete(ErrorPtr error) override {
    this->OnLoop([this, error = std::move(error)]() mutable {
      if (error == nullptr) OnSuccess();
      if (error == nullptr && !this->over()) {
        this->FinishWithResponse();
        if (this->stream()->waiting_bytes() > 0) this->DropMessages();
      }
      // The broker's call stays until the stream is closed: it accounts for the
      // answer until the caller has taken it.
      this->EndRun(std::move(error));
    });
  }

  std::shared_ptr<Call> call_;
};

class ExecuteCallOnStream final
    : public RunningCall<v1::ExecuteRequest, ExecuteAnswer>,
      public Recycled<ExecuteCallOnStream> {
 public:
  using RunningCall::RunningCall;

 private:
  std::shared_ptr<Call> NewCall(Broker* broker, CallContext context,
                                Completion* completion) override {
    return broker->NewExecute(&request(), response(), std::move(context),
                              completion);
  }
};

// A lease whose caller does not learn of it goes back at once.
class AcquireCallOnStream final
    : public RunningCall<v1::AcquireRequest, v1::AcquireResponse>,
      public Recycled<AcquireCallOnStream> {
 public:
  using RunningCall::RunningCall;

 private:
  std::shared_ptr<Call> NewCall(Broker* broker, CallContext context,
                                Completion* completion) override {
    identity_ = context.identity;
    return broker->NewAcquire(&request(), response(), std::move(context),
                              completion);
  }

  void OnSuccess() override {
    CallContext presenter;
    presenter.identity = identity_;
    lease_ = PresentedLease(response()->lease().lease_id(), presenter);
    if (over()) {
      GiveBack();
    } else if (lease_.has_value()) {
      connection()->NoteAcquired(stream()->id(), *lease_);
    }
  }

  void OnStreamGone(net::StreamEnd end) override {
    if (end != net::StreamEnd::kComplete) GiveBack();
  }

  void GiveBack() {
    if (!lease_.has_value()) return;
    home().parts().broker->ReleaseIfUnused(*lease_, MonotonicNow());
    lease_.reset();
  }

  IdentityPtr identity_;
  std::optional<LeaseId> lease_;
};

}  // namespace

ServerCall* NewUnaryCall(RpcMethod method, const CallOrigin& origin) {
  switch (method) {
    case RpcMethod::kAcquire:
      return new AcquireCallOnStream(method, origin);
    case RpcMethod::kExecute:
      return new ExecuteCallOnStream(method, origin);
    case RpcMethod::kRelease:
      return new PromptCall<v1::ReleaseRequest, v1::ReleaseResponse,
                            &Broker::Release>(method, origin);
    case RpcMethod::kRenew:
      return new PromptCall<v1::RenewRequest, v1::RenewResponse,
                            &Broker::Renew>(method, origin);
    case RpcMethod::kStats:
      return new PromptCall<v1::StatsRequest, v1::StatsResponse,
                            &Broker::Stats>(method, origin);
    default:
      return nullptr;
  }
}

}  // namespace hotline::server
