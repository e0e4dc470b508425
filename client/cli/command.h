// What the commands share: the options of every command, and the run itself.
#ifndef HOTLINE_CLIENT_CLI_COMMAND_H_
#define HOTLINE_CLIENT_CLI_COMMAND_H_

#include <functional>
#include <memory>
#include <string>

#include "CLI/App.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/broker_client.h"
#include "client/cli/io.h"

namespace hotline::client {

// One run of the command line. The subcommand that was given leaves its work
// in `action`, which runs when everything has been parsed.
struct Run {
  Io& io;
  std::string address = "127.0.0.1:50051";
  TlsOptions tls = {};  // All empty: without TLS.
  std::string max_time = {};
  std::function<int()> action = {};

  // Where the broker is, and how to speak to it.
  BrokerClientOptions ClientOptions() const;
  // Nothing can be wrong with the options but the address and the files of
  // TLS; that is reported.
  absl::StatusOr<std::unique_ptr<BrokerClient>> Connect() const;

  // The timeout of the call: --max-time, or nothing.
  CallOptions Call() const;

  // Reports an error and returns its exit code.
  int Fail(const absl::Status& status) const;
  // The same for wrong usage.
  int FailUsage(const std::string& message) const;
};

// Each adds its subcommands.
void AddGet(CLI::App& app, Run& run);
void AddLeases(CLI::App& app, Run& run);
void AddStats(CLI::App& app, Run& run);
void AddHealth(CLI::App& app, Run& run);
void AddTunnel(CLI::App& app, Run& run);
void AddBench(CLI::App& app, Run& run);
void AddDocumentation(CLI::App& app, Run& run);

// Refuses what ParseDuration does not understand. An option with it is shown
// as taking a TIME.
CLI::Validator IsDuration();

// Reads "K: V", "K:" or "K;" (both: an empty value). False: it is none of them.
bool ParseHeader(const std::string& text, v1::Header* header);

// "Examples:" and lines for a subcommand's footer.
std::string Examples(const std::string& lines);

// Runs the command line. Returns the exit code.
int RunCommandLine(int argc, const char* const* argv, Io io);

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_CLI_COMMAND_H_
