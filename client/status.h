// Converts gRPC statuses to absl's, including their details.
#ifndef HOTLINE_CLIENT_STATUS_H_
#define HOTLINE_CLIENT_STATUS_H_

#include <string_view>

#include "absl/status/status.h"

namespace hotline::client {

// A status with the given canonical code (0 is OK; unknown codes become
// UNKNOWN). `details` is a serialized google.rpc.Status, or empty.
absl::Status MakeStatus(int code, std::string_view message,
                        std::string_view details);

// The domain of errors made by the client.
inline constexpr char kClientDomain[] = "hotline.client";

// An error of that domain; `written`: whether the call may have reached the
// broker.
absl::Status LocalError(absl::StatusCode code, std::string_view reason,
                        std::string_view message, bool written);

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_STATUS_H_
