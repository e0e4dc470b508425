// `hotline explain`.
#include <algorithm>
#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "base/text.h"
#include "client/cli/admin.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "client/cli/json.h"

namespace hotline::client {
namespace {

void PrintFindings(const v1::ExplainResponse& answer, const Run& run) {
  const char* const strong = run.io.color_out ? "\033[1;31m" : "";
  const char* const plain = run.io.color_out ? "\033[0m" : "";
  for (const v1::Finding& finding : answer.findings()) {
    run.io.out << strong << Printable(finding.cause()) << plain << "  "
               << Printable(finding.text()) << "\n    "
               << Printable(finding.advice()) << "\n";
  }
  if (answer.findings().empty()) {
    run.io.out << Printable(answer.summary()) << "\n";
  }
}

void PrintHoldings(const v1::ExplainResponse& answer, const Run& run) {
  if (answer.holdings().empty()) return;
  run.io.out << "\nheld the longest:\n";
  for (const v1::Holding& holding : answer.holdings()) {
    run.io.out << "  " << FormatDuration(holding.age()) << "  lease number "
               << holding.lease_number() << ", connection "
               << holding.connection_id() << ", "
               << (holding.client_id().empty() ? "no client_id"
                                               : Printable(holding.client_id()))
               << (holding.purpose().empty()
                       ? ""
                       : " (" + Printable(holding.purpose()) + ")")
               << (holding.in_call() ? ", in a call" : "") << "\n";
  }
}

int RunExplain(const std::string& target, const std::string& output,
               const Run& run) {
  v1::ExplainRequest request;
  request.set_target(target);
  const auto answer = CallAdmin(run, &v1::Admin::Stub::Explain, request);
  if (!answer.ok()) return FailAdmin(run, answer.status());
  if (output == "json") {
    run.io.out << FormatJson(*answer);
    return kExitOk;
  }
  run.io.out << Printable(answer->target()) << "\n\n";
  PrintFindings(*answer, run);
  run.io.out << "\n";
  size_t width = 0;
  for (const v1::Fact& fact : answer->facts()) {
    width = std::max(width, fact.name().size());
  }
  for (const v1::Fact& fact : answer->facts()) {
    run.io.out << Printable(fact.name())
               << std::string(width + 2 - fact.name().size(), ' ')
               << Printable(fact.text()) << "\n";
  }
  PrintHoldings(*answer, run);
  return kExitOk;
}

}  // namespace

void AddExplain(CLI::App& app, Run& run) {
  auto target = std::make_shared<std::string>();
  auto output = std::make_shared<std::string>("text");
  CLI::App* command = app.add_subcommand(
      "explain", "Say what is wrong with a target, and what helps");
  command->add_option("target", *target, "The target, or a URL of it")
      ->required()
      ->type_name("TARGET");
  command
      ->add_option("--output", *output,
                   "text: for people. json: for scripts, with the names of the "
                   ".proto file")
      ->type_name("")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  command->footer(
      Examples("  hotline explain https://api.example.com\n"
               "  hotline explain --output json https://api.example.com | jq "
               "-r .summary\n"));
  command->final_callback([target, output, &run] {
    run.action = [target, output, &run] {
      return RunExplain(*target, *output, run);
    };
  });
}

}  // namespace hotline::client
