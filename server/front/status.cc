#include "server/front/status.h"

#include "google/rpc/status.pb.h"

namespace hotline::server {

grpc::Status ToStatus(const ErrorPtr& error) {
  if (error == nullptr) return grpc::Status::OK;
  google::rpc::Status status;
  FillStatus(*error, &status);
  return grpc::Status(static_cast<grpc::StatusCode>(error->code),
                      status.message(), status.SerializeAsString());
}

}  // namespace hotline::server
