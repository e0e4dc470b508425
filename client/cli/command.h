// Shared by the commands: the options of every command, and the run itself.
#ifndef HOTLINE_CLIENT_CLI_COMMAND_H_
#define HOTLINE_CLIENT_CLI_COMMAND_H_

#include <functional>
#include <memory>
#include <string>

#include "CLI/App.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/broker_client.h"
#include "client/cli/format.h"
#include "client/cli/io.h"

namespace hotline::client {

// One run of the command line. The subcommand sets `action`, which runs once
// all arguments have been parsed.
struct Run {
  Io& io;
  std::string address = "127.0.0.1:50051";
  // The control plane's; always without TLS.
  std::string admin_address = "127.0.0.1:50052";
  TlsOptions tls = {};  // All empty: without TLS.
  std::string max_time = {};
  std::function<int()> action = {};

  // The address of the broker, and how to connect to it.
  BrokerClientOptions ClientOptions() const;
  // Errors: a bad address or an unreadable TLS file, already reported.
  absl::StatusOr<std::unique_ptr<BrokerClient>> Connect() const;

  // The options of a call, with the timeout of --max-time if it is given.
  CallOptions Call() const;

  // Reports an error and returns its exit code. `headers`: the request's, if
  // it had any, to name the one at fault.
  int Fail(const absl::Status& status, const Headers* headers = nullptr) const;
  // The same for wrong usage.
  int FailUsage(const std::string& message) const;
};

// Each function adds its subcommands.
void AddGet(CLI::App& app, Run& run);
void AddLeases(CLI::App& app, Run& run);
void AddStats(CLI::App& app, Run& run);
void AddTop(CLI::App& app, Run& run);
void AddHealth(CLI::App& app, Run& run);
void AddExec(CLI::App& app, Run& run);
void AddTunnel(CLI::App& app, Run& run);
void AddForward(CLI::App& app, Run& run);
void AddExplain(CLI::App& app, Run& run);
void AddEvents(CLI::App& app, Run& run);
void AddAdmin(CLI::App& app, Run& run);
void AddBench(CLI::App& app, Run& run);
void AddDocumentation(CLI::App& app, Run& run);

// Refuses text that ParseDuration does not accept. Shows the option's value as
// TIME.
CLI::Validator IsDuration();

// Parses "K: V", or "K:" or "K;" (an empty value). False: other text.
bool ParseHeader(const std::string& text, v1::Header* header);

// A subcommand's footer: "Examples:" and the lines.
std::string Examples(const std::string& lines);

// Runs the command line. Returns the exit code.
int RunCommandLine(int argc, const char* const* argv, Io io);

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_CLI_COMMAND_H_
