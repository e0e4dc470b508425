// A histogram of durations for percentiles: accurate to about 1.6 %, from
// nanoseconds to a minute.
#ifndef HOTLINE_BASE_LATENCY_HISTOGRAM_H_
#define HOTLINE_BASE_LATENCY_HISTOGRAM_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "base/time.h"

namespace hotline {

// A value of 17 KiB, not thread-safe. Recording costs a few nanoseconds.
//
// Each power of two is split into 64 buckets of equal width.
class LatencyHistogram {
 public:
  void Record(Duration value) {
    const auto ns = static_cast<uint64_t>(std::max<int64_t>(0, value.count()));
    ++counts_[BucketOf(ns)];
    ++total_;
    sum_ns_ += static_cast<double>(ns);
    max_ = std::max(max_, value);
  }

  void Merge(const LatencyHistogram& other) {
    for (size_t i = 0; i < kBuckets; ++i) counts_[i] += other.counts_[i];
    total_ += other.total_;
    sum_ns_ += other.sum_ns_;
    max_ = std::max(max_, other.max_);
  }

  uint64_t total() const { return total_; }
  Duration max() const { return max_; }
  Duration mean() const {
    if (total_ == 0) return Duration(0);
    return Duration(
        static_cast<int64_t>(sum_ns_ / static_cast<double>(total_)));
  }

  // The upper end of the bucket that contains quantile `q` (0 to 1), at most
  // max(); zero if empty.
  Duration Quantile(double q) const {
    const auto wanted = static_cast<double>(total_) * q;
    uint64_t seen = 0;
    for (size_t i = 0; i < kBuckets; ++i) {
      seen += counts_[i];
      if (seen > 0 && static_cast<double>(seen) >= wanted) {
        return std::min(max_, Duration(static_cast<int64_t>(EndOf(i))));
      }
    }
    return max_;
  }

 private:
  static constexpr int kSplitBits = 6;
  static constexpr uint64_t kSplit = 1 << kSplitBits;
  static constexpr int kOctaves = 31;  // 64 ns * 2^30 = 69 s.
  static constexpr size_t kBuckets = kSplit * (kOctaves + 1);

  static constexpr size_t BucketOf(uint64_t ns) {
    if (ns < kSplit) return ns;
    const int octave = std::bit_width(ns) - kSplitBits - 1;
    const size_t i = kSplit * octave + (ns >> octave);
    return std::min(i, kBuckets - 1);
  }
  // The largest value in the bucket.
  static constexpr uint64_t EndOf(size_t i) {
    if (i < kSplit) return i;
    const uint64_t octave = i / kSplit - 1;
    return ((i - kSplit * octave + 1) << octave) - 1;
  }

  std::array<uint64_t, kBuckets> counts_{};
  uint64_t total_ = 0;
  double sum_ns_ = 0;
  Duration max_{0};
};

}  // namespace hotline

#endif  // HOTLINE_BASE_LATENCY_HISTOGRAM_H_
