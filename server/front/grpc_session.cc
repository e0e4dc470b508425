#include "server/front/grpc_session.h"

#include <chrono>
#include <memory>
#include <utility>

#include "grpc/support/time.h"
#include "grpcpp/alarm.h"
#include "server/broker/session.h"
#include "server/front/status.h"

namespace hotline::server {
namespace {

using Bidi = grpc::ServerBidiReactor<v1::SessionRequest, v1::SessionResponse>;

class SessionReactor final : public Bidi, public SessionTransport {
 public:
  SessionReactor(CallContext context, Broker* broker, RpcMetrics* metrics)
      : metrics_(metrics), start_(context.arrival) {
    // So that the caller knows that there is a session.
    StartSendInitialMetadata();
    session_ = Session::Start(broker, std::move(context), this);
  }

  // SessionTransport:
  void Read(v1::SessionRequest* into) override { StartRead(into); }
  void Write(const v1::SessionResponse* message) override {
    StartWrite(message);
  }
  void Yield() override {
    // Behind everything that gRPC's threads have to do already.
    alarm_.Set(gpr_time_0(GPR_CLOCK_MONOTONIC),
               [session = session_](bool) { session->OnTurn(); });
  }
  void Finish(ErrorPtr error) override {
    const grpc::Status status = ToStatus(error);
    metrics_->RecordRpc(RpcMethod::kSession, status.error_code(),
                        MonotonicNow() - start_);
    Bidi::Finish(status);
  }

  // ServerBidiReactor:
  void OnReadDone(bool ok) override { session_->OnRead(ok, MonotonicNow()); }
  void OnWriteDone(bool) override { session_->OnWritten(); }
  void OnCancel() override { session_->OnCancel(); }
  void OnDone() override { delete this; }

 private:
  RpcMetrics* const metrics_;
  const Instant start_;
  grpc::Alarm alarm_;
  std::shared_ptr<Session> session_;
};

}  // namespace

Bidi* NewSession(CallContext context, Broker* broker, RpcMetrics* metrics) {
  return new SessionReactor(std::move(context), broker, metrics);
}

}  // namespace hotline::server
