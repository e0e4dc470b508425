// The circuit breaker of a target: stops dialling what does not answer.
#ifndef HOTLINE_POOL_BREAKER_H_
#define HOTLINE_POOL_BREAKER_H_

#include "base/time.h"
#include "pool/types.h"

namespace hotline::pool {

// Closed, dials begin as they are wanted. After `failures` failed dials in a
// row it opens: none begins for `open_for`. Then it is half open: one dial may
// begin, and what becomes of it closes the breaker or opens it again.
//
// It bars dials, never connections that are there: those are lent as ever.
//
// Dials that ran side by side failed once, not several times in a row, as for
// the back-off. Not thread-safe: guarded by the shard's mutex.
class Breaker {
 public:
  struct Numbers {
    int failures = 0;  // 0: never opens.
    Duration open_for{0};
  };

  // Whether a failure says that the upstream does not answer. A certificate
  // that does not verify or an address that is denied says something else, and
  // says it better than an open circuit would.
  static bool Counts(const DialError& error);

  // No dial may begin now.
  bool Bars(Instant now) const {
    return open_ && (trial_began_ != kNever || now < until_);
  }
  bool closed() const { return !open_; }
  BreakerState state(Instant now) const;
  // When it is half open; meaningless while it is closed.
  Instant until() const { return until_; }
  int failures() const { return failures_; }

  // A dial begins. REQUIRES: it is not barred.
  void OnDial(Instant now);
  // One succeeded, whenever it began.
  void Close() { *this = Breaker(); }
  // One that began at `began` failed in a way that counts. True: it opened, for
  // the first time or again.
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
