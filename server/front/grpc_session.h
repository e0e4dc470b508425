// A session over gRPC: a reactor that only translates.
#ifndef HOTLINE_SERVER_FRONT_GRPC_SESSION_H_
#define HOTLINE_SERVER_FRONT_GRPC_SESSION_H_

#include "grpcpp/support/server_callback.h"
#include "hotline/v1/broker.grpc.pb.h"
#include "server/broker/broker.h"
#include "server/broker/call_metrics.h"

namespace hotline::server {

// Lives until gRPC is done with it. The broker and the metrics must outlive it.
grpc::ServerBidiReactor<v1::SessionRequest, v1::SessionResponse>* NewSession(
    CallContext context, Broker* broker, RpcMetrics* metrics);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_FRONT_GRPC_SESSION_H_
