#include "server/config/config.h"

#include <algorithm>
#include <bit>
#include <set>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/read_file.h"
#include "base/socket_address.h"
#include "base/url.h"
#include "hotline/v1/config.pb.h"
#include "server/broker/proto_time.h"
#include "server/config/front.h"
#include "server/config/proto.h"
#include "server/config/rules.h"
#include "server/config/tls.h"
#include "server/config/upkeep.h"
#include "server/config/yaml.h"

namespace hotline::server {
namespace {

// An answer of the largest body has to fit, and another beside it.
constexpr int64_t kLeastAnswerBytes = 8 << 20;

std::vector<std::string> ToVector(
    const google::protobuf::RepeatedPtrField<std::string>& in) {
  return {in.begin(), in.end()};
}

// Checks what several keys say together, and makes Settings of it. The config
// has its defaults.
class Resolver {
 public:
  Resolver(v1::Config* config, const ConfigLines& lines, int cores,
           const ConfigChecks& checks, ConfigFaults* faults,
           ConfigFaults* warnings)
      : config_(*config),
        lines_(lines),
        cores_(cores),
        faults_(*faults),
        warnings_(*warnings),
        report_{lines, faults, warnings},
        tls_(
            config, checks,
            [this](const std::string& path, const std::string& text) {
              Fault(path, text);
            },
            [this](const std::string& path, const std::string& text) {
              Warn(path, text);
            }) {}

  Settings Resolve() {
    ResolveListen();
    ResolvePool();
    ResolveUpstream();
    ResolveExecute();
    out_.rewarm = ResolveRewarm(config_.rewarm());
    ResolveSession();
    ResolvePolicy(config_.policy(), report_, &out_.policy);
    out_.overload_max_memory_bytes = config_.overload().max_memory_bytes();
    out_.overload_max_calls = config_.overload().max_calls();
    out_.overload_max_answer_bytes = config_.overload().max_answer_bytes();
    if (out_.overload_max_answer_bytes > 0 &&
        out_.overload_max_answer_bytes < kLeastAnswerBytes) {
      Fault("overload.max_answer_bytes",
            absl::StrCat("must be 0, or at least ", kLeastAnswerBytes));
    }
    for (int i = 0; i < config_.targets_size(); ++i) ResolveTarget(i);
    CheckWarmth();
    out_.log_level =
        ParseLogLevel(config_.log().level()).value_or(LogLevel::kInfo);
    out_.log_format =
        ParseLogFormat(config_.log().format()).value_or(LogFormat::kText);
    out_.metrics_max_targets = config_.metrics().max_targets();
    out_.shutdown_grace = FromProto(config_.shutdown_grace());
    out_.tunnel_idle_timeout = FromProto(config_.tunnel().idle_timeout());
    out_.effective_yaml = ToYaml(config_);
    return std::move(out_);
  }

 private:
  void Fault(const std::string& path, const std::string& text) {
    faults_.Add(LineOf(lines_, path), path, text);
  }
  void Warn(const std::string& path, const std::string& text) {
    warnings_.Add(LineOf(lines_, path), path, text);
  }
  bool Given(std::string_view path) const {
    return lines_.find(path) != lines_.end();
  }

  void ResolveListen() {
    v1::Listen& listen = *config_.mutable_listen();
    if (listen.grpc_size() == 0) {
      if (Given("listen.grpc")) {
        Fault("listen.grpc", "must name at least one address");
      }
      listen.add_grpc("127.0.0.1:50051");
    }
    std::set<std::string> seen;
    bool any_reachable = false;
    for (int i = 0; i < listen.grpc_size(); ++i) {
      const std::string& text = listen.grpc(i);
      const std::string path = absl::StrCat("listen.grpc[", i, "]");
      bool reachable = false;
      const std::string wrong = CheckGrpcListener(text, &reachable);
      if (!wrong.empty()) {
        Fault(path, wrong);
      } else if (reachable && !listen.insecure() && !listen.has_tls()) {
        Fault(path,
              absl::StrCat(text,
                           " can be reached from the network, without TLS and "
                           "without identity: use listen.tls, loopback or a "
                           "Unix socket, or allow it with listen.insecure: "
                           "true"));
      } else if (!text.ends_with(":0") && !seen.insert(text).second) {
        Fault(path, "given twice");
      }
      any_reachable = any_reachable || reachable;
    }
    ResolveFrontDoor(listen, any_reachable, report_, &out_.listen);
    if (!listen.has_http()) listen.set_http("127.0.0.1:9464");
    if (!listen.http().empty()) {
      const auto http = ParseSocketAddress(listen.http());
      if (!http) {
        Fault("listen.http",
              "must be a numeric address and a port such as 127.0.0.1:9464, or "
              "empty");
      } else if (seen.count(listen.http()) != 0) {
        Fault("listen.http", "is a gRPC listener's address");
      }
    }
    out_.grpc_listen = ToVector(listen.grpc());
    out_.http_listen = listen.http();
  }

  void ResolvePool() {
    v1::Pool& in = *config_.mutable_pool();
    if (!Given("pool.lease_ttl") &&
        FromProto(in.lease_ttl()) > FromProto(in.max_lease_ttl())) {
      *in.mutable_lease_ttl() = in.max_lease_ttl();
    }
    out_.lease_ttl = FromProto(in.lease_ttl());
    out_.max_lease_ttl = FromProto(in.max_lease_ttl());
    if (out_.lease_ttl > out_.max_lease_ttl) {
      Fault("pool.lease_ttl",
            absl::StrCat("must not be longer than pool.max_lease_ttl (",
                         FormatDuration(out_.max_lease_ttl), ")"));
    }
    if (Given("pool.max_connections_per_target") &&
        in.max_connections_per_target() > in.max_connections()) {
      Warn("pool.max_connections_per_target",
           absl::StrCat("more than pool.max_connections (",
                        in.max_connections(), "), which is what holds"));
    }
    // Four locks for each core keep two threads from meeting on one by chance.
    out_.pool.shards = in.shards() > 0
                           ? in.shards()
                           : static_cast<int>(std::bit_ceil<unsigned>(
                                 std::min(4 * cores_, 1024)));
    out_.pool.max_connections = in.max_connections();
    out_.pool.max_dials = in.max_dials();
    out_.pool.max_targets = in.max_targets();
    out_.pool.leak_after = FromProto(in.leak_after());

    pool::TargetConfig& target = out_.default_target.pool;
    target.max_connections = in.max_connections_per_target();
    target.max_waiters = in.max_waiters_per_target();
    target.max_dials = in.max_dials_per_target();
    target.idle_timeout = FromProto(in.idle_timeout());
    target.max_lifetime = FromProto(in.max_lifetime());
    target.check_interval = FromProto(in.check_interval());
    target.max_errors = in.max_errors();
    target.max_streams = in.max_streams_per_connection();
    ResolveUpkeep(in, &out_.default_target);
  }

  void ResolveUpstream() {
    const v1::Upstream& in = config_.upstream();
    UpstreamSettings& out = out_.upstream;
    out.loops = in.loops() > 0 ? in.loops() : std::max(1, cores_ / 2);
    out.ca_file = in.ca_file();
    out.connect_timeout = FromProto(in.connect_timeout());
    out.tcp_timeout = FromProto(in.tcp_timeout());
    out.tls_timeout = FromProto(in.tls_timeout());
    out.ping_after = FromProto(in.ping_after());
    out.ping_timeout = FromProto(in.ping_timeout());
    out.probe_timeout = FromProto(config_.pool().probe_timeout());
    out.max_header_bytes = in.max_header_bytes();
    out.dns_servers = ToVector(in.dns_servers());
    for (int i = 0; i < in.dns_servers_size(); ++i) {
      const auto server = ParseSocketAddress(in.dns_servers(i), 53);
      if (!server || server->port == 0) {
        Fault(absl::StrCat("upstream.dns_servers[", i, "]"),
              "must be a numeric address, with a port or without");
      }
    }
    ResolveAddresses(in, &out);
    out.egress_default_public = config_.egress().default_() == "public";
    out.egress_allow = ToVector(config_.egress().allow());
    out.egress_deny = ToVector(config_.egress().deny());
    CheckEgress("egress.allow", out.egress_allow);
    CheckEgress("egress.deny", out.egress_deny);
    tls_.ResolveProfiles(&out);
  }

  void ResolveAddresses(const v1::Upstream& in, UpstreamSettings* out) {
    out->eject_after = in.eject_after();
    out->eject_base = FromProto(in.eject_base());
    out->eject_max = FromProto(in.eject_max());
    out->address_grace = FromProto(in.address_grace());
    out->attempt_stagger = FromProto(in.attempt_stagger());
    out->source_addresses = ToVector(in.source_addresses());
    if (out->eject_max < out->eject_base) {
      Fault("upstream.eject_max",
            absl::StrCat("must not be shorter than upstream.eject_base (",
                         FormatDuration(out->eject_base), ")"));
    }
    constexpr int kMostSources = 256;
    if (in.source_addresses_size() > kMostSources) {
      Fault("upstream.source_addresses",
            absl::StrCat("must be at most ", kMostSources, ", not ",
                         in.source_addresses_size()));
    }
    for (int i = 0; i < in.source_addresses_size(); ++i) {
      if (IsIpAddress(in.source_addresses(i))) continue;
      Fault(absl::StrCat("upstream.source_addresses[", i, "]"),
            "must be a numeric address");
    }
  }

  void CheckEgress(const std::string& path,
                   const std::vector<std::string>& rules) {
    for (size_t i = 0; i < rules.size(); ++i) {
      const std::string wrong = CheckEgressRule(rules[i]);
      if (!wrong.empty()) Fault(absl::StrCat(path, "[", i, "]"), wrong);
    }
  }

  void ResolveExecute() {
    const v1::Execute& in = config_.execute();
    out_.execute.default_deadline = FromProto(in.default_deadline());
    out_.execute.max_body_bytes = in.max_body_bytes();
    out_.execute.max_attempts = in.max_attempts();
    out_.execute.retry_budget_percent = in.retry_budget_percent();
    out_.execute.forward_traceparent = in.forward_traceparent();
  }

  void ResolveSession() {
    const v1::Session& in = config_.session();
    out_.session.max_items_per_message = in.max_items_per_message();
    out_.session.max_items_in_flight = in.max_items_in_flight();
    out_.session.max_leases = in.max_leases();
    out_.session.max_buffered_bytes = in.max_buffered_bytes();
  }

  void ResolveTarget(int i) {
    v1::Target& in = *config_.mutable_targets(i);
    const std::string path = absl::StrCat("targets[", i, "]");
    TargetSettings out = out_.default_target;
    if (in.has_max_connections())
      out.pool.max_connections = in.max_connections();
    if (in.has_max_waiters()) out.pool.max_waiters = in.max_waiters();
    out.pool.warm = in.warm();
    ResolveUpkeep(in, &out);
    if (in.warm() > out.pool.max_connections) {
      Fault(path + ".warm",
            absl::StrCat("must be at most the target's max_connections (",
                         out.pool.max_connections, "), not ", in.warm()));
    }
    if (in.warm_max() > out.pool.max_connections) {
      Fault(path + ".warm_max",
            absl::StrCat("must be at most the target's max_connections (",
                         out.pool.max_connections, "), not ", in.warm_max()));
    }
    if (in.has_max_connections() &&
        in.max_connections() > out_.pool.max_connections) {
      Warn(path + ".max_connections",
           absl::StrCat("more than pool.max_connections (",
                        out_.pool.max_connections, "), which is what holds"));
    }
    if (in.has_validate())
      ResolveValidation(*in.mutable_validate(), path, &out);
    if (in.has_probe()) ResolveProbe(*in.mutable_probe(), path, &out);
    if (!in.proxy().empty()) ResolveProxy(in.proxy(), path, &out);

    ParsedTarget parsed;
    if (in.target().empty()) return Fault(path + ".target", "is required");
    if (const auto wrong = ParseTarget(in.target(), &parsed)) {
      return Fault(path + ".target", wrong->message);
    }
    if (parsed.raw) CheckRaw(in, path, out);
    tls_.ResolveTarget(in, path, Given(path + ".tls_profiles"), parsed.tls,
                       &out);
    const auto [first, added] =
        first_with_.emplace(parsed.canonical, path + ".target");
    if (!added) {
      return Fault(
          path + ".target",
          absl::StrCat(parsed.canonical, " is given twice (first in line ",
                       LineOf(lines_, first->second), ")"));
    }
    out_.targets.emplace(parsed.canonical, std::move(out));
  }

  // No request can be sent where the protocol is not known.
  void CheckRaw(const v1::Target& in, const std::string& path,
                const TargetSettings& out) {
    const std::pair<const char*, bool> wrong[] = {
        {".validate", in.has_validate()},
        {".probe", in.has_probe() && out.probe_is_asked_for},
    };
    for (const auto& [key, given] : wrong) {
      if (given) Fault(path + key, "only with https and http targets");
    }
  }

  void ResolveValidation(v1::Validation& in, const std::string& target_path,
                         TargetSettings* out) {
    const std::string path = target_path + ".validate";
    if (in.path().empty()) return Fault(path + ".path", "is required");
    CheckRequestPath(path + ".path", in.path());
    CheckRange(path, in.min_status(), in.max_status());
    out->validate = {.path = in.path(),
                     .method = in.method(),
                     .min_status = in.min_status(),
                     .max_status = in.max_status()};
  }

  void ResolveProbe(v1::Probe& in, const std::string& target_path,
                    TargetSettings* out) {
    const std::string path = target_path + ".probe";
    if (in.kind() != "http") {
      const std::pair<const char*, bool> others[] = {
          {".path", !in.path().empty()},
          {".min_status", in.has_min_status()},
          {".max_status", in.has_max_status()},
      };
      for (const auto& [key, given] : others) {
        if (!given) continue;
        Fault(path + key,
              absl::StrCat("has no meaning with kind: ", in.kind()));
      }
      out->probe_tcp_only = in.kind() == "tcp";
      out->pool.probe =
          in.kind() == "tcp" ? pool::ProbeKind::kTcp : pool::ProbeKind::kNone;
      return;
    }
    out->probe_is_asked_for =
        !in.path().empty() || in.has_min_status() || in.has_max_status();
    if (!in.path().empty()) {
      CheckRequestPath(path + ".path", in.path());
      out->probe.path = in.path();
    }
    if (!in.has_min_status() && !in.has_max_status()) return;
    if (!in.has_min_status()) in.set_min_status(100);
    if (!in.has_max_status()) in.set_max_status(599);
    CheckRange(path, in.min_status(), in.max_status());
    out->probe.min_status = in.min_status();
    out->probe.max_status = in.max_status();
  }

  void ResolveProxy(const std::string& text, const std::string& target_path,
                    TargetSettings* out) {
    ParsedTarget proxy;
    if (ParseTarget(text, &proxy) || proxy.tls || proxy.raw) {
      return Fault(target_path + ".proxy",
                   "must be http://host:port, with nothing after it");
    }
    out->proxy = proxy.canonical;
  }

  void CheckRequestPath(const std::string& path, const std::string& text) {
    const bool visible = std::all_of(text.begin(), text.end(), [](char c) {
      return c > ' ' && c < 0x7f && c != '#';
    });
    if (text[0] != '/' || !visible || text.size() > 2048) {
      Fault(path,
            "must start with \"/\" and have visible ASCII without \"#\" only, "
            "2048 bytes at most");
    }
  }

  void CheckRange(const std::string& path, int least, int most) {
    if (least > most) {
      Fault(path + ".min_status", absl::StrCat("must not be above max_status (",
                                               most, "), as ", least, " is"));
    }
  }

  void CheckWarmth() {
    int64_t warm = 0;
    for (const auto& [unused, target] : out_.targets) warm += target.pool.warm;
    if (warm > out_.pool.max_connections) {
      Warn("targets", absl::StrCat("warm connections add up to ", warm,
                                   ", more than pool.max_connections (",
                                   out_.pool.max_connections, ")"));
    }
  }

  v1::Config& config_;
  const ConfigLines& lines_;
  const int cores_;
  ConfigFaults& faults_;
  ConfigFaults& warnings_;
  const ConfigReport report_;
  TlsProfileRules tls_;
  Settings out_;
  std::map<std::string, std::string> first_with_;  // Target -> its path.
};

absl::Status Refuse(const ConfigFaults& faults) {
  return absl::InvalidArgumentError(absl::StrJoin(faults.Lines(), "\n"));
}

}  // namespace

const TargetSettings& Settings::ForTarget(std::string_view target) const {
  auto found = targets.find(target);
  if (found == targets.end() && !targets.empty()) {
    // A caller's dot at the end of a name must not lift a limit, nor lead past
    // a proxy.
    found = targets.find(OtherSpelling(target));
  }
  return found == targets.end() ? default_target : found->second;
}

pool::TargetConfig Settings::PoolFor(std::string_view target) const {
  pool::TargetConfig out = ForTarget(target).pool;
  // With TLS the upstream chooses the protocol: one connection will tell.
  out.expected_streams = target.starts_with("https://") ? 0 : 1;
  // A floor is kept for what was configured, as it is spelt there.
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
  YamlNode root;
  if (!ParseYaml(yaml, &root, &faults)) return Refuse(faults);
  v1::Config config;
  ConfigLines lines;
  FillFromYaml(root, &config, &lines, &faults);
  ApplyRules(&config, lines, &faults);
  // What several keys say together is looked at when each makes sense.
  if (!faults.empty()) return Refuse(faults);
  Settings settings =
      Resolver(&config, lines, cores, checks, &faults, &warnings).Resolve();
  if (!faults.empty()) return Refuse(faults);
  settings.warnings = warnings.Lines();
  return settings;
}

absl::StatusOr<Settings> LoadConfig(const std::string& path, int cores,
                                    const ConfigChecks& checks) {
  // One byte past the limit is enough to be refused for it.
  const auto text = ReadFile(path, (1 << 20) + 1);
  if (!text.ok()) return text.status();
  return ParseConfig(*text, path, cores, checks);
}

std::vector<std::string> WaitingForStart(const Settings& started,
                                         const Settings& now) {
  const std::pair<std::string_view, bool> keys[] = {
      {"listen", started.grpc_listen != now.grpc_listen ||
                     started.http_listen != now.http_listen ||
                     started.listen != now.listen},
      {"pool.shards", started.pool.shards != now.pool.shards},
      {"upstream.loops", started.upstream.loops != now.upstream.loops},
      {"upstream.dns_servers",
       started.upstream.dns_servers != now.upstream.dns_servers},
      {"metrics.max_targets",
       started.metrics_max_targets != now.metrics_max_targets},
  };
  std::vector<std::string> out;
  for (const auto& [key, changed] : keys) {
    if (changed) out.emplace_back(key);
  }
  return out;
}

Settings DefaultSettings(int cores) {
  return *ParseConfig("", "defaults", cores);
}

}  // namespace hotline::server
