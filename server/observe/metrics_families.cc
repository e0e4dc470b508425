#include "server/observe/metrics_families.h"

#include <limits>
#include <tuple>

#include "base/text.h"

namespace hotline::server {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricType;
using Targets = std::span<const TargetFigures>;

// The labels' values, in the order of the enums in pool/types.h.
constexpr std::string_view kRejects[] = {
    "queue_full",   "no_idle_connection", "too_many_targets", "wait_timeout",
    "dial_failed",  "superseded",         "id_conflict",      "shutdown",
    "circuit_open", "wont_make_deadline"};
static_assert(std::size(kRejects) == pool::kRejectReasons);

constexpr std::string_view kCloses[] = {
    "peer_closed", "error",    "idle",      "lifetime", "probe_failed",
    "unsolicited", "broken",   "discarded", "expired",  "reclaimed",
    "shrunk",      "shutdown", "no_reuse",  "deadline", "cancelled"};
static_assert(std::size(kCloses) == pool::kCloseReasons);

constexpr std::string_view kFailures[] = {"network", "tls", "validation",
                                          "policy"};
static_assert(std::size(kFailures) ==
              std::tuple_size_v<decltype(pool::TargetCounters::dials_failed)>);

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

// A counter or gauge with the target as its only label.
template <typename F>
void AddSimple(Targets targets, MetricsPage* page, MetricType type,
               const char* name, const char* help, F value) {
  MetricsFamily family(page, type, name, help);
  for (const TargetFigures& t : targets) {
    family.Value({{"target", t.label}}, static_cast<double>(value(t)));
  }
}

void AddAcquires(Targets targets, MetricsPage* page) {
  {
    MetricsFamily family(page, MetricType::Counter, "hotline_acquires_total",
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
    MetricsFamily family(page, MetricType::Histogram,
                         "hotline_acquire_wait_seconds",
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
    MetricsFamily family(
        page, MetricType::Histogram, "hotline_lease_seconds",
        "How long leases were held, of those that have ended.");
    for (const TargetFigures& t : targets) {
      family.Counts({{"target", t.label}}, t.pool.lease);
    }
  }
  {
    MetricsFamily family(page, MetricType::Counter,
                         "hotline_leases_reclaimed_total",
                         "Leases taken back without being released.");
    for (const TargetFigures& t : targets) {
      family.Value({{"target", t.label}, {"reason", "expired"}},
                   t.pool.leases_expired);
      family.Value({{"target", t.label}, {"reason", "session"}},
                   t.pool.leases_reclaimed);
    }
  }
  AddSimple(targets, page, MetricType::Counter,
            "hotline_leases_suspected_total",
            "Leases held for longer than pool.leak_after.",
            [](const TargetFigures& t) { return t.pool.leases_leaked; });
}

void AddConnections(Targets targets, MetricsPage* page) {
  {
    MetricsFamily family(
        page, MetricType::Gauge, "hotline_connections",
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
    MetricsFamily family(
        page, MetricType::Gauge, "hotline_max_connections",
        "Most connections allowed, of targets the pool knows.");
    for (const TargetFigures& t : targets) {
      if (!t.gauges.known) continue;
      family.Value({{"target", t.label}}, t.gauges.max_connections);
    }
  }
  AddSimple(targets, page, MetricType::Gauge, "hotline_warm_floor",
            "Connections kept ready before they are asked for.",
            [](const TargetFigures& t) { return t.gauges.warm_floor; });
  AddSimple(targets, page, MetricType::Gauge, "hotline_warm_deficit",
            "Connections missing to the warm floor.",
            [](const TargetFigures& t) { return t.gauges.warm_deficit; });
  AddSimple(targets, page, MetricType::Counter,
            "hotline_connections_opened_total",
            "Connections that became ready.",
            [](const TargetFigures& t) { return t.pool.opened; });
  {
    MetricsFamily family(page, MetricType::Counter,
                         "hotline_connections_closed_total",
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

void AddDials(Targets targets, MetricsPage* page) {
  {
    MetricsFamily family(page, MetricType::Counter,
                         "hotline_tls_handshakes_total",
                         "TLS handshakes with upstreams that were finished, "
                         "and whether they resumed an earlier session.");
    for (const TargetFigures& t : targets) {
      family.Value({{"target", t.label}, {"resumed", "false"}},
                   t.upstream.full_handshakes);
      family.Value({{"target", t.label}, {"resumed", "true"}},
                   t.upstream.resumed_handshakes);
    }
  }
  {
    MetricsFamily family(
        page, MetricType::Counter, "hotline_dials_total",
        "Connections that were tried to make; what failed, by class. ok: it "
        "has served, or stood for a second.");
    for (const TargetFigures& t : targets) {
      family.Value({{"target", t.label}, {"result", "ok"}}, t.pool.dials_ok);
      for (size_t i = 0; i < std::size(kFailures); ++i) {
        family.Value({{"target", t.label}, {"result", kFailures[i]}},
                     t.pool.dials_failed[i]);
      }
    }
  }
  AddSimple(targets, page, MetricType::Gauge, "hotline_breaker_open",
            "Targets whose circuit breaker is not closed.",
            [](const TargetFigures& t) { return t.gauges.breakers_open; });
  AddSimple(targets, page, MetricType::Counter, "hotline_breaker_opened_total",
            "Times that dials had failed too often in a row.",
            [](const TargetFigures& t) { return t.pool.breaker_opened; });
  MetricsFamily family(page, MetricType::Histogram, "hotline_dial_seconds",
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

void AddChecks(Targets targets, MetricsPage* page) {
  {
    MetricsFamily family(page, MetricType::Counter, "hotline_probes_total",
                         "Checks of idle connections.");
    for (const TargetFigures& t : targets) {
      family.Value({{"target", t.label}, {"result", "passed"}},
                   t.pool.probes_passed);
      family.Value({{"target", t.label}, {"result", "failed"}},
                   t.pool.probes_failed);
    }
  }
  {
    MetricsFamily family(
        page, MetricType::Counter, "hotline_errors_total",
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
  AddSimple(targets, page, MetricType::Gauge, "hotline_quarantined",
            "Targets none of whose HTTP/1.1 connections is used twice.",
            [](const TargetFigures& t) { return t.gauges.quarantined; });
  AddSimple(targets, page, MetricType::Counter, "hotline_quarantines_total",
            "Times that a target came into quarantine.",
            [](const TargetFigures& t) { return t.pool.quarantines; });
  AddSimple(
      targets, page, MetricType::Counter, "hotline_unsolicited_bytes_total",
      "Idle connections closed because the upstream sent bytes that "
      "nobody had asked for.",
      [](const TargetFigures& t) { return t.upstream.unsolicited_bytes; });
}

void AddExecutes(Targets targets, MetricsPage* page) {
  {
    MetricsFamily family(page, MetricType::Counter, "hotline_executes_total",
                         "Execute calls, by how they ended.");
    for (const TargetFigures& t : targets) {
      for (size_t i = 0; i < kExecuteResults.size(); ++i) {
        family.Value({{"target", t.label}, {"result", kExecuteResults[i]}},
                     t.executes.results[i]);
      }
    }
  }
  {
    MetricsFamily family(page, MetricType::Histogram, "hotline_execute_seconds",
                         "Execute calls from arrival to answer.");
    for (const TargetFigures& t : targets) {
      family.Counts({{"target", t.label}}, t.executes.seconds);
    }
  }
  {
    MetricsFamily family(
        page, MetricType::Counter, "hotline_retries_total",
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

}  // namespace

MetricsFamily::MetricsFamily(MetricsPage* page, MetricType type,
                             const char* name, const char* help)
    : family_(page->emplace_back()) {
  family_.name = name;
  family_.help = help;
  family_.type = type;
}

void MetricsFamily::Value(Labels labels, double value) {
  ClientMetric& metric = Add(labels);
  if (family_.type == MetricType::Counter) {
    metric.counter.value = value;
  } else {
    metric.gauge.value = value;
  }
}

void MetricsFamily::Counts(Labels labels, const HistogramCounts& counts) {
  Add(labels).histogram = ToHistogram(counts);
}

ClientMetric& MetricsFamily::Add(Labels labels) {
  ClientMetric& metric = family_.metric.emplace_back();
  metric.label.reserve(labels.size());
  for (const auto& [name, value] : labels) {
    // One label that is not UTF-8 costs a Prometheus the whole page.
    metric.label.push_back({name, ToUtf8(std::string(value))});
  }
  return metric;
}

void AddTargetFamilies(Targets targets, MetricsPage* page) {
  AddAcquires(targets, page);
  AddConnections(targets, page);
  AddDials(targets, page);
  AddChecks(targets, page);
  AddExecutes(targets, page);
}

}  // namespace hotline::server
