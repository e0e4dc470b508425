#include "base/latency_histogram.h"

#include "gtest/gtest.h"

namespace hotline {
namespace {

using std::chrono::microseconds;
using std::chrono::seconds;

TEST(LatencyHistogramTest, EmptyIsZero) {
  const LatencyHistogram empty;
  EXPECT_EQ(empty.total(), 0u);
  EXPECT_EQ(empty.Quantile(0.99), Duration(0));
  EXPECT_EQ(empty.mean(), Duration(0));
}

TEST(LatencyHistogramTest, EveryValueIsAccurateToTwoPercent) {
  for (int64_t ns = 1; ns < 60'000'000'000; ns += 1 + ns / 7) {
    LatencyHistogram histogram;
    histogram.Record(Duration(ns));
    histogram.Record(seconds(61));  // So that max() does not help.
    const auto found = static_cast<double>(histogram.Quantile(0.5).count());
    EXPECT_GE(found, static_cast<double>(ns));
    EXPECT_LE(found, static_cast<double>(ns) * 1.017 + 1) << ns;
  }
}

TEST(LatencyHistogramTest, QuantilesAreThoseOfTheValues) {
  LatencyHistogram histogram;
  for (int i = 1; i <= 1000; ++i) histogram.Record(microseconds(i));
  const auto us = [&](double q) {
    return static_cast<double>(histogram.Quantile(q).count()) / 1e3;
  };
  EXPECT_NEAR(us(0.5), 500, 10);
  EXPECT_NEAR(us(0.9), 900, 18);
  EXPECT_NEAR(us(0.999), 999, 20);
  EXPECT_EQ(histogram.Quantile(1), microseconds(1000));
  EXPECT_EQ(histogram.max(), microseconds(1000));
  EXPECT_EQ(histogram.mean(), Duration(500'500));
}

TEST(LatencyHistogramTest, AMergedHistogramHasTheValuesOfBoth) {
  LatencyHistogram a, b;
  a.Record(microseconds(10));
  b.Record(microseconds(1000));
  b.Record(Duration(-5));   // A clock that went back: zero.
  b.Record(seconds(1000));  // Beyond the last bucket.
  a.Merge(b);
  EXPECT_EQ(a.total(), 4u);
  EXPECT_EQ(a.max(), seconds(1000));
  EXPECT_EQ(a.Quantile(0.25), Duration(0));
}

}  // namespace
}  // namespace hotline
