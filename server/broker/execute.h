// Execute, as a call: one request and its answer, each whole.
#ifndef HOTLINE_SERVER_BROKER_EXECUTE_H_
#define HOTLINE_SERVER_BROKER_EXECUTE_H_

#include <cstddef>
#include <memory>
#include <utility>

#include "server/broker/exchange.h"
#include "server/broker/execute_answer.h"
#include "server/broker/pooled_call.h"

namespace hotline::server {

class ExecuteCall final : public PooledCall,
                          private Completion,
                          private upstream::CallHandler,
                          private upstream::AnswerRoom,
                          private AnswerWaiter {
 public:
  // The request, the answer and the completion must live until completion.
  ExecuteCall(BrokerParts* parts, const v1::ExecuteRequest* request,
              ExecuteAnswer* answer, CallContext context,
              Completion* completion);

 private:
  // Call, PooledCall:
  void OnLeaseGone(const LeaseId& lease) override {
    exchange_.attempt().CancelOn(lease);
  }
  ErrorPtr Prepare(Instant now) override;
  void OnSlot(pool::SlotLease slot, Instant now) override;
  void OnEnded() override { exchange_.attempt().Cancel(); }
  ErrorPtr Judge(ErrorPtr error) override {
    return exchange_.Judge(std::move(error));
  }
  void Describe(CallRecord* record) override;

  // upstream::CallHandler:
  void OnDone(upstream::CallResult result) override;
  void Succeed(Instant now);

  // Completion of the PooledCall.
  void OnComplete(ErrorPtr error) override;

  // upstream::AnswerRoom:
  bool Grow(upstream::CallId call, size_t have, size_t want) override;
  // AnswerWaiter:
  void OnRoom() override;
  void OnNoRoom() override;

  const v1::ExecuteRequest& request_;
  ExecuteAnswer* const answer_;
  Completion* const completion_;
  Exchange exchange_;

  // The upstream's call whose answer waits for room. Written before it waits.
  pool::ConnId starved_conn_ = 0;
  upstream::CallId starved_call_ = 0;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_EXECUTE_H_
