#include "server/front/grpc_service.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "grpcpp/server_context.h"
#include "server/broker/http_head.h"
#include "server/front/caller.h"
#include "server/front/grpc_session.h"
#include "server/front/grpc_stream.h"
#include "server/front/status.h"
#include "server/front/tunnel_reactor.h"

namespace hotline::server {
namespace {

// One call under way: lives from the RPC's arrival until gRPC is done with it.
class CallReactor final : public grpc::ServerUnaryReactor, public Completion {
 public:
  CallReactor(RpcMethod method, RpcMetrics* metrics)
      : method_(method), metrics_(metrics), start_(MonotonicNow()) {}

  void Run(std::shared_ptr<Call> call) {
    call_ = std::move(call);
    call_->Start();
  }

  void OnComplete(ErrorPtr error) override {
    const grpc::Status status = ToStatus(error);
    metrics_->RecordRpc(method_, status.error_code(), MonotonicNow() - start_);
    Finish(status);
  }

  void OnCancel() override { call_->Cancel(); }
  void OnDone() override { delete this; }

  // Neither of these two blocks, so gRPC need not wake a thread of its
  // executor for each of them: a third of a call's wake-ups (ADR 4).
  bool InternalInlineable() override { return true; }

 private:
  const RpcMethod method_;
  RpcMetrics* const metrics_;
  const Instant start_;
  std::shared_ptr<Call> call_;
};

// For what is answered on the spot.
grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context,
                                 RpcMethod method, RpcMetrics* metrics,
                                 Instant start, const ErrorPtr& error) {
  const grpc::Status status = ToStatus(error);
  metrics->RecordRpc(method, status.error_code(), MonotonicNow() - start);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(status);
  return reactor;
}

}  // namespace

BrokerService::BrokerService(Broker* broker, RpcMetrics* metrics,
                             IdentityTable* identities)
    : broker_(broker), metrics_(metrics), identities_(identities) {}

CallContext BrokerService::ContextOf(
    const grpc::CallbackServerContext& grpc_context) {
  CallContext context;
  context.arrival = MonotonicNow();
  const auto deadline = grpc_context.deadline();
  if (deadline != std::chrono::system_clock::time_point::max()) {
    context.deadline = SaturatingAdd(
        context.arrival, std::chrono::duration_cast<Duration>(
                             deadline - std::chrono::system_clock::now()));
  }
  const auto& metadata = grpc_context.client_metadata();
  const auto [trace, others] = metadata.equal_range("traceparent");
  if (trace != others && std::next(trace) == others) {
    // What is no traceparent, and more than one, is ignored.
    const std::string_view text(trace->second.data(), trace->second.size());
    if (IsTraceparent(text)) context.traceparent = text;
  }
  if (identities_ != nullptr) {
    context.identity = IdentityOf(*grpc_context.auth_context(), identities_);
  }
  context.answers = AnswersOf(grpc_context.peer(), context.identity);
  return context;
}

AnswerMemory::CallerPtr BrokerService::AnswersOf(const std::string& peer,
                                                 const IdentityPtr& identity) {
  std::string name = peer;
  if (identity != nullptr) name += identity->name;
  MutexLock lock(&callers_mu_);
  std::weak_ptr<AnswerMemory::Caller>& known = callers_[name];
  AnswerMemory::CallerPtr caller = known.lock();
  if (caller != nullptr) return caller;
  caller = std::make_shared<AnswerMemory::Caller>();
  known = caller;
  if (callers_.size() >= sweep_at_) {
    absl::erase_if(callers_,
                   [](const auto& entry) { return entry.second.expired(); });
    sweep_at_ = std::max<size_t>(1024, 2 * callers_.size());
  }
  return caller;
}

grpc::ServerUnaryReactor* BrokerService::Acquire(
    grpc::CallbackServerContext* context, const v1::AcquireRequest* request,
    v1::AcquireResponse* response) {
  auto* reactor = new CallReactor(RpcMethod::kAcquire, metrics_);
  reactor->Run(
      broker_->NewAcquire(request, response, ContextOf(*context), reactor));
  return reactor;
}

grpc::ServerUnaryReactor* BrokerService::Execute(
    grpc::CallbackServerContext* context, const v1::ExecuteRequest* request,
    v1::ExecuteResponse* response) {
  auto* reactor = new CallReactor(RpcMethod::kExecute, metrics_);
  reactor->Run(
      broker_->NewExecute(request, response, ContextOf(*context), reactor));
  return reactor;
}

grpc::ServerBidiReactor<v1::ExecuteStreamRequest, v1::ExecuteStreamResponse>*
BrokerService::ExecuteStream(grpc::CallbackServerContext* context) {
  auto* reactor = new StreamReactor(metrics_);
  reactor->Run(broker_, ContextOf(*context));
  return reactor;
}

grpc::ServerUnaryReactor* BrokerService::Release(
    grpc::CallbackServerContext* context, const v1::ReleaseRequest* request,
    v1::ReleaseResponse* response) {
  const CallContext call = ContextOf(*context);
  return Answer(context, RpcMethod::kRelease, metrics_, call.arrival,
                broker_->Release(*request, response, call));
}

grpc::ServerUnaryReactor* BrokerService::Renew(
    grpc::CallbackServerContext* context, const v1::RenewRequest* request,
    v1::RenewResponse* response) {
  const CallContext call = ContextOf(*context);
  return Answer(context, RpcMethod::kRenew, metrics_, call.arrival,
                broker_->Renew(*request, response, call));
}

grpc::ServerUnaryReactor* BrokerService::Stats(
    grpc::CallbackServerContext* context, const v1::StatsRequest* request,
    v1::StatsResponse* response) {
  const CallContext call = ContextOf(*context);
  return Answer(context, RpcMethod::kStats, metrics_, call.arrival,
                broker_->Stats(*request, response, call));
}

grpc::ServerBidiReactor<v1::TunnelRequest, v1::TunnelResponse>*
BrokerService::Tunnel(grpc::CallbackServerContext* context) {
  return NewTunnelReactor(broker_, metrics_, ContextOf(*context));
}

grpc::ServerBidiReactor<v1::SessionRequest, v1::SessionResponse>*
BrokerService::Session(grpc::CallbackServerContext* context) {
  return NewSession(ContextOf(*context), broker_, metrics_);
}

}  // namespace hotline::server
