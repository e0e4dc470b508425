// A target's claim to a token of one budget: nothing, a place in line, or a
// token not used yet.
#ifndef HOTLINE_POOL_TOKEN_CLAIM_H_
#define HOTLINE_POOL_TOKEN_CLAIM_H_

#include <cassert>

#include "pool/budget.h"

namespace hotline::pool {

// Not thread-safe: guarded by the shard's mutex.
class TokenClaim {
 public:
  TokenClaim(Budget* budget, int shard, Target* target)
      : budget_(budget), ticket_(shard, target) {}
  ~TokenClaim() { budget_->Leave(&ticket_); }
  TokenClaim(const TokenClaim&) = delete;
  TokenClaim& operator=(const TokenClaim&) = delete;

  // Returns true if a token is held. If there is none, joins the line if
  // `may_join`; `first`: ahead of the targets that have a connection.
  bool Take(bool may_join, bool first) {
    if (held_) return true;
    if (in_line_) return false;
    if (!may_join) return held_ = budget_->TryTake();
    joined_first_ = first;
    held_ = budget_->TakeOrJoin(&ticket_, first);
    in_line_ = !held_;
    return held_;
  }
  // Leaves the line if it was not joined as the first; Take can then do that.
  void MoveUp() {
    if (in_line_ && !joined_first_) LeaveLine();
  }
  // A Delivery arrived.
  void OnDelivered() {
    assert(in_line_ && !held_);
    in_line_ = false;
    held_ = true;
  }
  // The token now belongs to a dial.
  void Use() { held_ = false; }
  // Leaves the line and returns the token.
  void Release() {
    if (in_line_) LeaveLine();
    if (!held_) return;
    held_ = false;
    budget_->Return();
  }

  Budget* budget() const { return budget_; }
  bool held() const { return held_; }
  // Also while its Delivery is under way.
  bool in_line() const { return in_line_; }
  bool linked() const { return ticket_.linked(); }

 private:
  void LeaveLine() {
    if (budget_->Leave(&ticket_)) in_line_ = false;
  }

  Budget* const budget_;
  Budget::Ticket ticket_;
  bool in_line_ = false;
  bool joined_first_ = false;
  bool held_ = false;
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_TOKEN_CLAIM_H_
