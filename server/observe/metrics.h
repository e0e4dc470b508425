// /metrics: the pool's snapshot and the Broker's counters as Prometheus text.
//
// Everything is sampled at the scrape, so the hot path pays nothing for being
// measured but its own counters.
//
// The label `target` is bounded. The configured targets have series of their
// own, then the busiest others, until `max_targets` are given away; the rest
// counts under target="other". Who has them follows the load: see TargetFold.
// Every counter only ever grows, or starts from zero with its series.
//
// Thread safety: Render may be called from any thread.
#ifndef HOTLINE_SERVER_OBSERVE_METRICS_H_
#define HOTLINE_SERVER_OBSERVE_METRICS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/time.h"
#include "pool/snapshot.h"
#include "server/broker/call_metrics.h"

namespace hotline::server {

// What the upstream's room has counted of a target since the start.
struct UpstreamFigures {
  uint64_t unsolicited_bytes = 0;  // Connections closed for stray bytes.
  uint64_t full_handshakes = 0;    // TLS handshakes that were finished.
  uint64_t resumed_handshakes = 0;
};

// What came to the door, and what was sent away there or refused later.
struct FrontFigures {
  using ByReason = std::vector<std::pair<std::string_view, uint64_t>>;
  struct Denied {
    std::string_view method;
    std::string_view reason;
    uint64_t count = 0;
  };

  int64_t connections = 0;  // Of callers, open.
  uint64_t accepted = 0;
  ByReason refused;          // Connections.
  int64_t calls = 0;         // Under way.
  int64_t answer_bytes = 0;  // Of answers that callers have not read yet.
  int64_t answers_waiting = 0;
  ByReason shed;               // Calls, for overload.
  std::vector<Denied> denied;  // Calls, by the policy.
  // Seconds since 1970; 0: no certificate.
  double certificate_expires = 0;
};

// Where the figures come from; called during Render, from its thread. What is
// left out (null) reads as zero.
struct MetricsSources {
  std::function<pool::Snapshot()> pool;
  // Must outlive the Metrics.
  CallMetrics* executes = nullptr;
  const RpcMetrics* rpcs = nullptr;
  // By target.
  std::function<std::vector<std::pair<std::string, UpstreamFigures>>()>
      upstream;
  std::function<Duration()> loop_lag;
  std::function<FrontFigures()> front;
  // Whether the configuration in force is the one that was last asked for.
  std::function<bool()> config_ok;
  // Whether the configuration in force has parts that wait for the next start.
  std::function<bool()> restart_needed;
  // Whether the files of TLS profiles in use are those that are there.
  std::function<bool()> tls_files_ok;
};

struct MetricsOptions {
  int max_targets = 100;
  // Canonical; shown from the start, with zeros.
  std::vector<std::string> known_targets;
  std::string version;
};

class Metrics {
 public:
  // What the answer's Content-Type must be.
  static constexpr std::string_view kContentType =
      "text/plain; version=0.0.4; charset=utf-8";

  Metrics(MetricsOptions options, MetricsSources sources);
  ~Metrics();

  // All metrics, in the text exposition format.
  std::string Render();

 private:
  class Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_OBSERVE_METRICS_H_
