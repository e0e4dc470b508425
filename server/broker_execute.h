// Execute, as a call: on a lease, or on a slot of the pool for just this call,
// with the retries that the contract allows.
#ifndef HOTLINE_SERVER_BROKER_EXECUTE_H_
#define HOTLINE_SERVER_BROKER_EXECUTE_H_

#include <optional>
#include <string>
#include <vector>

#include "server/broker_call.h"
#include "server/validate.h"

namespace hotline::server {

class ExecuteCall final : public PooledCall, private upstream::CallHandler {
 public:
  ExecuteCall(Broker* broker, const v1::ExecuteRequest* request,
              v1::ExecuteResponse* response, CallContext context,
              Completion* completion);

 private:
  // What the call runs on right now.
  struct Slot {
    LeaseId lease;
    pool::ConnId conn = 0;
    pool::Handle handle = 0;
    uint64_t uses = 0;
    Instant ready_since{};
  };

  RpcMethod rpc() const override { return RpcMethod::kExecute; }
  int64_t request_bytes() const override {
    return static_cast<int64_t>(request_.body().size());
  }
  ErrorPtr Prepare(Instant now) override;
  void OnSlot(const pool::Grant& grant) override;
  void EndRunning() override;
  void OnLeaseGone(const LeaseId& lease) override;
  ErrorPtr Judge(ErrorPtr error) override;
  void OnCompleting(const ErrorPtr& error) override;

  // upstream::CallHandler:
  void OnDone(upstream::CallResult result) override;

  // Runs on the caller's own lease.
  ErrorPtr StartOnLease(Instant now);
  void Run(Instant now);
  void GiveBack(Instant now);
  void Succeed(upstream::CallResult result, Instant now);
  // The attempt failed: again, or for good.
  void Fail(upstream::CallResult result, Instant now);
  bool MayRetry(const upstream::CallResult& result, Instant now);
  ErrorPtr ErrorOf(const upstream::CallResult& result) const;

  const v1::ExecuteRequest& request_;
  v1::ExecuteResponse* const response_;
  ParsedUrl url_;
  std::optional<LeaseId> lease_;  // The caller's.
  bool idempotent_ = false;
  std::shared_ptr<RetryBudget> budget_;

  Slot slot_;
  pool::DialTimings dial_;  // Of a connection made for this call.
  int free_retries_ = 0;    // Made because nothing had been processed.
  upstream::Verdict worst_ = upstream::Verdict::kNotSent;
  bool any_failed_ = false;
  std::vector<upstream::Verdict> failed_;

  // The running call's name, for EndRunning: 0 before StartCall has returned.
  Mutex run_mu_;
  upstream::CallId call_ ABSL_GUARDED_BY(run_mu_) = 0;
  pool::Handle call_handle_ ABSL_GUARDED_BY(run_mu_) = 0;
  std::optional<LeaseId> call_lease_ ABSL_GUARDED_BY(run_mu_);  // lease_.
  bool lease_gone_ ABSL_GUARDED_BY(run_mu_) = false;
  uint64_t run_ ABSL_GUARDED_BY(run_mu_) = 0;  // Which attempt it is.
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_EXECUTE_H_
