#include "server/observe/negotiation.h"

#include <string>

#include "gtest/gtest.h"

namespace hotline::server {
namespace {

bool IsOpen(const char* accept) {
  return FormatFor(accept) == MetricsFormat::kOpenMetrics;
}

TEST(NegotiationTest, OpenMetricsNeedsToBeNamedAndNotLessWantedThanText) {
  EXPECT_FALSE(IsOpen(""));
  EXPECT_FALSE(IsOpen("*/*"));
  EXPECT_FALSE(IsOpen("text/plain"));
  EXPECT_FALSE(IsOpen("text/html,application/xhtml+xml,*/*;q=0.8"));
  EXPECT_TRUE(IsOpen("application/openmetrics-text"));
  EXPECT_TRUE(IsOpen("Application/OpenMetrics-Text; Version=1.0.0"));
  // As Prometheus 2 and 3 ask.
  EXPECT_TRUE(
      IsOpen("application/openmetrics-text;version=1.0.0,"
             "application/openmetrics-text;version=0.0.1;q=0.75,"
             "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"));
  EXPECT_TRUE(
      IsOpen("application/openmetrics-text;version=1.0.0;"
             "escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.3,"
             "*/*;q=0.2"));
  EXPECT_FALSE(IsOpen("application/openmetrics-text;version=2.0.0"));
  EXPECT_FALSE(IsOpen("application/openmetrics-text;q=0"));
  EXPECT_FALSE(IsOpen("application/openmetrics-text;q=0.3, text/plain;q=0.5"));
  EXPECT_FALSE(IsOpen("application/openmetrics-text;q=bad"));
  EXPECT_FALSE(IsOpen(",;,=;q=,"));
}

TEST(NegotiationTest, GzipNeedsToBeAccepted) {
  EXPECT_FALSE(AcceptsGzip(""));
  EXPECT_FALSE(AcceptsGzip("identity"));
  EXPECT_FALSE(AcceptsGzip("deflate, br"));
  EXPECT_FALSE(AcceptsGzip("gzip;q=0"));
  EXPECT_FALSE(AcceptsGzip("*, gzip;q=0.0"));
  EXPECT_FALSE(AcceptsGzip("gzip2"));
  EXPECT_TRUE(AcceptsGzip("gzip"));
  EXPECT_TRUE(AcceptsGzip("GZIP ; Q=0.1"));
  EXPECT_TRUE(AcceptsGzip("br;q=1.0,\tgzip;q=0.8, *;q=0"));
  EXPECT_TRUE(AcceptsGzip("*"));
}

}  // namespace
}  // namespace hotline::server
