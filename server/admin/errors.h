// The errors of hotline.v1.Admin, and their way into gRPC. Part of service.
#ifndef HOTLINE_SERVER_ADMIN_ERRORS_H_
#define HOTLINE_SERVER_ADMIN_ERRORS_H_

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/support/status.h"
#include "server/broker/error.h"

namespace hotline::server {

inline grpc::Status ToGrpc(const ErrorPtr& error) {
  if (error == nullptr) return grpc::Status::OK;
  google::rpc::Status status;
  FillStatus(*error, &status);
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()),
                      status.message(), status.SerializeAsString());
}

inline ErrorPtr BadOption(const char* field, const std::string& message) {
  return FromInput({"BAD_OPTION", field, message});
}

inline ErrorPtr ShuttingDown() {
  return MakeError("DRAINING", "this process is shutting down");
}

inline ErrorPtr UnknownTarget(const std::string& target) {
  return MakeError("TARGET_UNKNOWN",
                   absl::StrCat("nothing was asked of ", target, " yet"));
}

// `status`: of a configuration that was not used.
inline ErrorPtr NotUsed(const absl::Status& status) {
  if (absl::IsUnavailable(status)) return ShuttingDown();
  return MakeError("CONFIG_REFUSED",
                   absl::StrReplaceAll(status.message(), {{"\n", "; "}}));
}

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_ADMIN_ERRORS_H_
