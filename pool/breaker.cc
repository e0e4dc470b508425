#include "pool/breaker.h"

#include <cassert>
#include <string_view>

namespace hotline::pool {

bool Breaker::Counts(const DialError& error) {
  if (error.callers_check) return false;
  switch (error.failure_class) {
    case FailureClass::kNetwork:
    case FailureClass::kValidation:
      return true;
    case FailureClass::kTls:
      // The peer cut the handshake off. The other reasons of this class are
      // about its identity.
      return std::string_view(error.reason) == "TLS_FAILED";
    case FailureClass::kPolicy:
      break;
  }
  return false;
}

BreakerState Breaker::state(Instant now) const {
  if (!open_) return BreakerState::kClosed;
  const bool paused = trial_began_ == kNever && now < until_;
  return paused ? BreakerState::kOpen : BreakerState::kHalfOpen;
}

void Breaker::OnDial(Instant now) {
  assert(!Bars(now));
  if (open_) trial_began_ = now;
}

bool Breaker::OnFailure(const Numbers& numbers, Instant began, Instant now) {
  if (numbers.failures <= 0) return false;
  if (open_) {
    // A dial from before the trial says nothing about it.
    if (trial_began_ == kNever || began < trial_began_) return false;
  } else {
    if (failures_ > 0 && began < failed_at_) return false;
    failed_at_ = now;
    if (++failures_ < numbers.failures) return false;
  }
  open_ = true;
  trial_began_ = kNever;
  until_ = SaturatingAdd(now, numbers.open_for);
  return true;
}

}  // namespace hotline::pool
