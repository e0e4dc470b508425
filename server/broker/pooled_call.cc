#include "server/broker/pooled_call.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "absl/random/random.h"
#include "base/log.h"

namespace hotline::server {
namespace {

absl::BitGen& Random() {
  thread_local absl::BitGen random;
  return random;
}

// A network failure may pass. A certificate or a policy will not change within
// a call.
bool IsTransient(const pool::Rejection& rejection) {
  return rejection.reason == pool::RejectReason::kDialFailed &&
         (rejection.dial_error.failure_class == pool::FailureClass::kNetwork ||
          std::string_view(rejection.dial_error.reason) == "TLS_FAILED");
}

}  // namespace

uint64_t UnguessableBits() { return absl::Uniform<uint64_t>(Random()); }

Duration FullJitter(int n, Duration base, Duration cap) {
  if (n <= 0) return Duration(0);
  const Duration most = n > 20 ? cap : std::min(cap, base * (1 << (n - 1)));
  return Duration(absl::Uniform<int64_t>(Random(), 0, most.count() + 1));
}

std::optional<LeaseId> PresentedLease(const std::string& text,
                                      const CallContext& context) {
  std::optional<LeaseId> lease = DecodeLeaseId(text);
  if (lease.has_value()) lease->owner = context.owner();
  return lease;
}

Instant WithMargin(Instant deadline, Instant now) {
  const Duration left = deadline - now;
  const Duration margin = std::clamp<Duration>(
      left / 20, std::chrono::milliseconds(2), std::chrono::milliseconds(50));
  return deadline - margin;
}

PooledCall::PooledCall(BrokerParts* parts, RpcMethod rpc, int64_t request_bytes,
                       CallContext context, Completion* completion)
    : parts_(parts),
      terms_(std::move(context)),
      rpc_(rpc),
      request_bytes_(request_bytes),
      completion_(completion) {
  const CallContext& from = terms_.context;
  terms_.deadline =
      from.deadline == kNever
          ? SaturatingAdd(from.arrival, terms_.settings.default_deadline)
          : WithMargin(from.deadline, from.arrival);
  terms_.acquire.owner = from.owner();
  terms_.acquire.loop = from.loop;
  if (terms_.settings.observer != nullptr) {
    terms_.span = terms_.settings.observer->BeginSpan(from.traceparent);
  }
}

void PooledCall::Start() {
  const Instant now = terms_.context.arrival;
  self_ = shared_from_this();
  parts_->gatekeeper.NoteCall(terms_.context.identity);
  parts_->registry.Add(this);
  // After Add: Broker::AbortCalls sets it before it looks at the registry.
  if (parts_->aborted) Abort();
  ErrorPtr error = parts_->overload.Enter(request_bytes_, now);
  entered_ = error == nullptr;
  if (entered_) error = Prepare(now);
  if (error != nullptr) Complete(std::move(error));
}

ErrorPtr PooledCall::Authorize() {
  if (authorized_ || terms_.settings.policy == nullptr) return nullptr;
  authorized_ = true;
  const CallContext& context = terms_.context;
  const pool::HostPoolKey& key = terms_.key;
  return parts_->gatekeeper.Check(
      *terms_.settings.policy, rpc_, context.identity,
      {key.target, key.options.sni, key.options.remote_ip}, context.arrival,
      &terms_.quota);
}

// The way to a slot.

bool PooledCall::TakePlaceInLine() {
  const int most = terms_.quota.max_waiters;
  if (most == 0 || !terms_.acquire.may_wait) return terms_.acquire.may_wait;
  const IdentityPtr& who =
      parts_->gatekeeper.Accountable(terms_.context.identity);
  return place_in_line_.Take(who, &who->waiters, most);
}

void PooledCall::Seek(Instant now) {
  uint64_t step;
  bool ended = false;
  {
    MutexLock lock(&mu_);
    ended = ended_ != Ended::kNo;
    phase_ = Phase::kWaiting;
    waiter_ = 0;
    step = ++step_;
  }
  if (ended) return Complete(EndedError());
  // A call that has begun may try again.
  if (step == 1 && parts_->drained.load(std::memory_order_relaxed)) {
    return Complete(DrainedError());
  }
  if (ErrorPtr denied = Authorize()) return Complete(std::move(denied));
  pool::AcquireRequest& acquire = terms_.acquire;
  const bool may_wait = acquire.may_wait;
  acquire.may_wait = TakePlaceInLine();
  acquire.key = &terms_.key;
  acquire.secret = UnguessableBits();
  acquire.waiter = this;
  acquire.deadline = std::min(acquire.deadline, terms_.deadline);
  // Once the pool has the request, another thread may complete the call.
  const std::shared_ptr<Call> keep = self_;
  OnAcquired(parts_->pool->Acquire(acquire, now), may_wait, step, now);
}

// `may_wait`: the caller is willing to; its quota may have said no.
void PooledCall::OnAcquired(pool::AcquireResult result, bool may_wait,
                            uint64_t step, Instant now) {
  pool::AcquireRequest& acquire = terms_.acquire;
  if (result.kind == pool::AcquireResult::kGranted) {
    acquire.may_wait = may_wait;
    return OnGrant(result.grant);
  }
  if (result.kind == pool::AcquireResult::kRejected) {
    if (may_wait && !acquire.may_wait &&
        result.rejection->reason == pool::RejectReason::kNoIdleConnection) {
      return Complete(parts_->gatekeeper.OverQuota(
          rpc_, terms_.context.identity, terms_.key.target, "max_waiters",
          terms_.quota.max_waiters, result.rejection->retry_after));
    }
    acquire.may_wait = may_wait;
    return OnRefused(*result.rejection, now);
  }
  {
    MutexLock lock(&mu_);
    if (step_ != step) return;
    waiter_ = result.waiter;
    ListLocked();
    if (ended_ == Ended::kNo) return;
  }
  // The call was ended before it had a place in line to leave.
  if (parts_->pool->Cancel(result.waiter, MonotonicNow())) {
    Complete(EndedError());
  }
}

void PooledCall::OnGrant(const pool::Grant& grant) {
  // A waiter may be granted a slot before Seek has returned.
  const std::shared_ptr<Call> keep = self_;
  pool::SlotLease slot(parts_->pool, grant, pool::Outcome::kOk, &MonotonicNow);
  bool ended;
  {
    MutexLock lock(&mu_);
    ended = ended_ != Ended::kNo;
    phase_ = Phase::kRunning;
    ++step_;
  }
  place_in_line_ = QuotaToken();
  terms_.waited += grant.wait.waited;
  terms_.wait = grant.wait;
  terms_.dial = grant.dial;
  terms_.expires = grant.expires;
  terms_.conn = grant.conn;
  terms_.reused = grant.reused;
  if (ended) {
    slot.Release(pool::Outcome::kOk, MonotonicNow());
    return Complete(EndedError());
  }
  HOTLINE_LOG(kDebug, "granted",
              {{"target", terms_.key.target},
               {"connection", grant.conn},
               {"reused", grant.reused},
               {"waited", grant.wait.waited},
               {"limit", ToString(grant.wait.limit)},
               {"trace", terms_.context.traceparent}});
  const bool at_once =
      grant.wait.limit == pool::WaitLimit::kNone && terms_.attempts == 1;
  OnSlot(std::move(slot), at_once ? terms_.context.arrival : MonotonicNow());
}

void PooledCall::OnReject(pool::Rejection rejection) {
  const std::shared_ptr<Call> keep = self_;
  OnRefused(rejection, MonotonicNow());
}

void PooledCall::OnRefused(const pool::Rejection& rejection, Instant now) {
  place_in_line_ = QuotaToken();
  terms_.waited += rejection.wait.waited;
  terms_.wait = rejection.wait;
  HOTLINE_LOG(kDebug, "refused",
              {{"target", terms_.key.target},
               {"reason", ToString(rejection.reason)},
               {"error", rejection.dial_error.message},
               {"waited", rejection.wait.waited},
               {"trace", terms_.context.traceparent}});
  if (ended() != Ended::kNo) return Complete(EndedError());
  if (IsTransient(rejection) && terms_.attempts < terms_.max_attempts) {
    ++terms_.attempts;
    dial_error_ = ErrorOf(rejection);
    return SeekLater(terms_.attempts - 1, now);
  }
  CompleteRefused(rejection);
}

ErrorPtr PooledCall::ErrorOf(const pool::Rejection& rejection) const {
  return FromRejection(terms_.key.target, rejection, terms_.context.owner(),
                       parts_->events);
}

void PooledCall::CompleteRefused(const pool::Rejection& rejection) {
  ErrorPtr error = ErrorOf(rejection);
  if (rejection.reason == pool::RejectReason::kCircuitOpen &&
      dial_error_ != nullptr) {
    // Why its own dial failed says more than that the circuit is open.
    dial_error_->retry_after = error->retry_after;
    error = std::move(dial_error_);
  }
  Complete(std::move(error));
}

void PooledCall::SeekLater(int n, Instant now) {
  if (n == 0) return Seek(now);
  const Duration wait =
      FullJitter(n, std::chrono::milliseconds(50), std::chrono::seconds(1));
  const Instant when = std::min(now + wait, terms_.deadline);
  uint64_t step;
  {
    MutexLock lock(&mu_);
    phase_ = Phase::kBackoff;
    ListLocked();
    step = ++step_;
    if (ended_ != Ended::kNo) step = 0;
  }
  if (step == 0) return Complete(EndedError());
  parts_->upstream->RunAt(when, [this, keep = shared_from_this(), step] {
    {
      MutexLock lock(&mu_);
      if (step_ != step) return;
    }
    Seek(MonotonicNow());
  });
}

ErrorPtr PooledCall::RunOnLease(
    const std::string& lease_id,
    absl::FunctionRef<ErrorPtr(const pool::CallStart& start)> check,
    Instant now) {
  const auto lease = PresentedLease(lease_id, terms_.context);
  if (!lease.has_value()) return BadLeaseId();
  const pool::CallStart start = parts_->pool->BeginCall(*lease, tag(), now);
  if (start.status != pool::LeaseStatus::kOk) {
    return parts_->LeaseError(start.status, rpc_, terms_.context);
  }
  pool::SlotLease slot(parts_->pool, *lease, start, &MonotonicNow);
  terms_.conn = slot.conn();
  terms_.reused = slot.uses() > 0;
  if (ErrorPtr error = check(start)) return error;
  if (ErrorPtr denied = Authorize()) return denied;
  if (ErrorPtr ended = BeginRunning()) return ended;
  OnSlot(std::move(slot), now);
  return nullptr;
}

ErrorPtr PooledCall::BeginRunning() {
  {
    MutexLock lock(&mu_);
    phase_ = Phase::kRunning;
    ++step_;
    if (ended_ == Ended::kNo) return nullptr;
  }
  return EndedError();
}

// The end.

void PooledCall::End(Ended how) {
  const std::shared_ptr<Call> keep = shared_from_this();
  Phase phase;
  pool::WaiterId waiter = 0;
  {
    MutexLock lock(&mu_);
    if (phase_ == Phase::kDone || ended_ != Ended::kNo) return;
    ended_ = how;
    phase = phase_;
    waiter = waiter_;
    // The timer of a back-off then finds that it is late.
    if (phase == Phase::kBackoff) ++step_;
  }
  EndPhase(phase, waiter);
}

bool PooledCall::Supersede(bool backing_off) {
  const std::shared_ptr<Call> keep = shared_from_this();
  Phase phase;
  pool::WaiterId waiter = 0;
  {
    MutexLock lock(&mu_);
    if (ended_ != Ended::kNo) return false;
    if (phase_ != Phase::kBackoff &&
        (backing_off || phase_ != Phase::kWaiting)) {
      return false;
    }
    ended_ = Ended::kSuperseded;
    phase = phase_;
    waiter = waiter_;
    if (phase == Phase::kBackoff) ++step_;
  }
  EndPhase(phase, waiter);
  return true;
}

void PooledCall::EndPhase(Phase phase, pool::WaiterId waiter) {
  switch (phase) {
    case Phase::kWaiting:
      if (waiter != 0 && parts_->pool->Cancel(waiter, MonotonicNow())) {
        Complete(EndedError());
      }
      break;
    case Phase::kBackoff:
      Complete(EndedError());
      break;
    case Phase::kRunning:
      OnEnded();
      break;
    case Phase::kIdle:
    case Phase::kDone:
      break;
  }
}

PooledCall::Ended PooledCall::ended() const {
  MutexLock lock(&mu_);
  return ended_;
}

bool PooledCall::completed() const {
  MutexLock lock(&mu_);
  return phase_ == Phase::kDone;
}

ErrorPtr PooledCall::EndedError() const {
  switch (ended()) {
    case Ended::kAborted:
      return DrainingError();
    case Ended::kSuperseded: {
      pool::Rejection superseded;
      superseded.reason = pool::RejectReason::kSuperseded;
      return FromRejection(terms_.key.target, superseded);
    }
    default:
      return MakeError("CANCELLED", "the caller is gone");
  }
}

void PooledCall::ListLocked() {
  if (terms_.acquire.request_id.empty() || std::exchange(listed_, true)) return;
  parts_->named_waits.Add(this);
}

void PooledCall::Complete(ErrorPtr error) {
  std::shared_ptr<Call> last;
  bool listed;
  {
    MutexLock lock(&mu_);
    if (phase_ == Phase::kDone) return;
    phase_ = Phase::kDone;
    listed = listed_;
    ++step_;
    last = std::move(self_);
  }
  parts_->registry.Remove(this);
  if (listed) parts_->named_waits.Remove(this);
  if (entered_) parts_->overload.Leave();
  place_in_line_ = QuotaToken();
  // The pool has its own reference if there is a lease.
  terms_.acquire.holder = nullptr;
  if (error != nullptr) error = Judge(std::move(error));
  if (terms_.settings.observer != nullptr) Report(error.get());
  completion_->OnComplete(std::move(error));
}

void PooledCall::Report(const Error* error) {
  const CallContext& context = terms_.context;
  CallRecord record;
  record.rpc = rpc_;
  record.target = terms_.key.target;
  record.error = error;
  record.identity = NameOf(context.identity);
  record.session = context.holder == nullptr ? 0 : context.holder->session;
  record.traceparent = context.traceparent;
  record.span = terms_.span;
  record.attempts = terms_.attempts;
  record.connection = terms_.conn;
  record.reused = terms_.reused;
  record.begun = context.arrival;
  record.ended = MonotonicNow();
  record.waited = terms_.waited;
  record.dial = terms_.dial.total();
  Describe(&record);
  terms_.settings.observer->OnCallEnd(record);
}

void FillConnection(const upstream::ConnectionFacts* facts,
                    const pool::SlotLease& slot, Instant now,
                    v1::ConnectionInfo* out) {
  out->set_connection_id(slot.conn());
  out->set_reused(slot.uses() > 0);
  out->set_calls(slot.uses());
  FillDuration(std::max(Duration(0), now - slot.ready_since()),
               out->mutable_age());
  if (facts == nullptr) return;
  out->set_protocol(facts->protocol);
  out->set_remote_address(facts->remote_address);
  out->set_local_address(facts->local_address);
  out->set_tls_version(facts->tls_version);
  out->set_tls_cipher(facts->tls_cipher);
  if (facts->tls_version.empty()) return;
  out->set_tls_profile(facts->tls_profile);
  out->set_tls_resumed(facts->tls_resumed);
  out->mutable_certificate_not_after()->set_seconds(
      facts->certificate_not_after);
}

void FillDialTimings(const pool::DialTimings& dial, v1::Timings* out) {
  if (dial.resolve.count() > 0) {
    FillDuration(dial.resolve, out->mutable_resolve());
  }
  if (dial.connect.count() > 0) {
    FillDuration(dial.connect, out->mutable_connect());
  }
  if (dial.tls.count() > 0) FillDuration(dial.tls, out->mutable_tls());
  if (dial.validate.count() > 0) {
    FillDuration(dial.validate, out->mutable_validate());
  }
}

}  // namespace hotline::server
