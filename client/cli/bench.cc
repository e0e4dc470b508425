// `hotline bench`: puts load on a broker and measures its answers.
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "client/cli/bench_drivers.h"
#include "client/cli/bench_load.h"
#include "client/cli/bench_report.h"
#include "client/cli/command.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "client/cli/interrupt.h"

namespace hotline::client {
namespace {

struct BenchOptions {
  std::string what;
  std::string url;
  std::string over = "session";
  std::string duration;
  std::string output = "table";
  int concurrency = 64;
  int connections = 1;
  int64_t requests = 0;
  double rate = 0;
};

BenchPlan PlanOf(const BenchOptions& options) {
  BenchPlan plan;
  plan.concurrency = options.concurrency;
  plan.requests = options.requests;
  plan.rate = options.rate;
  if (!options.duration.empty()) {
    plan.duration = *ParseDuration(options.duration);
  } else if (options.requests == 0) {
    plan.duration = std::chrono::seconds(10);
  }
  return plan;
}

absl::StatusOr<std::vector<std::unique_ptr<BenchDriver>>> MakeDrivers(
    const BenchOptions& options, const Run& run) {
  const BrokerClientOptions client = run.ClientOptions();
  BenchCallOptions call;
  call.what =
      options.what == "acquire" ? BenchWhat::kAcquire : BenchWhat::kExecute;
  call.url = options.url;
  call.timeout = run.Call().timeout.value_or(client.default_timeout);
  std::vector<std::unique_ptr<BenchDriver>> drivers;
  for (int i = 0; i < options.connections; ++i) {
    auto driver = options.over == "unary" ? UnaryDriver(client, call)
                                          : SessionDriver(client, call);
    if (!driver.ok()) return driver.status();
    drivers.push_back(*std::move(driver));
  }
  return drivers;
}

int RunBench(const BenchOptions& options, const Run& run) {
  auto drivers = MakeDrivers(options, run);
  if (!drivers.ok()) return run.Fail(drivers.status());
  std::vector<BenchDriver*> pointers;
  for (const auto& driver : *drivers) pointers.push_back(driver.get());
  BenchResult result;
  {
    const Interruptible interruptible;
    BenchLoad load(PlanOf(options), pointers);
    BenchResult before;
    result = load.Run(interruptible.flag(), [&](const BenchResult& now) {
      if (!run.io.terminal_err) return;
      run.io.err << "\r\033[K" << BenchLine(now, before) << std::flush;
      before = now;
    });
    // Cancels the operations in flight before `load` is destroyed.
    drivers->clear();
  }
  if (run.io.terminal_err) run.io.err << "\r\033[K";
  const BenchTitle title{options.what, options.over, options.concurrency,
                         options.connections, options.rate};
  run.io.out << (options.output == "json" ? BenchJson(title, result)
                                          : BenchTable(title, result));
  if (result.ok() == 0 && !result.first_error.ok()) {
    return run.Fail(result.first_error);
  }
  return kExitOk;
}

void AddLoadOptions(CLI::App& command, BenchOptions& options) {
  command
      .add_option("-c,--concurrency", options.concurrency,
                  "Operations in flight over all connections")
      ->type_name("N")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  command
      .add_option("--connections", options.connections,
                  "Connections to the broker, over which the operations are "
                  "spread evenly")
      ->type_name("N")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command
      .add_option(
          "-d,--duration", options.duration,
          "How long to measure (default: 10s, unless --requests is given)")
      ->type_name("TIME")
      ->check(IsDuration());
  command
      .add_option("-n,--requests", options.requests,
                  "Total number of operations")
      ->type_name("N")
      ->check(CLI::Range(int64_t{1}, int64_t{1'000'000'000'000}));
  command
      .add_option("--rate", options.rate,
                  "Operations to start per second, however long they take; "
                  "latency is measured from when each was due (default: the "
                  "next starts when one ends)")
      ->type_name("N")
      ->check(CLI::Range(0.001, 1e7));
}

}  // namespace

void AddBench(CLI::App& app, Run& run) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* command =
      app.add_subcommand("bench", "Load a broker and measure its latency");
  command
      ->add_option("what", options->what, "acquire (and release), or execute")
      ->required()
      ->type_name("")
      ->check(CLI::IsMember({"acquire", "execute"}));
  command
      ->add_option("url", options->url,
                   "The URL to GET; for acquire, the target")
      ->required()
      ->type_name("URL");
  command
      ->add_option("--over", options->over,
                   "unary calls, or items of a session")
      ->type_name("")
      ->check(CLI::IsMember({"unary", "session"}))
      ->capture_default_str();
  AddLoadOptions(*command, *options);
  command
      ->add_option("--output", options->output,
                   "table: for people. json: for scripts")
      ->type_name("")
      ->check(CLI::IsMember({"table", "json"}))
      ->capture_default_str();
  command->footer(
      "--max-time applies to each operation. Failed operations are not retried "
      "but counted by reason. Ctrl-C ends the run early and prints the results "
      "so far.\n\n" +
      Examples("  hotline bench acquire https://api.example.com\n"
               "  hotline bench execute https://api.example.com/health --over "
               "unary -c 16 -d 30s\n"
               "  hotline bench execute https://api.example.com/health --rate "
               "2000 --output json\n"));
  command->final_callback([options, &run] {
    run.action = [options, &run] { return RunBench(*options, run); };
  });
}

}  // namespace hotline::client
