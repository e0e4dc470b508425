// Detects a target whose answers do not end where we think they end.
#ifndef HOTLINE_POOL_QUARANTINE_H_
#define HOTLINE_POOL_QUARANTINE_H_

#include "base/time.h"

namespace hotline::pool {

// Unsolicited bytes close the connection on which they arrive. An upstream that
// sends them `limit` times within kWindow disagrees with us about where an
// answer ends, and its next surplus bytes might look like an answer. So for
// kLength no connection is reused: each call has a connection of its own. Every
// further event restarts that time.
//
// Pure: time is an argument. Not thread-safe.
class Quarantine {
 public:
  static constexpr Duration kWindow = std::chrono::minutes(5);
  static constexpr Duration kLength = std::chrono::minutes(5);

  // Returns true if the quarantine begins or is restarted. `limit` 0: never.
  bool OnUnsolicited(int limit, Instant now) {
    if (limit <= 0) return false;
    if (count_ > 0 && now - first_ >= kWindow) count_ = 0;
    if (count_ == 0) first_ = now;
    if (++count_ < limit && now >= until_) return false;
    count_ = 0;
    until_ = SaturatingAdd(now, kLength);
    return true;
  }
  bool active(Instant now) const { return now < until_; }
  // When it ends; Instant{} if it never began.
  Instant until() const { return until_; }
  void Lift() { *this = Quarantine(); }

 private:
  int count_ = 0;  // Of events since first_.
  Instant first_{};
  Instant until_{};
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_QUARANTINE_H_
