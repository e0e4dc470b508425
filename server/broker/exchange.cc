#include "server/broker/exchange.h"

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/text.h"
#include "server/broker/cool_down.h"

namespace hotline::server {
namespace {

using absl::StatusCode;
using upstream::CallError;
using upstream::Verdict;

constexpr int kMaxFreeRetries = 8;
// After as many free retries only a new connection will do.
constexpr int kFreeRetriesOnUsed = 2;

// Lets the address behind a connection cool down if its answer asks for that.
void CoolDown(const CoolDownSettings& settings, upstream::Upstream* upstream,
              const std::string& target, pool::ConnId conn, int status,
              const std::vector<upstream::Header>& headers, Instant now) {
  const auto length =
      CoolFor(settings, status, headers, std::chrono::system_clock::now());
  if (!length.has_value()) return;
  const auto address = upstream->AddressOf(conn);
  // The connection closed with its answer, or its address is not one of the
  // target's own.
  if (!address.has_value()) return;
  if (upstream->Cool(target, *address, now + *length,
                     absl::StrCat("answered ", status), now)) {
    return;
  }
  static LogLimiter limiter(std::chrono::seconds(10));
  HOTLINE_LOG_LIMITED(limiter, kInfo,
                      "the last address in service asked for a cool-down",
                      {{"target", target},
                       {"address", address->ToString()},
                       {"status", status},
                       {"for", *length},
                       {"suppressed", limiter.TakeSuppressed()}});
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

Exchange::Exchange(PooledCall* call, BrokerParts* parts)
    : call_(*call),
      terms_(call->terms()),
      parts_(*parts),
      attempt_(parts->upstream),
      answer_(&parts->answers, terms_.context.answers != nullptr
                                   ? terms_.context.answers
                                   : parts->unknown_caller) {}

ErrorPtr Exchange::RefuseUnread(Instant now) const {
  if (parts_.answers.Admit(*answer_.caller(), now)) return nullptr;
  return parts_.overload.RefuseAnswers(parts_.answers.limit());
}

ErrorPtr Exchange::Begin(const std::string& lease_id, Instant now) {
  if (ErrorPtr error = RefuseUnread(now)) return error;
  const CallKind kind = call_.rpc() == RpcMethod::kExecute ? CallKind::kExecute
                                                           : CallKind::kStream;
  if (lease_id.empty()) {
    target_ = parts_.targets.Resolve(terms_.key.target, terms_.settings);
    running_ = parts_.metrics->Begin(terms_.key.target, kind, target_.metrics);
    target_.budget->OnRequest(terms_.settings.retry_budget_percent);
    call_.Seek(now);
    return nullptr;
  }
  running_ = parts_.metrics->Begin(terms_.key.target, kind, target_.metrics);
  // It is never repeated, so it needs no budget.
  target_.cool_down = CoolDownOf(terms_.key.target, terms_.settings);
  const auto check = [this](const pool::CallStart& start) -> ErrorPtr {
    const std::string& target = terms_.key.target;
    if (start.key->target != target) {
      return FromInput({"LEASE_TARGET_MISMATCH", "url",
                        absl::StrCat("the lease is for ", start.key->target,
                                     ", the URL for ", target)});
    }
    // The policy is asked about the connection of the lease.
    if (terms_.settings.policy != nullptr) {
      terms_.key.options = start.key->options;
    }
    return nullptr;
  };
  return call_.RunOnLease(lease_id, check, now);
}

ErrorPtr Exchange::Take(pool::SlotLease slot, Instant now) {
  if (!slot.is_call() &&
      (terms_.wait.limit != pool::WaitLimit::kNone || terms_.attempts > 1)) {
    // The caller may have left many small answers unread meanwhile.
    if (ErrorPtr error = RefuseUnread(now)) {
      slot.Release(pool::Outcome::kOk, now);
      return error;
    }
  }
  parts_.metrics->Confirm(terms_.key.target, target_.metrics, &running_);
  counted_sent_ = 0;
  counted_received_ = 0;
  attempt_.Take(std::move(slot));
  status_ = 0;
  return nullptr;
}

void Exchange::NoteSent(size_t bytes) {
  counted_sent_ += bytes;
  parts_.metrics->RecordBytes(running_, bytes, 0);
}

void Exchange::NoteReceived(size_t bytes) {
  counted_received_ += bytes;
  parts_.metrics->RecordBytes(running_, 0, bytes);
}

void Exchange::End(upstream::CallResult result) {
  // Less than was counted: the connection was lost before it was written.
  parts_.metrics->RecordBytes(
      running_,
      result.bytes_written - std::min(result.bytes_written, counted_sent_),
      result.bytes_read - std::min(result.bytes_read, counted_received_));
  if (result.first_byte > Duration(0)) {
    parts_.metrics->RecordFirstByte(running_, result.first_byte);
  }
  if (result.response.status != 0) {
    parts_.metrics->RecordStatus(running_, result.response.status);
  }
  attempt_.End(std::move(result));
}

void Exchange::GiveBack(Instant now) {
  attempt_.Release(pool::Outcome::kOk, now);
}

void Exchange::NoteAnswer(int status,
                          const std::vector<upstream::Header>& headers,
                          Instant now) {
  status_ = status;
  if (target_.cool_down == nullptr) return;
  CoolDown(*target_.cool_down, parts_.upstream, terms_.key.target,
           attempt_.slot().conn(), status, headers, now);
}

void Exchange::FillReceipt(Instant now, v1::Receipt* receipt) const {
  FillConnection(attempt_.result().facts.get(), attempt_.slot(), now,
                 receipt->mutable_connection());
  receipt->set_attempts(terms_.attempts + free_retries_);
  for (Verdict verdict : failed_) {
    const std::string_view name = ToString(verdict);
    receipt->add_failed_attempts(name.data(), name.size());
  }
  v1::Timings* timings = receipt->mutable_timings();
  FillDuration(now - terms_.context.arrival, timings->mutable_total());
  FillDuration(attempt_.result().first_byte, timings->mutable_first_byte());
  FillDuration(attempt_.result().transfer, timings->mutable_transfer());
  FillWaited(terms_, receipt);
}

// After a failed attempt.

void Exchange::Fail(bool may_repeat, Instant now) {
  GiveBack(now);
  answer_.Reset();
  const upstream::CallResult& result = attempt_.result();
  failed_.push_back(result.verdict);
  // On HTTP/2 a call can fail while its connection lives on.
  const bool stale =
      attempt_.slot().uses() > 0 &&
      parts_.upstream->Describe(attempt_.slot().conn()) == nullptr;
  if (stale && (result.error == CallError::kReset ||
                result.error == CallError::kConnectionGone)) {
    parts_.metrics->RecordStaleReuse(terms_.key.target, &target_.metrics);
  }
  HOTLINE_LOG(kDebug, "attempt failed",
              {{"target", terms_.key.target},
               {"connection", attempt_.slot().conn()},
               {"verdict", ToString(result.verdict)},
               {"error", result.message},
               {"trace", terms_.context.traceparent}});
  if (may_repeat && MayRetry(now)) return Retry(stale, now);
  call_.Complete(ErrorOfResult());
}

bool Exchange::MayRetry(Instant now) {
  if (attempt_.slot().is_call()) return false;
  if (call_.ended() != PooledCall::Ended::kNo || now >= terms_.deadline) {
    return false;
  }
  const bool attempts_left = terms_.attempts < terms_.max_attempts;
  const upstream::CallResult& result = attempt_.result();
  switch (result.error) {
    case CallError::kTlsRefused:
      // As a dial whose handshake fails: another address may do better.
      return attempts_left;
    case CallError::kReset:
    case CallError::kConnectionGone:
    case CallError::kCancelled:  // The pool closed the connection.
      if (WasNotProcessed(result.verdict)) {
        return free_retries_ < kMaxFreeRetries;
      }
      return idempotent_ && attempts_left && target_.budget->TryRetry(now);
    default:
      return false;
  }
}

void Exchange::Retry(bool stale, Instant now) {
  const upstream::CallResult& result = attempt_.result();
  parts_.metrics->RecordRetry(terms_.key.target, ToString(result.verdict),
                              &target_.metrics);
  if (result.error == CallError::kTlsRefused) {
    ++terms_.attempts;
    return call_.SeekLater(terms_.attempts - 1, now);
  }
  if (WasNotProcessed(result.verdict)) {
    if (++free_retries_ >= kFreeRetriesOnUsed) {
      terms_.acquire.reuse = pool::Reuse::kForceNew;
    }
    return call_.SeekLater(free_retries_ - 1, now);
  }
  ++terms_.attempts;
  // A stale connection costs no back-off, only a new connection.
  if (stale) terms_.acquire.reuse = pool::Reuse::kForceNew;
  call_.SeekLater(terms_.attempts - (stale ? 2 : 1), now);
}

ErrorPtr Exchange::ErrorOfResult() const {
  const upstream::CallResult& result = attempt_.result();
  const std::string& target = terms_.key.target;
  ErrorPtr error;
  switch (result.error) {
    case CallError::kBadRequest:
      error = FromInput({"BAD_HEADER", "headers", result.message});
      break;
    case CallError::kTimeout:
      error = MakeError(
          "UPSTREAM_TIMEOUT",
          absl::StrCat(target, ": no complete answer in ",
                       ToSeconds(terms_.deadline - terms_.context.arrival),
                       " s"));
      break;
    case CallError::kProtocol:
      error = NotHttp(target, result);
      break;
    case CallError::kNoRoom:
      error = parts_.overload.RefuseAnswers(parts_.answers.limit());
      // The upstream has processed it: the caller should not retry.
      error->retry_after.reset();
      break;
    case CallError::kTlsRefused:
      error = RefusedByTls(target, result);
      break;
    case CallError::kResponseTooLarge:
      error = MakeError("RESPONSE_TOO_LARGE",
                        absl::StrCat(target, ": the body is longer than ",
                                     terms_.settings.max_body_bytes, " bytes"));
      break;
    default:
      if (call_.ended() == PooledCall::Ended::kCancelled) {
        return call_.EndedError();
      }
      error = ResetByUpstream(target, result);
      break;
  }
  return WithVerdict(std::move(error), result);
}

ErrorPtr Exchange::Judge(ErrorPtr error) const {
  if (failed_.empty()) return error;
  const Verdict worst = *std::max_element(failed_.begin(), failed_.end());
  if (WasNotProcessed(worst)) return error;
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
  judged->metadata.emplace_back("verdict", ToString(worst));
  return judged;
}

void Exchange::Describe(std::string_view method, CallRecord* record) const {
  record->method = method.empty() ? "GET" : method;
  record->path = std::string_view(url_.path).substr(0, url_.path.find('?'));
  record->status = status_;
  record->attempts = terms_.attempts + free_retries_;
  const upstream::CallResult& result = attempt_.result();
  record->sent = result.bytes_written;
  record->received = result.bytes_read;
  record->first_byte = result.first_byte;
}

void Exchange::Record(const ErrorPtr& error) {
  const Instant now = MonotonicNow();
  parts_.metrics->End(
      terms_.key.target, target_.metrics, error == nullptr ? "" : error->reason,
      now - terms_.context.arrival, terms_.context.traceparent, now, &running_);
}

}  // namespace hotline::server
