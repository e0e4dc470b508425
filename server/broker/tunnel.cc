#include "server/broker/tunnel.h"

#include <algorithm>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "server/broker/acquire.h"
#include "server/broker/exchange.h"
#include "server/broker/proto_time.h"

namespace hotline::server {
namespace {

using upstream::CallError;
using upstream::Verdict;

constexpr Duration kMaxIdleTimeout = std::chrono::hours(24);
// Bounds how long the timer of a tunnel that is over outlives it.
constexpr Duration kWatchInterval = std::chrono::seconds(10);
// After connections that had died before anything was sent.
constexpr int kMaxRetries = 8;
constexpr int kSwitchingProtocols = 101;

}  // namespace

TunnelCall::TunnelCall(BrokerParts* parts, v1::TunnelOpen open,
                       CallContext context, TunnelCaller* caller,
                       Completion* completion)
    : PooledCall(parts, RpcMethod::kTunnel, /*request_bytes=*/0,
                 std::move(context), completion),
      open_(std::move(open)),
      caller_(caller),
      attempt_(parts->upstream) {}

ErrorPtr TunnelCall::Prepare(Instant now) {
  const BrokerSettings& settings = terms_.settings;
  pool::HostPoolKey& key = terms_.key;
  ParsedTarget target;
  if (auto bad = ValidateTunnel(open_, &target)) return FromInput(*bad);
  idle_timeout_ =
      open_.has_idle_timeout()
          ? std::min(server::FromProto(open_.idle_timeout()), kMaxIdleTimeout)
          : settings.tunnel_idle_timeout;
  key.target = std::move(target.canonical);
  if (!open_.lease_id().empty()) {
    return RunOnLease(
        open_.lease_id(),
        [this](const pool::CallStart& start) { return CheckLease(start); },
        now);
  }
  if (auto bad = ValidateUpgrade(open_, key.target, &url_)) {
    return FromInput(*bad);
  }
  if (auto bad = ValidateTlsProfile(open_.options(), settings.tls_profiles)) {
    return FromInput(*bad);
  }
  key.mode = pool::Mode::kExclusive;
  key.options = FromProto(open_.options());
  // HTTP/2 has no upgrade.
  if (open_.has_upgrade() && target.tls) key.options.alpn = "http/1.1";
  terms_.acquire.holder = HolderOf(open_.holder(), terms_.context.traceparent);
  terms_.max_attempts = settings.max_attempts;
  Seek(now);
  return nullptr;
}

ErrorPtr TunnelCall::CheckLease(const pool::CallStart& start) {
  pool::HostPoolKey& key = terms_.key;
  if (!key.target.empty() && key.target != start.key->target) {
    return FromInput({"LEASE_TARGET_MISMATCH", "target",
                      absl::StrCat("the lease is for ", start.key->target)});
  }
  key.target = start.key->target;
  // The policy is asked about the connection of the lease.
  key.options = start.key->options;
  if (start.key->mode != pool::Mode::kExclusive) {
    return MakeError("LEASE_NOT_EXCLUSIVE",
                     "a tunnel needs a lease with MODE_EXCLUSIVE");
  }
  if (auto bad = ValidateUpgrade(open_, key.target, &url_)) {
    return FromInput(*bad);
  }
  const auto facts = parts_->upstream->Describe(start.conn);
  if (facts != nullptr && facts->protocol == "h2") {
    return MakeError("ALPN_MISMATCH",
                     absl::StrCat(key.target,
                                  ": the lease's connection speaks h2; only "
                                  "http/1.1 can be upgraded"));
  }
  return nullptr;
}

void TunnelCall::OnSlot(pool::SlotLease slot, Instant now) {
  const std::shared_ptr<Call> keep = shared_from_this();
  attempt_.Take(std::move(slot));
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
  // Without a deadline the default bounds only the opening: WatchIdleness.
  request.deadline =
      terms_.context.deadline == kNever ? kNever : terms_.deadline;
  if (!std::exchange(watched_, true)) WatchIdleness(now);
  attempt_.Open(request, /*end=*/upgrade, this, now);
}

// From the caller.

bool TunnelCall::Send(std::string_view data) {
  if (data.empty()) return true;
  NotePassage(MonotonicNow());
  sent_ += data.size();
  return parts_->upstream->SendBody(attempt_.slot().conn(), call(), data,
                                    /*end=*/false) == 0;
}

void TunnelCall::EndSend() {
  parts_->upstream->SendBody(attempt_.slot().conn(), call(), {},
                             /*end=*/true);
}

void TunnelCall::OnWritten(size_t bytes) {
  NotePassage(MonotonicNow());
  parts_->upstream->Consume(attempt_.slot().conn(), call(), bytes);
}

// From the upstream.

void TunnelCall::OnHead(int status, std::vector<upstream::Header> headers) {
  if (status != kSwitchingProtocols) {
    refused_with_ = status;
    return attempt_.Cancel();
  }
  const Instant now = MonotonicNow();
  NotePassage(now);
  opened_at_ = now;
  BeginCounting();
  opened_ = true;
  v1::TunnelResponse message;
  v1::TunnelOpened* const opened = message.mutable_opened();
  const auto facts = parts_->upstream->Describe(attempt_.slot().conn());
  FillConnection(facts.get(), attempt_.slot(), now,
                 opened->mutable_connection());
  FillDuration(now - terms_.context.arrival,
               opened->mutable_timings()->mutable_total());
  FillWaited(terms_, opened);
  MoveHeaders(&headers, opened->mutable_headers());
  caller_->Write(std::move(message));
  caller_->AskForMore();
}

void TunnelCall::OnBody(std::string piece) {
  if (!opened_) return;  // The body of a refusal.
  NotePassage(MonotonicNow());
  received_ += piece.size();
  CountBytes(piece.size());
  v1::TunnelResponse message;
  message.set_data(std::move(piece));
  caller_->Write(std::move(message));
}

void TunnelCall::OnSendable() {
  CountBytes(0);
  caller_->AskForMore();
}

void TunnelCall::BeginCounting() {
  const std::string& target = terms_.key.target;
  running_ = parts_->metrics->Begin(target, CallKind::kTunnel, {});
  parts_->metrics->Confirm(target, {}, &running_);
}

void TunnelCall::CountBytes(size_t received) {
  const uint64_t sent = sent_;
  parts_->metrics->RecordBytes(running_, sent - counted_sent_, received);
  counted_sent_ = sent;
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

// Timeouts.

void TunnelCall::NotePassage(Instant now) {
  passed_at_.store(now.time_since_epoch().count(), std::memory_order_relaxed);
}

void TunnelCall::WatchIdleness(Instant now) {
  const bool opened = opened_;
  const Instant passed{Duration(passed_at_.load(std::memory_order_relaxed))};
  const Instant due = opened ? passed + idle_timeout_ : terms_.deadline;
  if (now >= due) {
    (opened ? idle_ : late_) = true;
    return attempt_.Cancel();
  }
  // Soon enough for a tunnel that opens meanwhile.
  const Instant next =
      std::min(due, now + std::min(kWatchInterval, idle_timeout_));
  parts_->upstream->RunAt(next, [this, weak = weak_from_this()] {
    const auto keep = weak.lock();
    if (keep != nullptr && !completed()) WatchIdleness(MonotonicNow());
  });
}

// The end.

void TunnelCall::OnDone(upstream::CallResult result) {
  const std::shared_ptr<Call> keep = shared_from_this();
  const Instant now = MonotonicNow();
  attempt_.End(std::move(result));
  attempt_.Release(pool::Outcome::kDiscard, now);
  CountBytes(0);
  parts_->metrics->End(&running_);
  if (MayRetry(now)) {
    terms_.acquire.reuse = pool::Reuse::kForceNew;
    return SeekLater(retries_++, now);
  }
  if (opened_ && attempt_.result().error == CallError::kNone) {
    WriteReceipt(now);
    return Complete(nullptr);
  }
  Complete(ErrorOfResult());
}

// A connection that had died while it was idle says nothing of the upstream.
bool TunnelCall::MayRetry(Instant now) const {
  const upstream::CallResult& result = attempt_.result();
  return !attempt_.slot().is_call() && !opened_ && refused_with_ == 0 &&
         ended() == Ended::kNo && now < terms_.deadline &&
         result.error == CallError::kConnectionGone &&
         result.verdict == Verdict::kNotSent && retries_ < kMaxRetries;
}

ErrorPtr TunnelCall::UpgradeRefused() const {
  ErrorPtr error = MakeError(
      "UPGRADE_REFUSED",
      absl::StrCat(terms_.key.target, ": the upgrade was answered with ",
                   refused_with_, ", not 101"));
  error->metadata.emplace_back("status", absl::StrCat(refused_with_));
  return error;
}

void TunnelCall::Describe(CallRecord* record) {
  record->attempts = terms_.attempts + retries_;
  record->sent = sent_;
  record->received = received_;
  if (!open_.has_upgrade()) return;
  record->method = "GET";
  record->path = std::string_view(url_.path).substr(0, url_.path.find('?'));
  record->status = opened_ ? kSwitchingProtocols : refused_with_;
}

ErrorPtr TunnelCall::ErrorOfResult() const {
  if (refused_with_ != 0) return UpgradeRefused();
  const upstream::CallResult& result = attempt_.result();
  const std::string& target = terms_.key.target;
  ErrorPtr error;
  if (idle_) {
    error =
        MakeError("IDLE_TIMEOUT", absl::StrCat(target, ": nothing passed for ",
                                               ToSeconds(idle_timeout_), " s"));
  } else if (late_ || result.error == CallError::kTimeout) {
    error = MakeError(
        "UPSTREAM_TIMEOUT",
        absl::StrCat(
            target, ": the tunnel was not ", late_ ? "open" : "over", " after ",
            ToSeconds(terms_.deadline - terms_.context.arrival), " s"));
  } else if (result.error == CallError::kBadRequest) {
    error = FromInput({"BAD_HEADER", "upgrade.headers", result.message});
  } else if (result.error == CallError::kProtocol) {
    error = NotHttp(target, result);
  } else if (result.error == CallError::kTlsRefused) {
    error = RefusedByTls(target, result);
  } else if (ended() == Ended::kCancelled) {
    return EndedError();
  } else {
    error = ResetByUpstream(target, result);
  }
  return WithVerdict(std::move(error), result);
}

}  // namespace hotline::server
