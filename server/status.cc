#include "server/status.h"

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "server/proto_time.h"

namespace hotline::server {

grpc::Status ToStatus(const ErrorPtr& error) {
  if (error == nullptr) return grpc::Status::OK;
  google::rpc::Status status;
  status.set_code(static_cast<int>(error->code));
  status.set_message(error->message);

  google::rpc::ErrorInfo info;
  info.set_reason(error->reason);
  info.set_domain("hotline");
  for (const auto& [key, value] : error->metadata) {
    (*info.mutable_metadata())[key] = value;
  }
  status.add_details()->PackFrom(info);
  if (error->retry_after.has_value()) {
    google::rpc::RetryInfo retry;
    FillDuration(*error->retry_after, retry.mutable_retry_delay());
    status.add_details()->PackFrom(retry);
  }
  if (!error->field.empty()) {
    google::rpc::BadRequest bad;
    auto* violation = bad.add_field_violations();
    violation->set_field(error->field);
    violation->set_description(error->message);
    status.add_details()->PackFrom(bad);
  }
  if (error->wait != nullptr) status.add_details()->PackFrom(*error->wait);
  return grpc::Status(static_cast<grpc::StatusCode>(error->code),
                      error->message, status.SerializeAsString());
}

}  // namespace hotline::server
