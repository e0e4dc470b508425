// The Tunnel RPC: what gRPC says to a tunnel, and the other way round.
#ifndef HOTLINE_SERVER_FRONT_TUNNEL_REACTOR_H_
#define HOTLINE_SERVER_FRONT_TUNNEL_REACTOR_H_

#include "grpcpp/support/server_callback.h"
#include "hotline/v1/broker.pb.h"
#include "server/broker/broker.h"
#include "server/broker/call_metrics.h"

namespace hotline::server {

using TunnelServerReactor =
    grpc::ServerBidiReactor<v1::TunnelRequest, v1::TunnelResponse>;

// Lives until gRPC is done with the call. The broker and the metrics must
// outlive it.
TunnelServerReactor* NewTunnelReactor(Broker* broker, RpcMetrics* metrics,
                                      CallContext context);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_FRONT_TUNNEL_REACTOR_H_
