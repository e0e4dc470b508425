// The output of `hotline bench`.
#ifndef HOTLINE_CLIENT_CLI_BENCH_REPORT_H_
#define HOTLINE_CLIENT_CLI_BENCH_REPORT_H_

#include <string>

#include "client/cli/bench_load.h"

namespace hotline::client {

// Describes the measurement: "acquire + release over session, …".
struct BenchTitle {
  std::string what;  // "acquire", "execute".
  std::string over;  // "unary", "session".
  int concurrency = 0;
  int connections = 0;
  double rate = 0;
};

// A line without its end: "  3 s  123456/s  p50 99 us  p99 300 us  0 failed".
// `before` is the result that the previous line showed.
std::string BenchLine(const BenchResult& now, const BenchResult& before);

// For people.
std::string BenchTable(const BenchTitle& title, const BenchResult& result);

// For scripts: one JSON object. Latencies are in microseconds.
std::string BenchJson(const BenchTitle& title, const BenchResult& result);

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_CLI_BENCH_REPORT_H_
