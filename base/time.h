// Time as a value. Code below the event loops reads no clock: the time is an
// argument, so that tests and the simulation control it.
#ifndef HOTLINE_BASE_TIME_H_
#define HOTLINE_BASE_TIME_H_

#include <chrono>
#include <cstdint>

namespace hotline {

// Nanoseconds.
using Duration = std::chrono::nanoseconds;

// A point on the monotonic clock. Instant{} (the clock's zero) is before every
// real instant.
using Instant = std::chrono::time_point<std::chrono::steady_clock, Duration>;

// "Never": later than every real instant.
inline constexpr Instant kNever = Instant::max();

// The monotonic clock, now. Called at the edges only (RPC threads, loops).
inline Instant MonotonicNow() { return std::chrono::steady_clock::now(); }

// `start + length`, stopping at kNever instead of overflowing.
inline constexpr Instant SaturatingAdd(Instant start, Duration length) {
  return length >= kNever - start && start.time_since_epoch().count() >= 0
             ? kNever
             : start + length;
}

inline double ToSeconds(Duration length) {
  return std::chrono::duration<double>(length).count();
}

// Rounded towards zero.
inline int64_t ToMilliseconds(Duration length) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(length).count();
}

}  // namespace hotline

#endif  // HOTLINE_BASE_TIME_H_
