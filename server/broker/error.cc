#include "server/broker/error.h"

#include "absl/strings/str_cat.h"
#include "base/text.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "server/broker/proto_time.h"

namespace hotline::server {
namespace {

using pool::RejectReason;

// Error details must stay under 4 KiB in all: gRPC drops larger ones.
constexpr size_t kMostDialErrorBytes = 512;
constexpr size_t kMostWaitBytes = 3072;
constexpr size_t kMostEvents = 5;

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
    // Other callers' leases are listed without their names: their age alone
    // explains the wait.
    if (held.owner == owner) FillHolder(held.holder, row->mutable_holder());
    FillDuration(held.age, row->mutable_age());
  }
  error->wait = std::move(wait);
}

// As many as there is room for, the latest ones.
void AttachEvents(const std::string& target, uint64_t owner,
                  const EventLog& events, v1::WaitExplanation* wait) {
  for (const EventPtr& event : events.Recent(target, kMostEvents)) {
    v1::Event* const row = wait->add_recent_events();
    FillEvent(*event, {.owner = owner}, row);
    row->clear_target();
    row->clear_identity();
  }
  while (wait->recent_events_size() > 0 &&
         wait->ByteSizeLong() > kMostWaitBytes) {
    wait->mutable_recent_events()->DeleteSubrange(0, 1);
  }
}

// The rejection's reason; that of a failed dial is the dial's.
Reason ReasonOf(const pool::Rejection& rejection) {
  switch (rejection.reason) {
    case RejectReason::kDialFailed:
      // rooms_test checks that the dialer's reasons are in the table.
      return Reason::Find(rejection.dial_error.reason)
          .value_or(Reason("CONNECT_FAILED"));
    case RejectReason::kQueueFull:
      return "QUEUE_FULL";
    case RejectReason::kNoIdleConnection:
      return "NO_IDLE_CONNECTION";
    case RejectReason::kTooManyTargets:
      return "TOO_MANY_TARGETS";
    case RejectReason::kWontMakeDeadline:
      return "WONT_MAKE_DEADLINE";
    case RejectReason::kCircuitOpen:
      return "CIRCUIT_OPEN";
    case RejectReason::kWaitTimeout:
      return "WAIT_TIMEOUT";
    case RejectReason::kSuperseded:
      return "SUPERSEDED";
    case RejectReason::kIdConflict:
      return "REQUEST_ID_CONFLICT";
    case RejectReason::kDrained:
    case RejectReason::kShutdown:
      break;  // See DrainingError.
  }
  return "DRAINING";
}

std::string MessageOf(const std::string& target,
                      const pool::Rejection& rejection) {
  switch (rejection.reason) {
    case RejectReason::kDialFailed:
      return absl::StrCat(target, ": ", rejection.dial_error.message);
    case RejectReason::kQueueFull:
      return absl::StrCat(target, ": the wait queue is full");
    case RejectReason::kNoIdleConnection:
      return absl::StrCat(target, ": no connection is idle");
    case RejectReason::kTooManyTargets:
      return "no room for another target: see pool.max_targets";
    case RejectReason::kWontMakeDeadline:
      return absl::StrCat(target,
                          ": the wait for a connection would outlast the call");
    case RejectReason::kCircuitOpen:
      return absl::StrCat(target,
                          ": too many dials failed in a row; the last one: ",
                          rejection.last_dial_error);
    case RejectReason::kWaitTimeout:
      return absl::StrCat(target, ": ", WaitedFor(rejection.wait));
    case RejectReason::kSuperseded:
      return "a later Acquire or Release with the same request_id ended it";
    case RejectReason::kIdConflict:
      return "request_id is in use with other parameters";
    case RejectReason::kDrained:
      return absl::StrCat(target, ": drained by an operator");
    case RejectReason::kShutdown:
      break;
  }
  return "";
}

bool ExplainsWait(RejectReason reason) {
  return reason == RejectReason::kQueueFull ||
         reason == RejectReason::kWontMakeDeadline ||
         reason == RejectReason::kCircuitOpen ||
         reason == RejectReason::kWaitTimeout;
}

}  // namespace

ErrorPtr MakeError(Reason reason, std::string message) {
  return MakeError(reason.code(), reason, std::move(message));
}

ErrorPtr MakeError(absl::StatusCode code, Reason reason, std::string message) {
  auto error = std::make_unique<Error>();
  error->code = code;
  error->reason = reason.name();
  error->message = std::move(message);
  return error;
}

ErrorPtr FromInput(const InputError& input) {
  // rooms_test checks that the reasons of input errors are in the table.
  ErrorPtr error = MakeError(
      Reason::Find(input.reason).value_or(Reason("BAD_OPTION")), input.message);
  error->field = input.field;
  return error;
}

ErrorPtr FromLeaseStatus(pool::LeaseStatus status) {
  switch (status) {
    case pool::LeaseStatus::kEnded:
      return MakeError("LEASE_EXPIRED",
                       "the lease has been released or has expired");
    case pool::LeaseStatus::kNotYours:
      return MakeError("LEASE_NOT_YOURS",
                       "the lease was acquired by another identity");
    case pool::LeaseStatus::kOtherInstance:
      return MakeError("LEASE_OTHER_INSTANCE",
                       "the lease was made by another process");
    case pool::LeaseStatus::kBusy:
      return MakeError("LEASE_BUSY", "a call runs on the lease: one at a time");
    case pool::LeaseStatus::kOk:
    case pool::LeaseStatus::kUnknown:
      break;
  }
  return MakeError("LEASE_UNKNOWN", "there is no such lease");
}

ErrorPtr DrainingError() {
  ErrorPtr error = MakeError("DRAINING", "this process is shutting down");
  error->retry_after = std::chrono::seconds(1);
  return error;
}

ErrorPtr DrainedError() {
  ErrorPtr error = MakeError("DRAINING", "an operator drained this broker");
  error->retry_after = std::chrono::seconds(1);
  return error;
}

ErrorPtr FromRejection(const std::string& target,
                       const pool::Rejection& rejection, uint64_t owner,
                       const EventLog* events) {
  if (rejection.reason == RejectReason::kShutdown) return DrainingError();
  const Reason reason = ReasonOf(rejection);
  ErrorPtr error = MakeError(reason, MessageOf(target, rejection));
  if (reason.retry_later()) error->retry_after = rejection.retry_after;
  if (rejection.reason == RejectReason::kIdConflict) {
    error->field = "request_id";
  }
  if (ExplainsWait(rejection.reason)) {
    AttachWait(rejection, owner, error.get());
    if (events != nullptr) {
      AttachEvents(target, owner, *events, error->wait.get());
    }
  }
  return error;
}

void FillStatus(const Error& error, google::rpc::Status* out) {
  out->set_code(static_cast<int>(error.code));
  // It may quote an upstream, and callers print it unescaped.
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

void FillEvent(const Event& event, const EventView& view, v1::Event* out) {
  out->set_sequence(event.sequence);
  FillTimestamp(event.time, out->mutable_time());
  out->set_kind(event.kind);
  out->set_target(ToUtf8(event.target));
  out->set_reason(ToUtf8(std::string(event.reason)));
  out->set_connection_id(event.conn);
  out->set_address(ToUtf8(event.address));
  // It may quote an upstream, and readers print it unescaped.
  out->set_text(Printable(event.text));
  out->set_identity(ToUtf8(event.identity));
  if (event.holder != nullptr &&
      (view.all_leases || view.owner == event.owner)) {
    FillHolder(*event.holder, out->mutable_holder());
  }
  out->set_suppressed(event.suppressed);
}

}  // namespace hotline::server
