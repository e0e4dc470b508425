#include "server/broker/attempt.h"

#include "absl/strings/str_cat.h"

namespace hotline::server {

using absl::StatusCode;
using upstream::CallResult;
using upstream::Verdict;

void Attempt::Take(pool::SlotLease slot) {
  slot_ = std::move(slot);
  ++number_;
  if (!slot_.is_call()) return;
  MutexLock lock(&mu_);
  lease_ = slot_.lease();
}

void Attempt::Start(const upstream::Request& request,
                    upstream::CallHandler* handler, Instant now) {
  const uint64_t number = number_;
  const pool::ConnId conn = slot_.conn();
  Name(number, conn, upstream_->StartCall(conn, request, handler, now));
}

void Attempt::Open(const upstream::Request& head, bool end,
                   upstream::StreamHandler* handler, Instant now) {
  const uint64_t number = number_;
  const pool::ConnId conn = slot_.conn();
  Name(number, conn, upstream_->OpenStream(conn, head, end, handler, now));
}

void Attempt::Name(uint64_t number, pool::ConnId conn, upstream::CallId call) {
  bool cancelled;
  {
    MutexLock lock(&mu_);
    if (number_ != number) return;  // The next attempt has begun.
    conn_ = conn;
    call_ = call;
    cancelled = cancelled_;
  }
  // Cancel came before the call had a name.
  if (cancelled && call != 0) upstream_->CancelCall(conn, call);
}

void Attempt::Cancel() {
  pool::ConnId conn;
  upstream::CallId call;
  {
    MutexLock lock(&mu_);
    cancelled_ = true;
    conn = conn_;
    call = call_;
  }
  if (call != 0) upstream_->CancelCall(conn, call);
}

void Attempt::CancelOn(const LeaseId& lease) {
  {
    MutexLock lock(&mu_);
    if (lease_ != lease) return;
  }
  Cancel();
}

bool WasNotProcessed(Verdict verdict) {
  return verdict == Verdict::kNotSent || verdict == Verdict::kRefusedByPeer;
}

ErrorPtr RefusedByTls(const std::string& target, const CallResult& result) {
  return MakeError("TLS_FAILED", absl::StrCat(target, ": ", result.message));
}

ErrorPtr ResetByUpstream(const std::string& target, const CallResult& result) {
  return MakeError(WasNotProcessed(result.verdict) ? StatusCode::kUnavailable
                                                   : StatusCode::kAborted,
                   "UPSTREAM_RESET",
                   absl::StrCat(target, ": ", result.message));
}

ErrorPtr NotHttp(const std::string& target, const CallResult& result) {
  return MakeError("PROTOCOL_ERROR",
                   absl::StrCat(target, ": ", result.message));
}

ErrorPtr WithVerdict(ErrorPtr error, const CallResult& result) {
  error->metadata.emplace_back("verdict", ToString(result.verdict));
  error->metadata.emplace_back("bytes_written",
                               absl::StrCat(result.bytes_written));
  error->metadata.emplace_back("bytes_read", absl::StrCat(result.bytes_read));
  return error;
}

}  // namespace hotline::server
