#include "server/config/target.h"

#include <algorithm>
#include <bit>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/url.h"
#include "server/broker/proto_time.h"
#include "server/config/values.h"

namespace hotline::server {
namespace {

std::string MoreThanThePool(const Settings& settings) {
  return absl::StrCat("more than pool.max_connections (",
                      settings.pool.max_connections,
                      "), which is the limit that applies");
}

void CheckRequestPath(const ConfigReport& report, const std::string& path,
                      const std::string& text) {
  const bool visible = std::all_of(text.begin(), text.end(), [](char c) {
    return c > ' ' && c < 0x7f && c != '#';
  });
  if (text[0] == '/' && visible && text.size() <= 2048) return;
  report.Fault(path,
               "must start with \"/\" and have visible ASCII without \"#\" "
               "only, 2048 bytes at most");
}

void CheckRange(const ConfigReport& report, const std::string& path, int least,
                int most) {
  if (least <= most) return;
  report.Fault(path + ".min_status",
               absl::StrCat("must not be above max_status (", most, "), as ",
                            least, " is"),
               {path + ".max_status"});
}

void ResolveValidation(const v1::Validation& in, const std::string& path,
                       const ConfigReport& report, upstream::Check* out) {
  if (in.path().empty()) return report.Fault(path + ".path", "is required");
  CheckRequestPath(report, path + ".path", in.path());
  CheckRange(report, path, in.min_status(), in.max_status());
  *out = {.path = in.path(),
          .method = in.method(),
          .min_status = in.min_status(),
          .max_status = in.max_status()};
}

void ResolveProbe(v1::Probe* probe, const std::string& path,
                  const ConfigReport& report, TargetSettings* out) {
  const v1::Probe& in = *probe;
  out->pool.probe_fall = in.fall();
  out->pool.probe_rise = in.rise();
  const std::pair<const char*, bool> given[] = {
      {".path", !in.path().empty()},
      {".min_status", in.has_min_status()},
      {".max_status", in.has_max_status()},
  };
  if (in.kind() != "http") {
    for (const auto& [key, is_given] : given) {
      if (!is_given) continue;
      report.Fault(path + key,
                   absl::StrCat("has no meaning with kind: ", in.kind()),
                   {path + ".kind"});
    }
    const bool tcp = in.kind() == "tcp";
    out->upstream.probe_tcp_only = tcp;
    out->pool.probe = tcp ? pool::ProbeKind::kTcp : pool::ProbeKind::kNone;
    return;
  }
  for (const auto& [key, is_given] : given) {
    if (is_given) out->upstream.probe_is_asked_for = true;
  }
  if (!in.path().empty()) {
    CheckRequestPath(report, path + ".path", in.path());
    out->upstream.probe.path = in.path();
  }
  if (!in.has_min_status() && !in.has_max_status()) return;
  if (!in.has_min_status()) probe->set_min_status(100);
  if (!in.has_max_status()) probe->set_max_status(599);
  CheckRange(report, path, in.min_status(), in.max_status());
  out->upstream.probe.min_status = in.min_status();
  out->upstream.probe.max_status = in.max_status();
}

// What the target sets of the pool's numbers.
void ResolveNumbers(const v1::Target& in, const std::string& path,
                    const ConfigReport& report, const Settings& settings,
                    pool::TargetConfig* out) {
  if (in.has_max_connections()) out->max_connections = in.max_connections();
  if (in.has_max_waiters()) out->max_waiters = in.max_waiters();
  out->warm = in.warm();
  out->warm_max = in.warm_max();
  out->deadline_admission = in.deadline_admission();
  if (in.has_desync_limit()) out->desync_limit = in.desync_limit();
  if (in.has_breaker_failures()) out->breaker_failures = in.breaker_failures();
  if (in.has_breaker_open_for()) {
    out->breaker_open_for = FromProto(in.breaker_open_for());
  }
  for (const auto& [key, floor] :
       {std::pair(".warm", in.warm()), std::pair(".warm_max", in.warm_max())}) {
    if (floor <= out->max_connections) continue;
    report.Fault(
        path + key,
        absl::StrCat("must be at most the target's max_connections (",
                     out->max_connections, "), not ", floor),
        {path + ".max_connections", "pool.max_connections_per_target"});
  }
  if (in.has_max_connections() &&
      in.max_connections() > settings.pool.max_connections) {
    report.Warn(path + ".max_connections", MoreThanThePool(settings));
  }
}

TargetSettings ResolveTarget(v1::Target* target, const std::string& path,
                             const ConfigReport& report,
                             const Settings& settings) {
  const v1::Target& in = *target;
  TargetSettings out = settings.default_target;
  ResolveNumbers(in, path, report, settings, &out.pool);
  out.ready_when_warm = in.ready_when_warm();
  if (in.has_cool_down()) {
    const v1::CoolDown& cool = in.cool_down();
    out.cool_down = {
        .statuses = {cool.statuses().begin(), cool.statuses().end()},
        .retry_after = cool.retry_after(),
        .length = FromProto(cool.length()),
        .max_length = FromProto(cool.max_length())};
  }
  if (in.has_validate()) {
    ResolveValidation(in.validate(), path + ".validate", report,
                      &out.upstream.validate);
  }
  if (in.has_probe()) {
    ResolveProbe(target->mutable_probe(), path + ".probe", report, &out);
  }
  if (!in.proxy().empty()) {
    ParsedTarget proxy;
    if (ParseTarget(in.proxy(), &proxy) || proxy.tls || proxy.raw) {
      report.Fault(path + ".proxy",
                   "must be http://host:port, with nothing after it");
    }
    out.upstream.proxy = proxy.canonical;
  }
  return out;
}

// Where the protocol is unknown, no request can be sent.
void CheckRaw(const v1::Target& in, const std::string& path,
              const TargetSettings& out, const ConfigReport& report) {
  const std::pair<const char*, bool> wrong[] = {
      {".validate", in.has_validate()},
      {".probe", in.has_probe() && out.upstream.probe_is_asked_for},
  };
  for (const auto& [key, given] : wrong) {
    if (given) report.Fault(path + key, "only with https and http targets");
  }
}

void CheckWarmth(const ConfigReport& report, const Settings& settings) {
  int64_t warm = 0;
  for (const auto& [unused, target] : settings.targets) {
    warm += target.pool.warm;
  }
  if (warm <= settings.pool.max_connections) return;
  report.Warn("targets", absl::StrCat("warm connections add up to ", warm,
                                      ", more than pool.max_connections (",
                                      settings.pool.max_connections, ")"));
}

// The settings of a target without its own.
void ResolveDefaultTarget(const v1::Pool& in, pool::TargetConfig* out) {
  out->max_connections = in.max_connections_per_target();
  out->max_waiters = in.max_waiters_per_target();
  out->max_dials = in.max_dials_per_target();
  out->idle_timeout = FromProto(in.idle_timeout());
  out->max_lifetime = FromProto(in.max_lifetime());
  out->check_interval = FromProto(in.check_interval());
  out->max_errors = in.max_errors();
  out->max_streams = in.max_streams_per_connection();
  out->breaker_failures = in.breaker_failures();
  out->breaker_open_for = FromProto(in.breaker_open_for());
  out->desync_limit = in.desync_limit();
}

}  // namespace

void ResolvePool(v1::Pool* pool, int cores, const ConfigReport& report,
                 Settings* out) {
  const v1::Pool& in = *pool;
  if (!report.Given("pool.lease_ttl") &&
      FromProto(in.lease_ttl()) > FromProto(in.max_lease_ttl())) {
    *pool->mutable_lease_ttl() = in.max_lease_ttl();
  }
  out->broker.lease_ttl = FromProto(in.lease_ttl());
  out->broker.max_lease_ttl = FromProto(in.max_lease_ttl());
  if (out->broker.lease_ttl > out->broker.max_lease_ttl) {
    report.Fault("pool.lease_ttl",
                 absl::StrCat("must not be longer than pool.max_lease_ttl (",
                              FormatDuration(out->broker.max_lease_ttl), ")"),
                 {"pool.max_lease_ttl"});
  }
  // Four locks per core, so that two threads rarely meet at one.
  out->pool.shards = in.shards() > 0 ? in.shards()
                                     : static_cast<int>(std::bit_ceil<unsigned>(
                                           std::min(4 * cores, 1024)));
  out->pool.max_connections = in.max_connections();
  out->pool.max_dials = in.max_dials();
  out->pool.max_targets = in.max_targets();
  out->pool.leak_after = FromProto(in.leak_after());
  if (report.Given("pool.max_connections_per_target") &&
      in.max_connections_per_target() > in.max_connections()) {
    report.Warn("pool.max_connections_per_target", MoreThanThePool(*out));
  }
  ResolveDefaultTarget(in, &out->default_target.pool);
}

RewarmSettings ResolveRewarm(const v1::Rewarm& in) {
  return {.file = in.file(),
          .interval = FromProto(in.interval()),
          .dials_per_second = in.dials_per_second(),
          .patience = FromProto(in.patience()),
          .ready_when_warm = in.ready_when_warm()};
}

void ResolveTargets(v1::Config* config, const ConfigReport& report,
                    const TlsProfileRules& tls, Settings* out) {
  std::map<std::string, std::string> first_with;  // Target -> its path.
  for (int i = 0; i < config->targets_size(); ++i) {
    v1::Target* const in = config->mutable_targets(i);
    const std::string path = absl::StrCat("targets[", i, "]");
    TargetSettings settings = ResolveTarget(in, path, report, *out);
    ParsedTarget parsed;
    if (in->target().empty()) {
      report.Fault(path + ".target", "is required");
      continue;
    }
    if (const auto wrong = ParseTarget(in->target(), &parsed)) {
      report.Fault(path + ".target", wrong->message);
      continue;
    }
    if (parsed.raw) CheckRaw(*in, path, settings, report);
    tls.ResolveTarget(*in, path, parsed.tls, &settings.upstream.tls_profiles);
    const auto [first, added] =
        first_with.emplace(parsed.canonical, path + ".target");
    if (!added) {
      report.Fault(
          path + ".target",
          absl::StrCat(parsed.canonical, " is given twice (first in line ",
                       PlaceOf(report.source.places, first->second).line, ")"));
    }
    out->targets.emplace(parsed.canonical, std::move(settings));
  }
  CheckWarmth(report, *out);
}

}  // namespace hotline::server
