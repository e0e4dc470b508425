// Everything about the control plane that can be configured; filled by config.
//
// Plain values.
#ifndef HOTLINE_SERVER_ADMIN_OPTIONS_H_
#define HOTLINE_SERVER_ADMIN_OPTIONS_H_

#include <cstdint>
#include <string>
#include <vector>

namespace hotline::server {

struct AdminOptions {
  // "127.0.0.1:50052", "[::1]:0" (a free port), "unix:///path". Empty: off.
  std::string address;
  // The users and groups that may connect over a Unix socket. Both empty: every
  // process that can open the socket's file.
  std::vector<uint32_t> allowed_uids;
  std::vector<uint32_t> allowed_gids;
  int max_connections = 64;

  friend bool operator==(const AdminOptions&, const AdminOptions&) = default;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_ADMIN_OPTIONS_H_
