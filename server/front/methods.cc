// Which call serves which method.
#include <cstddef>

#include "server/front/caller_connection.h"
#include "server/front/front_loop.h"
#include "server/front/reflection.h"
#include "server/front/server_call.h"

namespace hotline::server {
namespace {

constexpr std::string_view kBroker = "hotline.v1.Broker";
constexpr std::string_view kHealth = "grpc.health.v1.Health";

ServerCall* NewBrokerCall(const CallOrigin& origin) {
  size_t i = 0;
  while (i < kRpcMethods.size() && kRpcMethods[i] != origin.request.method) {
    ++i;
  }
  if (i == kRpcMethods.size()) return nullptr;
  const auto method = static_cast<RpcMethod>(i);
  switch (method) {
    case RpcMethod::kExecuteStream:
      return NewExecuteStreamCall(origin);
    case RpcMethod::kTunnel:
      return NewTunnelCall(origin);
    case RpcMethod::kSession:
      return NewSessionCall(origin);
    case RpcMethod::kWatchEvents:
      return NewWatchEventsCall(origin);
    default:
      return NewUnaryCall(method, origin);
  }
}

}  // namespace

ServerCall* NewServerCall(const CallOrigin& origin) {
  const std::string_view service = origin.request.service;
  const std::string_view method = origin.request.method;
  if (service == kBroker) return NewBrokerCall(origin);
  if (service == kHealth) {
    if (method == "Check") return NewHealthCheckCall(origin);
    if (method == "Watch") return NewHealthWatchCall(origin);
    return nullptr;
  }
  if (service == kReflectionV1 || service == kReflectionV1Alpha) {
    return method == "ServerReflectionInfo" ? NewReflectionCall(origin)
                                            : nullptr;
  }
  const CallFactory further =
      origin.connection->home().parts().further_services;
  return further == nullptr ? nullptr : further(origin);
}

}  // namespace hotline::server
