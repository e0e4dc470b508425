#include "server/broker/execute.h"

#include <utility>

#include "server/broker/validate.h"

namespace hotline::server {

ExecuteCall::ExecuteCall(BrokerParts* parts, const v1::ExecuteRequest* request,
                         ExecuteAnswer* answer, CallContext context,
                         Completion* completion)
    : PooledCall(parts, RpcMethod::kExecute,
                 static_cast<int64_t>(request->body().size()),
                 std::move(context), static_cast<Completion*>(this)),
      request_(*request),
      answer_(answer),
      completion_(completion),
      exchange_(this, parts) {}

ErrorPtr ExecuteCall::Prepare(Instant now) {
  const BrokerSettings& settings = terms_.settings;
  if (auto bad =
          ValidateExecute(request_, settings.max_body_bytes, exchange_.url())) {
    return FromInput(*bad);
  }
  if (auto bad =
          ValidateTlsProfile(request_.options(), settings.tls_profiles)) {
    return FromInput(*bad);
  }
  exchange_.TakeTerms(request_, now);
  return exchange_.Begin(request_.lease_id(), now);
}

void ExecuteCall::OnSlot(pool::SlotLease slot, Instant now) {
  // The call may complete before Start has returned.
  const std::shared_ptr<Call> keep = shared_from_this();
  if (ErrorPtr error = exchange_.Take(std::move(slot), now)) {
    return Complete(std::move(error));
  }
  Exchange::HeaderViews headers;
  upstream::Request request = exchange_.RequestOf(request_, &headers);
  request.body = request_.body();
  request.room = this;
  request.truncate = request_.max_response_bytes() > 0;
  request.max_response_bytes = request.truncate
                                   ? request_.max_response_bytes()
                                   : terms_.settings.max_body_bytes;
  exchange_.attempt().Start(request, this, now);
}

void ExecuteCall::OnDone(upstream::CallResult result) {
  const std::shared_ptr<Call> keep = shared_from_this();
  const Instant now = MonotonicNow();
  const bool failed = result.error != upstream::CallError::kNone;
  exchange_.End(std::move(result));
  if (failed) return exchange_.Fail(/*may_repeat=*/true, now);
  Succeed(now);
}

void ExecuteCall::Succeed(Instant now) {
  upstream::Response& answer = exchange_.attempt().result().response;
  exchange_.NoteAnswer(answer.status, answer.headers, now);
  exchange_.GiveBack(now);
  exchange_.answer().Offer(static_cast<int64_t>(answer.body.size()));

  answer_->Take(std::move(answer));
  exchange_.FillReceipt(now, answer_->receipt());
  Complete(nullptr);
}

void ExecuteCall::Describe(CallRecord* record) {
  // Without a target the URL was not valid, or not looked at.
  if (!terms_.key.target.empty()) {
    exchange_.Describe(request_.method(), record);
  }
}

void ExecuteCall::OnComplete(ErrorPtr error) {
  exchange_.Record(error);
  completion_->OnComplete(std::move(error));
}

bool ExecuteCall::Grow(upstream::CallId call, size_t have, size_t want) {
  starved_conn_ = exchange_.attempt().slot().conn();
  starved_call_ = call;
  AnswerMemory::Hold& answer = exchange_.answer();
  answer.AtLeast(static_cast<int64_t>(have));
  return answer.Grow(static_cast<int64_t>(want),
                     std::shared_ptr<AnswerWaiter>(shared_from_this(), this),
                     MonotonicNow());
}

void ExecuteCall::OnRoom() {
  parts_->upstream->ResumeAnswer(starved_conn_, starved_call_);
}

void ExecuteCall::OnNoRoom() {
  parts_->upstream->CancelCall(starved_conn_, starved_call_,
                               upstream::CallError::kNoRoom);
}

}  // namespace hotline::server
