// The options of the front; filled by config.
//
// Plain values.
#ifndef HOTLINE_SERVER_FRONT_OPTIONS_H_
#define HOTLINE_SERVER_FRONT_OPTIONS_H_

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "base/time.h"

namespace hotline::server {

// PEM files of a TLS listener. All are set, or none.
struct TlsFiles {
  std::string cert_file;  // Our certificate, then its chain.
  std::string key_file;
  std::string client_ca_file;  // Callers' certificates must chain to these.

  friend bool operator==(const TlsFiles&, const TlsFiles&) = default;
};

struct FrontDoorOptions {
  // "127.0.0.1:50051", "[::1]:0" (a free port), "unix:///path".
  std::vector<std::string> addresses;
  // The users and groups that may connect over Unix sockets. Both empty: every
  // process that can open the socket's file.
  std::vector<uint32_t> allowed_uids;
  std::vector<uint32_t> allowed_gids;
  // Limits on open connections: in total, and per peer, which is an address
  // without its port, or a uid. 0 per peer: no limit.
  int max_connections = 10'000;
  int max_connections_per_peer = 0;

  friend bool operator==(const FrontDoorOptions&,
                         const FrontDoorOptions&) = default;
};

struct FrontOptions {
  FrontDoorOptions door;
  // For addresses that can be reached from other machines. Empty: they are
  // served without TLS.
  TlsFiles tls;
  // From accepting a connection until its TLS and HTTP/2 handshakes are done.
  Duration handshake_timeout = std::chrono::seconds(3);
  // A connection that resets calls faster than this is closed.
  int max_resets_per_second = 1000;
  // Bytes of incomplete requests that all callers together may have in memory,
  // beyond what HTTP/2's windows allow each of them; 0: no limit.
  int64_t max_message_bytes = 0;

  friend bool operator==(const FrontOptions&, const FrontOptions&) = default;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_FRONT_OPTIONS_H_
