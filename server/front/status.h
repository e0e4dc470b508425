// From our errors to gRPC's statuses.
#ifndef HOTLINE_SERVER_FRONT_STATUS_H_
#define HOTLINE_SERVER_FRONT_STATUS_H_

#include "grpcpp/support/status.h"
#include "server/broker/error.h"

namespace hotline::server {

// Null becomes OK; everything else carries what FillStatus says.
grpc::Status ToStatus(const ErrorPtr& error);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_FRONT_STATUS_H_
