// The HTTP listener for operators: GET and HEAD of
//
//   /metrics   Prometheus text or OpenMetrics, by Accept; gzip by
//              Accept-Encoding
//   /healthz   200 "ok" while the process lives
//   /readyz    200 "ok", or 503 with the reasons, one per line
//   /          a status page, for this machine only: 404 for other peers, and
//              for names other than localhost in Host
//
// One thread serves it, apart from the data plane. Bounds: 256 connections,
// 8 KiB of request headers, no request body, 5 s to send a request, 30 s to
// read a response, and 100 requests and 60 s of idling per connection.
//
// Probes are answered under any load. The 257th connection replaces another: of
// the peer with the most connections, the one that has completed no request and
// read no response for longest. A page of /metrics is made once for all
// requests waiting for it, and other requests are served in between. Without a
// free descriptor, a connection is accepted on one of four spare ones.
//
// Thread safety: everything but Start may be called from any thread.
#ifndef HOTLINE_SERVER_OBSERVE_ADMIN_HTTP_H_
#define HOTLINE_SERVER_OBSERVE_ADMIN_HTTP_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/time.h"
#include "server/observe/metrics.h"

namespace hotline::server {

struct AdminHttpOptions {
  // "127.0.0.1:9464", "[::]:9464"; port 0 takes a free one.
  std::string address;
  // A socket that listens there already, which the listener takes over. -1:
  // none.
  int listening_fd = -1;

  // All are called on the listener's thread and may take milliseconds.
  std::function<std::string(MetricsFormat format)> metrics;
  // Why the process is not ready; empty if it is.
  std::function<std::vector<std::string>()> not_ready;
  // The status page, plain text.
  std::function<std::string()> status_page;

  int max_connections = 256;
  Duration read_timeout = std::chrono::seconds(5);
  Duration write_timeout = std::chrono::seconds(30);
  Duration idle_timeout = std::chrono::seconds(60);
  int max_requests_per_connection = 100;
};

class AdminHttp {
 public:
  // Binds and serves. Errors: INVALID_ARGUMENT for an address that does not
  // parse, UNAVAILABLE naming the address when it cannot be bound.
  static absl::StatusOr<std::unique_ptr<AdminHttp>> Start(
      AdminHttpOptions options);

  // Stops.
  ~AdminHttp();

  int port() const;
  // The socket that listens, for a process that takes it over; valid until
  // StopAccepting.
  int listening_fd() const;

  // Takes no more connections; open ones are closed after their next response.
  // Idempotent.
  void StopAccepting();

  // Closes every connection and joins the thread. Idempotent. Must not be
  // called from a callback.
  void Stop();

 private:
  class Impl;
  explicit AdminHttp(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_OBSERVE_ADMIN_HTTP_H_
