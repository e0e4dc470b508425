#include "server/daemon/front_options.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>

namespace hotline::server {
namespace {

// What the limit on descriptors leaves to callers' connections, of two each.
int ConnectionsFor(const Settings& settings) {
  constexpr int kOurs = 64;  // Listeners, loops, files.
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1;
  const int64_t left = static_cast<int64_t>(limit.rlim_cur) -
                       settings.pool.max_connections - kOurs;
  return static_cast<int>(std::clamp<int64_t>(left / 2, 8, 1'000'000));
}

}  // namespace

int64_t MemoryLimitOf(const Settings& settings) {
  if (settings.overload_max_memory_bytes > 0) {
    return settings.overload_max_memory_bytes;
  }
  // What the cgroup allows is more than what we can see of it: the kernel's
  // buffers count there, too.
  return CgroupMemoryLimit() / 4 * 3;
}

int64_t AnswerLimitOf(const Settings& settings) {
  if (settings.overload_max_answer_bytes > 0) {
    return settings.overload_max_answer_bytes;
  }
  // One answer has to fit, whatever else there is.
  const int64_t memory = MemoryLimitOf(settings);
  return memory == 0
             ? 0
             : std::max(memory / 4, 2 * settings.execute.max_body_bytes);
}

BrokerSettings BrokerSettingsOf(const Settings& settings) {
  BrokerSettings out;
  out.default_deadline = settings.execute.default_deadline;
  out.max_body_bytes = settings.execute.max_body_bytes;
  out.max_attempts = settings.execute.max_attempts;
  out.retry_budget_percent = settings.execute.retry_budget_percent;
  out.forward_traceparent = settings.execute.forward_traceparent;
  out.lease_ttl = settings.lease_ttl;
  out.max_lease_ttl = settings.max_lease_ttl;
  out.tunnel_idle_timeout = settings.tunnel_idle_timeout;
  const SessionSettings& session = settings.session;
  out.session = {.max_items_per_message = session.max_items_per_message,
                 .max_items_in_flight = session.max_items_in_flight,
                 .max_leases = session.max_leases,
                 .max_buffered_bytes = session.max_buffered_bytes};
  for (const std::string_view name : kBuiltInTlsProfiles) {
    out.tls_profiles.emplace(name);
  }
  for (const TlsProfileSettings& profile : settings.upstream.tls_profiles) {
    out.tls_profiles.insert(profile.name);
  }
  if (!settings.policy.allow_by_default || !settings.policy.rules.empty()) {
    out.policy = std::make_shared<const Policy>(settings.policy);
  }
  out.overload = {MemoryLimitOf(settings), settings.overload_max_calls};
  out.max_answer_bytes = AnswerLimitOf(settings);
  for (const auto& [target, mine] : settings.targets) {
    out.targets.insert(target);
    if (mine.cool_down == CoolDownSettings()) continue;
    out.cool_down.emplace(target, mine.cool_down);
    const std::string other = OtherSpelling(target);
    if (other.empty() || settings.targets.contains(other)) continue;
    out.cool_down.emplace(other, mine.cool_down);
  }
  return out;
}

GrpcServerOptions GrpcOptionsOf(const Settings& settings,
                                const Certificates* certificates) {
  const ListenSettings& in = settings.listen;
  GrpcServerOptions out;
  out.door.addresses = settings.grpc_listen;
  out.door.allowed_uids = in.allowed_uids;
  out.door.allowed_gids = in.allowed_gids;
  out.door.max_connections =
      in.max_connections > 0 ? in.max_connections : ConnectionsFor(settings);
  out.door.max_connections_per_peer = in.max_connections_per_peer;
  out.certificates = certificates;
  out.handshake_timeout = in.handshake_timeout;
  out.max_resets_per_second = in.max_resets_per_second;
  out.max_buffer_bytes = MemoryLimitOf(settings) / 4;
  return out;
}

FrontFigures FiguresOf(const Broker& broker, const GrpcServer* grpc,
                       const Certificates* certificates) {
  FrontFigures out;
  const FrontDoorCounts door =
      grpc != nullptr ? grpc->connections() : FrontDoorCounts();
  out.connections = door.connections;
  out.accepted = door.accepted;
  for (size_t i = 0; i < kRefusals.size(); ++i) {
    out.refused.emplace_back(kRefusals[i], door.refused[i]);
  }
  out.calls = broker.overload().calls();
  out.answer_bytes = broker.answers().used();
  out.answers_waiting = broker.answers().waiting();
  for (size_t i = 0; i < kSheds.size(); ++i) {
    out.shed.emplace_back(kSheds[i],
                          broker.overload().shed(static_cast<Shed>(i)));
  }
  for (size_t rpc = 0; rpc < kRpcMethods.size(); ++rpc) {
    for (size_t i = 0; i < kDenials.size(); ++i) {
      out.denied.push_back(
          {kRpcMethods[rpc], kDenials[i],
           broker.gatekeeper().denials(static_cast<RpcMethod>(rpc),
                                       static_cast<Denial>(i))});
    }
  }
  if (certificates != nullptr) {
    out.certificate_expires = static_cast<double>(
        std::chrono::system_clock::to_time_t(certificates->expires()));
  }
  return out;
}

}  // namespace hotline::server
