#include "server/broker/tunnel.h"

#include <algorithm>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "server/broker/acquire.h"
#include "server/broker/proto_time.h"
#include "server/broker/request.h"

namespace hotline::server {
namespace {

using absl::StatusCode;
using upstream::CallError;
using upstream::Verdict;

constexpr Duration kMostIdle = std::chrono::hours(24);
// So that tunnels that are over are not remembered for as long as one may rest.
constexpr Duration kLookEvery = std::chrono::seconds(10);
// Connections that turned out to be dead before anything was sent.
constexpr int kMostTriesAgain = 8;
constexpr int kSwitchingProtocols = 101;

}  // namespace

TunnelCall::TunnelCall(Broker* broker, v1::TunnelOpen open, CallContext context,
                       TunnelCaller* caller, Completion* completion)
    : PooledCall(broker, std::move(context), completion),
      open_(std::move(open)),
      caller_(caller) {}

ErrorPtr TunnelCall::Prepare(Instant now) {
  ParsedTarget target;
  if (auto bad = ValidateTunnel(open_, &target)) return FromInput(*bad);
  idle_timeout_ =
      open_.has_idle_timeout()
          ? std::min(server::FromProto(open_.idle_timeout()), kMostIdle)
          : settings_->tunnel_idle_timeout;
  key_.target = std::move(target.canonical);
  if (!open_.lease_id().empty()) return StartOnLease(now);

  if (auto bad = ValidateUpgrade(open_, key_.target, &url_)) {
    return FromInput(*bad);
  }
  if (auto bad = ValidateTlsProfile(open_.options(), settings_->tls_profiles)) {
    return FromInput(*bad);
  }
  key_.mode = pool::Mode::kExclusive;
  key_.options = FromProto(open_.options());
  // Only there can it be asked for.
  if (open_.has_upgrade() && target.tls) key_.options.alpn = "http/1.1";
  acquire_.holder = HolderOf(open_.holder(), context_.traceparent);
  max_attempts_ = settings_->max_attempts;
  Seek(now);
  return nullptr;
}

ErrorPtr TunnelCall::StartOnLease(Instant now) {
  lease_ = PresentedLease(open_.lease_id(), context_);
  if (!lease_.has_value()) {
    return FromInput(
        {"BAD_LEASE_ID", "lease_id", "not a lease id: 44 hexadecimal digits"});
  }
  const pool::CallStart start = broker_->pool_->BeginCall(*lease_, tag(), now);
  if (start.status != pool::LeaseStatus::kOk) {
    return broker_->LeaseError(start.status, rpc(), context_);
  }
  ErrorPtr error = CheckLease(start);
  if (error == nullptr) error = BeginRunning();
  if (error != nullptr) {
    broker_->pool_->EndCall(*lease_, now);
    return error;
  }
  slot_ = {*lease_, start.conn, start.uses, start.ready_since};
  handle_ = start.handle;
  Run(now);
  return nullptr;
}

ErrorPtr TunnelCall::CheckLease(const pool::CallStart& start) {
  if (!key_.target.empty() && key_.target != start.key->target) {
    return FromInput({"LEASE_TARGET_MISMATCH", "target",
                      absl::StrCat("the lease is for ", start.key->target)});
  }
  key_.target = start.key->target;
  // The policy is asked about where the lease's connection leads.
  key_.options = start.key->options;
  if (start.key->mode != pool::Mode::kExclusive) {
    return MakeError(StatusCode::kFailedPrecondition, "LEASE_NOT_EXCLUSIVE",
                     "a tunnel needs a lease with MODE_EXCLUSIVE");
  }
  if (auto bad = ValidateUpgrade(open_, key_.target, &url_)) {
    return FromInput(*bad);
  }
  const auto facts = broker_->upstream_->Describe(start.handle);
  if (facts != nullptr && facts->protocol == "h2") {
    return MakeError(StatusCode::kFailedPrecondition, "ALPN_MISMATCH",
                     absl::StrCat(key_.target,
                                  ": the lease's connection speaks h2; only "
                                  "http/1.1 can be upgraded"));
  }
  return nullptr;
}

void TunnelCall::OnSlot(const pool::Grant& grant) {
  slot_ = {grant.lease, grant.conn, grant.uses, grant.ready_since};
  dial_ = grant.dial;
  handle_ = grant.handle;
  Run(MonotonicNow());
}

void TunnelCall::Run(Instant now) {
  absl::InlinedVector<upstream::HeaderView, 8> headers;
  for (const v1::Header& header : open_.upgrade().headers()) {
    headers.push_back({header.name(), header.value()});
  }
  const bool upgrade = open_.has_upgrade();
  upstream::Request request;
  request.authority = url_.authority;
  request.path = url_.path;
  request.headers = headers;
  request.upgrade = open_.upgrade().protocol();
  // The default holds until it is open, and WatchIdleness sees to that.
  request.deadline = context_.deadline == kNever ? kNever : deadline_;

  const std::shared_ptr<Call> keep = shared_from_this();
  if (!std::exchange(watched_, true)) WatchIdleness(now);
  const upstream::CallId call = broker_->upstream_->OpenStream(
      handle_, request, /*end=*/upgrade, this, now);
  // Whoever ended the call before it had a name left the rest to us.
  if (call != 0 && ended() != Ended::kNo) EndRunning();
}

void TunnelCall::EndRunning() {
  const upstream::CallId call = this->call();
  if (call != 0) broker_->upstream_->CancelCall(handle_, call);
}

// What the caller sends.

bool TunnelCall::Send(std::string_view data) {
  if (data.empty()) return true;
  Pass(MonotonicNow());
  sent_ += data.size();
  return broker_->upstream_->SendBody(handle_, call(), data, false) == 0;
}

void TunnelCall::EndSend() {
  broker_->upstream_->SendBody(handle_, call(), {}, true);
}

void TunnelCall::OnWritten(size_t bytes) {
  Pass(MonotonicNow());
  broker_->upstream_->Consume(handle_, call(), bytes);
}

// What the upstream sends.

void TunnelCall::OnHead(int status, std::vector<upstream::Header> headers) {
  if (status != kSwitchingProtocols) {
    refused_with_ = status;
    return EndRunning();
  }
  const Instant now = MonotonicNow();
  Pass(now);
  opened_at_ = now;
  opened_ = true;
  v1::TunnelResponse message;
  v1::TunnelOpened* const opened = message.mutable_opened();
  FillConnection(*broker_->upstream_, slot_.conn, handle_, slot_.uses,
                 slot_.ready_since, now, opened->mutable_connection());
  v1::Timings* const timings = opened->mutable_timings();
  FillDuration(now - context_.arrival, timings->mutable_total());
  if (wait_.limit != pool::WaitLimit::kNone) {
    FillDuration(waited_, timings->mutable_wait());
    FillDialTimings(dial_, timings);
    FillWait(wait_, opened->mutable_wait());
  }
  MoveHeaders(&headers, opened->mutable_headers());
  caller_->Write(std::move(message));
  caller_->AskForMore();
}

void TunnelCall::OnBody(std::string piece) {
  if (!opened_) return;  // Of an answer that refuses.
  Pass(MonotonicNow());
  received_ += piece.size();
  v1::TunnelResponse message;
  message.set_data(std::move(piece));
  caller_->Write(std::move(message));
}

void TunnelCall::OnTrailers(std::vector<upstream::Header>) {
  if (!opened_) return;
  v1::TunnelResponse message;
  message.mutable_end();
  caller_->Write(std::move(message));
}

void TunnelCall::WriteReceipt(Instant now) {
  v1::TunnelResponse message;
  v1::TunnelReceipt* const receipt = message.mutable_receipt();
  receipt->set_bytes_sent(sent_);
  receipt->set_bytes_received(received_);
  FillDuration(now - opened_at_, receipt->mutable_duration());
  caller_->Write(std::move(message));
}

// Time.

void TunnelCall::Pass(Instant now) {
  passed_at_.store(now.time_since_epoch().count(), std::memory_order_relaxed);
}

void TunnelCall::WatchIdleness(Instant now) {
  const bool opened = opened_;
  const Instant passed{Duration(passed_at_.load(std::memory_order_relaxed))};
  const Instant due = opened ? passed + idle_timeout_ : deadline_;
  if (now >= due) {
    (opened ? idle_ : late_) = true;
    return EndRunning();
  }
  // Soon enough for one that opens meanwhile.
  const Instant next = std::min(due, now + std::min(kLookEvery, idle_timeout_));
  broker_->upstream_->RunAt(next, [this, weak = weak_from_this()] {
    const auto keep = weak.lock();
    if (keep != nullptr && !over_) WatchIdleness(MonotonicNow());
  });
}

// The end.

void TunnelCall::GiveBack(Instant now) {
  if (lease_.has_value()) {
    broker_->pool_->EndCall(*lease_, now);
  } else {
    broker_->pool_->Release(slot_.lease, pool::Outcome::kDiscard, now);
  }
}

void TunnelCall::OnDone(upstream::CallResult result) {
  const std::shared_ptr<Call> keep = shared_from_this();
  const Instant now = MonotonicNow();
  GiveBack(now);
  if (MayTryAgain(result, now)) {
    acquire_.reuse = pool::Reuse::kForceNew;
    return SeekLater(tries_again_++, now);
  }
  over_ = true;
  if (opened_ && result.error == CallError::kNone) {
    WriteReceipt(now);
    return Complete(nullptr);
  }
  Complete(ErrorOf(result));
}

// A connection that had died while it was idle says nothing of the upstream.
bool TunnelCall::MayTryAgain(const upstream::CallResult& result, Instant now) {
  return !lease_.has_value() && !opened_ && refused_with_ == 0 &&
         ended() == Ended::kNo && now < deadline_ &&
         result.error == CallError::kConnectionGone &&
         result.verdict == Verdict::kNotSent && tries_again_ < kMostTriesAgain;
}

ErrorPtr TunnelCall::ErrorOf(const upstream::CallResult& result) const {
  ErrorPtr error;
  if (refused_with_ != 0) {
    error = MakeError(StatusCode::kFailedPrecondition, "UPGRADE_REFUSED",
                      absl::StrCat(key_.target, ": the upgrade was answered ",
                                   "with ", refused_with_, ", not 101"));
    error->metadata.emplace_back("status", absl::StrCat(refused_with_));
    return error;
  }
  const bool not_processed = result.verdict == Verdict::kNotSent ||
                             result.verdict == Verdict::kRefusedByPeer;
  if (idle_) {
    error = MakeError(StatusCode::kDeadlineExceeded, "IDLE_TIMEOUT",
                      absl::StrCat(key_.target, ": nothing passed for ",
                                   ToSeconds(idle_timeout_), " s"));
  } else if (late_ || result.error == CallError::kTimeout) {
    error =
        MakeError(StatusCode::kDeadlineExceeded, "UPSTREAM_TIMEOUT",
                  absl::StrCat(key_.target, ": the tunnel was not ",
                               late_ ? "open" : "over", " after ",
                               ToSeconds(deadline_ - context_.arrival), " s"));
  } else if (result.error == CallError::kBadRequest) {
    error = FromInput({"BAD_HEADER", "upgrade.headers", result.message});
  } else if (result.error == CallError::kProtocol) {
    error = MakeError(StatusCode::kInternal, "PROTOCOL_ERROR",
                      absl::StrCat(key_.target, ": ", result.message));
  } else if (result.error == CallError::kTlsRefused) {
    error = RefusedByTls(key_.target, result);
  } else if (ended() == Ended::kCancelled) {
    return EndedError();
  } else {
    error = MakeError(
        not_processed ? StatusCode::kUnavailable : StatusCode::kAborted,
        "UPSTREAM_RESET", absl::StrCat(key_.target, ": ", result.message));
  }
  const std::string_view verdict = ToString(result.verdict);
  error->metadata.emplace_back("verdict", verdict);
  error->metadata.emplace_back("bytes_written",
                               absl::StrCat(result.bytes_written));
  error->metadata.emplace_back("bytes_read", absl::StrCat(result.bytes_read));
  return error;
}

void TunnelCall::OnCompleting(const ErrorPtr&) { over_ = true; }

}  // namespace hotline::server
