// Converts the broker's errors to gRPC statuses.
#ifndef HOTLINE_SERVER_FRONT_STATUS_H_
#define HOTLINE_SERVER_FRONT_STATUS_H_

#include "grpcpp/support/status.h"
#include "server/broker/error.h"

namespace hotline::server {

// Null becomes OK; an error carries the details of FillStatus.
grpc::Status ToStatus(const ErrorPtr& error);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_FRONT_STATUS_H_
