// Whether PEM files hold what they should. Sees OpenSSL, which is gRPC's.
#ifndef HOTLINE_SERVER_FRONT_KEY_PAIR_H_
#define HOTLINE_SERVER_FRONT_KEY_PAIR_H_

#include <chrono>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace hotline::server {

// The end of the first certificate's validity.
//
// Errors: INVALID_ARGUMENT when either is not PEM, or the key is not that of
// the first certificate.
absl::StatusOr<std::chrono::system_clock::time_point> CheckKeyPair(
    const std::string& certificates, const std::string& key);

// At least one certificate, nothing unreadable. Errors: INVALID_ARGUMENT.
absl::Status CheckAuthorities(const std::string& certificates);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_FRONT_KEY_PAIR_H_
