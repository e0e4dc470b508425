#include "server/observe/metrics.h"

#include <sstream>

#include "base/log.h"
#include "base/mutex.h"
#include "prometheus/collectable.h"
#include "prometheus/text_serializer.h"
#include "server/observe/metrics_families.h"
#include "server/observe/metrics_process.h"
#include "server/observe/metrics_targets.h"

namespace hotline::server {
namespace {

using prometheus::MetricFamily;
using prometheus::MetricType;

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

}  // namespace

class Metrics::Impl : public prometheus::Collectable {
 public:
  Impl(MetricsOptions options, MetricsSources sources)
      : options_(std::move(options)),
        sources_(std::move(sources)),
        fold_(options_.max_targets, options_.known_targets) {}

  std::vector<MetricFamily> Collect() const override {
    MetricsPage page;
    page.reserve(64);
    {
      // Snapshots must reach the fold in the order in which they were taken.
      MutexLock lock(&mu_);
      const pool::Snapshot snapshot =
          sources_.pool ? sources_.pool() : pool::Snapshot();
      const Instant now = MonotonicNow();
      std::vector<CallMetrics::Row> executes;
      if (sources_.executes != nullptr) {
        executes = sources_.executes->Read();
        sources_.executes->MakeRoom(now);
      }
      const std::vector<TargetFigures> targets = fold_.Fold(
          snapshot, executes,
          sources_.upstream ? sources_.upstream() : UpstreamRows(), now);
      AddTargetFamilies(targets, &page);
      AddTotals(snapshot, fold_.folded(), &page);
    }
    AddRpcs(&page);
    AddFront(&page);
    AddProcess(&page);
    return page;
  }

 private:
  static void AddTotals(const pool::Snapshot& snapshot, size_t folded,
                        MetricsPage* page);
  void AddRpcs(MetricsPage* page) const;
  static void AddDenials(const FrontFigures& front, MetricsPage* page);
  void AddFront(MetricsPage* page) const;
  void AddProcess(MetricsPage* page) const;
  void AddSpans(MetricsPage* page) const;
  void AddBuild(MetricsPage* page) const;

  const MetricsOptions options_;
  const MetricsSources sources_;
  mutable Mutex mu_;
  mutable TargetFold fold_ ABSL_GUARDED_BY(mu_);
};

void Metrics::Impl::AddTotals(const pool::Snapshot& snapshot, size_t folded,
                              MetricsPage* page) {
  const auto gauge = [page](const char* name, const char* help, double value) {
    MetricsFamily(page, MetricType::Gauge, name, help).Value({}, value);
  };
  gauge("hotline_targets", "Targets the pool knows.",
        static_cast<double>(snapshot.targets.size()));
  gauge("hotline_folded_targets",
        "Targets counted under target=\"other\" because of "
        "metrics.max_targets.",
        static_cast<double>(folded));
  gauge("hotline_pool_max_connections",
        "Connections allowed, over all targets.", snapshot.max_connections);
  gauge("hotline_pool_connections_reserved",
        "Connections counted against that limit, including dials.",
        snapshot.connections_reserved);
  gauge("hotline_pool_budget_waiters",
        "Targets waiting for room below that limit.", snapshot.budget_waiters);
}

void Metrics::Impl::AddRpcs(MetricsPage* page) const {
  MetricsFamily family(page, MetricType::Histogram, "hotline_rpc_seconds",
                       "Calls of Hotline's own API from arrival to status.");
  for (size_t method = 0; method < kRpcMethods.size(); ++method) {
    // Shown from the start; other codes appear when they happen.
    const uint32_t expected = CodesOf(static_cast<RpcMethod>(method));
    for (int code = 0; code < kGrpcCodes; ++code) {
      HistogramCounts counts;
      if (sources_.rpcs != nullptr) {
        counts = sources_.rpcs->Read(static_cast<RpcMethod>(method), code);
      }
      bool any = (expected >> code & 1) != 0;
      for (const uint64_t count : counts.counts) any |= count != 0;
      if (!any) continue;
      family.Counts(
          {{"method", kRpcMethods[method]}, {"code", kGrpcCodeNames[code]}},
          counts);
    }
  }
}

void Metrics::Impl::AddDenials(const FrontFigures& front, MetricsPage* page) {
  MetricsFamily denials(page, MetricType::Counter, "hotline_denials_total",
                        "Calls refused by the policy.");
  for (const FrontFigures::Denied& denied : front.denied) {
    denials.Value({{"method", denied.method}, {"reason", denied.reason}},
                  static_cast<double>(denied.count));
  }
}

void Metrics::Impl::AddFront(MetricsPage* page) const {
  const FrontFigures front = sources_.front ? sources_.front() : FrontFigures();
  const auto value = [page](MetricType type, const char* name, const char* help,
                            double value) {
    MetricsFamily(page, type, name, help).Value({}, value);
  };
  const auto by_reason = [page](const char* name, const char* help,
                                const FrontFigures::ByReason& counts) {
    MetricsFamily family(page, MetricType::Counter, name, help);
    for (const auto& [reason, count] : counts) {
      family.Value({{"reason", reason}}, static_cast<double>(count));
    }
  };
  value(MetricType::Gauge, "hotline_listen_connections",
        "Open connections of callers.", front.connections);
  value(MetricType::Counter, "hotline_listen_accepted_total",
        "Connections accepted from callers.", front.accepted);
  by_reason("hotline_listen_refused_total",
            "Connections of callers that were refused or cut off.",
            front.refused);
  value(MetricType::Gauge, "hotline_calls", "Calls waiting or running.",
        front.calls);
  value(MetricType::Gauge, "hotline_answer_bytes",
        "Bytes of response bodies held for callers that have not read them.",
        front.answer_bytes);
  value(MetricType::Gauge, "hotline_answers_waiting",
        "Responses waiting for room in that memory.", front.answers_waiting);
  by_reason("hotline_shed_total", "Calls refused because of overload.",
            front.shed);
  AddDenials(front, page);
  value(MetricType::Gauge, "hotline_listen_certificate_expires_seconds",
        "When the listener's certificate expires, in seconds since 1970; 0: no "
        "certificate.",
        front.certificate_expires);
}

void Metrics::Impl::AddProcess(MetricsPage* page) const {
  MetricsFamily(page, MetricType::Gauge, "hotline_loop_lag_seconds",
                "How late timers of the upstream loops fired, recently.")
      .Value({}, sources_.loop_lag ? ToSeconds(sources_.loop_lag()) : 0);
  MetricsFamily(page, MetricType::Gauge,
                "hotline_config_last_reload_successful",
                "Whether the configuration that was last read is in force.")
      .Value({}, sources_.config_ok && !sources_.config_ok() ? 0 : 1);
  MetricsFamily(
      page, MetricType::Gauge, "hotline_restart_needed",
      "Whether the configuration differs from the one at the start in "
      "keys that take effect at a start only.")
      .Value({}, sources_.restart_needed && sources_.restart_needed() ? 1 : 0);
  MetricsFamily(page, MetricType::Gauge, "hotline_tls_files_current",
                "Whether the certificates, keys and authorities in use are "
                "those in the files; 0: the files are invalid.")
      .Value({}, sources_.tls_files_ok && !sources_.tls_files_ok() ? 0 : 1);
  MetricsFamily(page, MetricType::Counter, "hotline_log_lines_dropped_total",
                "Log lines dropped because they were not read in time.")
      .Value({}, static_cast<double>(LogLinesDropped()));
  AddSpans(page);
  AddBuild(page);
  for (const ProcessFigure& figure : ReadProcessFigures()) {
    MetricsFamily(page,
                  figure.counter ? MetricType::Counter : MetricType::Gauge,
                  figure.name, figure.help)
        .Value({}, figure.value);
  }
}

void Metrics::Impl::AddSpans(MetricsPage* page) const {
  const SpanFigures spans = sources_.spans ? sources_.spans() : SpanFigures();
  MetricsFamily family(page, MetricType::Counter, "hotline_spans_total",
                       "Spans of calls: sent to the collector, refused by it, "
                       "or dropped before.");
  family.Value({{"result", "sent"}}, static_cast<double>(spans.sent));
  family.Value({{"result", "dropped"}}, static_cast<double>(spans.dropped));
  family.Value({{"result", "refused"}}, static_cast<double>(spans.refused));
}

void Metrics::Impl::AddBuild(MetricsPage* page) const {
  MetricsFamily(page, MetricType::Gauge, "hotline_build_info",
                "Always 1; the labels are the version, the commit and the "
                "versions of libraries.");
  prometheus::ClientMetric build;
  build.gauge.value = 1;
  build.label.push_back({"version", options_.version});
  for (const auto& [name, value] : options_.build) {
    build.label.push_back({name, value});
  }
  page->back().metric.push_back(std::move(build));
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
