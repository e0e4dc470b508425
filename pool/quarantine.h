// When a target's answers cannot be trusted to end where they end.
#ifndef HOTLINE_POOL_QUARANTINE_H_
#define HOTLINE_POOL_QUARANTINE_H_

#include "base/time.h"

namespace hotline::pool {

// Bytes that nobody had asked for close the connection on which they come. An
// upstream that does it again and again, `limit` times within kWindow,
// disagrees with us about where an answer ends; the next surplus might look
// like an answer. So for kLength nothing is reused: each call has a connection
// of its own. Every further one begins that time anew.
//
// Pure: time is an argument. Not thread-safe.
class Quarantine {
 public:
  static constexpr Duration kWindow = std::chrono::minutes(5);
  static constexpr Duration kLength = std::chrono::minutes(5);

  // `limit` 0: never. True: it began, or begins anew.
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
  // When it is over; Instant{}: it never was on.
  Instant until() const { return until_; }
  void Lift() { *this = Quarantine(); }

 private:
  int count_ = 0;  // Since first_.
  Instant first_{};
  Instant until_{};
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_QUARANTINE_H_
