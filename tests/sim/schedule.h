// A virtual clock and a queue of future events.
#ifndef HOTLINE_TESTS_SIM_SCHEDULE_H_
#define HOTLINE_TESTS_SIM_SCHEDULE_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "base/time.h"

namespace hotline::sim {

class Schedule {
 public:
  explicit Schedule(Instant start) : now_(start) {}

  Instant now() const { return now_; }
  bool empty() const { return heap_.empty(); }
  Instant next() const { return heap_.front().when; }

  void At(Instant when, std::function<void()> event) {
    heap_.push_back({std::max(when, now_), order_++, std::move(event)});
    std::push_heap(heap_.begin(), heap_.end(), Later);
  }

  // Advances the clock to the next event and runs it.
  void RunNext() {
    std::pop_heap(heap_.begin(), heap_.end(), Later);
    Event event = std::move(heap_.back());
    heap_.pop_back();
    now_ = event.when;
    event.run();
  }

  // Advances the clock. REQUIRES: no event is due before `when`.
  void PassTo(Instant when) { now_ = std::max(now_, when); }

 private:
  struct Event {
    Instant when;
    uint64_t order;
    std::function<void()> run;
  };
  static bool Later(const Event& a, const Event& b) {
    return a.when != b.when ? a.when > b.when : a.order > b.order;
  }

  Instant now_;
  uint64_t order_ = 0;
  std::vector<Event> heap_;
};

}  // namespace hotline::sim

#endif  // HOTLINE_TESTS_SIM_SCHEDULE_H_
