// The waiters of one HostPool, in order of arrival.
#ifndef HOTLINE_POOL_WAIT_LINE_H_
#define HOTLINE_POOL_WAIT_LINE_H_

#include "pool/list.h"
#include "pool/records.h"

namespace hotline::pool {

// Two FIFO lines: one of waiters that accept any connection, one of waiters
// that accept only an unused one (Reuse::kForceNew). So a waiter of the second
// kind does not hold up the others when a used connection comes free.
//
// Does not own the records. Not thread-safe.
class WaitLine {
 public:
  // Joins the line that `waiting->new_only` selects. Returns the place in it,
  // from 1.
  int Join(Waiting* waiting) {
    (waiting->new_only ? new_only_ : any_).PushBack(waiting);
    return ++(waiting->new_only ? new_only_length_ : any_length_);
  }
  void Leave(Waiting* waiting) {
    waiting->Link<InLine>::Unlink();
    --(waiting->new_only ? new_only_length_ : any_length_);
  }

  bool empty() const { return length() == 0; }
  int length() const { return any_length_ + new_only_length_; }
  int any_length() const { return any_length_; }
  int new_only_length() const { return new_only_length_; }

  // The heads of the lines, and the one of them that arrived first. Null if
  // there is none.
  Waiting* first_any() const { return any_.front(); }
  Waiting* first_new_only() const { return new_only_.front(); }
  Waiting* first() const {
    Waiting* const any = any_.front();
    Waiting* const new_only = new_only_.front();
    if (any == nullptr || new_only == nullptr) return any ? any : new_only;
    return any->order < new_only->order ? any : new_only;
  }

  // Calls visit(Waiting*) for each waiter, line by line. The visit may remove
  // its waiter.
  template <typename Visit>
  void ForEach(Visit&& visit) const {
    for (const auto* line : {&any_, &new_only_}) {
      for (Waiting* waiting = line->front(); waiting != nullptr;) {
        Waiting* const next = line->Next(waiting);
        visit(waiting);
        waiting = next;
      }
    }
  }

 private:
  List<Waiting, InLine> any_;
  List<Waiting, InLine> new_only_;
  int any_length_ = 0;
  int new_only_length_ = 0;
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_WAIT_LINE_H_
