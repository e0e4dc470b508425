// Execute, as a call: one request and its answer, whole.
#ifndef HOTLINE_SERVER_BROKER_EXECUTE_H_
#define HOTLINE_SERVER_BROKER_EXECUTE_H_

#include "server/broker/request.h"

namespace hotline::server {

class ExecuteCall final : public RequestCall, private upstream::CallHandler {
 public:
  ExecuteCall(Broker* broker, const v1::ExecuteRequest* request,
              v1::ExecuteResponse* response, CallContext context,
              Completion* completion);

 private:
  RpcMethod rpc() const override { return RpcMethod::kExecute; }
  int64_t request_bytes() const override {
    return static_cast<int64_t>(request_.body().size());
  }
  ErrorPtr Prepare(Instant now) override;
  void Run(Instant now) override;
  void Succeed(upstream::CallResult result, Instant now);

  // upstream::CallHandler:
  void OnDone(upstream::CallResult result) override;

  const v1::ExecuteRequest& request_;
  v1::ExecuteResponse* const response_;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_EXECUTE_H_
