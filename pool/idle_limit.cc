#include "pool/idle_limit.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace hotline::pool {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Duration kApart = seconds(1);

bool Agree(Duration a, Duration b) {
  return std::max(a, b) - std::min(a, b) <= std::max(a, b) / 10;
}

}  // namespace

bool IdleLimit::OnClosed(Duration idle, Instant now) {
  if (idle < kLeast) return false;
  if (learned_ != kNone && Agree(idle, learned_)) {
    learned_until_ = SaturatingAdd(now, kForget);
    const bool lower = idle < learned_;
    learned_ = std::min(learned_, idle);
    return lower;
  }
  if (seen_ == kNone || !Agree(idle, seen_)) {
    seen_ = idle;
    seen_at_ = now;
    return false;
  }
  seen_ = std::min(seen_, idle);
  if (now - seen_at_ < kApart) return false;
  learned_ = std::exchange(seen_, kNone);
  learned_until_ = SaturatingAdd(now, kForget);
  return true;
}

bool IdleLimit::OnSaid(Duration timeout, Instant now) {
  if (timeout > said_) return false;
  const bool lower = timeout < said_;
  said_ = timeout;
  said_until_ = SaturatingAdd(now, kForget);
  return lower;
}

bool IdleLimit::Forget(Instant now) {
  const Duration before = limit();
  if (now >= said_until_) {
    said_ = kNone;
    said_until_ = kNever;
  }
  if (now >= learned_until_) {
    learned_ = kNone;
    learned_until_ = kNever;
  }
  return limit() != before;
}

Duration IdleLimit::usable() const {
  const Duration all = limit();
  if (all == kNone) return kNone;
  const Duration least = std::min<Duration>(milliseconds(500), all / 2);
  return all - std::clamp<Duration>(all / 10, least, seconds(5));
}

}  // namespace hotline::pool
