// The operations that `hotline bench` measures.
#ifndef HOTLINE_CLIENT_CLI_BENCH_DRIVERS_H_
#define HOTLINE_CLIENT_CLI_BENCH_DRIVERS_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/time.h"
#include "client/broker_client.h"
#include "client/cli/bench_load.h"

namespace hotline::client {

enum class BenchWhat {
  kAcquire,  // Acquire, then Release of the lease.
  kExecute,  // GET; a status of 400 and above is a failure, "HTTP_404".
};

struct BenchCallOptions {
  BenchWhat what = BenchWhat::kExecute;
  std::string url;  // For acquires the target.
  Duration timeout = std::chrono::seconds(30);
  int max_in_flight = 1024;  // Of a session.
};

// Each driver has one connection to the broker. Both are asynchronous, so that
// they differ in how they call, not in how they wait. No call is retried.
absl::StatusOr<std::unique_ptr<BenchDriver>> UnaryDriver(
    const BrokerClientOptions& client, const BenchCallOptions& options);
absl::StatusOr<std::unique_ptr<BenchDriver>> SessionDriver(
    const BrokerClientOptions& client, const BenchCallOptions& options);

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_CLI_BENCH_DRIVERS_H_
