#include "client/cli/exit_code.h"

#include <optional>

#include "client/broker_client.h"
#include "client/retry.h"

namespace hotline::client {
namespace {

// FAILED_PRECONDITION means a lease that does not fit as well as an upstream
// that failed its checks.
ExitCode ForPrecondition(const std::optional<ErrorInfo>& info) {
  if (!info.has_value()) return kExitFailed;
  return info->reason.compare(0, 6, "LEASE_") == 0 ? kExitRefused
                                                   : kExitUpstream;
}

}  // namespace

ExitCode ExitCodeFor(const absl::Status& status) {
  const std::optional<ErrorInfo> info = GetErrorInfo(status);
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kExitOk;
    case absl::StatusCode::kInvalidArgument:
      return kExitUsage;
    case absl::StatusCode::kUnavailable:
      return info.has_value() && info->domain == kErrorDomain
                 ? kExitUpstream
                 : kExitUnreachable;
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
      return kExitRefused;
    case absl::StatusCode::kDeadlineExceeded:
      return kExitDeadline;
    case absl::StatusCode::kFailedPrecondition:
      return ForPrecondition(info);
    case absl::StatusCode::kAborted:
      return kExitUpstream;
    case absl::StatusCode::kInternal:
      return info.has_value() ? kExitUpstream : kExitFailed;
    case absl::StatusCode::kNotFound:
      return kExitNotFound;
    default:
      return kExitFailed;
  }
}

}  // namespace hotline::client
