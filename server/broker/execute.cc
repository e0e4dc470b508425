#include "server/broker/execute.h"

#include <utility>

namespace hotline::server {

ExecuteCall::ExecuteCall(Broker* broker, const v1::ExecuteRequest* request,
                         v1::ExecuteResponse* response, CallContext context,
                         Completion* completion)
    : RequestCall(broker, std::move(context), completion),
      request_(*request),
      response_(response) {}

ErrorPtr ExecuteCall::Prepare(Instant now) {
  if (auto bad = ValidateExecute(request_, settings_->max_body_bytes, &url_)) {
    return FromInput(*bad);
  }
  if (auto bad =
          ValidateTlsProfile(request_.options(), settings_->tls_profiles)) {
    return FromInput(*bad);
  }
  TakeTerms(request_, now);
  return Begin(request_.lease_id(), now);
}

void ExecuteCall::Run(Instant now) {
  HeaderViews headers;
  upstream::Request request = RequestOf(request_, &headers);
  request.body = request_.body();
  request.truncate = request_.max_response_bytes() > 0;
  request.max_response_bytes = request.truncate ? request_.max_response_bytes()
                                                : settings_->max_body_bytes;
  const std::shared_ptr<Call> keep = shared_from_this();
  const pool::Handle handle = slot_.handle;
  const uint64_t run = BeginAttempt();
  NameAttempt(run, broker_->upstream_->StartCall(handle, request, this, now));
}

void ExecuteCall::OnDone(upstream::CallResult result) {
  const std::shared_ptr<Call> keep = shared_from_this();
  const Instant now = MonotonicNow();
  EndAttempt();
  if (result.error == upstream::CallError::kNone) {
    Succeed(std::move(result), now);
  } else {
    Fail(std::move(result), now);
  }
}

void ExecuteCall::Succeed(upstream::CallResult result, Instant now) {
  upstream::Response& answer = result.response;
  v1::Receipt* receipt = response_->mutable_receipt();
  FillReceiptConnection(now, receipt);
  NoteAnswer(answer.status, answer.headers, now);
  GiveBack(now);
  answer_.Offer(static_cast<int64_t>(answer.body.size()));

  response_->set_status(answer.status);
  MoveHeaders(&answer.headers, response_->mutable_headers());
  MoveHeaders(&answer.trailers, response_->mutable_trailers());
  response_->set_body(std::move(answer.body));
  response_->set_truncated(answer.truncated);
  FillReceipt(result, now, receipt);
  Complete(nullptr);
}

}  // namespace hotline::server
