// Work by deadline, earliest first; equal deadlines in the order of adding. Not
// thread-safe; reads no clock.
#ifndef HOTLINE_NET_DEADLINE_QUEUE_H_
#define HOTLINE_NET_DEADLINE_QUEUE_H_

#include <compare>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/functional/any_invocable.h"
#include "base/time.h"

namespace hotline::net {

class DeadlineQueue {
 public:
  using Work = absl::AnyInvocable<void()>;

  // Identifies an entry; never reused. A default token identifies none.
  struct Token {
    Instant when = kNever;
    uint64_t sequence = 0;

    explicit operator bool() const { return sequence != 0; }
    friend auto operator<=>(const Token&, const Token&) = default;
  };

  Token Add(Instant when, Work work) {
    const Token token{when, next_++};
    entries_.emplace(token, std::move(work));
    return token;
  }

  // Removes an entry and returns its work, for the caller to destroy. Null: no
  // such entry.
  Work Remove(const Token& token) {
    const auto found = entries_.find(token);
    if (found == entries_.end()) return nullptr;
    Work work = std::move(found->second);
    entries_.erase(found);
    return work;
  }

  // kNever when empty.
  Instant earliest() const {
    return entries_.empty() ? kNever : entries_.begin()->first.when;
  }
  size_t size() const { return entries_.size(); }

  // Removes and returns the work due at `now`, at most `limit` entries.
  std::vector<Work> TakeDue(Instant now, size_t limit) {
    std::vector<Work> due;
    while (!entries_.empty() && earliest() <= now && due.size() < limit) {
      due.push_back(std::move(entries_.begin()->second));
      entries_.erase(entries_.begin());
    }
    return due;
  }

 private:
  absl::btree_map<Token, Work> entries_;
  uint64_t next_ = 1;
};

}  // namespace hotline::net

#endif  // HOTLINE_NET_DEADLINE_QUEUE_H_
