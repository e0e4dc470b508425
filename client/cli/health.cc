// `hotline health`: the standard gRPC health check.
#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "client/cli/command.h"
#include "client/cli/exit_code.h"

namespace hotline::client {
namespace {

int RunHealth(const std::string& service, const Run& run) {
  auto client = run.Connect();
  if (!client.ok()) return run.Fail(client.status());
  const auto health = (*client)->CheckHealth(service, run.Call());
  if (!health.ok()) return run.Fail(health.status());
  switch (*health) {
    case Health::kServing:
      run.io.out << "SERVING\n";
      return kExitOk;
    case Health::kNotServing:
      run.io.out << "NOT_SERVING\n";
      return kExitFailed;
    case Health::kUnknownService:
      run.io.out << "SERVICE_UNKNOWN\n";
      return kExitFailed;
  }
  return kExitFailed;
}

}  // namespace

void AddHealth(CLI::App& app, Run& run) {
  auto service = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand(
      "health", "Check whether the broker serves; exit status 0 if so");
  command
      ->add_option("--service", *service,
                   "Check one service, such as hotline.v1.Broker (default: the "
                   "whole broker)")
      ->type_name("NAME");
  command->footer(
      Examples("  hotline health\n"
               "  hotline --address unix:///run/hotline/hotline.sock health "
               "--max-time 1\n"));
  command->final_callback([service, &run] {
    run.action = [service, &run] { return RunHealth(*service, run); };
  });
}

}  // namespace hotline::client
