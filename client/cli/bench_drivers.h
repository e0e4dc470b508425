// What `hotline bench` does again and again.
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
  kAcquire,  // Acquire, and Release of what was got.
  kExecute,  // GET; a status of 400 and above is a failure, "HTTP_404".
};

struct BenchCallOptions {
  BenchWhat what = BenchWhat::kExecute;
  std::string url;  // Of an acquire: the target.
  Duration timeout = std::chrono::seconds(30);
  int max_in_flight = 1024;  // Of a session.
};

// One connection to the broker each. Both are asynchronous, so that what is
// compared is the two ways of calling and not two ways of waiting. Nothing is
// repeated.
absl::StatusOr<std::unique_ptr<BenchDriver>> UnaryDriver(
    const BrokerClientOptions& client, const BenchCallOptions& options);
absl::StatusOr<std::unique_ptr<BenchDriver>> SessionDriver(
    const BrokerClientOptions& client, const BenchCallOptions& options);

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_CLI_BENCH_DRIVERS_H_
