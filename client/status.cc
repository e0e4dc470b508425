#include "client/status.h"

#include <optional>
#include <string>
#include <utility>

#include "absl/strings/cord.h"
#include "base/text.h"
#include "client/broker_client.h"
#include "client/proto_time.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace hotline::client {
namespace {

constexpr char kDetailsUrl[] = "type.googleapis.com/google.rpc.Status";

}  // namespace

absl::Status MakeStatus(int code, std::string_view message,
                        std::string_view details) {
  const bool known = code >= 0 && code <= 16;
  absl::Status status(
      known ? static_cast<absl::StatusCode>(code) : absl::StatusCode::kUnknown,
      absl::string_view(message.data(), message.size()));
  if (!status.ok() && !details.empty()) {
    status.SetPayload(kDetailsUrl, absl::Cord(absl::string_view(
                                       details.data(), details.size())));
  }
  return status;
}

absl::Status LocalError(absl::StatusCode code, std::string_view reason,
                        std::string_view message, bool written) {
  google::rpc::Status status;
  status.set_code(static_cast<int>(code));
  status.set_message(ToUtf8(std::string(message)));
  google::rpc::ErrorInfo info;
  info.set_reason(reason.data(), reason.size());
  info.set_domain(kClientDomain);
  (*info.mutable_metadata())["written"] = written ? "true" : "false";
  status.add_details()->PackFrom(info);
  return MakeStatus(status.code(), message, status.SerializeAsString());
}

std::optional<ErrorInfo> GetErrorInfo(const absl::Status& status) {
  const auto payload = status.GetPayload(kDetailsUrl);
  if (!payload.has_value()) return std::nullopt;
  google::rpc::Status details;
  if (!details.ParseFromString(std::string(*payload))) return std::nullopt;
  ErrorInfo result;
  bool found = false;
  for (const google::protobuf::Any& any : details.details()) {
    google::rpc::ErrorInfo info;
    google::rpc::RetryInfo retry;
    google::rpc::BadRequest bad;
    v1::WaitExplanation wait;
    if (any.UnpackTo(&info)) {
      found = true;
      result.reason = info.reason();
      result.domain = info.domain();
      result.metadata.insert(info.metadata().begin(), info.metadata().end());
    } else if (any.UnpackTo(&retry)) {
      if (retry.has_retry_delay()) {
        result.retry_after = FromProto(retry.retry_delay());
      }
    } else if (any.UnpackTo(&bad)) {
      if (bad.field_violations_size() > 0) {
        result.field = bad.field_violations(0).field();
      }
    } else if (any.UnpackTo(&wait)) {
      result.wait = std::move(wait);
    }
  }
  if (!found) return std::nullopt;
  return result;
}

}  // namespace hotline::client
