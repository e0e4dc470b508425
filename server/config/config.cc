#include "server/config/config.h"

#include <algorithm>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/read_file.h"
#include "base/url.h"
#include "hotline/v1/config.pb.h"
#include "server/broker/proto_time.h"
#include "server/config/front.h"
#include "server/config/outside.h"
#include "server/config/print.h"
#include "server/config/proto.h"
#include "server/config/report.h"
#include "server/config/rules.h"
#include "server/config/target.h"
#include "server/config/tls.h"
#include "server/config/upstream.h"
#include "server/config/yaml.h"

namespace hotline::server {
namespace {

// Room for an answer of the largest size and another one beside it.
constexpr int64_t kLeastAnswerBytes = 8 << 20;

void ResolveBroker(const v1::Config& config, const ConfigReport& report,
                   BrokerSettings* out) {
  const v1::Execute& execute = config.execute();
  out->default_deadline = FromProto(execute.default_deadline());
  out->max_body_bytes = execute.max_body_bytes();
  out->max_attempts = execute.max_attempts();
  out->retry_budget_percent = execute.retry_budget_percent();
  out->forward_traceparent = execute.forward_traceparent();
  out->tunnel_idle_timeout = FromProto(config.tunnel().idle_timeout());
  const v1::Session& session = config.session();
  out->session = {.max_items_per_message = session.max_items_per_message(),
                  .max_items_in_flight = session.max_items_in_flight(),
                  .max_leases = session.max_leases(),
                  .max_buffered_bytes = session.max_buffered_bytes()};
  const v1::Overload& overload = config.overload();
  out->overload = {.max_memory_bytes = overload.max_memory_bytes(),
                   .max_calls = overload.max_calls()};
  out->max_answer_bytes = overload.max_answer_bytes();
  if (out->max_answer_bytes > 0 && out->max_answer_bytes < kLeastAnswerBytes) {
    report.Fault("overload.max_answer_bytes",
                 absl::StrCat("must be 0, or at least ", kLeastAnswerBytes));
  }
}

void ResolveLog(const v1::Log& log, Settings* out) {
  out->log_level = ParseLogLevel(log.level()).value_or(LogLevel::kInfo);
  out->log_format = ParseLogFormat(log.format()).value_or(LogFormat::kText);
  using Mode = AccessLogOptions::Mode;
  out->access_log = {.mode = log.access() == "sampled"  ? Mode::kSampled
                             : log.access() == "errors" ? Mode::kErrors
                                                        : Mode::kOff,
                     .one_in = static_cast<uint32_t>(log.access_one_in())};
}

void ResolveTracing(const v1::Tracing& tracing, const ConfigReport& report,
                    TracingOptions* out) {
  out->collector = tracing.collector();
  out->new_trace_one_in = static_cast<uint32_t>(tracing.new_trace_one_in());
  ParsedUrl url;
  if (out->collector.empty()) {
    if (out->new_trace_one_in > 0) {
      report.Warn("tracing.new_trace_one_in",
                  "has no effect without tracing.collector");
    }
  } else if (ParseUrl(out->collector, &url).has_value() || url.target.tls) {
    report.Fault("tracing.collector",
                 "must be an http URL such as http://127.0.0.1:4318/v1/traces");
  }
}

// What the broker has to know of the targets in the file.
void ListTargets(const Settings& settings, BrokerSettings* out) {
  for (const auto& [target, mine] : settings.targets) {
    out->targets.insert(target);
    if (mine.cool_down == CoolDownSettings()) continue;
    out->cool_down.emplace(target, mine.cool_down);
    const std::string other = OtherSpelling(target);
    if (other.empty() || settings.targets.contains(other)) continue;
    out->cool_down.emplace(other, mine.cool_down);
  }
}

// Checks what concerns several keys, and fills the rooms' options. `config` has
// its defaults; those that depend on other keys are added to it.
Settings Resolve(v1::Config* config, int cores, const ConfigChecks& checks,
                 const ConfigReport& report) {
  Settings out;
  ResolveListen(config->mutable_listen(), report, &out);
  ResolvePool(config->mutable_pool(), cores, report, &out);
  ResolveUpstream(*config, cores, report, &out.upstream);
  TlsProfileRules tls(checks, report);
  tls.ResolveProfiles(config, &out.upstream);
  ResolveBroker(*config, report, &out.broker);
  ResolvePolicy(config->policy(), report, &out.policy);
  ResolveTargets(config, report, tls, &out);
  out.broker.tls_profiles = tls.names();
  out.broker.policy = CompilePolicy(out.policy);
  ListTargets(out, &out.broker);
  out.rewarm = ResolveRewarm(config->rewarm());
  ResolveLog(config->log(), &out);
  ResolveTracing(config->tracing(), report, &out.tracing);
  out.metrics_max_targets = config->metrics().max_targets();
  out.shutdown_grace = FromProto(config->shutdown_grace());
  return out;
}

absl::Status Refuse(const ConfigFaults& faults) {
  return absl::InvalidArgumentError(absl::StrJoin(faults.Lines(), "\n"));
}

// A warning; or a fault, if there are others, which it may have caused.
void ReportTab(std::string_view yaml, const ConfigReport& report) {
  const std::optional<Place> tab = TabInIndentation(yaml);
  if (!tab) return;
  ConfigFaults& to = report.faults.empty() ? report.warnings : report.faults;
  to.Add(*tab, "",
         "indented with a tab, which YAML does not allow: use spaces");
}

void ReportMachine(const Settings& settings, const ConfigChecks& checks,
                   const ConfigReport& report) {
  if (!checks.machine) return;
  for (const KeyFault& fault : checks.machine(settings)) {
    if (fault.warning) {
      report.Warn(fault.path, fault.text);
    } else if (!fault.path.empty() || report.faults.empty()) {
      report.Fault(fault.path, fault.text);
    }
  }
}

}  // namespace

const TargetSettings& Settings::ForTarget(std::string_view target) const {
  auto found = targets.find(target);
  if (found == targets.end() && !targets.empty()) {
    // With a trailing dot a caller must not evade a limit or a proxy.
    found = targets.find(OtherSpelling(target));
  }
  return found == targets.end() ? default_target : found->second;
}

pool::TargetConfig Settings::PoolFor(std::string_view target) const {
  pool::TargetConfig out = ForTarget(target).pool;
  // Over TLS the upstream chooses the protocol: the first connection tells.
  out.expected_streams = target.starts_with("https://") ? 0 : 1;
  // Only the configured spelling has a floor.
  if (!targets.contains(target)) out.warm = out.warm_max = 0;
  const bool raw = target.starts_with("tls://") || target.starts_with("tcp://");
  out.default_mode = raw ? pool::Mode::kExclusive : pool::Mode::kShared;
  return out;
}

absl::StatusOr<Settings> ParseConfig(std::string_view yaml,
                                     std::string_view name, int cores,
                                     const ConfigChecks& checks) {
  if (cores <= 0) {
    cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }
  ConfigFaults faults(name);
  ConfigFaults warnings(name);
  ConfigSource source;
  const ConfigReport report{source, faults, warnings};
  faults.Hide(&source.hidden);
  warnings.Hide(&source.hidden);
  YamlNode root;
  if (!ParseYaml(yaml, &root, &faults)) {
    ReportTab(yaml, report);
    return Refuse(faults);
  }
  auto effective = std::make_shared<EffectiveConfig>();
  v1::Config& config = effective->config;
  FillFromYaml(root, checks.lookup, &config, &source, &faults);
  ApplyRules(&config, source, &faults);
  Settings settings = Resolve(&config, cores, checks, report);
  ReportMachine(settings, checks, report);
  ReportTab(yaml, report);
  if (!faults.empty()) return Refuse(faults);
  settings.warnings = warnings.Lines();
  settings.effective_yaml = ToYaml(config, source.hidden);
  effective->hidden = std::move(source.hidden);
  settings.effective = std::move(effective);
  return settings;
}

absl::StatusOr<Settings> LoadConfig(const std::string& path, int cores,
                                    const ConfigChecks& checks) {
  // One byte more than ParseYaml accepts, so that it refuses a longer file.
  const auto text = ReadFile(path, (1 << 20) + 1);
  if (!text.ok()) return text.status();
  ConfigChecks all = checks;
  if (!all.lookup) all.lookup = LookUpOutside;
  return ParseConfig(*text, path, cores, all);
}

Settings DefaultSettings(int cores) {
  return *ParseConfig("", "defaults", cores);
}

upstream::Options UpstreamOptions(std::shared_ptr<const Settings> settings) {
  upstream::Options out = settings->upstream;
  out.target_policy = [settings =
                           std::move(settings)](const std::string& target) {
    return settings->ForTarget(target).upstream;
  };
  return out;
}

}  // namespace hotline::server
