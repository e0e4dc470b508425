#include "server/observe/metrics_families.h"

#include <array>
#include <tuple>

namespace hotline::server {
namespace {

using Targets = std::span<const TargetFigures>;

// The labels' values, in the order of the enums in pool/types.h.
constexpr std::string_view kRejects[] = {
    "queue_full",   "no_idle_connection", "too_many_targets", "wait_timeout",
    "dial_failed",  "superseded",         "id_conflict",      "shutdown",
    "circuit_open", "wont_make_deadline", "drained"};
static_assert(std::size(kRejects) == pool::kRejectReasons);

constexpr std::string_view kCloses[] = {
    "peer_closed",  "error",       "idle",      "lifetime",
    "probe_failed", "unsolicited", "broken",    "discarded",
    "expired",      "reclaimed",   "shrunk",    "shutdown",
    "no_reuse",     "deadline",    "cancelled", "operator"};
static_assert(std::size(kCloses) == pool::kCloseReasons);

constexpr std::string_view kFailures[] = {"network", "tls", "validation",
                                          "policy"};
static_assert(std::size(kFailures) ==
              std::tuple_size_v<decltype(pool::TargetCounters::dials_failed)>);

// Of connections that live for minutes, and of phases.
constexpr HistogramScale kCoarse = {.coarse = true};
constexpr HistogramScale kAge = {.unit = pool::kAgeScale, .coarse = true};
// In uses.
constexpr HistogramScale kUses = {
    .unit = 1e9 / static_cast<double>(Duration(pool::kUse).count()),
    .coarse = true};

// A counter or gauge with the target as its only label.
template <typename F>
void AddSimple(Targets targets, MetricsPage* page, MetricType type,
               const char* name, const char* help, F value) {
  MetricsFamily family(page, type, name, help);
  for (const TargetFigures& t : targets) {
    family.Value({{"target", t.label}}, static_cast<double>(value(t)));
  }
}

// A histogram with the target as its only label.
template <typename F>
void AddHistogram(Targets targets, MetricsPage* page, const char* name,
                  const char* help, F counts, HistogramScale scale = {}) {
  MetricsFamily family(page, MetricType::kHistogram, name, help);
  for (const TargetFigures& t : targets) {
    family.Counts({{"target", t.label}}, counts(t), scale);
  }
}

// A counter with a second label, whose i-th value of `values` has the i-th of
// the counts.
template <typename Values, typename F>
void AddByLabel(Targets targets, MetricsPage* page, const char* name,
                const char* help, const char* label, const Values& values,
                F counts) {
  MetricsFamily family(page, MetricType::kCounter, name, help);
  for (const TargetFigures& t : targets) {
    for (size_t i = 0; i < std::size(values); ++i) {
      family.Value({{"target", t.label}, {label, values[i]}},
                   static_cast<double>(counts(t)[i]));
    }
  }
}

void AddAcquireResults(Targets targets, MetricsPage* page) {
  MetricsFamily family(page, MetricType::kCounter, "hotline_acquires_total",
                       "Acquires of a connection, by result.");
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

void AddAcquires(Targets targets, MetricsPage* page) {
  AddAcquireResults(targets, page);
  AddHistogram(
      targets, page, "hotline_acquire_wait_seconds",
      "How long acquires that were granted had waited.",
      [](const TargetFigures& t) -> const auto& { return t.pool.wait; });
  AddSimple(targets, page, MetricType::kGauge, "hotline_waiters",
            "Acquires waiting for a connection.",
            [](const TargetFigures& t) { return t.gauges.waiters; });
  AddSimple(
      targets, page, MetricType::kGauge, "hotline_oldest_wait_seconds",
      "How long the first waiter in line has waited.",
      [](const TargetFigures& t) { return ToSeconds(t.gauges.oldest_wait); });
  AddSimple(targets, page, MetricType::kGauge, "hotline_leases",
            "Slots of connections that are leased.",
            [](const TargetFigures& t) { return t.gauges.leases; });
  AddHistogram(
      targets, page, "hotline_lease_seconds",
      "How long leases that have ended were held.",
      [](const TargetFigures& t) -> const auto& { return t.pool.lease; },
      kCoarse);
  constexpr std::string_view kEnds[] = {"expired", "session"};
  AddByLabel(
      targets, page, "hotline_leases_reclaimed_total",
      "Leases that ended without a release.", "reason", kEnds,
      [](const TargetFigures& t) {
        return std::array{t.pool.leases_expired, t.pool.leases_reclaimed};
      });
  AddSimple(targets, page, MetricType::kCounter,
            "hotline_leases_suspected_total",
            "Leases held for longer than pool.leak_after.",
            [](const TargetFigures& t) { return t.pool.leases_leaked; });
}

void AddConnectionStates(Targets targets, MetricsPage* page) {
  MetricsFamily family(page, MetricType::kGauge, "hotline_connections",
                       "Connections by state; idle and leased ones are ready.");
  for (const TargetFigures& t : targets) {
    const auto count = [&t](pool::ConnState state) {
      return static_cast<double>(t.gauges.connections[static_cast<int>(state)]);
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

void AddCloses(Targets targets, MetricsPage* page) {
  AddByLabel(
      targets, page, "hotline_connections_closed_total",
      "Connections closed, by reason.", "reason", kCloses,
      [](const TargetFigures& t) -> const auto& { return t.pool.closed; });
  AddHistogram(
      targets, page, "hotline_connection_age_seconds",
      "How old connections were when they were closed.",
      [](const TargetFigures& t) -> const auto& { return t.pool.age; }, kAge);
  AddHistogram(
      targets, page, "hotline_connection_uses",
      "Leases that connections had served when they were closed.",
      [](const TargetFigures& t) -> const auto& { return t.pool.uses; }, kUses);
}

void AddConnections(Targets targets, MetricsPage* page) {
  AddConnectionStates(targets, page);
  {
    MetricsFamily family(page, MetricType::kGauge, "hotline_max_connections",
                         "Connections allowed, for targets that the pool "
                         "knows.");
    for (const TargetFigures& t : targets) {
      if (!t.gauges.known) continue;
      family.Value({{"target", t.label}}, t.gauges.max_connections);
    }
  }
  AddSimple(targets, page, MetricType::kGauge, "hotline_warm_floor",
            "Connections kept ready ahead of demand.",
            [](const TargetFigures& t) { return t.gauges.warm_floor; });
  AddSimple(targets, page, MetricType::kGauge, "hotline_warm_deficit",
            "Connections missing from the warm floor.",
            [](const TargetFigures& t) { return t.gauges.warm_deficit; });
  AddSimple(targets, page, MetricType::kCounter,
            "hotline_connections_opened_total",
            "Connections that became ready.",
            [](const TargetFigures& t) { return t.pool.opened; });
  AddCloses(targets, page);
  AddSimple(targets, page, MetricType::kCounter,
            "hotline_connection_reuse_total",
            "Acquires served by a connection that was used before.",
            [](const TargetFigures& t) { return t.pool.reused; });
  AddSimple(targets, page, MetricType::kCounter,
            "hotline_cross_loop_calls_total",
            "Acquires served by a connection that lives on another loop than "
            "the caller's.",
            [](const TargetFigures& t) { return t.pool.cross_loop; });
}

void AddDialPhases(Targets targets, MetricsPage* page) {
  MetricsFamily family(page, MetricType::kHistogram, "hotline_dial_seconds",
                       "Time spent in each phase of a dial.");
  for (const TargetFigures& t : targets) {
    const std::pair<std::string_view, const HistogramCounts*> phases[] = {
        {"resolve", &t.pool.dial_resolve},
        {"connect", &t.pool.dial_connect},
        {"tls", &t.pool.dial_tls},
        {"validate", &t.pool.dial_validate},
    };
    for (const auto& [phase, counts] : phases) {
      family.Counts({{"target", t.label}, {"phase", phase}}, *counts, kCoarse);
    }
  }
}

void AddDials(Targets targets, MetricsPage* page) {
  constexpr std::string_view kResumed[] = {"false", "true"};
  AddByLabel(targets, page, "hotline_tls_handshakes_total",
             "Completed TLS handshakes with upstreams, by whether they resumed "
             "a session.",
             "resumed", kResumed, [](const TargetFigures& t) {
               return std::array{t.upstream.full_handshakes,
                                 t.upstream.resumed_handshakes};
             });
  {
    MetricsFamily family(page, MetricType::kCounter, "hotline_dials_total",
                         "Dials, by result; failures by class. ok: the "
                         "connection has served a call or stood for a second.");
    for (const TargetFigures& t : targets) {
      family.Value({{"target", t.label}, {"result", "ok"}}, t.pool.dials_ok);
      for (size_t i = 0; i < std::size(kFailures); ++i) {
        family.Value({{"target", t.label}, {"result", kFailures[i]}},
                     t.pool.dials_failed[i]);
      }
    }
  }
  AddSimple(targets, page, MetricType::kGauge, "hotline_breaker_open",
            "Targets whose circuit breaker is not closed.",
            [](const TargetFigures& t) { return t.gauges.breakers_open; });
  AddSimple(targets, page, MetricType::kCounter, "hotline_breaker_opened_total",
            "Times that a circuit breaker opened.",
            [](const TargetFigures& t) { return t.pool.breaker_opened; });
  AddDialPhases(targets, page);
}

void AddChecks(Targets targets, MetricsPage* page) {
  constexpr std::string_view kResults[] = {"passed", "failed"};
  AddByLabel(targets, page, "hotline_probes_total",
             "Probes of idle connections, by result.", "result", kResults,
             [](const TargetFigures& t) {
               return std::array{t.pool.probes_passed, t.pool.probes_failed};
             });
  {
    MetricsFamily family(page, MetricType::kCounter, "hotline_errors_total",
                         "Failures: of dials by class, and \"connection\" for "
                         "errors of open connections.");
    for (const TargetFigures& t : targets) {
      for (size_t i = 0; i < std::size(kFailures); ++i) {
        family.Value({{"target", t.label}, {"class", kFailures[i]}},
                     t.pool.dials_failed[i]);
      }
      family.Value({{"target", t.label}, {"class", "connection"}},
                   t.pool.errors_counted);
    }
  }
  AddSimple(targets, page, MetricType::kGauge, "hotline_quarantined",
            "Targets whose HTTP/1.1 connections are used only once.",
            [](const TargetFigures& t) { return t.gauges.quarantined; });
  AddSimple(targets, page, MetricType::kCounter, "hotline_quarantines_total",
            "Times that a target entered quarantine.",
            [](const TargetFigures& t) { return t.pool.quarantines; });
  AddSimple(
      targets, page, MetricType::kCounter, "hotline_unsolicited_bytes_total",
      "Idle connections closed because the upstream sent unsolicited bytes.",
      [](const TargetFigures& t) { return t.upstream.unsolicited_bytes; });
}

void AddExecutes(Targets targets, MetricsPage* page) {
  AddByLabel(
      targets, page, "hotline_executes_total",
      "Execute and ExecuteStream calls, by result.", "result", kExecuteResults,
      [](const TargetFigures& t) -> const auto& { return t.executes.results; });
  {
    MetricsFamily family(page, MetricType::kHistogram,
                         "hotline_execute_seconds",
                         "Duration of these calls, from arrival to the end.");
    for (const TargetFigures& t : targets) {
      family.Counts({{"target", t.label}}, t.executes.seconds, {},
                    t.gauges.exemplars);
    }
  }
  AddByLabel(
      targets, page, "hotline_retries_total",
      "Retries, by the verdict on the failed attempt.", "verdict",
      kRetryVerdicts,
      [](const TargetFigures& t) -> const auto& { return t.executes.retries; });
  AddSimple(targets, page, MetricType::kCounter, "hotline_stale_reuse_total",
            "Reused connections found dead when a request was written.",
            [](const TargetFigures& t) { return t.executes.stale_reuse; });
}

void AddUpstreams(Targets targets, MetricsPage* page) {
  AddByLabel(
      targets, page, "hotline_upstream_responses_total",
      "Responses of upstreams to these calls, by class of the status; also "
      "those to attempts that were retried.",
      "status_class", kStatusClasses, [
      ](const TargetFigures& t) -> const auto& { return t.executes.statuses; });
  constexpr std::string_view kDirections[] = {"sent", "received"};
  AddByLabel(
      targets, page, "hotline_upstream_bytes_total",
      "Bytes exchanged with upstreams by calls, streams and tunnels, "
      "without TLS and framing of HTTP/2.",
      "direction", kDirections, [](const TargetFigures& t) {
        return std::array{t.executes.bytes_sent, t.executes.bytes_received};
      });
  AddHistogram(
      targets, page, "hotline_first_byte_seconds",
      "From the start of a request to the first byte of its response.",
      [](const TargetFigures& t) -> const auto& {
        return t.executes.first_byte;
      });
  const auto running = [&](const char* name, const char* help, CallKind kind) {
    AddSimple(targets, page, MetricType::kGauge, name, help,
              [kind](const TargetFigures& t) {
                return t.gauges.running[static_cast<size_t>(kind)];
              });
  };
  running("hotline_calls_in_flight", "Execute calls waiting or running.",
          CallKind::kExecute);
  running("hotline_streams_in_flight",
          "ExecuteStream calls waiting or running.", CallKind::kStream);
}

void AddAddresses(Targets targets, MetricsPage* page) {
  MetricsFamily family(page, MetricType::kGauge, "hotline_addresses",
                       "Addresses by state, for targets with series.");
  for (const TargetFigures& t : targets) {
    if (t.label == TargetFold::kOther) continue;
    for (size_t i = 0; i < kAddressStates.size(); ++i) {
      family.Value({{"target", t.label}, {"state", kAddressStates[i]}},
                   static_cast<double>(t.gauges.addresses[i]));
    }
  }
}

}  // namespace

void AddTargetFamilies(Targets targets, MetricsPage* page) {
  AddAcquires(targets, page);
  AddConnections(targets, page);
  AddDials(targets, page);
  AddChecks(targets, page);
  AddExecutes(targets, page);
  AddUpstreams(targets, page);
  AddAddresses(targets, page);
}

}  // namespace hotline::server
