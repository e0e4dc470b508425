// The circuit breaker of a target: stops dialling an upstream that is down.
#ifndef HOTLINE_POOL_BREAKER_H_
#define HOTLINE_POOL_BREAKER_H_

#include "base/time.h"
#include "pool/types.h"

namespace hotline::pool {

// While it is closed, any dial may begin. After `failures` failed dials in a
// row it opens: no dial may begin for `open_for`. Then it is half open: one
// dial may begin as a trial, and its result closes the breaker or opens it
// again.
//
// It bars dials only: existing connections are lent as before.
//
// Concurrent dials that fail count as one failure, as for DialBackoff.
//
// Pure: time is an argument. Not thread-safe.
class Breaker {
 public:
  struct Numbers {
    int failures = 0;  // 0: never opens.
    Duration open_for{0};
  };

  // Returns whether a failure means that the upstream is down. A certificate
  // that does not verify or a denied address is a more useful error than an
  // open circuit.
  static bool Counts(const DialError& error);

  // Returns true if no dial may begin now.
  bool Bars(Instant now) const {
    return open_ && (trial_began_ != kNever || now < until_);
  }
  bool closed() const { return !open_; }
  BreakerState state(Instant now) const;
  // When it becomes half open; meaningless while it is closed.
  Instant until() const { return until_; }
  int failures() const { return failures_; }

  // A dial begins. REQUIRES: !Bars(now).
  void OnDial(Instant now);
  // A dial succeeded, whenever it began.
  void Close() { *this = Breaker(); }
  // A dial that began at `began` failed, and Counts. Returns true if the
  // breaker opened, also if again.
  bool OnFailure(const Numbers& numbers, Instant began, Instant now);

 private:
  bool open_ = false;
  int failures_ = 0;  // In a row.
  Instant failed_at_{};
  Instant until_{};
  Instant trial_began_ = kNever;  // kNever: no trial is under way.
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_BREAKER_H_
