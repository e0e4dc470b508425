// The certificates of a TLS listener, and their replacement while it runs. Part
// of the gRPC front.
#ifndef HOTLINE_SERVER_FRONT_CERTIFICATES_H_
#define HOTLINE_SERVER_FRONT_CERTIFICATES_H_

#include <atomic>
#include <chrono>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "grpcpp/security/server_credentials.h"
#include "server/front/options.h"

namespace hotline::server {

// Files change one after the other, and may be wrong. So gRPC never reads them:
// they are read here, taken only when they fit together, and put before gRPC as
// a file in memory that is exchanged in one step. Connections that are open
// keep what they have.
//
// Thread-compatible but for expires().
class Certificates {
 public:
  // Errors: INVALID_ARGUMENT or the system's, with the file's name.
  static absl::StatusOr<std::unique_ptr<Certificates>> Load(TlsFiles files);

  ~Certificates();

  // TLS 1.2 or better; a caller without a certificate of client_ca_file's does
  // not get in.
  std::shared_ptr<grpc::ServerCredentials> credentials() const;

  // Takes what has changed; true when something has. New connections see it
  // within two seconds. Errors (as of Load) leave the ones before in force.
  absl::StatusOr<bool> Refresh();

  std::chrono::system_clock::time_point expires() const {
    return std::chrono::system_clock::time_point(
        std::chrono::system_clock::duration(expires_.load()));
  }

 private:
  struct Contents {
    std::string certificates;
    std::string key;
    std::string authorities;
    friend bool operator==(const Contents&, const Contents&) = default;
  };

  explicit Certificates(TlsFiles files) : files_(std::move(files)) {}
  absl::StatusOr<Contents> Read() const;
  absl::Status Take(Contents contents);

  const TlsFiles files_;
  Contents current_;
  // Files in memory, by descriptors whose numbers stay the same.
  int pair_ = -1;  // Key and certificates.
  int authorities_ = -1;
  std::atomic<int64_t> expires_{0};
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_FRONT_CERTIFICATES_H_
