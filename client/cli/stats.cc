// `hotline stats`.
#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/command.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "client/cli/interrupt.h"
#include "client/cli/json.h"
#include "client/cli/read_stats.h"
#include "client/cli/stats_table.h"

namespace hotline::client {
namespace {

constexpr Duration kShortestInterval = std::chrono::milliseconds(100);

struct StatsOptions {
  std::string view = "targets";
  std::string target;
  std::string sort;
  std::string output = "table";
  std::string interval = "1s";
  int64_t count = 0;  // 0: no limit.
  bool watch = false;
};

v1::StatsView ViewOf(const std::string& name) {
  if (name == "summary") return v1::STATS_VIEW_SUMMARY;
  if (name == "connections") return v1::STATS_VIEW_CONNECTIONS;
  if (name == "leases") return v1::STATS_VIEW_LEASES;
  return v1::STATS_VIEW_TARGETS;
}

// The keys of all views.
std::vector<std::string> AllSortKeys() {
  std::vector<std::string> all;
  for (const char* view : {"targets", "connections", "leases"}) {
    for (std::string& key : SortKeys(ViewOf(view))) {
      if (std::find(all.begin(), all.end(), key) == all.end()) {
        all.push_back(std::move(key));
      }
    }
  }
  return all;
}

int Show(const StatsOptions& options, const v1::StatsRequest& request,
         BrokerClient& client, const Run& run) {
  auto stats = ReadStats(client, request, run.Call());
  if (!stats.ok()) return run.Fail(stats.status());
  if (!options.sort.empty()) SortRows(request.view(), options.sort, &*stats);
  if (options.watch && run.io.terminal_out) run.io.out << "\033[H\033[J";
  const Duration now = std::chrono::system_clock::now().time_since_epoch();
  run.io.out << (options.output == "json" ? FormatJson(*stats)
                                          : FormatStats(*stats, request.view(),
                                                        now, run.io.color_out))
             << std::flush;
  return kExitOk;
}

int Watch(const StatsOptions& options, const v1::StatsRequest& request,
          BrokerClient& client, const Run& run) {
  const Duration interval =
      std::max(*ParseDuration(options.interval), kShortestInterval);
  const Interruptible interruptible;
  for (int64_t shown = 0; !interruptible.flag() && run.io.out.good();) {
    if (shown > 0 && !run.io.terminal_out) run.io.out << "\n";
    const int code = Show(options, request, client, run);
    if (code != kExitOk || ++shown == options.count) return code;
    interruptible.Wait(interval);
  }
  return kExitOk;
}

int RunStats(const StatsOptions& options, const Run& run) {
  v1::StatsRequest request;
  request.set_view(ViewOf(options.view));
  request.set_target(options.target);
  const std::vector<std::string> keys = SortKeys(request.view());
  if (!options.sort.empty() &&
      std::find(keys.begin(), keys.end(), options.sort) == keys.end()) {
    return run.FailUsage(absl::StrCat(
        "stats: --view ", options.view, " cannot be sorted by ", options.sort,
        keys.empty() ? "" : "; by " + absl::StrJoin(keys, ", ")));
  }
  auto client = run.Connect();
  if (!client.ok()) return run.Fail(client.status());
  return options.watch ? Watch(options, request, **client, run)
                       : Show(options, request, **client, run);
}

void AddRowOptions(CLI::App& command, StatsOptions& options) {
  command
      .add_option(
          "--view", options.view,
          "The totals alone, or with a row per target, connection or lease")
      ->type_name("")
      ->check(CLI::IsMember({"summary", "targets", "connections", "leases"}))
      ->capture_default_str();
  command
      .add_option("--target", options.target,
                  "Only this target; exit status 7 if the broker does not know "
                  "it")
      ->type_name("TARGET");
  command
      .add_option("--sort", options.sort,
                  "Sort the rows, those with the highest figure first; each "
                  "view has some of these keys (default: target; leases: age)")
      ->type_name("")
      ->check(CLI::IsMember(AllSortKeys()));
  command
      .add_option("--output", options.output,
                  "table: for people. json: for scripts, with the names of "
                  "the .proto file")
      ->type_name("")
      ->check(CLI::IsMember({"table", "json"}))
      ->capture_default_str();
}

void AddWatchOptions(CLI::App& command, StatsOptions& options) {
  CLI::Option* watch =
      command.add_flag("-w,--watch", options.watch,
                       "Show them again and again, until Ctrl-C; --max-time "
                       "applies to each time");
  command
      .add_option("--interval", options.interval,
                  "The pause between two times, at least 100ms")
      ->type_name("TIME")
      ->check(IsDuration())
      ->needs(watch)
      ->capture_default_str();
  command.add_option("-n,--count", options.count, "End after so many times")
      ->type_name("N")
      ->check(CLI::Range(int64_t{1}, int64_t{1'000'000'000}))
      ->needs(watch);
}

}  // namespace

void AddStats(CLI::App& app, Run& run) {
  auto options = std::make_shared<StatsOptions>();
  CLI::App* command =
      app.add_subcommand("stats", "Show the state of the broker's pool");
  AddRowOptions(*command, *options);
  AddWatchOptions(*command, *options);
  command->footer(Examples(
      "  hotline stats\n"
      "  hotline stats --view leases --target https://api.example.com\n"
      "  hotline stats --watch --sort waiters\n"
      "  hotline stats --output json | jq .totals.connections\n"));
  command->final_callback([options, &run] {
    run.action = [options, &run] { return RunStats(*options, run); };
  });
}

}  // namespace hotline::client
