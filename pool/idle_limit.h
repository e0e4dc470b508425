// How long an upstream keeps a connection that nobody uses.
#ifndef HOTLINE_POOL_IDLE_LIMIT_H_
#define HOTLINE_POOL_IDLE_LIMIT_H_

#include "base/time.h"

namespace hotline::pool {

// Learned in two ways: an upstream says it (`Keep-Alive: timeout=N`), or it
// shows it, by closing idle connections after the same time again and again.
//
// One close proves nothing: an upstream that restarts closes whatever is idle,
// after any time. So two closes have to agree, within a tenth, and be more than
// a second apart, because what closes together has one cause. They set the
// limit, lower or higher than before.
//
// What is retired in time is not closed by the upstream any more; so a limit
// that is obeyed is never confirmed. After kForget it is dropped, and learned
// again from the next two closes: an upstream that has become more patient is
// found out so, at the price of a few connections that it closes first.
//
// Pure: time is an argument. Not thread-safe.
class IdleLimit {
 public:
  static constexpr Duration kNone = Duration::max();
  static constexpr Duration kForget = std::chrono::minutes(10);
  // Shorter ones are no habit but an accident.
  static constexpr Duration kLeast = std::chrono::milliseconds(100);

  // The upstream closed a connection that had been idle for so long. True: the
  // limit changed.
  bool OnClosed(Duration idle, Instant now);
  // It said so in a header. Of several that say different things, as behind a
  // balancer, the least patient one counts. True: the limit changed.
  bool OnSaid(Duration timeout, Instant now);
  // Drops what nobody has said, or shown, for too long. True: the limit
  // changed.
  bool Forget(Instant now);

  // How long it keeps one, as far as is known; kNone: not at all.
  Duration limit() const { return said_ < learned_ ? said_ : learned_; }
  // How long one may rest here and still be lent: the limit less a margin for
  // the way there, a tenth of it, at least half a second (or half of it), at
  // most five.
  Duration usable() const;
  Duration said() const { return said_; }
  Duration learned() const { return learned_; }

 private:
  Duration said_ = kNone;
  Instant said_until_ = kNever;
  Duration learned_ = kNone;
  Instant learned_until_ = kNever;
  Duration seen_ = kNone;  // The last close that did not agree.
  Instant seen_at_{};
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_IDLE_LIMIT_H_
