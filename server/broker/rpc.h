// The RPCs of hotline.v1.Broker, as numbers.
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
};
inline constexpr std::array<std::string_view, 8> kRpcMethods = {
    "Acquire",       "Release", "Renew",  "Execute",
    "ExecuteStream", "Stats",   "Tunnel", "Session"};

// gRPC's status codes, 0 to 16.
inline constexpr int kGrpcCodes = 17;

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_RPC_H_
