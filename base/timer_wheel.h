// Many timers, few of which ever fire: a hierarchical timer wheel.
//
// Eight wheels of 64 slots; a slot of the first is one tick wide (262 us), a
// slot of each next one as wide as the whole wheel before it. A timer is kept
// in the lowest wheel in which its slot differs from the current one, and moves
// to lower wheels as its time approaches. So scheduling, cancelling and firing
// take constant time (a timer moves at most seven times), however many timers
// there are.
//
// A timer never fires early, and at most one tick late.
#ifndef HOTLINE_BASE_TIMER_WHEEL_H_
#define HOTLINE_BASE_TIMER_WHEEL_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cstddef>
#include <cstdint>

#include "base/time.h"

namespace hotline {

// Base of objects that can be scheduled. Must not be destroyed while scheduled.
class Timer {
 public:
  Timer() = default;
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  bool scheduled() const { return next_ != nullptr; }

 private:
  template <typename>
  friend class TimerWheel;
  static constexpr uint16_t kNoSlot = UINT16_MAX;

  Timer* prev_ = nullptr;
  Timer* next_ = nullptr;
  int64_t tick_ = 0;
  uint16_t slot_ = kNoSlot;
};

// T derives from Timer. Not thread-safe. Instants must not be before the
// clock's zero.
template <typename T>
class TimerWheel {
 public:
  static constexpr int kTickBits = 18;
  static constexpr Duration kTick{int64_t{1} << kTickBits};

  TimerWheel() {
    for (Timer& head : heads_) head.prev_ = head.next_ = &head;
  }
  TimerWheel(const TimerWheel&) = delete;
  TimerWheel& operator=(const TimerWheel&) = delete;

  // The number of scheduled timers.
  size_t size() const { return size_; }

  // Moves the timer if it is scheduled already. kNever: cancels it.
  void Schedule(T* timer, Instant when) {
    Cancel(timer);
    if (when == kNever) return;
    timer->tick_ = std::max(TickOf(when), current_ + 1);
    Insert(timer);
    ++size_;
  }

  // Whether it is scheduled to fire no later than one for `when` would.
  bool ScheduledBy(const T* timer, Instant when) const {
    return timer->scheduled() &&
           (when == kNever || timer->tick_ <= TickOf(when));
  }

  void Cancel(T* timer) {
    if (!timer->scheduled()) return;
    Remove(timer);
    --size_;
  }

  // When Advance should be called next: not later than the first timer is due,
  // possibly earlier. kNever: there is no timer.
  Instant NextDue() const {
    const int64_t tick = NextTick();
    return tick == kNoTick ? kNever : Instant(Duration(tick << kTickBits));
  }

  // When exactly the first timer is due. Visits all timers: for tests.
  Instant Earliest() const {
    int64_t tick = kNoTick;
    for (size_t slot = 0; slot < heads_.size(); ++slot) {
      if ((occupied_[slot / kSlots] >> (slot % kSlots) & 1) == 0) continue;
      const Timer& head = heads_[slot];
      for (const Timer* t = head.next_; t != &head; t = t->next_) {
        tick = std::min(tick, t->tick_);
      }
    }
    return tick == kNoTick ? kNever : Instant(Duration(tick << kTickBits));
  }

  // Removes each timer that is due and calls fire(T*). `fire` may schedule and
  // cancel any timer; timers that it schedules are not fired by this call.
  template <typename Fire>
  void Advance(Instant now, Fire&& fire) {
    const int64_t until = now.time_since_epoch().count() >> kTickBits;
    while (current_ < until) {
      const int64_t tick = NextTick();
      if (tick > until) break;
      current_ = tick;
      Cascade();
      FireCurrent(fire);
    }
    if (current_ < until) current_ = until;
  }

 private:
  static constexpr int kLevels = 8;
  static constexpr int kSlotBits = 6;
  static constexpr int kSlots = 1 << kSlotBits;
  static constexpr int64_t kNoTick = INT64_MAX;

  // Rounds up: never early.
  static int64_t TickOf(Instant when) {
    const int64_t ns = when.time_since_epoch().count();
    return (ns >> kTickBits) + ((ns & (kTick.count() - 1)) != 0);
  }

  static int DigitOf(int64_t tick, int level) {
    return static_cast<int>(tick >> (level * kSlotBits)) & (kSlots - 1);
  }

  // REQUIRES: timer->tick_ > current_, or it is being cascaded to its own tick.
  void Insert(T* timer) {
    const uint64_t differs = static_cast<uint64_t>(timer->tick_ ^ current_);
    const int level =
        differs == 0 ? 0 : (std::bit_width(differs) - 1) / kSlotBits;
    assert(level < kLevels);
    const int digit = DigitOf(timer->tick_, level);
    timer->slot_ = static_cast<uint16_t>(level * kSlots + digit);
    occupied_[level] |= uint64_t{1} << digit;
    Append(&heads_[timer->slot_], timer);
  }

  static void Append(Timer* head, Timer* timer) {
    timer->next_ = head;
    timer->prev_ = head->prev_;
    head->prev_->next_ = timer;
    head->prev_ = timer;
  }

  void Remove(Timer* timer) {
    timer->prev_->next_ = timer->next_;
    timer->next_->prev_ = timer->prev_;
    timer->prev_ = timer->next_ = nullptr;
    if (timer->slot_ == Timer::kNoSlot) return;
    const Timer& head = heads_[timer->slot_];
    if (head.next_ == &head) {
      occupied_[timer->slot_ / kSlots] &=
          ~(uint64_t{1} << (timer->slot_ % kSlots));
    }
    timer->slot_ = Timer::kNoSlot;
  }

  // The next tick at which something fires or moves down. A lower wheel is
  // always before a higher one.
  int64_t NextTick() const {
    for (int level = 0; level < kLevels; ++level) {
      const uint64_t occupied = occupied_[level];
      if (occupied == 0) continue;
      const int shift = level * kSlotBits;
      const int64_t base = current_ >> (shift + kSlotBits)
                                           << (shift + kSlotBits);
      return base + (int64_t{std::countr_zero(occupied)} << shift);
    }
    return kNoTick;
  }

  // Moves the timers in the slots that begin at current_ to lower wheels.
  void Cascade() {
    for (int level = 1; level < kLevels; ++level) {
      if (DigitOf(current_, level - 1) != 0) return;
      const int digit = DigitOf(current_, level);
      if ((occupied_[level] & (uint64_t{1} << digit)) == 0) continue;
      Timer& head = heads_[level * kSlots + digit];
      while (head.next_ != &head) {
        T* timer = static_cast<T*>(head.next_);
        Remove(timer);
        Insert(timer);
      }
    }
  }

  template <typename Fire>
  void FireCurrent(Fire&& fire) {
    const int digit = DigitOf(current_, 0);
    if ((occupied_[0] & (uint64_t{1} << digit)) == 0) return;
    Timer due;  // Off the wheel, so that `fire` may change it.
    due.prev_ = due.next_ = &due;
    Timer& head = heads_[digit];
    while (head.next_ != &head) {
      Timer* timer = head.next_;
      Remove(timer);
      Append(&due, timer);
    }
    while (due.next_ != &due) {
      T* timer = static_cast<T*>(due.next_);
      Remove(timer);
      --size_;
      fire(timer);
    }
    due.prev_ = due.next_ = nullptr;
  }

  int64_t current_ = 0;  // All timers up to here have fired.
  size_t size_ = 0;
  std::array<uint64_t, kLevels> occupied_{};
  std::array<Timer, kLevels * kSlots> heads_;
};

}  // namespace hotline

#endif  // HOTLINE_BASE_TIMER_WHEEL_H_
