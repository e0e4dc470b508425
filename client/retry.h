// Whether and when a failed call is retried.
#ifndef HOTLINE_CLIENT_RETRY_H_
#define HOTLINE_CLIENT_RETRY_H_

#include <optional>
#include <string_view>

#include "absl/status/status.h"
#include "base/time.h"
#include "client/broker_client.h"
#include "hotline/v1/broker.pb.h"

namespace hotline::client {

// The domain of the broker's own errors.
inline constexpr std::string_view kErrorDomain = "hotline";

// The backoff before the next attempt; nullopt: do not retry.
//   status       how the last attempt failed
//   harmless     the call may be processed twice
//   attempts     made so far, at least 1
//   remaining    until the call's deadline
//   random       uniform in [0, 1)
std::optional<Duration> RetryPause(const absl::Status& status, bool harmless,
                                   int attempts, Duration remaining,
                                   double random, const RetryOptions& options);

// Whether the request may be processed twice without harm: by its method, or
// because it is marked idempotent.
bool HarmlessTwice(const v1::ExecuteRequest& request);

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_RETRY_H_
