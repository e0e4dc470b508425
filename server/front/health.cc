#include "server/front/health.h"

#include <utility>

#include "grpc/health/v1/health.pb.h"
#include "server/front/front_loop.h"
#include "server/front/unary_call.h"

namespace hotline::server {
namespace {

namespace v1 = grpc::health::v1;

using ServingStatus = v1::HealthCheckResponse::ServingStatus;

ServingStatus StatusOf(std::optional<bool> serving) {
  if (!serving.has_value()) return v1::HealthCheckResponse::SERVICE_UNKNOWN;
  return *serving ? v1::HealthCheckResponse::SERVING
                  : v1::HealthCheckResponse::NOT_SERVING;
}

class CheckCall final
    : public UnaryCall<v1::HealthCheckRequest, v1::HealthCheckResponse> {
 public:
  using UnaryCall::UnaryCall;

 private:
  void Start() override {
    const auto serving = home().parts().health->Find(request().service());
    if (!serving.has_value()) {
      return Finish(PlainError(absl::StatusCode::kNotFound, "unknown service"));
    }
    response()->set_status(StatusOf(serving));
    FinishWith(*response());
  }
};

class WatchCall final : public ServerCall, public HealthWatch {
 public:
  explicit WatchCall(const CallOrigin& origin)
      : ServerCall(origin, std::nullopt) {
    home().AddWatch(this);
    ArmDeadline();
    ReadNext();
  }

  void OnSendable() override {
    waiting_ = false;
    OnHealthChanged();
  }

  // HealthWatch:
  void OnHealthChanged() override {
    if (!begun_ || waiting_ || over()) return;
    const ServingStatus now =
        StatusOf(home().parts().health->Find(request_.service()));
    if (std::exchange(sent_, now) == now) return;
    v1::HealthCheckResponse response;
    response.set_status(now);
    waiting_ = Send(response) > 0;
  }
  void OnDrain() override { End(DrainingError()); }

 private:
  void OnMessage(std::string_view message) override {
    if (ErrorPtr error = Parse(message, &request_)) {
      return End(std::move(error));
    }
    begun_ = true;
    OnHealthChanged();
  }
  void OnHalfClose() override {}
  void CancelRun() override {}
  void OnStreamGone(net::StreamEnd) override { home().RemoveWatch(this); }

  v1::HealthCheckRequest request_;
  bool begun_ = false;
  bool waiting_ = false;  // OnSendable follows.
  // None at first.
  ServingStatus sent_ = v1::HealthCheckResponse::UNKNOWN;
};

}  // namespace

void HealthTable::Set(std::string_view service, bool serving) {
  MutexLock lock(&mu_);
  services_[std::string(service)] = serving;
}

std::optional<bool> HealthTable::Find(std::string_view service) const {
  MutexLock lock(&mu_);
  const auto found = services_.find(std::string(service));
  if (found == services_.end()) return std::nullopt;
  return found->second;
}

ServerCall* NewHealthCheckCall(const CallOrigin& origin) {
  return new CheckCall(std::nullopt, origin);
}
ServerCall* NewHealthWatchCall(const CallOrigin& origin) {
  return new WatchCall(origin);
}

}  // namespace hotline::server
