// Shared by `hotline tunnel` and `hotline forward`: how a tunnel is opened.
#ifndef HOTLINE_CLIENT_CLI_TUNNEL_H_
#define HOTLINE_CLIENT_CLI_TUNNEL_H_

#include <string>
#include <vector>

#include "CLI/App.hpp"
#include "absl/status/statusor.h"
#include "hotline/v1/broker.pb.h"

namespace hotline::client {

struct TunnelOptions {
  std::string target;
  std::string lease_id;
  std::string sni;
  std::string pool_group;
  std::string alpn;
  std::string idle_timeout;
  std::string upgrade;
  std::string path;
  std::vector<std::string> headers;
  bool receipt = false;
  bool raw = false;
};

// The first message. Errors: INVALID_ARGUMENT.
absl::StatusOr<v1::TunnelOpen> MakeOpen(const TunnelOptions& tunnel);

// The options of both commands: --sni, --pool-group, --alpn, --idle-timeout.
void AddTunnelOptions(CLI::App& command, TunnelOptions& tunnel);

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_CLI_TUNNEL_H_
