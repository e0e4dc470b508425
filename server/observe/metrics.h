// /metrics: the pool's snapshot, the broker's counters and the process, for
// Prometheus.
//
//   Metrics metrics({.max_targets = 100, .version = "1.0"},
//                   std::move(sources));
//   std::string page = metrics.Render(MetricsFormat::kText);
//
// Everything is read at the scrape; the hot path pays for its counters alone.
//
// 1. The label `target` has at most `max_targets` values and "other": first the
//    configured targets, then the busiest ones (see TargetFold).
// 2. A counter only grows, or restarts from zero with its series.
//
// Thread safety: Render may be called from any thread.
#ifndef HOTLINE_SERVER_OBSERVE_METRICS_H_
#define HOTLINE_SERVER_OBSERVE_METRICS_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/histogram.h"
#include "base/time.h"
#include "pool/snapshot.h"
#include "server/broker/call_metrics.h"
#include "server/broker/identity.h"

namespace hotline::server {

// Counters of a target in the upstream room, since the start.
struct UpstreamFigures {
  uint64_t unsolicited_bytes = 0;  // Connections closed for stray bytes.
  uint64_t full_handshakes = 0;    // Completed TLS handshakes.
  uint64_t resumed_handshakes = 0;
  // Of the latest connection, in seconds since 1970; 0: none.
  int64_t certificate_expires = 0;
};

// The states of an upstream's addresses, in the order of
// upstream::AddressState, as the label `state`.
inline constexpr std::array<std::string_view, 5> kAddressStates = {
    "active", "suspect", "cooling", "ejected", "denied"};
using AddressCounts = std::array<int64_t, kAddressStates.size()>;

// DNS queries, since the start.
struct DnsFigures {
  uint64_t ok = 0;
  uint64_t no_address = 0;
  uint64_t failed = 0;
  Histogram seconds;
};

// An event loop's work, since the start.
struct LoopFigures {
  uint64_t turns = 0;
  Duration cpu{0};
};

// Connections of the warm set.
struct RewarmFigures {
  int64_t ready = 0;
  int64_t missing = 0;
};

// Connections and calls of callers: accepted, running, refused.
struct FrontFigures {
  using ByReason = std::vector<std::pair<std::string_view, uint64_t>>;
  struct Denied {
    std::string_view method;
    std::string_view reason;
    uint64_t count = 0;
  };

  int64_t connections = 0;  // Open now.
  uint64_t accepted = 0;
  ByReason refused;          // Connections.
  int64_t calls = 0;         // Waiting or running.
  int64_t answer_bytes = 0;  // Of response bodies that callers have not read.
  int64_t answers_waiting = 0;
  ByReason shed;               // Calls, for overload.
  std::vector<Denied> denied;  // Calls, by the policy.
  int64_t sessions = 0;        // Open now.
  // The usage of an identity that is missing from a later scrape, or has
  // fallen, has moved to the row without a name.
  std::vector<IdentityUsage> identities;
  // Seconds since 1970; 0: no certificate.
  double certificate_expires = 0;
};

// Spans of calls, since the start.
struct SpanFigures {
  uint64_t sent = 0;
  uint64_t dropped = 0;  // No room, or no collector.
  uint64_t refused = 0;  // By the collector.
};

// Where the figures come from; called by Render. A source that is null reads as
// zero.
struct MetricsSources {
  std::function<pool::Snapshot()> pool;
  // Must outlive the Metrics.
  CallMetrics* executes = nullptr;
  const RpcMetrics* rpcs = nullptr;
  // By target.
  std::function<std::vector<std::pair<std::string, UpstreamFigures>>()>
      upstream;
  // Called for targets that have series.
  std::function<AddressCounts(const std::string& target)> addresses;
  std::function<DnsFigures()> dns;
  std::function<Duration()> loop_lag;
  std::function<std::vector<LoopFigures>()> loops;
  std::function<RewarmFigures()> rewarm;
  std::function<FrontFigures()> front;
  std::function<SpanFigures()> spans;
  // Whether the last reload succeeded.
  std::function<bool()> config_ok;
  // When the configuration in force was loaded, in seconds since 1970.
  std::function<double()> config_loaded;
  // Whether keys of the configuration take effect at the next start only.
  std::function<bool()> restart_needed;
  // Whether the TLS profiles use the current files.
  std::function<bool()> tls_files_ok;
};

struct MetricsOptions {
  int max_targets = 100;
  // Canonical. They have series from the start, with zeros.
  std::vector<std::string> known_targets;
  std::string version;
  // Further labels of build_info.
  std::vector<std::pair<std::string, std::string>> build;
};

enum class MetricsFormat : uint8_t {
  kText,         // Prometheus' text format.
  kOpenMetrics,  // The same with exemplars.
};

// The Content-Type of a page.
constexpr std::string_view ContentTypeOf(MetricsFormat format) {
  return format == MetricsFormat::kText
             ? "text/plain; version=0.0.4; charset=utf-8"
             : "application/openmetrics-text; version=1.0.0; charset=utf-8";
}

class Metrics {
 public:
  Metrics(MetricsOptions options, MetricsSources sources);
  ~Metrics();

  // All metrics.
  std::string Render(MetricsFormat format = MetricsFormat::kText);

 private:
  class Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_OBSERVE_METRICS_H_
