// A histogram of durations with fixed, roughly doubling buckets.
#ifndef HOTLINE_BASE_HISTOGRAM_H_
#define HOTLINE_BASE_HISTOGRAM_H_

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "base/time.h"

namespace hotline {

// Plain counters: a value, not thread-safe. Recording costs a few nanoseconds.
//
// Bucket i counts durations up to 50 us * 2^i; the last one all longer ones.
class Histogram {
 public:
  static constexpr int kBuckets = 22;  // 50 us … 52 s, and above.

  // Inclusive upper bound of bucket `i`; Duration::max() for the last.
  static constexpr Duration Bound(int i) {
    return i == kBuckets - 1 ? Duration::max() : Duration(int64_t{50'000} << i);
  }

  static constexpr int BucketOf(Duration value) {
    const int64_t ns = value.count();
    if (ns <= 50'000) return 0;
    const int i = std::bit_width(static_cast<uint64_t>((ns - 1) / 50'000));
    return i < kBuckets ? i : kBuckets - 1;
  }

  void Record(Duration value) {
    ++counts_[BucketOf(value)];
    sum_ += value;
  }

  void Merge(const Histogram& other) {
    for (int i = 0; i < kBuckets; ++i) counts_[i] += other.counts_[i];
    sum_ += other.sum_;
  }

  uint64_t count(int bucket) const { return counts_[bucket]; }
  Duration sum() const { return sum_; }

  uint64_t total() const {
    uint64_t total = 0;
    for (uint64_t count : counts_) total += count;
    return total;
  }

  // The upper bound of the bucket that contains quantile `q` (0 to 1); for the
  // last bucket its lower bound. Zero if empty.
  Duration Quantile(double q) const {
    const uint64_t all = total();
    if (all == 0) return Duration(0);
    uint64_t seen = 0;
    for (int i = 0; i < kBuckets; ++i) {
      seen += counts_[i];
      if (static_cast<double>(seen) >= q * static_cast<double>(all)) {
        return i == kBuckets - 1 ? Bound(i - 1) : Bound(i);
      }
    }
    return Bound(kBuckets - 2);
  }

 private:
  std::array<uint64_t, kBuckets> counts_{};
  Duration sum_{0};
};

}  // namespace hotline

#endif  // HOTLINE_BASE_HISTOGRAM_H_
