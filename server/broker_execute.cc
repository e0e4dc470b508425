#include "server/broker_execute.h"

#include <algorithm>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "server/proto_time.h"

namespace hotline::server {
namespace {

using absl::StatusCode;
using upstream::CallError;
using upstream::Verdict;

constexpr char kTraceparent[] = "traceparent";

// Attempts that were not processed cost nothing, but they end some time.
constexpr int kMostFreeRetries = 8;
// After so many of them only a connection that nobody used will do.
constexpr int kFreeRetriesOnUsed = 2;

bool IsIdempotent(std::string_view method) {
  return method == "GET" || method == "HEAD" || method == "OPTIONS" ||
         method == "TRACE" || method == "PUT" || method == "DELETE";
}

bool WasNotProcessed(Verdict verdict) {
  return verdict == Verdict::kNotSent || verdict == Verdict::kRefusedByPeer;
}

}  // namespace

ExecuteCall::ExecuteCall(Broker* broker, const v1::ExecuteRequest* request,
                         v1::ExecuteResponse* response, CallContext context,
                         Completion* completion)
    : PooledCall(broker, std::move(context), completion),
      request_(*request),
      response_(response) {}

ErrorPtr ExecuteCall::Prepare(Instant now) {
  if (auto bad = ValidateExecute(request_, settings_->max_body_bytes, &url_)) {
    return FromInput(*bad);
  }
  key_.target = url_.target.canonical;
  key_.options.sni = request_.options().sni();
  key_.options.pool_group = request_.options().pool_group();
  key_.options.alpn = request_.options().alpn();
  if (request_.has_timeout()) {
    deadline_ =
        std::min(deadline_, SaturatingAdd(now, FromProto(request_.timeout())));
  }
  max_attempts_ = request_.retry().max_attempts() > 0
                      ? request_.retry().max_attempts()
                      : settings_->max_attempts;
  idempotent_ = request_.retry().idempotent() || request_.method().empty() ||
                IsIdempotent(request_.method());
  if (!request_.lease_id().empty()) return StartOnLease(now);

  budget_ = broker_->BudgetOf(key_.target);
  budget_->OnRequest(settings_->retry_budget_percent);
  Seek(now);
  return nullptr;
}

ErrorPtr ExecuteCall::StartOnLease(Instant now) {
  lease_ = DecodeLeaseId(request_.lease_id());
  if (!lease_.has_value()) {
    return FromInput(
        {"BAD_LEASE_ID", "lease_id", "not a lease id: 44 hexadecimal digits"});
  }
  const pool::CallStart start = broker_->pool_->BeginCall(*lease_, now);
  if (start.status != pool::LeaseStatus::kOk) {
    return FromLeaseStatus(start.status);
  }
  if (start.key->target != key_.target) {
    broker_->pool_->EndCall(*lease_, now);
    return FromInput({"LEASE_TARGET_MISMATCH", "url",
                      absl::StrCat("the lease is for ", start.key->target,
                                   ", the URL for ", key_.target)});
  }
  slot_ = {*lease_, start.conn, start.handle, start.uses, start.ready_since};
  if (!BeginRunning()) {
    broker_->pool_->EndCall(*lease_, now);
    return EndedError();
  }
  Run(now);
  return nullptr;
}

void ExecuteCall::OnSlot(const pool::Grant& grant) {
  slot_ = {grant.lease, grant.conn, grant.handle, grant.uses,
           grant.ready_since};
  dial_ = grant.dial;
  Run(wait_.limit == pool::WaitLimit::kNone && attempts_ == 1 ? context_.arrival
                                                              : MonotonicNow());
}

void ExecuteCall::Run(Instant now) {
  absl::InlinedVector<upstream::HeaderView, 16> headers;
  headers.reserve(request_.headers_size() + 1);
  bool traced = !settings_->forward_traceparent || context_.traceparent.empty();
  for (const v1::Header& header : request_.headers()) {
    headers.push_back({header.name(), header.value()});
    traced = traced || EqualsIgnoringCase(header.name(), kTraceparent);
  }
  // The caller's own header, where there is one, is what it wants to be sent.
  if (!traced) headers.push_back({kTraceparent, context_.traceparent});
  upstream::Request request;
  if (!request_.method().empty()) request.method = request_.method();
  request.authority = url_.authority;
  request.path = url_.path;
  request.headers = headers;
  request.body = request_.body();
  request.truncate = request_.max_response_bytes() > 0;
  request.max_response_bytes = request.truncate ? request_.max_response_bytes()
                                                : settings_->max_body_bytes;
  request.deadline = deadline_;

  uint64_t run;
  {
    MutexLock lock(&run_mu_);
    run = ++run_;
    call_ = 0;
    call_handle_ = slot_.handle;
    call_lease_ = lease_;
  }
  const pool::Handle handle = slot_.handle;
  const std::shared_ptr<Call> keep = shared_from_this();
  const upstream::CallId call =
      broker_->upstream_->StartCall(handle, request, this, now);
  bool gone;
  {
    // The answer may have come already, and even the next attempt begun.
    MutexLock lock(&run_mu_);
    if (run_ != run) return;
    call_ = call;
    gone = lease_gone_;
  }
  // Whoever ended the call before it had a name left the rest to us.
  if (gone || ended() != Ended::kNo) {
    broker_->upstream_->CancelCall(handle, call);
  }
}

void ExecuteCall::OnLeaseGone(const LeaseId& lease) {
  {
    MutexLock lock(&run_mu_);
    if (call_lease_ != lease) return;
    lease_gone_ = true;
  }
  EndRunning();
}

void ExecuteCall::EndRunning() {
  upstream::CallId call;
  pool::Handle handle;
  {
    MutexLock lock(&run_mu_);
    call = call_;
    handle = call_handle_;
  }
  if (call != 0) broker_->upstream_->CancelCall(handle, call);
}

void ExecuteCall::OnDone(upstream::CallResult result) {
  const std::shared_ptr<Call> keep = shared_from_this();
  const Instant now = MonotonicNow();
  {
    MutexLock lock(&run_mu_);
    ++run_;
    call_ = 0;
  }
  if (result.error == CallError::kNone) {
    Succeed(std::move(result), now);
  } else {
    Fail(std::move(result), now);
  }
}

// Before the answer goes out: the caller's next call should find the connection
// free.
void ExecuteCall::GiveBack(Instant now) {
  if (lease_.has_value()) {
    broker_->pool_->EndCall(*lease_, now);
  } else {
    broker_->pool_->Release(slot_.lease, pool::Outcome::kOk, now);
  }
}

void ExecuteCall::Succeed(upstream::CallResult result, Instant now) {
  upstream::Response& answer = result.response;
  v1::Receipt* receipt = response_->mutable_receipt();
  FillConnection(*broker_->upstream_, slot_.conn, slot_.handle, slot_.uses,
                 slot_.ready_since, now, receipt->mutable_connection());
  if (!settings_->cool_down.empty()) {
    // Before it is given back: it must not be lent again.
    const auto found = settings_->cool_down.find(key_.target);
    if (found != settings_->cool_down.end()) {
      broker_->CoolDown(found->second, key_.target, slot_.handle, answer, now);
    }
  }
  GiveBack(now);

  response_->set_status(answer.status);
  response_->mutable_headers()->Reserve(answer.headers.size());
  for (upstream::Header& header : answer.headers) {
    v1::Header* out = response_->add_headers();
    out->set_name(std::move(header.name));
    out->set_value(std::move(header.value));
  }
  for (upstream::Header& header : answer.trailers) {
    v1::Header* out = response_->add_trailers();
    out->set_name(std::move(header.name));
    out->set_value(std::move(header.value));
  }
  response_->set_body(std::move(answer.body));
  response_->set_truncated(answer.truncated);

  receipt->set_attempts(attempts_ + free_retries_);
  for (Verdict verdict : failed_) {
    const std::string_view name = ToString(verdict);
    receipt->add_failed_attempts(name.data(), name.size());
  }
  v1::Timings* timings = receipt->mutable_timings();
  FillDuration(now - context_.arrival, timings->mutable_total());
  FillDuration(result.first_byte, timings->mutable_first_byte());
  FillDuration(result.transfer, timings->mutable_transfer());
  if (wait_.limit != pool::WaitLimit::kNone) {
    FillDuration(waited_, timings->mutable_wait());
    FillDialTimings(dial_, timings);
    FillWait(wait_, receipt->mutable_wait());
  }
  Complete(nullptr);
}

void ExecuteCall::Fail(upstream::CallResult result, Instant now) {
  GiveBack(now);
  failed_.push_back(result.verdict);
  worst_ = any_failed_ ? std::max(worst_, result.verdict) : result.verdict;
  any_failed_ = true;
  // On HTTP/2 a call can fail and the connection live on.
  const bool reused =
      slot_.uses > 0 && broker_->upstream_->Describe(slot_.handle) == nullptr;
  if (reused && (result.error == CallError::kReset ||
                 result.error == CallError::kConnectionGone)) {
    broker_->metrics_->RecordStaleReuse(key_.target);
  }
  HOTLINE_LOG(kDebug, "attempt failed",
              {{"target", key_.target},
               {"connection", slot_.conn},
               {"verdict", ToString(result.verdict)},
               {"error", result.message},
               {"trace", context_.traceparent}});
  if (!MayRetry(result, now)) return Complete(ErrorOf(result));

  broker_->metrics_->RecordRetry(key_.target, ToString(result.verdict));
  if (WasNotProcessed(result.verdict)) {
    if (++free_retries_ >= kFreeRetriesOnUsed) {
      acquire_.reuse = pool::Reuse::kForceNew;
    }
    return SeekLater(free_retries_ - 1, now);
  }
  ++attempts_;
  // An idle connection that had died says nothing of the upstream: at once, on
  // a new one. Anything else backs off.
  if (reused) {
    acquire_.reuse = pool::Reuse::kForceNew;
    return SeekLater(attempts_ - 2, now);
  }
  SeekLater(attempts_ - 1, now);
}

bool ExecuteCall::MayRetry(const upstream::CallResult& result, Instant now) {
  if (lease_.has_value()) return false;  // Its one connection is gone.
  if (ended() != Ended::kNo || now >= deadline_) return false;
  if (result.error != CallError::kReset &&
      result.error != CallError::kConnectionGone &&
      // The pool closed the connection under the call.
      result.error != CallError::kCancelled) {
    return false;
  }
  if (WasNotProcessed(result.verdict)) return free_retries_ < kMostFreeRetries;
  return idempotent_ && attempts_ < max_attempts_ && budget_->TryRetry(now);
}

ErrorPtr ExecuteCall::ErrorOf(const upstream::CallResult& result) const {
  ErrorPtr error;
  switch (result.error) {
    case CallError::kTimeout:
      error = MakeError(
          StatusCode::kDeadlineExceeded, "UPSTREAM_TIMEOUT",
          absl::StrCat(key_.target, ": no complete answer in ",
                       ToSeconds(deadline_ - context_.arrival), " s"));
      break;
    case CallError::kProtocol:
      error = MakeError(StatusCode::kInternal, "PROTOCOL_ERROR",
                        absl::StrCat(key_.target, ": ", result.message));
      break;
    case CallError::kResponseTooLarge:
      error = MakeError(StatusCode::kResourceExhausted, "RESPONSE_TOO_LARGE",
                        absl::StrCat(key_.target, ": the body is longer than ",
                                     settings_->max_body_bytes, " bytes"));
      break;
    default:
      if (ended() == Ended::kCancelled) return EndedError();
      error = MakeError(
          WasNotProcessed(result.verdict) ? StatusCode::kUnavailable
                                          : StatusCode::kAborted,
          "UPSTREAM_RESET", absl::StrCat(key_.target, ": ", result.message));
      break;
  }
  const std::string_view verdict = ToString(result.verdict);
  error->metadata.emplace_back("verdict", verdict);
  error->metadata.emplace_back("bytes_written",
                               absl::StrCat(result.bytes_written));
  error->metadata.emplace_back("bytes_read", absl::StrCat(result.bytes_read));
  return error;
}

// UNAVAILABLE promises that nothing was processed; so the worst attempt
// decides, not the last one.
ErrorPtr ExecuteCall::Judge(ErrorPtr error) {
  if (!any_failed_ || WasNotProcessed(worst_)) return error;
  if (error->code == StatusCode::kDeadlineExceeded ||
      error->code == StatusCode::kAborted ||
      error->code == StatusCode::kCancelled ||
      error->reason == "PROTOCOL_ERROR" ||
      error->reason == "RESPONSE_TOO_LARGE") {
    return error;
  }
  ErrorPtr judged = MakeError(
      StatusCode::kAborted, "UPSTREAM_RESET",
      absl::StrCat("an attempt may have been processed; the next one failed: ",
                   error->reason, ": ", error->message));
  judged->metadata.emplace_back("verdict", ToString(worst_));
  return judged;
}

void ExecuteCall::OnCompleting(const ErrorPtr& error) {
  broker_->metrics_->RecordExecute(key_.target,
                                   error == nullptr ? "" : error->reason,
                                   MonotonicNow() - context_.arrival);
}

}  // namespace hotline::server
