// How long a HostPool waits after a failed dial before it dials again.
#ifndef HOTLINE_POOL_DIAL_BACKOFF_H_
#define HOTLINE_POOL_DIAL_BACKOFF_H_

#include <algorithm>
#include <cstdint>

#include "base/time.h"

namespace hotline::pool {

// After `failures` failed dials in a row the next one waits for a random time
// below min(base * 2^(failures-1), cap). Dials that ran concurrently count as
// one failure.
//
// Pure: time and randomness are arguments. Not thread-safe.
class DialBackoff {
 public:
  // A dial that began at `began` failed. `random` is in [0, 1). Returns false
  // if the failure is not counted, because it ran concurrently with a counted
  // one.
  bool OnFailure(Duration base, Duration cap, double random, Instant began,
                 Instant now) {
    if (failures_ > 0 && began < failed_at_) return false;
    const int doublings = std::min(failures_++, kMaxDoublings);
    failed_at_ = now;
    const double most = std::min(
        static_cast<double>(base.count()) * static_cast<double>(1 << doublings),
        static_cast<double>(cap.count()));
    until_ = now + Duration(static_cast<int64_t>(most * random));
    return true;
  }
  void Reset() {
    failures_ = 0;
    until_ = Instant{};
  }

  bool active(Instant now) const { return now < until_; }
  Instant until() const { return until_; }
  int failures() const { return failures_; }  // In a row.
  Instant failed_at() const { return failed_at_; }

 private:
  static constexpr int kMaxDoublings = 20;

  int failures_ = 0;
  Instant failed_at_{};
  Instant until_{};
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_DIAL_BACKOFF_H_
