// The RPCs that policies speak of, as numbers.
#ifndef HOTLINE_SERVER_BROKER_RPC_H_
#define HOTLINE_SERVER_BROKER_RPC_H_

#include <array>
#include <cstdint>
#include <string_view>

namespace hotline::server {

enum class RpcMethod : uint8_t {
  kAcquire,
  kRelease,
  kRenew,
  kExecute,
  kExecuteStream,
  kStats,
  kTunnel,
  kSession,
  kWatchEvents,
  kAdmin,  // Any RPC of hotline.v1.Admin.
};
// Those of hotline.v1.Broker.
inline constexpr std::array<std::string_view, 9> kRpcMethods = {
    "Acquire", "Release", "Renew",   "Execute",    "ExecuteStream",
    "Stats",   "Tunnel",  "Session", "WatchEvents"};
// What a policy can name: those and kAdmin.
inline constexpr std::array<std::string_view, 10> kRuledMethods = {
    "Acquire", "Release", "Renew",   "Execute",     "ExecuteStream",
    "Stats",   "Tunnel",  "Session", "WatchEvents", "Admin"};

// gRPC's status codes, 0 to 16.
inline constexpr int kGrpcCodes = 17;

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_RPC_H_
