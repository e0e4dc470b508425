#include "server/metrics.h"

#include <initializer_list>
#include <limits>
#include <span>
#include <sstream>
#include <tuple>

#include "base/mutex.h"
#include "prometheus/collectable.h"
#include "prometheus/text_serializer.h"
#include "server/metrics_process.h"
#include "server/metrics_targets.h"

namespace hotline::server {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

// The labels' values, in the order of the enums in pool/types.h.
constexpr std::string_view kRejects[] = {
    "queue_full",  "no_idle_connection", "too_many_targets", "wait_timeout",
    "dial_failed", "superseded",         "id_conflict",      "shutdown"};
static_assert(std::size(kRejects) == pool::kRejectReasons);

constexpr std::string_view kCloses[] = {
    "peer_closed",  "error",       "idle",   "lifetime",
    "probe_failed", "unsolicited", "broken", "discarded",
    "expired",      "reclaimed",   "shrunk", "shutdown"};
static_assert(std::size(kCloses) == pool::kCloseReasons);

constexpr std::string_view kFailures[] = {"network", "tls", "validation",
                                          "policy"};
static_assert(std::size(kFailures) ==
              std::tuple_size_v<decltype(pool::TargetCounters::dials_failed)>);

constexpr std::string_view kGrpcCodeNames[kGrpcCodes] = {
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
};

// The codes broker.proto lists for each method, and what ends any of them:
// shown from the start. Others appear when they happen.
constexpr uint32_t Bits(std::initializer_list<int> codes) {
  uint32_t bits = 0;
  for (const int code : codes) bits |= 1u << code;
  return bits;
}
constexpr uint32_t kExpectedCodes[] = {
    Bits({0, 1, 3, 4, 7, 8, 9, 10, 14}),         // Acquire
    Bits({0, 3, 5, 9}),                          // Release
    Bits({0, 3, 5, 9}),                          // Renew
    Bits({0, 1, 3, 4, 5, 7, 8, 9, 10, 13, 14}),  // Execute
    Bits({0, 3}),                                // Stats
};
static_assert(std::size(kExpectedCodes) == kRpcMethods.size());

ClientMetric::Histogram ToHistogram(const HistogramCounts& in) {
  ClientMetric::Histogram out;
  out.bucket.reserve(Histogram::kBuckets);
  for (int i = 0; i < Histogram::kBuckets; ++i) {
    out.sample_count += in.counts[i];
    out.bucket.push_back(
        {.cumulative_count = out.sample_count,
         .upper_bound = i == Histogram::kBuckets - 1
                            ? std::numeric_limits<double>::infinity()
                            : ToSeconds(Histogram::Bound(i))});
  }
  out.sample_sum = ToSeconds(Duration(in.sum_ns));
  return out;
}

// One family being filled.
class Family {
 public:
  using Labels =
      std::initializer_list<std::pair<const char*, std::string_view>>;

  Family(std::vector<MetricFamily>* page, MetricType type, const char* name,
         const char* help)
      : family_(page->emplace_back()) {
    family_.name = name;
    family_.help = help;
    family_.type = type;
  }

  void Value(Labels labels, double value) {
    ClientMetric& metric = Add(labels);
    if (family_.type == MetricType::Counter) {
      metric.counter.value = value;
    } else {
      metric.gauge.value = value;
    }
  }
  void Counts(Labels labels, const HistogramCounts& counts) {
    Add(labels).histogram = ToHistogram(counts);
  }

 private:
  ClientMetric& Add(Labels labels) {
    ClientMetric& metric = family_.metric.emplace_back();
    metric.label.reserve(labels.size());
    for (const auto& [name, value] : labels) {
      metric.label.push_back({name, std::string(value)});
    }
    return metric;
  }

  MetricFamily& family_;
};

}  // namespace

class Metrics::Impl : public prometheus::Collectable {
 public:
  Impl(MetricsOptions options, MetricsSources sources)
      : options_(std::move(options)),
        sources_(std::move(sources)),
        fold_(options_.max_targets, options_.known_targets) {}

  std::vector<MetricFamily> Collect() const override {
    Page page;
    page.reserve(64);
    {
      // Snapshots must come to the fold in the order in which they were taken.
      MutexLock lock(&mu_);
      const pool::Snapshot snapshot =
          sources_.pool ? sources_.pool() : pool::Snapshot();
      const std::vector<TargetFigures> targets = fold_.Fold(
          snapshot,
          sources_.executes != nullptr ? sources_.executes->Read()
                                       : std::vector<ExecuteMetrics::Row>(),
          sources_.unsolicited_bytes ? sources_.unsolicited_bytes()
                                     : UnsolicitedBytes());
      AddAcquires(targets, &page);
      AddConnections(targets, &page);
      AddDials(targets, &page);
      AddChecks(targets, &page);
      AddExecutes(targets, &page);
      AddTotals(snapshot, fold_.folded(), &page);
    }
    AddRpcs(&page);
    AddProcess(&page);
    return page;
  }

 private:
  using Page = std::vector<MetricFamily>;
  using Targets = std::span<const TargetFigures>;

  static void AddAcquires(Targets targets, Page* page);
  static void AddConnections(Targets targets, Page* page);
  static void AddDials(Targets targets, Page* page);
  static void AddChecks(Targets targets, Page* page);
  static void AddExecutes(Targets targets, Page* page);
  static void AddTotals(const pool::Snapshot& snapshot, size_t folded,
                        Page* page);
  void AddRpcs(Page* page) const;
  void AddProcess(Page* page) const;

  // A counter or gauge with the target as its only label.
  template <typename F>
  static void AddSimple(Targets targets, Page* page, MetricType type,
                        const char* name, const char* help, F value) {
    Family family(page, type, name, help);
    for (const TargetFigures& t : targets) {
      family.Value({{"target", t.label}}, static_cast<double>(value(t)));
    }
  }

  const MetricsOptions options_;
  const MetricsSources sources_;
  mutable Mutex mu_;
  mutable TargetFold fold_ ABSL_GUARDED_BY(mu_);
};

void Metrics::Impl::AddAcquires(Targets targets, Page* page) {
  {
    Family family(page, MetricType::Counter, "hotline_acquires_total",
                  "Connections asked for, by how it ended.");
    for (const TargetFigures& t : targets) {
      family.Value({{"target", t.label}, {"result", "ok"}}, t.pool.granted);
      for (size_t i = 0; i < std::size(kRejects); ++i) {
        family.Value({{"target", t.label}, {"result", kRejects[i]}},
                     t.pool.rejected[i]);
      }
      family.Value({{"target", t.label}, {"result", "cancelled"}},
                   t.pool.cancelled);
    }
  }
  {
    Family family(page, MetricType::Histogram, "hotline_acquire_wait_seconds",
                  "Time in line of acquires that were served.");
    for (const TargetFigures& t : targets) {
      family.Counts({{"target", t.label}}, t.pool.wait);
    }
  }
  AddSimple(targets, page, MetricType::Gauge, "hotline_waiters",
            "Callers in line for a connection.",
            [](const TargetFigures& t) { return t.gauges.waiters; });
  AddSimple(
      targets, page, MetricType::Gauge, "hotline_oldest_wait_seconds",
      "How long the first in line has waited.",
      [](const TargetFigures& t) { return ToSeconds(t.gauges.oldest_wait); });
  AddSimple(targets, page, MetricType::Gauge, "hotline_leases",
            "Slots on connections that are lent now.",
            [](const TargetFigures& t) { return t.gauges.leases; });
  {
    Family family(page, MetricType::Histogram, "hotline_lease_seconds",
                  "How long leases were held, of those that have ended.");
    for (const TargetFigures& t : targets) {
      family.Counts({{"target", t.label}}, t.pool.lease);
    }
  }
  {
    Family family(page, MetricType::Counter, "hotline_leases_reclaimed_total",
                  "Leases taken back without being released.");
    for (const TargetFigures& t : targets) {
      family.Value({{"target", t.label}, {"reason", "expired"}},
                   t.pool.leases_expired);
    }
  }
  AddSimple(targets, page, MetricType::Counter,
            "hotline_leases_suspected_total",
            "Leases held for longer than pool.leak_after.",
            [](const TargetFigures& t) { return t.pool.leases_leaked; });
}

void Metrics::Impl::AddConnections(Targets targets, Page* page) {
  {
    Family family(page, MetricType::Gauge, "hotline_connections",
                  "Connections by state; idle and leased ones are ready.");
    for (const TargetFigures& t : targets) {
      const auto count = [&t](pool::ConnState state) {
        return static_cast<double>(
            t.gauges.connections[static_cast<int>(state)]);
      };
      const double idle = static_cast<double>(t.gauges.idle);
      const std::pair<std::string_view, double> states[] = {
          {"dialing", count(pool::ConnState::kDialing)},
          {"idle", idle},
          {"leased", count(pool::ConnState::kReady) - idle},
          {"probing", count(pool::ConnState::kProbing)},
          {"draining", count(pool::ConnState::kDraining)},
          {"closing", count(pool::ConnState::kClosing)},
      };
      for (const auto& [state, value] : states) {
        family.Value({{"target", t.label}, {"state", state}}, value);
      }
    }
  }
  {
    Family family(page, MetricType::Gauge, "hotline_max_connections",
                  "Most connections allowed, of targets the pool knows.");
    for (const TargetFigures& t : targets) {
      if (!t.gauges.known) continue;
      family.Value({{"target", t.label}}, t.gauges.max_connections);
    }
  }
  AddSimple(targets, page, MetricType::Gauge, "hotline_warm_deficit",
            "Connections missing to the warm floor.",
            [](const TargetFigures& t) { return t.gauges.warm_deficit; });
  AddSimple(targets, page, MetricType::Counter,
            "hotline_connections_opened_total",
            "Connections that became ready.",
            [](const TargetFigures& t) { return t.pool.opened; });
  {
    Family family(page, MetricType::Counter, "hotline_connections_closed_total",
                  "Connections closed, by why.");
    for (const TargetFigures& t : targets) {
      for (size_t i = 0; i < std::size(kCloses); ++i) {
        family.Value({{"target", t.label}, {"reason", kCloses[i]}},
                     t.pool.closed[i]);
      }
    }
  }
  AddSimple(targets, page, MetricType::Counter,
            "hotline_connection_reuse_total",
            "Acquires served by a connection that had served before.",
            [](const TargetFigures& t) { return t.pool.reused; });
}

void Metrics::Impl::AddDials(Targets targets, Page* page) {
  {
    Family family(
        page, MetricType::Counter, "hotline_dials_total",
        "Connections that were tried to make; what failed, by class.");
    for (const TargetFigures& t : targets) {
      family.Value({{"target", t.label}, {"result", "ok"}}, t.pool.dials_ok);
      for (size_t i = 0; i < std::size(kFailures); ++i) {
        family.Value({{"target", t.label}, {"result", kFailures[i]}},
                     t.pool.dials_failed[i]);
      }
    }
  }
  Family family(page, MetricType::Histogram, "hotline_dial_seconds",
                "Time in each phase of making a connection.");
  for (const TargetFigures& t : targets) {
    const std::pair<std::string_view, const HistogramCounts*> phases[] = {
        {"resolve", &t.pool.dial_resolve},
        {"connect", &t.pool.dial_connect},
        {"tls", &t.pool.dial_tls},
        {"validate", &t.pool.dial_validate},
    };
    for (const auto& [phase, counts] : phases) {
      family.Counts({{"target", t.label}, {"phase", phase}}, *counts);
    }
  }
}

void Metrics::Impl::AddChecks(Targets targets, Page* page) {
  {
    Family family(page, MetricType::Counter, "hotline_probes_total",
                  "Checks of idle connections.");
    for (const TargetFigures& t : targets) {
      family.Value({{"target", t.label}, {"result", "passed"}},
                   t.pool.probes_passed);
      family.Value({{"target", t.label}, {"result", "failed"}},
                   t.pool.probes_failed);
    }
  }
  {
    Family family(page, MetricType::Counter, "hotline_errors_total",
                  "Failures: of dials by class, and \"connection\" of open "
                  "connections.");
    for (const TargetFigures& t : targets) {
      for (size_t i = 0; i < std::size(kFailures); ++i) {
        family.Value({{"target", t.label}, {"class", kFailures[i]}},
                     t.pool.dials_failed[i]);
      }
      family.Value({{"target", t.label}, {"class", "connection"}},
                   t.pool.errors_counted);
    }
  }
  AddSimple(targets, page, MetricType::Counter,
            "hotline_unsolicited_bytes_total",
            "Idle connections closed because the upstream sent bytes that "
            "nobody had asked for.",
            [](const TargetFigures& t) { return t.unsolicited_bytes; });
}

void Metrics::Impl::AddExecutes(Targets targets, Page* page) {
  {
    Family family(page, MetricType::Counter, "hotline_executes_total",
                  "Execute calls, by how they ended.");
    for (const TargetFigures& t : targets) {
      for (size_t i = 0; i < kExecuteResults.size(); ++i) {
        family.Value({{"target", t.label}, {"result", kExecuteResults[i]}},
                     t.executes.results[i]);
      }
    }
  }
  {
    Family family(page, MetricType::Histogram, "hotline_execute_seconds",
                  "Execute calls from arrival to answer.");
    for (const TargetFigures& t : targets) {
      family.Counts({{"target", t.label}}, t.executes.seconds);
    }
  }
  {
    Family family(page, MetricType::Counter, "hotline_retries_total",
                  "Attempts made again, by the verdict over the failed one.");
    for (const TargetFigures& t : targets) {
      for (size_t i = 0; i < kRetryVerdicts.size(); ++i) {
        family.Value({{"target", t.label}, {"verdict", kRetryVerdicts[i]}},
                     t.executes.retries[i]);
      }
    }
  }
  AddSimple(targets, page, MetricType::Counter, "hotline_stale_reuse_total",
            "Reused connections that were dead when they were written to.",
            [](const TargetFigures& t) { return t.executes.stale_reuse; });
}

void Metrics::Impl::AddTotals(const pool::Snapshot& snapshot, size_t folded,
                              Page* page) {
  const auto gauge = [page](const char* name, const char* help, double value) {
    Family(page, MetricType::Gauge, name, help).Value({}, value);
  };
  gauge("hotline_targets", "Targets the pool knows.",
        static_cast<double>(snapshot.targets.size()));
  gauge("hotline_folded_targets",
        "Targets that count under target=\"other\" for want of room "
        "(metrics.max_targets).",
        static_cast<double>(folded));
  gauge("hotline_pool_max_connections", "Most connections allowed in all.",
        snapshot.max_connections);
  gauge("hotline_pool_connections_reserved",
        "Connections counted against that limit.",
        snapshot.connections_reserved);
  gauge("hotline_pool_budget_waiters", "Targets in line for that limit.",
        snapshot.budget_waiters);
}

void Metrics::Impl::AddRpcs(Page* page) const {
  Family family(page, MetricType::Histogram, "hotline_rpc_seconds",
                "Calls of Hotline's own API from arrival to status.");
  for (size_t method = 0; method < kRpcMethods.size(); ++method) {
    for (int code = 0; code < kGrpcCodes; ++code) {
      HistogramCounts counts;
      if (sources_.rpcs != nullptr) {
        counts = sources_.rpcs->Read(static_cast<RpcMethod>(method), code);
      }
      bool any = (kExpectedCodes[method] >> code & 1) != 0;
      for (const uint64_t count : counts.counts) any |= count != 0;
      if (!any) continue;
      family.Counts(
          {{"method", kRpcMethods[method]}, {"code", kGrpcCodeNames[code]}},
          counts);
    }
  }
}

void Metrics::Impl::AddProcess(Page* page) const {
  Family(page, MetricType::Gauge, "hotline_loop_lag_seconds",
         "How late the upstream loops come to their timers, of late.")
      .Value({}, sources_.loop_lag ? ToSeconds(sources_.loop_lag()) : 0);
  Family(page, MetricType::Gauge, "hotline_config_last_reload_successful",
         "Whether the configuration that was last read is in force.")
      .Value({}, sources_.config_ok && !sources_.config_ok() ? 0 : 1);
  Family(page, MetricType::Gauge, "hotline_build_info",
         "Always 1; the label tells the version.")
      .Value({{"version", options_.version}}, 1);
  for (const ProcessFigure& figure : ReadProcessFigures()) {
    Family(page, figure.counter ? MetricType::Counter : MetricType::Gauge,
           figure.name, figure.help)
        .Value({}, figure.value);
  }
}

Metrics::Metrics(MetricsOptions options, MetricsSources sources)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(sources))) {}

Metrics::~Metrics() = default;

std::string Metrics::Render() {
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, impl_->Collect());
  return std::move(out).str();
}

}  // namespace hotline::server
