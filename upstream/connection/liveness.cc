#include "upstream/connection/liveness.h"

#include <algorithm>
#include <utility>

namespace hotline::upstream {

bool Liveness::Probe(Instant deadline, Answer& answer) {
  if (probe_) return false;
  probe_ = std::move(answer);
  answer = nullptr;
  probe_deadline_ = deadline;
  return true;
}

Liveness::Answer Liveness::EndProbe() {
  probe_deadline_ = kNever;
  return std::exchange(probe_, nullptr);
}

Instant Liveness::SilenceDue(bool busy) const {
  if (!busy) return kNever;
  return asked_ != kNever ? SaturatingAdd(asked_, ping_timeout_)
                          : SaturatingAdd(heard_, ping_after_);
}

Instant Liveness::Due(bool busy) const {
  return std::min(SilenceDue(busy), probe_deadline_);
}

Liveness::Action Liveness::Check(bool busy, Instant now) {
  if (probe_deadline_ <= now) return Action::kFailProbe;
  if (SilenceDue(busy) > now) return Action::kNone;
  if (asked_ != kNever) return Action::kGiveUp;
  asked_ = now;
  return Action::kPing;
}

}  // namespace hotline::upstream
