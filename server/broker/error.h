// An error that Hotline answers with, before it becomes a gRPC status. Its
// reason is one of the table in reasons.h:
//
//   ErrorPtr error = MakeError("QUOTA", "the policy's max_leases is 3");
//   error->retry_after = std::chrono::seconds(1);
//
// Thread-compatible.
#ifndef HOTLINE_SERVER_BROKER_ERROR_H_
#define HOTLINE_SERVER_BROKER_ERROR_H_

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "base/time.h"
#include "hotline/v1/broker.pb.h"
#include "pool/pool.h"
#include "server/broker/event_log.h"
#include "server/broker/reasons.h"
#include "server/broker/validate.h"

namespace google::rpc {
class Status;
}  // namespace google::rpc

namespace hotline::server {

struct Error {
  absl::StatusCode code = absl::StatusCode::kInternal;
  std::string reason;  // Of the ErrorInfo: a name of the table of reasons.
  std::string message;
  std::vector<std::pair<std::string, std::string>> metadata;
  std::string field;                    // BadRequest, if not empty.
  std::optional<Duration> retry_after;  // RetryInfo.
  std::unique_ptr<v1::WaitExplanation> wait;
};

// Null: no error.
using ErrorPtr = std::unique_ptr<Error>;

// With the reason's own code.
ErrorPtr MakeError(Reason reason, std::string message);
// `code`: one of the two of a reason that has an other_code.
ErrorPtr MakeError(absl::StatusCode code, Reason reason, std::string message);

// The caller's input is invalid.
ErrorPtr FromInput(const InputError& input);

// A lease that cannot be used. REQUIRES: status is not kOk.
ErrorPtr FromLeaseStatus(pool::LeaseStatus status);

// The pool rejected an acquire for `target`. Of the oldest holders the error
// names only those whose leases belong to `owner`. An error that explains a
// wait has the target's last events, if there are `events`.
ErrorPtr FromRejection(const std::string& target,
                       const pool::Rejection& rejection, uint64_t owner = 0,
                       const EventLog* events = nullptr);

// This process is shutting down: UNAVAILABLE/DRAINING.
ErrorPtr DrainingError();
// UNAVAILABLE/DRAINING of a broker that an operator drained.
ErrorPtr DrainedError();

// The status that callers get: an ErrorInfo (domain "hotline") and, if the
// error has them, RetryInfo, BadRequest and WaitExplanation.
void FillStatus(const Error& error, google::rpc::Status* out);

// Fills everything but the holders and the last dial error.
void FillWait(const pool::WaitInfo& wait, v1::WaitExplanation* out);

void FillHolder(const pool::Holder& holder, v1::Holder* out);

// The leases whose holders a reader of events may know.
struct EventView {
  bool all_leases = false;
  uint64_t owner = 0;  // If not all: those of this owner.
};
void FillEvent(const Event& event, const EventView& view, v1::Event* out);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_ERROR_H_
