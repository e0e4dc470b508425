#include "server/front_options.h"

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
