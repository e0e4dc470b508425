// `hotline stats`.
#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "CLI/CLI.hpp"
#include "client/cli/command.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "client/cli/stats_table.h"

namespace hotline::client {
namespace {

// Rows per page, the broker's maximum; and the maximum of pages, in case rows
// appear faster than they are read.
constexpr int kPageSize = 1000;
constexpr int kMaxPages = 1000;

struct StatsOptions {
  std::string view = "targets";
  std::string target;
  std::string output = "table";
};

v1::StatsView ViewOf(const std::string& name) {
  if (name == "summary") return v1::STATS_VIEW_SUMMARY;
  if (name == "connections") return v1::STATS_VIEW_CONNECTIONS;
  if (name == "leases") return v1::STATS_VIEW_LEASES;
  return v1::STATS_VIEW_TARGETS;
}

// Merges all pages: the totals of the first, the rows of all, within one
// timeout.
absl::StatusOr<v1::StatsResponse> ReadAll(BrokerClient& client,
                                          v1::StatsRequest request,
                                          CallOptions call) {
  v1::StatsResponse all;
  const Instant start = MonotonicNow();
  const std::optional<Duration> timeout = call.timeout;
  for (int page = 0; page < kMaxPages; ++page) {
    if (timeout.has_value()) {
      call.timeout = *timeout - (MonotonicNow() - start);
    }
    auto answer = client.Stats(request, call);
    if (!answer.ok()) return answer.status();
    const std::string next = answer->next_page_token();
    if (page == 0) {
      all = *std::move(answer);
      all.clear_next_page_token();
    } else {
      all.mutable_targets()->MergeFrom(answer->targets());
      all.mutable_connections()->MergeFrom(answer->connections());
      all.mutable_leases()->MergeFrom(answer->leases());
    }
    if (next.empty()) return all;
    request.set_page_token(next);
  }
  return absl::OutOfRangeError("the list is too long to be read");
}

int RunStats(const StatsOptions& options, const Run& run) {
  auto client = run.Connect();
  if (!client.ok()) return run.Fail(client.status());
  v1::StatsRequest request;
  request.set_view(ViewOf(options.view));
  request.set_target(options.target);
  request.set_page_size(kPageSize);
  const auto stats = ReadAll(**client, request, run.Call());
  if (!stats.ok()) return run.Fail(stats.status());
  if (options.output == "json") {
    run.io.out << FormatJson(*stats);
    return kExitOk;
  }
  const Duration now = std::chrono::system_clock::now().time_since_epoch();
  run.io.out << FormatStats(*stats, request.view(), now, run.io.color_out);
  return kExitOk;
}

}  // namespace

void AddStats(CLI::App& app, Run& run) {
  auto options = std::make_shared<StatsOptions>();
  CLI::App* command =
      app.add_subcommand("stats", "Show the state of the broker's pool");
  command
      ->add_option(
          "--view", options->view,
          "The totals alone, or with a row per target, connection or lease")
      ->type_name("")
      ->check(CLI::IsMember({"summary", "targets", "connections", "leases"}))
      ->capture_default_str();
  command->add_option("--target", options->target, "Only this target")
      ->type_name("TARGET");
  command
      ->add_option("--output", options->output,
                   "table: for people. json: for scripts, with the names of "
                   "the .proto file and 64-bit numbers as strings")
      ->type_name("")
      ->check(CLI::IsMember({"table", "json"}))
      ->capture_default_str();
  command->footer(Examples(
      "  hotline stats\n"
      "  hotline stats --view leases --target https://api.example.com\n"
      "  hotline stats --output json | jq .totals.connections\n"));
  command->final_callback([options, &run] {
    run.action = [options, &run] { return RunStats(*options, run); };
  });
}

}  // namespace hotline::client
