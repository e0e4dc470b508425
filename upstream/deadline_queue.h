// Work to be done at points in time, earliest first; equal times in the order
// of adding. A value: not thread-safe, reads no clock.
#ifndef HOTLINE_UPSTREAM_DEADLINE_QUEUE_H_
#define HOTLINE_UPSTREAM_DEADLINE_QUEUE_H_

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "base/time.h"

namespace hotline::upstream {

class DeadlineQueue {
 public:
  using Work = absl::AnyInvocable<void()>;

  void Add(Instant when, Work work) {
    heap_.push_back({when, next_++, std::move(work)});
    std::push_heap(heap_.begin(), heap_.end(), Later);
  }

  // kNever when empty.
  Instant earliest() const { return heap_.empty() ? kNever : heap_[0].when; }
  size_t size() const { return heap_.size(); }

  // Takes out what is due at `now`, at most `limit` of it.
  std::vector<Work> TakeDue(Instant now, size_t limit) {
    std::vector<Work> due;
    while (!heap_.empty() && heap_[0].when <= now && due.size() < limit) {
      std::pop_heap(heap_.begin(), heap_.end(), Later);
      due.push_back(std::move(heap_.back().work));
      heap_.pop_back();
    }
    return due;
  }

 private:
  struct Entry {
    Instant when;
    uint64_t sequence;
    Work work;
  };
  static bool Later(const Entry& a, const Entry& b) {
    return std::pair(a.when, a.sequence) > std::pair(b.when, b.sequence);
  }

  std::vector<Entry> heap_;
  uint64_t next_ = 0;
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_DEADLINE_QUEUE_H_
