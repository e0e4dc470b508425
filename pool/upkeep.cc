// What keeps a target's connections good beside lending them: the circuit
// breaker, the upstream's patience, the floor that moves; and who has to wait
// for how long. The rest of Target and HostPool is in their own files.
#include <algorithm>

#include "pool/hot_path.h"
#include "pool/target.h"

namespace hotline::pool {
namespace {

// How often arrivals are counted for the warm floor.
constexpr Duration kSample = std::chrono::seconds(1);
// Between the checks of a connection that is in doubt.
constexpr Duration kRecheck = std::chrono::seconds(1);

}  // namespace

// --- The circuit breaker ---

void Target::OnDialFailed(const DialError& error, Instant began, Instant now) {
  ++counters_.dials_failed[static_cast<int>(error.failure_class)];
  last_dial_error_ = error.message.empty() ? error.reason : error.message;
  if (!Breaker::Counts(error)) {
    CloseBreaker();
  } else if (breaker_.OnFailure(
                 {config_.breaker_failures, config_.breaker_open_for}, began,
                 now)) {
    OnBreakerOpened(now);
  }
}

void Target::OnEndedEarly(const DialError& error, Instant began, Instant now) {
  ended_early_ = true;
  OnDialFailed(error, began, now);
}

void Target::OnProved() {
  ++counters_.dials_ok;
  if (ended_early_) EndFailures();
}

void Target::EndFailures() {
  ended_early_ = false;
  last_dial_error_.clear();
  CloseBreaker();
}

void Target::OnBreakerOpened(Instant now) {
  ++counters_.breaker_opened;
  // For the trial, whoever wants it.
  for (const auto& pool : pools_) pool->WakeBy(breaker_.until());
  shard_->outbox.push_back(
      BreakerEffect{pools_.front()->shared_key(),
                    {.state = breaker_.state(now),
                     .failures = breaker_.failures(),
                     .open_for = config_.breaker_open_for,
                     .last_dial_error = last_dial_error_}});
}

void Target::CloseBreaker() {
  if (!breaker_.closed()) {
    shard_->outbox.push_back(
        BreakerEffect{pools_.front()->shared_key(), BreakerChange()});
  }
  breaker_.Close();
}

void Target::RejectHopeless(Instant now) {
  for (const auto& pool : pools_) pool->RejectHopeless(now);
}

void HostPool::RejectHopeless(Instant now) {
  for (auto* line : {&line_, &new_line_}) {
    if (!Hopeless(line == &new_line_)) continue;
    while (Waiting* head = line->front()) {
      Reject(head, RejectReason::kCircuitOpen, now);
    }
  }
}

// --- The upstream's patience ---

void Target::UseIdleLimit() {
  usable_idle_ = no_reuse_ ? Duration(0) : idle_limit_.usable();
  rest_for_ = std::min(config_.idle_timeout, usable_idle_);
  // Unused ones are looked at now and then.
  if (no_reuse_) rest_for_ = kRecheck;
  lend_for_ = config_.probe == ProbeKind::kNone
                  ? usable_idle_
                  : std::min(config_.check_interval, usable_idle_);
}

void Target::UseIdleLimitEverywhere(Instant now) {
  UseIdleLimit();
  for (const auto& pool : pools_) pool->Reconfigure(now);
}

void Target::Forget(Instant now) {
  const bool over = no_reuse_ && !quarantine_.active(now);
  if (over) no_reuse_ = false;
  if (idle_limit_.Forget(now) || over) UseIdleLimit();
}

void Target::OnClosedIdle(Duration idle, Instant now) {
  Forget(now);
  if (idle_limit_.OnClosed(idle, now)) UseIdleLimitEverywhere(now);
}

void Target::OnKeepAliveSaid(Duration timeout, Instant now) {
  Forget(now);
  if (idle_limit_.OnSaid(timeout, now)) UseIdleLimitEverywhere(now);
}

void Target::OnUnsolicited(Instant now) {
  if (!quarantine_.OnUnsolicited(config_.desync_limit, now) || no_reuse_) {
    return;
  }
  no_reuse_ = true;
  ++counters_.quarantines;
  UseIdleLimitEverywhere(now);
}

bool HostPool::Refreshes(const Connection& conn) const {
  return target_->config().probe == ProbeKind::kHttp && !conn.multiplexed;
}

bool HostPool::WornOut(const Connection& conn, Instant now) const {
  const Instant counted = Refreshes(conn) ? conn.checked_at : conn.idle_since;
  return now >= SaturatingAdd(counted, target_->usable_idle());
}

// Idle, and not to be lent as it is: it is checked, or has to go.
void HostPool::PutAside(Connection* conn, Instant now) {
  const bool no_reuse = target_->no_reuse();
  if (WornOut(*conn, now) && (no_reuse || !AtFloor() || !Refreshes(*conn))) {
    Close(conn, no_reuse ? CloseReason::kNoReuse : CloseReason::kIdle);
  } else {
    StartProbe(conn);
  }
}

void HostPool::UseProbed(Connection* conn, Instant checked_at) {
  UseChecked(conn, checked_at);
  if (Refreshes(*conn)) return;
  conn->lend_until =
      std::min(conn->lend_until,
               SaturatingAdd(conn->idle_since, target_->usable_idle()));
}

Duration HostPool::IdleWhenClosed(const Connection& conn, Instant now) const {
  // How long an upstream waits for the first request is another matter.
  if (!IsIdle(conn) || conn.uses == 0) return Duration(0);
  const bool checked = conn.checked_at > conn.idle_since;
  if (checked && !Refreshes(conn)) return Duration(0);
  return now - conn.checked_at;
}

// --- Checks ---

bool HostPool::CountCheck(Connection* conn, bool passed) {
  const TargetConfig& config = target_->config();
  if (!passed) {
    conn->checks_passed = 0;
    return ++conn->checks_failed >= config.probe_fall;
  }
  if (conn->checks_failed == 0) return true;
  if (++conn->checks_passed < config.probe_rise) return false;
  conn->checks_failed = conn->checks_passed = 0;
  return true;
}

void HostPool::Doubt(Connection* conn, Instant now) {
  conn->recheck_at = SaturatingAdd(now, kRecheck);
  SetTimer(conn, now);
}

// --- The floor ---

void Target::OnDialBegun(Instant now) {
  breaker_.OnDial(now);
  WatchFloor(now);
}

uint64_t Target::Arrivals() const {
  uint64_t arrivals = counters_.granted + counters_.cancelled;
  for (const uint64_t count : counters_.rejected) arrivals += count;
  return arrivals;
}

void Target::OnTimer(Instant now) {
  if (!adaptive() || shard_->shutdown) return;
  arrivals_.Sample(Arrivals(), now);
  MoveFloor();
  // With nothing left to keep it waits for the next dial.
  if (records_ > 0 || floor_ > config_.warm) {
    shard_->FireBy(&timer_, now + kSample);
  }
}

void Target::WatchFloor(Instant now) {
  if (!adaptive() || timer_.scheduled()) return;
  arrivals_.Sample(Arrivals(), now);
  shard_->FireBy(&timer_, now + kSample);
}

void Target::MoveFloor() {
  const int before = floor_;
  const int streams = known_streams_ != 0
                          ? std::min(known_streams_, config_.max_streams)
                          : config_.expected_streams;
  floor_ = AdaptiveFloor({.least = config_.warm,
                          .most = config_.warm_max,
                          .arrivals_per_second = arrivals_.per_second(),
                          .dial_time = dial_time_.mean(),
                          .streams = streams});
  touched_ = touched_ || floor_ != before;
  // What it kept may be closed for others now.
  if (floor_ < before) shard_->shared->connections.SearchAgain();
}

// --- Waits ---

// Of somebody who would come to the end of the line now.
Duration Target::ExpectedWait(const HostPool& pool, bool new_only,
                              Instant now) const {
  SizingNumbers numbers = pool.Numbers(now);
  WaitNumbers wait;
  wait.place = pool.waiters() + 1;
  wait.dialing = numbers.dialing;
  ++(new_only ? numbers.new_only_waiters : numbers.waiters);
  wait.dials_to_come = ConnectionsToDial(numbers);
  wait.streams = numbers.streams;
  wait.dial_time = dial_time_.mean();
  wait.lent = new_only ? 0 : lease_count_;
  const uint64_t leases = counters_.lease.total();
  if (leases > 0) {
    wait.lease_time = counters_.lease.sum() / static_cast<int64_t>(leases);
  }
  return EstimatedWait(wait);
}

}  // namespace hotline::pool
