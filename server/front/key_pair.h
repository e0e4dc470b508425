// Checks the contents of PEM files. Uses the OpenSSL that gRPC links. Pure.
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

// Errors: INVALID_ARGUMENT unless there is at least one certificate and every
// one can be read.
absl::Status CheckAuthorities(const std::string& certificates);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_FRONT_KEY_PAIR_H_
