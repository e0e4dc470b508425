// Shared by `hotline acquire` and `hotline exec`: how a lease is acquired.
#ifndef HOTLINE_CLIENT_CLI_LEASES_H_
#define HOTLINE_CLIENT_CLI_LEASES_H_

#include <string>

#include "CLI/App.hpp"
#include "client/cli/command.h"
#include "hotline/v1/broker.pb.h"

namespace hotline::client {

struct AcquireOptions {
  std::string target;
  std::string ttl;
  std::string max_wait;
  std::string client_id;
  std::string purpose;
  std::string request_id;
  std::string sni;
  std::string pool_group;
  std::string alpn;
  std::string tls_profile;
  std::string remote_ip;
  std::string source_ip;
  std::string output = "text";
  bool exclusive = false;
  bool no_wait = false;
  bool force_new = false;
  bool require_warm = false;
  bool receipt = false;
};

v1::AcquireRequest MakeAcquire(const AcquireOptions& acquire);

// All options of both commands, with TARGET.
void AddAcquireOptions(CLI::App& command, AcquireOptions& acquire);

// With --receipt: the connection and the wait, on standard error.
void ReportAcquired(const AcquireOptions& acquire,
                    const v1::AcquireResponse& answer, const Run& run);

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_CLI_LEASES_H_
