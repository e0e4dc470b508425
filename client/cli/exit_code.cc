#include "client/cli/exit_code.h"

#include <optional>
#include <string_view>
#include <utility>

#include "client/broker_client.h"
#include "client/retry.h"

namespace hotline::client {
namespace {

// The reasons whose exit code differs from that of their status code.
constexpr std::pair<std::string_view, ExitCode> kByReason[] = {
    // UNAVAILABLE otherwise means a failed dial.
    {"DRAINING", kExitRefused},
    {"ADDRESS_BLOCKED", kExitRefused},
    {"CIRCUIT_OPEN", kExitRefused},
    // ABORTED otherwise means a broken connection.
    {"SUPERSEDED", kExitRefused},
    // FAILED_PRECONDITION otherwise means an upstream that failed its checks.
    {"LEASE_BUSY", kExitRefused},
    {"LEASE_NOT_EXCLUSIVE", kExitRefused},
    // A lease of a process that has ended.
    {"LEASE_OTHER_INSTANCE", kExitNotFound},
    // RESOURCE_EXHAUSTED otherwise means a limit of the broker's.
    {"RESPONSE_TOO_LARGE", kExitFailed},
};

bool FromBroker(const std::optional<ErrorInfo>& info) {
  return info.has_value() && info->domain == kErrorDomain;
}

}  // namespace

ExitCode ExitCodeFor(const absl::Status& status) {
  const std::optional<ErrorInfo> info = GetErrorInfo(status);
  if (FromBroker(info)) {
    for (const auto& [reason, code] : kByReason) {
      if (info->reason == reason) return code;
    }
  }
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kExitOk;
    case absl::StatusCode::kInvalidArgument:
      return kExitUsage;
    case absl::StatusCode::kUnavailable:
      return FromBroker(info) ? kExitUpstream : kExitUnreachable;
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
      return kExitRefused;
    case absl::StatusCode::kDeadlineExceeded:
      return kExitDeadline;
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kInternal:
      return FromBroker(info) ? kExitUpstream : kExitFailed;
    case absl::StatusCode::kNotFound:
      return kExitNotFound;
    default:
      return kExitFailed;
  }
}

}  // namespace hotline::client
