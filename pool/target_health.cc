#include "pool/target_health.h"

#include <algorithm>

namespace hotline::pool {
namespace {

// The idle timeout in quarantine, where only unused connections are idle.
constexpr Duration kQuarantineIdleTimeout = std::chrono::seconds(1);

}  // namespace

TargetHealth::TargetHealth(const TargetConfig* config)
    : config_(config), floor_(config->warm) {
  UpdateIdleTimes();
}

// --- Dials ---

TargetHealth::BreakerStep TargetHealth::OnDialed(const DialTimings& timings,
                                                 Instant now) {
  dial_time_.Add(timings.resolve + timings.connect + timings.tls +
                 timings.validate);
  // A new connection is the occasion to drop what is outdated.
  ExpireLearned(now);
  return ended_early_ ? BreakerStep::kNone : EndFailures();
}

TargetHealth::BreakerStep TargetHealth::OnDialFailed(const DialError& error,
                                                     Instant began,
                                                     Instant now) {
  last_dial_error_ = error.message.empty() ? error.reason : error.message;
  last_dial_reason_ = error.reason;
  if (!Breaker::Counts(error)) return CloseBreaker();
  const Breaker::Numbers numbers{config_->breaker_failures,
                                 config_->breaker_open_for};
  return breaker_.OnFailure(numbers, began, now) ? BreakerStep::kOpened
                                                 : BreakerStep::kNone;
}

TargetHealth::BreakerStep TargetHealth::OnEndedEarly(const DialError& error,
                                                     Instant began,
                                                     Instant now) {
  ended_early_ = true;
  return OnDialFailed(error, began, now);
}

TargetHealth::BreakerStep TargetHealth::OnProved() {
  return ended_early_ ? EndFailures() : BreakerStep::kNone;
}

TargetHealth::BreakerStep TargetHealth::EndFailures() {
  ended_early_ = false;
  last_dial_error_.clear();
  last_dial_reason_ = "";
  return CloseBreaker();
}

TargetHealth::BreakerStep TargetHealth::CloseBreaker() {
  const bool closed = breaker_.closed();
  breaker_.Close();
  return closed ? BreakerStep::kNone : BreakerStep::kClosed;
}

// --- The upstream's behaviour ---

bool TargetHealth::OnClosedIdle(Duration idle, Instant now) {
  ExpireLearned(now);
  if (!idle_limit_.OnClosed(idle, now)) return false;
  UpdateIdleTimes();
  return true;
}

bool TargetHealth::OnKeepAliveSaid(Duration timeout, Instant now) {
  ExpireLearned(now);
  if (!idle_limit_.OnSaid(timeout, now)) return false;
  UpdateIdleTimes();
  return true;
}

bool TargetHealth::OnUnsolicited(Instant now) {
  if (!quarantine_.OnUnsolicited(config_->desync_limit, now) || no_reuse_) {
    return false;
  }
  no_reuse_ = true;
  UpdateIdleTimes();
  return true;
}

void TargetHealth::ExpireLearned(Instant now) {
  const bool over = no_reuse_ && !quarantine_.active(now);
  if (over) no_reuse_ = false;
  if (idle_limit_.Forget(now) || over) UpdateIdleTimes();
}

void TargetHealth::UpdateIdleTimes() {
  usable_idle_ = no_reuse_ ? Duration(0) : idle_limit_.usable();
  idle_for_ = no_reuse_ ? kQuarantineIdleTimeout
                        : std::min(config_->idle_timeout, usable_idle_);
  lend_for_ = config_->probe == ProbeKind::kNone
                  ? usable_idle_
                  : std::min(config_->check_interval, usable_idle_);
}

// --- The warm floor ---

int TargetHealth::MoveFloor(int streams) {
  const int before = floor_;
  floor_ = AdaptiveFloor({.least = config_->warm,
                          .most = config_->warm_max,
                          .arrivals_per_second = arrivals_.per_second(),
                          .dial_time = dial_time_.mean(),
                          .streams = streams});
  return floor_ - before;
}

TargetHealth::BreakerStep TargetHealth::Reconfigure() {
  if (config_->desync_limit <= 0) {
    quarantine_.Lift();
    no_reuse_ = false;
  }
  UpdateIdleTimes();
  return config_->breaker_failures <= 0 ? CloseBreaker() : BreakerStep::kNone;
}

void TargetHealth::FillRow(Instant now, TargetRow* row) const {
  row->last_dial_error = last_dial_error_;
  row->last_dial_reason = last_dial_reason_;
  row->breaker = breaker_.state(now);
  row->failures_in_a_row = breaker_.failures();
  if (row->breaker == BreakerState::kOpen) {
    row->breaker_open_for = breaker_.until() - now;
  }
  row->keep_alive_said = idle_limit_.said();
  row->keep_alive_learned = idle_limit_.learned();
  row->idle_for = idle_for_;
  if (quarantine_.active(now)) row->no_reuse_for = quarantine_.until() - now;
  row->floor = floor_;
  row->arrivals_per_second = arrivals_.per_second();
  row->dial_time = dial_time_.mean();
}

}  // namespace hotline::pool
