#include "server/observe/metrics.h"

#include "base/log.h"
#include "base/mutex.h"
#include "server/observe/metrics_families.h"
#include "server/observe/metrics_identities.h"
#include "server/observe/metrics_process.h"
#include "server/observe/metrics_targets.h"
#include "server/observe/metrics_text.h"

namespace hotline::server {
namespace {

// Identities with series of their own.
constexpr size_t kMaxIdentities = 100;

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

class Metrics::Impl {
 public:
  Impl(MetricsOptions options, MetricsSources sources)
      : options_(std::move(options)),
        sources_(std::move(sources)),
        fold_(options_.max_targets, options_.known_targets) {}

  std::string Render(MetricsFormat format) {
    MetricsPage page(format);
    const FrontFigures front =
        sources_.front ? sources_.front() : FrontFigures();
    AddTargets(front, &page);
    AddRpcs(&page);
    AddFront(front, &page);
    AddConfig(&page);
    AddMachinery(&page);
    AddProcess(&page);
    return std::move(page).Finish();
  }

 private:
  void AddTargets(const FrontFigures& front, MetricsPage* page);
  static void AddTotals(const pool::Snapshot& snapshot,
                        const std::vector<TargetFigures>& targets,
                        size_t folded, MetricsPage* page);
  static void AddCertificates(const std::vector<TargetFigures>& targets,
                              const FrontFigures& front, MetricsPage* page);
  void AddRpcs(MetricsPage* page) const;
  static void AddDenials(const FrontFigures& front, MetricsPage* page);
  void AddIdentities(const FrontFigures& front, MetricsPage* page);
  void AddFront(const FrontFigures& front, MetricsPage* page);
  void AddConfig(MetricsPage* page) const;
  void AddMachinery(MetricsPage* page) const;
  void AddProcess(MetricsPage* page) const;
  void AddSpans(MetricsPage* page) const;
  void AddBuild(MetricsPage* page) const;

  const MetricsOptions options_;
  const MetricsSources sources_;
  Mutex mu_;
  TargetFold fold_ ABSL_GUARDED_BY(mu_);
  IdentityFold identities_ ABSL_GUARDED_BY(mu_){kMaxIdentities};
};

void Metrics::Impl::AddTargets(const FrontFigures& front, MetricsPage* page) {
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
  std::vector<TargetFigures> targets =
      fold_.Fold(snapshot, executes,
                 sources_.upstream ? sources_.upstream() : UpstreamRows(), now);
  for (TargetFigures& target : targets) {
    if (!sources_.addresses || target.label == TargetFold::kOther) continue;
    target.gauges.addresses = sources_.addresses(target.label);
  }
  AddTargetFamilies(targets, page);
  AddCertificates(targets, front, page);
  AddTotals(snapshot, targets, fold_.folded(), page);
}

void Metrics::Impl::AddCertificates(const std::vector<TargetFigures>& targets,
                                    const FrontFigures& front,
                                    MetricsPage* page) {
  MetricsFamily family(page, MetricType::kGauge,
                       "hotline_certificate_expiry_timestamp_seconds",
                       "When certificates expire, in seconds since 1970: the "
                       "listener's, and those of the latest connection to "
                       "each target with series; 0: none.");
  family.Value({{"certificate", "listener"}}, front.certificate_expires);
  for (const TargetFigures& target : targets) {
    if (target.label == TargetFold::kOther) continue;
    family.Value({{"certificate", "upstream"}, {"target", target.label}},
                 static_cast<double>(target.gauges.certificate_expires));
  }
}

void Metrics::Impl::AddTotals(const pool::Snapshot& snapshot,
                              const std::vector<TargetFigures>& targets,
                              size_t folded, MetricsPage* page) {
  const auto gauge = [page](const char* name, const char* help, double value) {
    MetricsFamily(page, MetricType::kGauge, name, help).Value({}, value);
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
  int64_t tunnels = 0;
  for (const TargetFigures& target : targets) {
    tunnels += target.gauges.running[static_cast<size_t>(CallKind::kTunnel)];
  }
  gauge("hotline_tunnels", "Open tunnels.", static_cast<double>(tunnels));
}

void Metrics::Impl::AddRpcs(MetricsPage* page) const {
  MetricsFamily family(page, MetricType::kHistogram, "hotline_rpc_seconds",
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
  MetricsFamily denials(page, MetricType::kCounter, "hotline_denials_total",
                        "Calls refused by the policy.");
  for (const FrontFigures::Denied& denied : front.denied) {
    denials.Value({{"method", denied.method}, {"reason", denied.reason}},
                  static_cast<double>(denied.count));
  }
}

void Metrics::Impl::AddIdentities(const FrontFigures& front,
                                  MetricsPage* page) {
  MutexLock lock(&mu_);
  const auto usage = identities_.Fold(front.identities, MonotonicNow());
  {
    MetricsFamily calls(page, MetricType::kCounter,
                        "hotline_calls_by_identity_total",
                        "Calls that need a connection, by the caller.");
    for (const IdentityUsage& row : usage) {
      calls.Value({{"identity", row.name}}, static_cast<double>(row.calls));
    }
  }
  MetricsFamily denials(page, MetricType::kCounter,
                        "hotline_denials_by_identity_total",
                        "Calls refused by the policy, by the caller.");
  for (const IdentityUsage& row : usage) {
    denials.Value({{"identity", row.name}}, static_cast<double>(row.denials));
  }
}

void Metrics::Impl::AddFront(const FrontFigures& front, MetricsPage* page) {
  const auto value = [page](MetricType type, const char* name, const char* help,
                            double value) {
    MetricsFamily(page, type, name, help).Value({}, value);
  };
  const auto by_reason = [page](const char* name, const char* help,
                                const FrontFigures::ByReason& counts) {
    MetricsFamily family(page, MetricType::kCounter, name, help);
    for (const auto& [reason, count] : counts) {
      family.Value({{"reason", reason}}, static_cast<double>(count));
    }
  };
  value(MetricType::kGauge, "hotline_listen_connections",
        "Open connections of callers.", front.connections);
  value(MetricType::kCounter, "hotline_listen_accepted_total",
        "Connections accepted from callers.", front.accepted);
  by_reason("hotline_listen_refused_total",
            "Connections of callers that were refused or cut off.",
            front.refused);
  value(MetricType::kGauge, "hotline_calls", "Calls waiting or running.",
        front.calls);
  value(MetricType::kGauge, "hotline_answer_bytes",
        "Bytes of response bodies held for callers that have not read them.",
        front.answer_bytes);
  value(MetricType::kGauge, "hotline_answers_waiting",
        "Responses waiting for room in that memory.", front.answers_waiting);
  by_reason("hotline_shed_total", "Calls refused because of overload.",
            front.shed);
  AddDenials(front, page);
  AddIdentities(front, page);
  value(MetricType::kGauge, "hotline_sessions", "Open sessions.",
        front.sessions);
}

void Metrics::Impl::AddConfig(MetricsPage* page) const {
  const auto gauge = [page](const char* name, const char* help, double value) {
    MetricsFamily(page, MetricType::kGauge, name, help).Value({}, value);
  };
  const auto yes = [](const std::function<bool()>& source, bool otherwise) {
    return source ? source() : otherwise;
  };
  gauge("hotline_config_last_reload_successful",
        "Whether the configuration that was last read is in force.",
        yes(sources_.config_ok, true));
  gauge("hotline_config_last_reload_success_timestamp_seconds",
        "When the configuration in force was loaded, in seconds since 1970.",
        sources_.config_loaded ? sources_.config_loaded() : 0);
  gauge("hotline_restart_needed",
        "Whether the configuration differs from the one at the start in "
        "keys that take effect at a start only.",
        yes(sources_.restart_needed, false));
  gauge("hotline_tls_files_current",
        "Whether the certificates, keys and authorities in use are "
        "those in the files; 0: the files are invalid.",
        yes(sources_.tls_files_ok, true));
  const RewarmFigures rewarm =
      sources_.rewarm ? sources_.rewarm() : RewarmFigures();
  MetricsFamily family(page, MetricType::kGauge, "hotline_rewarm_connections",
                       "Connections of the warm set that was read at the "
                       "start: dialled again, or missing.");
  family.Value({{"result", "ready"}}, static_cast<double>(rewarm.ready));
  family.Value({{"result", "missing"}}, static_cast<double>(rewarm.missing));
}

// Loops and DNS.
void Metrics::Impl::AddMachinery(MetricsPage* page) const {
  MetricsFamily(page, MetricType::kGauge, "hotline_loop_lag_seconds",
                "How late timers of the upstream loops fired, recently.")
      .Value({}, sources_.loop_lag ? ToSeconds(sources_.loop_lag()) : 0);
  const auto loops =
      sources_.loops ? sources_.loops() : std::vector<LoopFigures>();
  const auto by_loop = [&](const char* name, const char* help, auto value) {
    MetricsFamily family(page, MetricType::kCounter, name, help);
    for (size_t i = 0; i < loops.size(); ++i) {
      family.Value({{"loop", std::to_string(i)}}, value(loops[i]));
    }
  };
  by_loop("hotline_loop_turns_total",
          "How often a loop has served the sockets that were ready.",
          [](const LoopFigures& l) { return static_cast<double>(l.turns); });
  by_loop("hotline_loop_cpu_seconds_total", "CPU time of a loop's thread.",
          [](const LoopFigures& l) { return ToSeconds(l.cpu); });

  const DnsFigures dns = sources_.dns ? sources_.dns() : DnsFigures();
  {
    MetricsFamily family(page, MetricType::kCounter, "hotline_dns_total",
                         "Names resolved by DNS, by result.");
    family.Value({{"result", "ok"}}, static_cast<double>(dns.ok));
    family.Value({{"result", "no_address"}},
                 static_cast<double>(dns.no_address));
    family.Value({{"result", "failed"}}, static_cast<double>(dns.failed));
  }
  MetricsFamily(page, MetricType::kHistogram, "hotline_dns_seconds",
                "How long that took.")
      .Counts({}, ToCounts(dns.seconds));
}

void Metrics::Impl::AddProcess(MetricsPage* page) const {
  MetricsFamily(page, MetricType::kCounter, "hotline_log_lines_dropped_total",
                "Log lines dropped because they were not read in time.")
      .Value({}, static_cast<double>(LogLinesDropped()));
  AddSpans(page);
  AddBuild(page);
  for (const ProcessFigure& figure : ReadProcessFigures()) {
    MetricsFamily(page,
                  figure.counter ? MetricType::kCounter : MetricType::kGauge,
                  figure.name, figure.help)
        .Value({}, figure.value);
  }
}

void Metrics::Impl::AddSpans(MetricsPage* page) const {
  const SpanFigures spans = sources_.spans ? sources_.spans() : SpanFigures();
  MetricsFamily family(page, MetricType::kCounter, "hotline_spans_total",
                       "Spans of calls: sent to the collector, refused by it, "
                       "or dropped before.");
  family.Value({{"result", "sent"}}, static_cast<double>(spans.sent));
  family.Value({{"result", "dropped"}}, static_cast<double>(spans.dropped));
  family.Value({{"result", "refused"}}, static_cast<double>(spans.refused));
}

void Metrics::Impl::AddBuild(MetricsPage* page) const {
  std::vector<MetricsFamily::Label> labels = {{"version", options_.version}};
  for (const auto& [name, value] : options_.build) {
    labels.emplace_back(name, value);
  }
  MetricsFamily(page, MetricType::kGauge, "hotline_build_info",
                "Always 1; the labels are the version, the commit and the "
                "versions of libraries.")
      .Value(labels, 1);
}

Metrics::Metrics(MetricsOptions options, MetricsSources sources)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(sources))) {}

Metrics::~Metrics() = default;

std::string Metrics::Render(MetricsFormat format) {
  return impl_->Render(format);
}

}  // namespace hotline::server
