// A limit over all targets: tokens, and a fair line of targets that need one.
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

// A token stands for one connection (or one dial). It is taken before a dial
// begins and returned when the connection is closed (when the dial has ended).
//
// A target that is refused a token joins the line once. Targets without any
// connection are served first, each group in order of arrival. A token that is
// returned while targets are in line is reserved for the head of the line, by a
// Delivery. An unused token is returned and offered to the next target in line.
//
// The budget also counts the tokens that will be returned soon (connections
// being closed), so that no more idle connections are closed than the line
// needs.
//
// Thread safety: every method may be called from any thread. Its lock is a
// leaf: it is taken under a shard's lock, and no lock is taken under it.
class Budget {
 public:
  struct InLine;

  // A target's place in line. Guarded by the budget's lock.
  struct Ticket : Link<InLine> {
    Ticket(int shard_in, Target* target_in)
        : shard(shard_in), target(target_in) {}
    const int shard;
    Target* const target;
  };

  // A token reserved for a target. It must be passed on to the target's shard.
  struct Delivery {
    int shard = 0;
    Target* target = nullptr;
  };

  // Whether an idle connection should be closed.
  enum class Claim : uint8_t {
    kNo,
    kForLine,  // A target in line needs its token.
    kOverCap,  // The cap was lowered below the tokens taken.
  };

  explicit Budget(int max) : max_(max) {}
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;

  // Takes a token, unless there is none or a target is in line for one.
  bool TryTake();

  // Takes a token, or joins the line; `holds_none`: ahead of targets that have
  // a connection. REQUIRES: the ticket is in no line.
  bool TakeOrJoin(Ticket* ticket, bool holds_none);

  // Leaves the line. Returns false if the ticket was not in line, or if its
  // Delivery is under way.
  bool Leave(Ticket* ticket);

  // Returns a token. `expected`: ExpectReturn or ClaimIdle announced it.
  void Return(bool expected = false);

  // Announces a Return: the connection is being closed.
  void ExpectReturn();

  // Decides whether an idle connection should be closed now, and if so
  // announces its Return. `floor`: it belongs to a warm floor, which only a
  // lowered cap may reduce.
  Claim ClaimIdle(bool floor);

  // Takes the next reserved token, if any.
  std::optional<Delivery> TakeDelivery();

  void SetMax(int max);

  // Lock-free reads, which may be outdated at once.
  bool has_deliveries() const {
    return deliveries_pending_.load(std::memory_order_acquire) > 0;
  }
  // Tokens that the line or a lowered cap needs, beyond the expected returns.
  int pressure() const { return pressure_.load(std::memory_order_relaxed); }
  // Returns true if the pressure rose and no thread has searched yet for idle
  // connections to close.
  bool search_wanted() const { return search_.load(std::memory_order_acquire); }
  // Requests another search, because a warm floor now has fewer connections.
  void SearchAgain() {
    if (pressure() > 0) search_.store(true, std::memory_order_release);
  }
  // Takes the request to search, if there is one: the caller then searches.
  bool TakeSearch() {
    return search_.exchange(false, std::memory_order_acq_rel);
  }
  int max() const { return max_published_.load(std::memory_order_relaxed); }

  // Tokens taken, including those of deliveries.
  int used() const;
  // More tokens are taken than the cap allows, less the expected returns.
  bool over_cap() const;
  int waiting() const;

 private:
  friend class Inspector;

  void ServeLineLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void PublishLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  mutable Mutex mu_;
  int max_ ABSL_GUARDED_BY(mu_);
  int used_ ABSL_GUARDED_BY(mu_) = 0;
  int returning_ ABSL_GUARDED_BY(mu_) = 0;  // Of used_: expected returns.
  int waiting_ ABSL_GUARDED_BY(mu_) = 0;
  List<Ticket, InLine> first_ ABSL_GUARDED_BY(mu_);  // Without a connection.
  List<Ticket, InLine> second_ ABSL_GUARDED_BY(mu_);
  std::deque<Delivery> deliveries_ ABSL_GUARDED_BY(mu_);

  std::atomic<int> deliveries_pending_{0};
  std::atomic<int> pressure_{0};
  std::atomic<bool> search_{false};
  std::atomic<int> max_published_{max_};
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_BUDGET_H_
