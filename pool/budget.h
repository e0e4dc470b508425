// A cap over all targets: tokens, and a fair line for those who were refused.
#ifndef HOTLINE_POOL_BUDGET_H_
#define HOTLINE_POOL_BUDGET_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <optional>

#include "base/mutex.h"
#include "pool/list.h"

namespace hotline::pool {

class Target;

// One token is one connection (or one dial). It is taken before a dial begins
// and given back when the connection is gone (when the dial has ended).
//
// A target that is refused joins the line once; those that hold no connection
// go first, then first come, first served. A token that comes free while
// somebody waits is never free: it is reserved for the head of the line, which
// is told by a Delivery. Who cannot use it gives it back, and so it passes on.
//
// The budget also counts tokens that are about to come back (connections being
// closed), so that no more idle connections are closed than the line can use.
//
// Thread safety: every method may be called from any thread. The lock inside is
// a leaf: it is taken under a shard's lock and nothing is taken under it.
class Budget {
 public:
  struct InLine;

  // A target's place in the line. Guarded by the budget's lock.
  struct Ticket : Link<InLine> {
    Ticket(int shard_in, Target* target_in)
        : shard(shard_in), target(target_in) {}
    const int shard;
    Target* const target;
  };

  // A token reserved for a target. Must be carried to its shard.
  struct Delivery {
    int shard = 0;
    Target* target = nullptr;
  };

  // What an idle connection is wanted for.
  enum class Claim : uint8_t {
    kNo,       // Keep it.
    kForLine,  // Somebody waits for its token.
    kOverCap,  // The cap was lowered below what is in use.
  };

  explicit Budget(int max) : max_(max) {}
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;

  // Takes a token unless there is none or somebody waits for one.
  bool TryTake();

  // Takes a token, or joins the line: before those who hold something, if
  // `holds_none`. The ticket is in no line.
  bool TakeOrJoin(Ticket* ticket, bool holds_none);

  // True: the ticket was in the line and has left it. False: it was not, or its
  // Delivery is on its way.
  bool Leave(Ticket* ticket);

  // Gives a token back. `expected`: ExpectReturn (or Claim) had announced it.
  void Return(bool expected = false);

  // A token will come back soon: its connection is being closed.
  void ExpectReturn();

  // Whether an idle connection should be closed now. If so, its return is
  // expected from here on. `floor`: it is part of a warm floor, which only a
  // lowered cap may take.
  Claim ClaimIdle(bool floor);

  // Whom a token was reserved for. Nothing: nobody.
  std::optional<Delivery> TakeDelivery();

  void SetMax(int max);

  // Cheap looks, right at the moment of looking.
  bool has_deliveries() const {
    return deliveries_pending_.load(std::memory_order_acquire) > 0;
  }
  // Tokens wanted and not on their way back: for the line or a lowered cap.
  int pressure() const { return pressure_.load(std::memory_order_relaxed); }
  // Somebody joined the line, or the cap was lowered, and nobody has looked yet
  // for idle connections to close.
  bool search_wanted() const { return search_.load(std::memory_order_acquire); }
  // Looks again: connections came free of their warm floor.
  void SearchAgain() {
    if (pressure() > 0) search_.store(true, std::memory_order_release);
  }
  // Whether there was one to look for; it is the caller's from here on.
  bool TakeSearch() {
    return search_.exchange(false, std::memory_order_acq_rel);
  }
  int max() const { return max_published_.load(std::memory_order_relaxed); }

  // Tokens taken, those reserved for deliveries included.
  int used() const;
  // More are taken than the cap allows, not counting those on their way back.
  bool over_cap() const;
  int waiting() const;

 private:
  friend class Inspector;

  void ServeLineLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void PublishLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  mutable Mutex mu_;
  int max_ ABSL_GUARDED_BY(mu_);
  int used_ ABSL_GUARDED_BY(mu_) = 0;
  int returning_ ABSL_GUARDED_BY(mu_) = 0;  // Of used_, on their way back.
  int waiting_ ABSL_GUARDED_BY(mu_) = 0;
  List<Ticket, InLine> poor_ ABSL_GUARDED_BY(mu_);  // Hold no connection.
  List<Ticket, InLine> rich_ ABSL_GUARDED_BY(mu_);
  std::deque<Delivery> deliveries_ ABSL_GUARDED_BY(mu_);

  std::atomic<int> deliveries_pending_{0};
  std::atomic<int> pressure_{0};
  std::atomic<bool> search_{false};
  std::atomic<int> max_published_{max_};
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_BUDGET_H_
