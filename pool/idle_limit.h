// How long an upstream keeps an idle connection.
#ifndef HOTLINE_POOL_IDLE_LIMIT_H_
#define HOTLINE_POOL_IDLE_LIMIT_H_

#include "base/time.h"

namespace hotline::pool {

// It is learned in two ways: the upstream announces it (`Keep-Alive:
// timeout=N`), or it closes idle connections repeatedly after the same time.
//
// One close proves nothing: an upstream that restarts closes all its idle
// connections, after any time. So two closes have to agree within a tenth, and
// be at least a second apart, because connections that close together have one
// cause. They then set the limit, lower or higher than before.
//
// Once the pool retires connections in time, the upstream does not close them,
// so the limit is not confirmed any more. It is dropped after kForget and
// learned again from the next two closes. That costs a few connections, and
// finds out if the upstream now keeps them longer.
//
// Pure: time is an argument. Not thread-safe.
class IdleLimit {
 public:
  static constexpr Duration kNone = Duration::max();
  static constexpr Duration kForget = std::chrono::minutes(10);
  // Closes after a shorter time are ignored.
  static constexpr Duration kLeast = std::chrono::milliseconds(100);

  // The upstream closed a connection that had been idle for `idle`. Returns
  // true if the limit changed.
  bool OnClosed(Duration idle, Instant now);
  // The upstream announced `timeout`. If servers behind a balancer announce
  // different values, the lowest counts. Returns true if the limit changed.
  bool OnSaid(Duration timeout, Instant now);
  // Drops what was not confirmed for kForget. Returns true if the limit
  // changed.
  bool Forget(Instant now);

  // The lower of the announced and the learned time; kNone: unknown.
  Duration limit() const { return said_ < learned_ ? said_ : learned_; }
  // How long a connection may be idle and still be lent: the limit less a
  // margin for the way to the upstream. The margin is a tenth of the limit,
  // within 0.5 s (or half the limit) and 5 s.
  Duration usable() const;
  Duration said() const { return said_; }
  Duration learned() const { return learned_; }

 private:
  Duration said_ = kNone;
  Instant said_until_ = kNever;
  Duration learned_ = kNone;
  Instant learned_until_ = kNever;
  Duration seen_ = kNone;  // The last close that agreed with no other.
  Instant seen_at_{};
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_IDLE_LIMIT_H_
