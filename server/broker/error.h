// One shape for every error Hotline answers with, before it becomes a gRPC
// status (see status.h).
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
#include "server/broker/validate.h"

namespace google::rpc {
class Status;
}  // namespace google::rpc

namespace hotline::server {

struct Error {
  absl::StatusCode code = absl::StatusCode::kInternal;
  std::string reason;  // Of the ErrorInfo; one of the contract's words.
  std::string message;
  std::vector<std::pair<std::string, std::string>> metadata;
  std::string field;                    // BadRequest, when not empty.
  std::optional<Duration> retry_after;  // RetryInfo.
  std::unique_ptr<v1::WaitExplanation> wait;
};

// Null: no error.
using ErrorPtr = std::unique_ptr<Error>;

ErrorPtr MakeError(absl::StatusCode code, std::string reason,
                   std::string message);

// The caller's input is at fault.
ErrorPtr FromInput(const InputError& input);

// A lease that cannot be used. REQUIRES: status is not kOk.
ErrorPtr FromLeaseStatus(pool::LeaseStatus status);

// The pool did not serve an acquire for `target`. Of the oldest holders it
// names those whose leases are `owner`'s.
ErrorPtr FromRejection(const std::string& target,
                       const pool::Rejection& rejection, uint64_t owner = 0);

// As every caller sees it, over whatever channel: an ErrorInfo (domain
// "hotline") and, where it has them, RetryInfo, BadRequest and WaitExplanation.
void FillStatus(const Error& error, google::rpc::Status* out);

// Fills the explanation of a wait; the holders and the dial error may be empty.
void FillWait(const pool::WaitInfo& wait, v1::WaitExplanation* out);

void FillHolder(const pool::Holder& holder, v1::Holder* out);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_ERROR_H_
