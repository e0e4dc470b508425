#include "server/broker/error.h"

#include "absl/strings/str_cat.h"
#include "base/text.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "server/broker/proto_time.h"

namespace hotline::server {
namespace {

using absl::StatusCode;

// Details stay under 4 KiB in all: larger ones are lost on the way.
constexpr size_t kMostDialErrorBytes = 512;

ErrorPtr FromDialError(const std::string& target,
                       const pool::Rejection& rejection) {
  const pool::DialError& dial = rejection.dial_error;
  StatusCode code = StatusCode::kUnavailable;
  switch (dial.failure_class) {
    case pool::FailureClass::kNetwork:
      break;
    case pool::FailureClass::kTls:
      // A handshake that was cut off may go well the next time; a certificate
      // that does not verify will not.
      if (std::string_view(dial.reason) != "TLS_FAILED") {
        code = StatusCode::kFailedPrecondition;
      }
      break;
    case pool::FailureClass::kValidation:
      code = StatusCode::kFailedPrecondition;
      break;
    case pool::FailureClass::kPolicy:
      code = StatusCode::kPermissionDenied;
      break;
  }
  ErrorPtr error =
      MakeError(code, dial.reason, absl::StrCat(target, ": ", dial.message));
  if (code == StatusCode::kUnavailable) {
    error->retry_after = rejection.retry_after;
  }
  return error;
}

std::string WaitedFor(const pool::WaitInfo& wait) {
  return absl::StrCat(
      "waited ",
      std::chrono::duration_cast<std::chrono::milliseconds>(wait.waited)
          .count(),
      " ms for a connection, held up by ", std::string(ToString(wait.limit)),
      wait.limit_value > 0 ? absl::StrCat(" (", wait.limit_value, ")") : "");
}

void AttachWait(const pool::Rejection& rejection, uint64_t owner,
                Error* error) {
  auto wait = std::make_unique<v1::WaitExplanation>();
  FillWait(rejection.wait, wait.get());
  wait->set_last_dial_error(
      Printable(CutUtf8(rejection.last_dial_error, kMostDialErrorBytes)));
  for (const pool::HeldFor& held : rejection.oldest_holders) {
    v1::HolderAge* row = wait->add_oldest_holders();
    // That somebody holds it, and for how long, is why the caller waits; who it
    // is, is between others.
    if (held.owner == owner) FillHolder(held.holder, row->mutable_holder());
    FillDuration(held.age, row->mutable_age());
  }
  error->wait = std::move(wait);
}

}  // namespace

ErrorPtr MakeError(StatusCode code, std::string reason, std::string message) {
  auto error = std::make_unique<Error>();
  error->code = code;
  error->reason = std::move(reason);
  error->message = std::move(message);
  return error;
}

ErrorPtr FromInput(const InputError& input) {
  ErrorPtr error =
      MakeError(StatusCode::kInvalidArgument, input.reason, input.message);
  error->field = input.field;
  return error;
}

ErrorPtr FromLeaseStatus(pool::LeaseStatus status) {
  switch (status) {
    case pool::LeaseStatus::kEnded:
      return MakeError(StatusCode::kNotFound, "LEASE_EXPIRED",
                       "the lease has been released or has run out");
    case pool::LeaseStatus::kNotYours:
      return MakeError(StatusCode::kPermissionDenied, "LEASE_NOT_YOURS",
                       "the lease was acquired by another identity");
    case pool::LeaseStatus::kOtherInstance:
      return MakeError(StatusCode::kFailedPrecondition, "LEASE_OTHER_INSTANCE",
                       "the lease was made by another process");
    case pool::LeaseStatus::kBusy:
      return MakeError(StatusCode::kFailedPrecondition, "LEASE_BUSY",
                       "a call runs on the lease: one at a time");
    case pool::LeaseStatus::kOk:
    case pool::LeaseStatus::kUnknown:
      break;
  }
  return MakeError(StatusCode::kNotFound, "LEASE_UNKNOWN",
                   "there is no such lease");
}

ErrorPtr FromRejection(const std::string& target,
                       const pool::Rejection& rejection, uint64_t owner) {
  using pool::RejectReason;
  ErrorPtr error;
  switch (rejection.reason) {
    case RejectReason::kDialFailed:
      return FromDialError(target, rejection);
    case RejectReason::kQueueFull:
      error = MakeError(StatusCode::kResourceExhausted, "QUEUE_FULL",
                        absl::StrCat(target, ": the wait queue is full"));
      error->retry_after = rejection.retry_after;
      AttachWait(rejection, owner, error.get());
      return error;
    case RejectReason::kNoIdleConnection:
      error = MakeError(StatusCode::kResourceExhausted, "NO_IDLE_CONNECTION",
                        absl::StrCat(target, ": no connection is idle"));
      error->retry_after = rejection.retry_after;
      return error;
    case RejectReason::kTooManyTargets:
      error = MakeError(StatusCode::kResourceExhausted, "TOO_MANY_TARGETS",
                        "no room for another target: see pool.max_targets");
      error->retry_after = rejection.retry_after;
      return error;
    case RejectReason::kWontMakeDeadline:
      error = MakeError(
          StatusCode::kResourceExhausted, "WONT_MAKE_DEADLINE",
          absl::StrCat(target,
                       ": the wait for a connection would outlast the call"));
      error->retry_after = rejection.retry_after;
      AttachWait(rejection, owner, error.get());
      return error;
    case RejectReason::kCircuitOpen:
      error = MakeError(
          StatusCode::kUnavailable, "CIRCUIT_OPEN",
          absl::StrCat(target,
                       ": its dials failed too often in a row; the last one: ",
                       rejection.last_dial_error));
      error->retry_after = rejection.retry_after;
      AttachWait(rejection, owner, error.get());
      return error;
    case RejectReason::kWaitTimeout:
      error = MakeError(StatusCode::kDeadlineExceeded, "WAIT_TIMEOUT",
                        absl::StrCat(target, ": ", WaitedFor(rejection.wait)));
      AttachWait(rejection, owner, error.get());
      return error;
    case RejectReason::kSuperseded:
      return MakeError(StatusCode::kAborted, "SUPERSEDED",
                       "the same request_id came again and took the place");
    case RejectReason::kIdConflict:
      error = MakeError(StatusCode::kInvalidArgument, "REQUEST_ID_CONFLICT",
                        "request_id is in use with other parameters");
      error->field = "request_id";
      return error;
    case RejectReason::kShutdown:
      break;
  }
  error = MakeError(StatusCode::kUnavailable, "DRAINING",
                    "this process is shutting down");
  error->retry_after = std::chrono::seconds(1);
  return error;
}

void FillStatus(const Error& error, google::rpc::Status* out) {
  out->set_code(static_cast<int>(error.code));
  // It may quote an upstream, and callers print it as it comes.
  out->set_message(Printable(error.message));
  google::rpc::ErrorInfo info;
  info.set_reason(ToUtf8(error.reason));
  info.set_domain("hotline");
  for (const auto& [key, value] : error.metadata) {
    (*info.mutable_metadata())[ToUtf8(key)] = ToUtf8(value);
  }
  out->add_details()->PackFrom(info);
  if (error.retry_after.has_value()) {
    google::rpc::RetryInfo retry;
    FillDuration(*error.retry_after, retry.mutable_retry_delay());
    out->add_details()->PackFrom(retry);
  }
  if (!error.field.empty()) {
    google::rpc::BadRequest bad;
    auto* violation = bad.add_field_violations();
    violation->set_field(ToUtf8(error.field));
    violation->set_description(out->message());
    out->add_details()->PackFrom(bad);
  }
  if (error.wait != nullptr) out->add_details()->PackFrom(*error.wait);
}

void FillWait(const pool::WaitInfo& wait, v1::WaitExplanation* out) {
  const std::string_view limit = ToString(wait.limit);
  out->set_limit(limit.data(), limit.size());
  out->set_limit_value(wait.limit_value);
  out->set_place(wait.place);
  out->set_dials_in_flight(wait.dials_in_flight);
}

void FillHolder(const pool::Holder& holder, v1::Holder* out) {
  out->set_client_id(ToUtf8(holder.client_id));
  out->set_purpose(ToUtf8(holder.purpose));
  out->set_trace(ToUtf8(holder.trace));
}

}  // namespace hotline::server
