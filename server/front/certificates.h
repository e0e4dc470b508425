// The certificates of TLS listeners, and their replacement while they run.
#ifndef HOTLINE_SERVER_FRONT_CERTIFICATES_H_
#define HOTLINE_SERVER_FRONT_CERTIFICATES_H_

#include <chrono>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "net/tls/server.h"
#include "server/front/options.h"

namespace hotline::server {

// Files change one after the other, and may be wrong. They are taken together,
// and only when they fit together. Connections that are open keep what they
// have.
//
// Thread safety: Refresh is for one thread at a time; the rest from any.
class Certificates {
 public:
  // Errors: INVALID_ARGUMENT or the system's, with the file's name.
  static absl::StatusOr<std::unique_ptr<Certificates>> Load(TlsFiles files);

  // For new connections. Callers must have a certificate of client_ca_file's.
  const net::TlsServerContextHolder& contexts() const { return contexts_; }

  // Takes what has changed; true when something has. Errors (as of Load) leave
  // the ones before in force.
  absl::StatusOr<bool> Refresh();

  std::chrono::system_clock::time_point expires() const {
    return std::chrono::system_clock::from_time_t(
        contexts_.current()->not_after());
  }

 private:
  Certificates(TlsFiles files, net::TlsServerPems pems,
               std::shared_ptr<const net::TlsServerContext> context)
      : files_(std::move(files)),
        pems_(std::move(pems)),
        contexts_(std::move(context)) {}

  const TlsFiles files_;
  net::TlsServerPems pems_;  // In force.
  net::TlsServerContextHolder contexts_;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_FRONT_CERTIFICATES_H_
