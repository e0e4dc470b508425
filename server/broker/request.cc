#include "server/broker/request.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/text.h"

namespace hotline::server {
namespace {

using absl::StatusCode;
using upstream::CallError;
using upstream::Verdict;

// Attempts that were not processed cost nothing, but they end some time.
constexpr int kMostFreeRetries = 8;
// After so many of them only a connection that nobody used will do.
constexpr int kFreeRetriesOnUsed = 2;

bool WasNotProcessed(Verdict verdict) {
  return verdict == Verdict::kNotSent || verdict == Verdict::kRefusedByPeer;
}

}  // namespace

bool IsIdempotent(std::string_view method) {
  return method == "GET" || method == "HEAD" || method == "OPTIONS" ||
         method == "TRACE" || method == "PUT" || method == "DELETE";
}

void MoveHeaders(std::vector<upstream::Header>* from,
                 google::protobuf::RepeatedPtrField<v1::Header>* to) {
  to->Reserve(static_cast<int>(from->size()));
  for (upstream::Header& header : *from) {
    v1::Header* const out = to->Add();
    out->set_name(ToUtf8(std::move(header.name)));
    out->set_value(std::move(header.value));
  }
}

RequestCall::RequestCall(Broker* broker, CallContext context,
                         Completion* completion)
    : PooledCall(broker, std::move(context), completion),
      answer_(&broker->answers_, context_.answers != nullptr
                                     ? context_.answers
                                     : broker->unknown_caller_) {}

ErrorPtr RequestCall::Begin(const std::string& lease_id, Instant now) {
  if (ErrorPtr error = RefuseUnread(now)) return error;
  if (!lease_id.empty()) return StartOnLease(lease_id, now);
  budget_ = broker_->BudgetOf(key_.target);
  budget_->OnRequest(settings_->retry_budget_percent);
  Seek(now);
  return nullptr;
}

ErrorPtr RequestCall::RefuseUnread(Instant now) const {
  if (broker_->answers_.Admit(*answer_.caller(), now)) return nullptr;
  return broker_->overload_.RefuseAnswers(broker_->answers_.limit());
}

ErrorPtr RequestCall::StartOnLease(const std::string& lease_id, Instant now) {
  lease_ = PresentedLease(lease_id, context_);
  if (!lease_.has_value()) {
    return FromInput(
        {"BAD_LEASE_ID", "lease_id", "not a lease id: 44 hexadecimal digits"});
  }
  const pool::CallStart start = broker_->pool_->BeginCall(*lease_, tag(), now);
  if (start.status != pool::LeaseStatus::kOk) {
    return broker_->LeaseError(start.status, rpc(), context_);
  }
  if (start.key->target != key_.target) {
    broker_->pool_->EndCall(*lease_, now);
    return FromInput({"LEASE_TARGET_MISMATCH", "url",
                      absl::StrCat("the lease is for ", start.key->target,
                                   ", the URL for ", key_.target)});
  }
  slot_ = {*lease_, start.conn, start.handle, start.uses, start.ready_since};
  // The policy is asked about where the lease's connection leads.
  if (settings_->policy != nullptr) key_.options = start.key->options;
  if (ErrorPtr error = BeginRunning()) {
    broker_->pool_->EndCall(*lease_, now);
    return error;
  }
  Run(now);
  return nullptr;
}

void RequestCall::OnSlot(const pool::Grant& grant) {
  slot_ = {grant.lease, grant.conn, grant.handle, grant.uses,
           grant.ready_since};
  dial_ = grant.dial;
  if (wait_.limit == pool::WaitLimit::kNone && attempts_ == 1) {
    return Run(context_.arrival);
  }
  const Instant now = MonotonicNow();
  // Its caller may have left many small answers unread meanwhile.
  if (ErrorPtr error = RefuseUnread(now)) {
    GiveBack(now);
    return Complete(std::move(error));
  }
  Run(now);
}

// Attempts.

uint64_t RequestCall::BeginAttempt() {
  MutexLock lock(&run_mu_);
  call_ = 0;
  call_handle_ = slot_.handle;
  call_lease_ = lease_;
  return ++run_;
}

void RequestCall::NameAttempt(uint64_t run, upstream::CallId call) {
  bool gone;
  pool::Handle handle;
  {
    // The answer may have come already, and even the next attempt begun.
    MutexLock lock(&run_mu_);
    if (run_ != run) return;
    call_ = call;
    handle = call_handle_;
    gone = lease_gone_;
  }
  // Whoever ended the call before it had a name left the rest to us.
  if (gone || ended() != Ended::kNo) {
    broker_->upstream_->CancelCall(handle, call);
  }
}

void RequestCall::EndAttempt() {
  MutexLock lock(&run_mu_);
  ++run_;
  call_ = 0;
}

void RequestCall::CancelAttempt() {
  upstream::CallId call;
  pool::Handle handle;
  {
    MutexLock lock(&run_mu_);
    call = call_;
    handle = call_handle_;
  }
  if (call != 0) broker_->upstream_->CancelCall(handle, call);
}

void RequestCall::OnLeaseGone(const LeaseId& lease) {
  {
    MutexLock lock(&run_mu_);
    if (call_lease_ != lease) return;
    lease_gone_ = true;
  }
  CancelAttempt();
}

void RequestCall::NoteAnswer(int status,
                             const std::vector<upstream::Header>& headers,
                             Instant now) {
  if (settings_->cool_down.empty()) return;
  const auto found = settings_->cool_down.find(key_.target);
  if (found == settings_->cool_down.end()) return;
  broker_->CoolDown(found->second, key_.target, slot_.handle, status, headers,
                    now);
}

void RequestCall::GiveBack(Instant now) {
  if (lease_.has_value()) {
    broker_->pool_->EndCall(*lease_, now);
  } else {
    broker_->pool_->Release(slot_.lease, pool::Outcome::kOk, now);
  }
}

// Room for the answer.

bool RequestCall::Grow(upstream::CallId call, size_t have, size_t want) {
  starved_handle_ = slot_.handle;
  starved_call_ = call;
  answer_.AtLeast(static_cast<int64_t>(have));
  return answer_.Grow(static_cast<int64_t>(want),
                      std::shared_ptr<AnswerWaiter>(shared_from_this(), this),
                      MonotonicNow());
}

void RequestCall::OnRoom() {
  broker_->upstream_->ResumeAnswer(starved_handle_, starved_call_);
}

void RequestCall::OnNoRoom() {
  broker_->upstream_->CancelCall(starved_handle_, starved_call_,
                                 CallError::kNoRoom);
}

// What comes of them.

void RequestCall::FillReceiptConnection(Instant now,
                                        v1::Receipt* receipt) const {
  FillConnection(*broker_->upstream_, slot_.conn, slot_.handle, slot_.uses,
                 slot_.ready_since, now, receipt->mutable_connection());
}

void RequestCall::FillReceipt(const upstream::CallResult& result, Instant now,
                              v1::Receipt* receipt) const {
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
}

void RequestCall::Fail(upstream::CallResult result, Instant now) {
  GiveBack(now);
  answer_.Reset();
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
  if (result.error == CallError::kTlsRefused) {
    ++attempts_;
    return SeekLater(attempts_ - 1, now);
  }
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

bool RequestCall::MayRetry(const upstream::CallResult& result, Instant now) {
  if (lease_.has_value()) return false;  // Its one connection is gone.
  if (ended() != Ended::kNo || now >= deadline_ || !CanRepeat()) return false;
  // As a dial whose handshake fails: another address may do better.
  if (result.error == CallError::kTlsRefused) return attempts_ < max_attempts_;
  if (result.error != CallError::kReset &&
      result.error != CallError::kConnectionGone &&
      // The pool closed the connection under the call.
      result.error != CallError::kCancelled) {
    return false;
  }
  if (WasNotProcessed(result.verdict)) return free_retries_ < kMostFreeRetries;
  return idempotent_ && attempts_ < max_attempts_ && budget_->TryRetry(now);
}

ErrorPtr RequestCall::ErrorOf(const upstream::CallResult& result) const {
  ErrorPtr error;
  switch (result.error) {
    case CallError::kBadRequest:
      error = FromInput({"BAD_HEADER", "headers", result.message});
      break;
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
    case CallError::kNoRoom:
      error = broker_->overload_.RefuseAnswers(broker_->answers_.limit());
      // The upstream has processed it: no time to come again.
      error->retry_after.reset();
      break;
    case CallError::kTlsRefused:
      error = RefusedByTls(key_.target, result);
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

ErrorPtr RefusedByTls(const std::string& target,
                      const upstream::CallResult& result) {
  return MakeError(StatusCode::kUnavailable, "TLS_FAILED",
                   absl::StrCat(target, ": ", result.message));
}

// UNAVAILABLE promises that nothing was processed; so the worst attempt
// decides, not the last one.
ErrorPtr RequestCall::Judge(ErrorPtr error) {
  if (!any_failed_ || WasNotProcessed(worst_)) return error;
  if (error->code == StatusCode::kDeadlineExceeded ||
      error->code == StatusCode::kAborted ||
      error->code == StatusCode::kCancelled ||
      error->reason == "PROTOCOL_ERROR" || error->reason == "OVERLOADED" ||
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

void RequestCall::SetTimer(upstream::Upstream::Timer timer) {
  {
    MutexLock lock(&run_mu_);
    std::swap(timer_, timer);
  }
  broker_->upstream_->CancelTimer(timer);
}

void RequestCall::OnCompleting(const ErrorPtr& error) {
  SetTimer({});
  broker_->metrics_->RecordExecute(key_.target,
                                   error == nullptr ? "" : error->reason,
                                   MonotonicNow() - context_.arrival);
}

}  // namespace hotline::server
