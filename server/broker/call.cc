#include "server/broker/call.h"

#include <algorithm>

#include "absl/random/random.h"
#include "base/log.h"
#include "server/broker/proto_time.h"
#include "server/broker/registry.h"

namespace hotline::server {
namespace {

absl::BitGen& Random() {
  thread_local absl::BitGen random;
  return random;
}

}  // namespace

uint64_t UnguessableBits() { return absl::Uniform<uint64_t>(Random()); }

Duration FullJitter(int n, Duration base, Duration cap) {
  if (n <= 0) return Duration(0);
  const Duration most = n > 20 ? cap : std::min(cap, base * (1 << (n - 1)));
  return Duration(absl::Uniform<int64_t>(Random(), 0, most.count() + 1));
}

PooledCall::PooledCall(Broker* broker, CallContext context,
                       Completion* completion)
    : broker_(broker),
      context_(std::move(context)),
      settings_(broker->settings()),
      completion_(completion) {
  const Instant asked =
      context_.deadline == kNever
          ? SaturatingAdd(context_.arrival, settings_->default_deadline)
          : WithMargin(context_.deadline, context_.arrival);
  deadline_ = asked;
  acquire_.owner = context_.owner();
}

void PooledCall::Start() {
  self_ = shared_from_this();
  broker_->registry_->Add(this);
  if (broker_->aborted_) Abort();
  ErrorPtr error = broker_->overload_.Enter(request_bytes(), context_.arrival);
  entered_ = error == nullptr;
  if (entered_) error = Prepare(context_.arrival);
  if (error != nullptr) Complete(std::move(error));
}

ErrorPtr PooledCall::Authorize() {
  if (authorized_ || settings_->policy == nullptr) return nullptr;
  authorized_ = true;
  return broker_->gatekeeper_.Check(
      *settings_->policy, rpc(), context_.identity,
      {key_.target, key_.options.sni, key_.options.remote_ip}, context_.arrival,
      &quota_);
}

bool PooledCall::MayWait() {
  if (quota_.max_waiters == 0 || !acquire_.may_wait) return acquire_.may_wait;
  const IdentityPtr& who = broker_->gatekeeper_.Accountable(context_.identity);
  return place_.Take(who, &who->waiters, quota_.max_waiters);
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
  if (ErrorPtr denied = Authorize()) return Complete(std::move(denied));
  const bool wanted_to_wait = acquire_.may_wait;
  acquire_.may_wait = MayWait();
  // After the pool's answer the call may be over and gone in another thread.
  const std::shared_ptr<Call> keep = self_;
  seek_start_ = now;
  acquire_.key = &key_;
  acquire_.secret = UnguessableBits();
  acquire_.waiter = this;
  acquire_.deadline = std::min(acquire_.deadline, deadline_);
  pool::AcquireResult result = broker_->pool_->Acquire(acquire_, now);
  switch (result.kind) {
    case pool::AcquireResult::kGranted:
      acquire_.may_wait = wanted_to_wait;
      return OnGrant(result.grant);
    case pool::AcquireResult::kRejected:
      if (wanted_to_wait && !acquire_.may_wait &&
          result.rejection->reason == pool::RejectReason::kNoIdleConnection) {
        return Complete(broker_->gatekeeper_.OverQuota(
            rpc(), context_.identity, key_.target, "max_waiters",
            quota_.max_waiters, result.rejection->retry_after));
      }
      acquire_.may_wait = wanted_to_wait;
      return OnRefused(*result.rejection, now);
    case pool::AcquireResult::kQueued:
      break;
  }
  {
    MutexLock lock(&mu_);
    if (step_ != step) return;
    waiter_ = result.waiter;
    if (ended_ == Ended::kNo) return;
    // It was ended before there was a place in line to leave.
  }
  if (broker_->pool_->Cancel(result.waiter, MonotonicNow())) {
    Complete(EndedError());
  }
}

void PooledCall::OnGrant(const pool::Grant& grant) {
  // A grant from the line comes while Seek may still be on its way out.
  const std::shared_ptr<Call> keep = self_;
  bool ended;
  {
    MutexLock lock(&mu_);
    ended = ended_ != Ended::kNo;
    phase_ = Phase::kRunning;
    ++step_;
  }
  place_ = QuotaToken();
  waited_ += grant.wait.waited;
  wait_ = grant.wait;
  if (ended) {
    // Granted to a call that is over already: straight back.
    broker_->pool_->Release(grant.lease, pool::Outcome::kOk, MonotonicNow());
    return Complete(EndedError());
  }
  HOTLINE_LOG(kDebug, "granted",
              {{"target", key_.target},
               {"connection", grant.conn},
               {"reused", grant.reused},
               {"waited", grant.wait.waited},
               {"limit", ToString(grant.wait.limit)},
               {"trace", context_.traceparent}});
  OnSlot(grant);
}

void PooledCall::OnReject(pool::Rejection rejection) {
  const std::shared_ptr<Call> keep = self_;
  OnRefused(rejection, MonotonicNow());
}

void PooledCall::OnRefused(const pool::Rejection& rejection, Instant now) {
  place_ = QuotaToken();
  waited_ += rejection.wait.waited;
  wait_ = rejection.wait;
  HOTLINE_LOG(kDebug, "refused",
              {{"target", key_.target},
               {"reason", ToString(rejection.reason)},
               {"error", rejection.dial_error.message},
               {"waited", rejection.wait.waited},
               {"trace", context_.traceparent}});
  // What may pass by itself is tried again; a certificate or a policy will not
  // change within a call.
  const bool transient =
      rejection.reason == pool::RejectReason::kDialFailed &&
      (rejection.dial_error.failure_class == pool::FailureClass::kNetwork ||
       std::string_view(rejection.dial_error.reason) == "TLS_FAILED");
  if (transient && attempts_ < max_attempts_ && ended() == Ended::kNo) {
    ++attempts_;
    dial_error_ = FromRejection(key_.target, rejection, context_.owner());
    return SeekLater(attempts_ - 1, now);
  }
  CompleteRefused(rejection);
}

void PooledCall::CompleteRefused(const pool::Rejection& rejection) {
  ErrorPtr error = FromRejection(key_.target, rejection, context_.owner());
  if (rejection.reason == pool::RejectReason::kCircuitOpen &&
      dial_error_ != nullptr) {
    // What became of its own dial says more than that there are no others.
    dial_error_->retry_after = error->retry_after;
    error = std::move(dial_error_);
  }
  Complete(std::move(error));
}

void PooledCall::SeekLater(int n, Instant now) {
  if (n == 0) return Seek(now);
  const Duration wait =
      FullJitter(n, std::chrono::milliseconds(50), std::chrono::seconds(1));
  const Instant when = std::min(now + wait, deadline_);
  uint64_t step;
  {
    MutexLock lock(&mu_);
    phase_ = Phase::kBackoff;
    step = ++step_;
    if (ended_ != Ended::kNo) step = 0;
  }
  if (step == 0) return Complete(EndedError());
  broker_->upstream_->RunAt(when, [this, keep = self_, step] {
    {
      MutexLock lock(&mu_);
      if (step_ != step) return;
    }
    Seek(MonotonicNow());
  });
}

ErrorPtr PooledCall::BeginRunning() {
  if (ErrorPtr denied = Authorize()) return denied;
  return BeginAsking();
}

ErrorPtr PooledCall::BeginAsking() {
  {
    MutexLock lock(&mu_);
    phase_ = Phase::kRunning;
    ++step_;
    if (ended_ == Ended::kNo) return nullptr;
  }
  return EndedError();
}

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
    // The timer of a back-off finds that it is late.
    if (phase == Phase::kBackoff) ++step_;
  }
  switch (phase) {
    case Phase::kWaiting:
      if (waiter != 0 && broker_->pool_->Cancel(waiter, MonotonicNow())) {
        Complete(EndedError());
      }
      break;
    case Phase::kBackoff:
      Complete(EndedError());
      break;
    case Phase::kRunning:
      EndRunning();
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

ErrorPtr PooledCall::EndedError() const {
  if (ended() == Ended::kAborted) {
    pool::Rejection draining;
    draining.reason = pool::RejectReason::kShutdown;
    return FromRejection(key_.target, draining);
  }
  return MakeError(absl::StatusCode::kCancelled, "CANCELLED",
                   "the caller is gone");
}

void PooledCall::Complete(ErrorPtr error) {
  std::shared_ptr<Call> last;
  {
    MutexLock lock(&mu_);
    if (phase_ == Phase::kDone) return;
    phase_ = Phase::kDone;
    ++step_;
    last = std::move(self_);
  }
  broker_->registry_->Remove(this);
  if (entered_) broker_->overload_.Leave();
  place_ = QuotaToken();
  if (error != nullptr) error = Judge(std::move(error));
  OnCompleting(error);
  completion_->OnComplete(std::move(error));
}

void FillConnection(const upstream::Upstream& upstream, pool::ConnId conn,
                    pool::Handle handle, uint64_t uses, Instant ready_since,
                    Instant now, v1::ConnectionInfo* out) {
  out->set_connection_id(conn);
  out->set_reused(uses > 0);
  out->set_calls(uses);
  FillDuration(std::max(Duration(0), now - ready_since), out->mutable_age());
  const auto facts = upstream.Describe(handle);
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
