// The operators' commands for what is in service and in force: drain, undrain,
// block, unblock, log-level, config.
#include <iterator>
#include <memory>
#include <string>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "base/read_file.h"
#include "base/text.h"
#include "client/cli/admin.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "client/cli/json.h"
#include "client/proto_time.h"

namespace hotline::client {
namespace {

using Stub = v1::Admin::Stub;

std::string Count(int count, const char* noun) {
  return absl::StrCat(count, " ", noun, count == 1 ? "" : "s");
}

// --- drain, undrain ---

// What is drained, blocked, or put back.
struct Place {
  std::string target;
  std::string address;
  bool broker = false;

  std::string Name() const {
    if (broker) return "the broker";
    if (address.empty()) return target;
    return absl::StrCat(address, target.empty() ? "" : " of ", target);
  }
};

// OK, or reports the wrong usage.
bool IsOnePlace(const Place& place, const Run& run) {
  if (place.broker ? place.target.empty() && place.address.empty()
                   : !place.target.empty() || !place.address.empty()) {
    return true;
  }
  run.FailUsage(place.broker
                    ? "--broker cannot be given with a target or --remote-ip"
                    : "name a target, --remote-ip or --broker");
  return false;
}

int RunDrain(const Place& place, const Run& run) {
  if (!IsOnePlace(place, run)) return kExitUsage;
  v1::DrainRequest request;
  request.set_target(place.target);
  request.set_address(place.address);
  request.set_broker(place.broker);
  const auto answer = CallAdmin(run, &Stub::Drain, request);
  if (!answer.ok()) return FailAdmin(run, answer.status());
  std::string text = absl::StrCat(place.Name(), ": drained");
  if (!place.address.empty()) {
    absl::StrAppend(&text, "; ", Count(answer->connections(), "connection"),
                    " left");
  } else {
    absl::StrAppend(&text, " (it was ", answer->before(), "); ",
                    Count(answer->leases(), "lease"), " left");
  }
  run.io.out << Printable(text) << "\n";
  return kExitOk;
}

int RunUndrain(const Place& place, const Run& run) {
  if (!IsOnePlace(place, run)) return kExitUsage;
  v1::UndrainRequest request;
  request.set_target(place.target);
  request.set_address(place.address);
  request.set_broker(place.broker);
  const auto answer = CallAdmin(run, &Stub::Undrain, request);
  if (!answer.ok()) return FailAdmin(run, answer.status());
  std::string text = absl::StrCat(place.Name(), ": open");
  if (place.address.empty()) {
    absl::StrAppend(&text, " (it was ", answer->before(), ")");
  }
  run.io.out << Printable(text) << "\n";
  return kExitOk;
}

void AddDrainCommand(CLI::App& app, Run& run, const char* name,
                     const char* description, const char* examples,
                     int (*work)(const Place&, const Run&)) {
  auto place = std::make_shared<Place>();
  CLI::App* command = app.add_subcommand(name, description);
  command->add_option("target", place->target, "The target, or a URL of it")
      ->type_name("TARGET");
  command
      ->add_option("--remote-ip", place->address,
                   "An address or CIDR of the target; without a target, of "
                   "every one")
      ->type_name("ADDRESS");
  command->add_flag("--broker", place->broker, "The whole broker");
  command->footer(Examples(examples));
  command->final_callback([place, work, &run] {
    run.action = [place, work, &run] { return work(*place, run); };
  });
}

// --- block, unblock ---

int RunBlock(const Place& place, const std::string& duration, const Run& run) {
  v1::BlockAddressRequest request;
  request.set_address(place.address);
  request.set_target(place.target);
  if (!duration.empty()) {
    *request.mutable_duration() = ToProto(*ParseDuration(duration));
  }
  const auto answer = CallAdmin(run, &Stub::BlockAddress, request);
  if (!answer.ok()) return FailAdmin(run, answer.status());
  run.io.out << Printable(absl::StrCat(
                    place.Name(), ": blocked; ",
                    Count(answer->connections(), "connection"), " closed"))
             << "\n";
  return kExitOk;
}

int RunUnblock(const Place& place, const Run& run) {
  v1::UnblockAddressRequest request;
  request.set_address(place.address);
  request.set_target(place.target);
  const auto answer = CallAdmin(run, &Stub::UnblockAddress, request);
  if (!answer.ok()) return FailAdmin(run, answer.status());
  run.io.out << Printable(place.Name()) << ": unblocked\n";
  return kExitOk;
}

CLI::App* AddAddressCommand(CLI::App& app, const char* name,
                            const char* description, Place* place) {
  CLI::App* command = app.add_subcommand(name, description);
  command->add_option("address", place->address, "An address or CIDR")
      ->required()
      ->type_name("ADDRESS");
  command
      ->add_option("--target", place->target,
                   "Of this target only (default: of every one)")
      ->type_name("TARGET");
  return command;
}

void AddBlock(CLI::App& app, Run& run) {
  auto place = std::make_shared<Place>();
  auto duration = std::make_shared<std::string>();
  CLI::App* command = AddAddressCommand(
      app, "block",
      "Cut off an upstream's address: connections to it are closed at once, "
      "and none is dialled",
      place.get());
  command
      ->add_option("--for", *duration,
                   "Then it returns (default: it stays blocked until unblock)")
      ->type_name("TIME")
      ->check(IsDuration());
  command->footer(Examples("  hotline block 192.0.2.7 --for 10m\n"));
  command->final_callback([place, duration, &run] {
    run.action = [place, duration, &run] {
      return RunBlock(*place, *duration, run);
    };
  });
}

void AddUnblock(CLI::App& app, Run& run) {
  auto place = std::make_shared<Place>();
  CLI::App* command = AddAddressCommand(
      app, "unblock", "Put a blocked address back", place.get());
  command->footer(Examples("  hotline unblock 192.0.2.7\n"));
  command->final_callback([place, &run] {
    run.action = [place, &run] { return RunUnblock(*place, run); };
  });
}

// --- log-level ---

struct LogLevelOptions {
  std::string level;
  std::string duration;
  std::string target;
};

int RunLogLevel(const LogLevelOptions& options, const Run& run) {
  v1::SetLogLevelRequest request;
  request.set_level(options.level);
  request.set_target(options.target);
  if (!options.duration.empty()) {
    *request.mutable_duration() = ToProto(*ParseDuration(options.duration));
  }
  const auto answer = CallAdmin(run, &Stub::SetLogLevel, request);
  if (!answer.ok()) return FailAdmin(run, answer.status());
  run.io.out << Printable(absl::StrCat("log level",
                                       options.target.empty() ? "" : " of ",
                                       options.target, ": ", options.level,
                                       " (it was ", answer->before(), ")"))
             << "\n";
  return kExitOk;
}

void AddLogLevel(CLI::App& app, Run& run) {
  auto options = std::make_shared<LogLevelOptions>();
  CLI::App* command =
      app.add_subcommand("log-level", "Change the level of the broker's log");
  command->add_option("level", options->level, "The new level")
      ->required()
      ->type_name("")
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}));
  command
      ->add_option("--for", options->duration,
                   "Then the configured level returns (default: it stays until "
                   "the next reload)")
      ->type_name("TIME")
      ->check(IsDuration());
  command
      ->add_option("--target", options->target,
                   "Of the lines about this target only")
      ->type_name("TARGET");
  command->footer(
      Examples("  hotline log-level debug --for 5m\n"
               "  hotline log-level debug --target https://api.example.com\n"));
  command->final_callback([options, &run] {
    run.action = [options, &run] { return RunLogLevel(*options, run); };
  });
}

// --- config ---

struct ConfigOptions {
  std::string verb;
  std::string file;
  std::string output = "yaml";
  bool dry_run = false;
};

int ShowConfig(const ConfigOptions& options, const Run& run) {
  const auto answer = CallAdmin(run, &Stub::GetConfig, v1::GetConfigRequest());
  if (!answer.ok()) return FailAdmin(run, answer.status());
  if (options.output == "json") {
    run.io.out << FormatJson(*answer);
    return kExitOk;
  }
  run.io.out << "# hotlined " << Printable(answer->version()) << ", "
             << (answer->file().empty() ? "no file" : Printable(answer->file()))
             << "\n";
  for (const std::string& key : answer->waiting_for_restart()) {
    run.io.out << "# waits for a restart: " << Printable(key) << "\n";
  }
  for (const std::string& text : answer->overrides()) {
    run.io.out << "# set by an operator: " << Printable(text) << "\n";
  }
  if (!answer->last_error().empty()) {
    run.io.out << "# the latest reload was refused: "
               << Printable(answer->last_error()) << "\n";
  }
  std::string text;
  AppendEscaped(&text, answer->effective_yaml(), Escape::kLines);
  run.io.out << text;
  return kExitOk;
}

// Prints what an update and a reload have in common.
template <typename Response>
void PrintNotices(const Response& response, const Run& run) {
  for (const std::string& warning : response.warnings()) {
    run.io.out << "warning: " << Printable(warning) << "\n";
  }
  for (const std::string& key : response.waiting_for_restart()) {
    run.io.out << "waits for a restart: " << Printable(key) << "\n";
  }
}

int ReloadConfig(const Run& run) {
  const auto answer = CallAdmin(run, &Stub::Reload, v1::ReloadRequest());
  if (!answer.ok()) return FailAdmin(run, answer.status());
  run.io.out << "reloaded\n";
  PrintNotices(*answer, run);
  return kExitOk;
}

absl::StatusOr<std::string> ReadConfig(const ConfigOptions& options,
                                       const Run& run) {
  // One byte more than the broker accepts, so that it refuses a longer file.
  constexpr size_t kMostBytes = (1 << 20) + 1;
  if (options.file != "-") return ReadFile(options.file, kMostBytes);
  std::string text((std::istreambuf_iterator<char>(run.io.in)),
                   std::istreambuf_iterator<char>());
  return text.substr(0, kMostBytes);
}

void PrintChanges(const v1::UpdateConfigResponse& answer, const Run& run) {
  for (const v1::ConfigChange& change : answer.changes()) {
    const auto side = [](const std::string& value) {
      return value.empty() ? std::string("(none)") : value;
    };
    run.io.out << Printable(absl::StrCat(
                      change.key(), ": ", side(change.before()), " -> ",
                      side(change.after()),
                      change.needs_restart() ? " (needs a restart)" : ""))
               << "\n";
  }
  if (answer.changes().empty()) run.io.out << "no change\n";
}

void PrintConsequences(const v1::UpdateConfigResponse& answer, const Run& run) {
  for (const v1::Consequence& one : answer.consequences()) {
    for (const std::string& note : one.notes()) {
      run.io.out << Printable(absl::StrCat(
                        one.target().empty() ? "the broker" : one.target(),
                        ": ", note))
                 << "\n";
    }
  }
}

void PrintUpdate(const ConfigOptions& options,
                 const v1::UpdateConfigResponse& answer, const Run& run) {
  if (options.verb == "check") {
    run.io.out << Printable(options.file) << ": valid\n";
  } else {
    PrintChanges(answer, run);
  }
  if (options.verb == "apply") {
    PrintConsequences(answer, run);
    run.io.out << (options.dry_run ? "nothing was changed\n" : "applied\n");
  }
  PrintNotices(answer, run);
}

// check, diff and apply.
int UpdateConfig(const ConfigOptions& options, const Run& run) {
  if (options.file.empty()) {
    return run.FailUsage("config " + options.verb + " needs a FILE");
  }
  const auto text = ReadConfig(options, run);
  if (!text.ok()) return run.FailUsage(std::string(text.status().message()));
  v1::UpdateConfigRequest request;
  request.set_yaml(ToUtf8(*text));
  request.set_name(ToUtf8(options.file));
  request.set_validate_only(options.verb != "apply" || options.dry_run);
  const auto answer = CallAdmin(run, &Stub::UpdateConfig, request);
  if (!answer.ok()) return FailAdmin(run, answer.status());
  if (options.output == "json") {
    run.io.out << FormatJson(*answer);
    return answer->faults().empty() ? kExitOk : kExitUsage;
  }
  for (const std::string& fault : answer->faults()) {
    run.io.err << Printable(fault) << "\n";
  }
  if (!answer->faults().empty()) return kExitUsage;
  PrintUpdate(options, *answer, run);
  return kExitOk;
}

void AddConfig(CLI::App& app, Run& run) {
  auto options = std::make_shared<ConfigOptions>();
  CLI::App* command = app.add_subcommand(
      "config", "Show, check or change the broker's configuration");
  command
      ->add_option("action", options->verb,
                   "show: print the one in force, defaults included. reload: "
                   "read the file again. check: whether the broker could use "
                   "FILE. diff: what FILE would change. apply: use FILE until "
                   "the next reload")
      ->required()
      ->type_name("")
      ->check(CLI::IsMember({"show", "reload", "check", "diff", "apply"}));
  command
      ->add_option("file", options->file,
                   "Of check, diff and apply: the file here; -: standard input")
      ->type_name("FILE");
  command->add_flag("--dry-run", options->dry_run,
                    "Of apply: change nothing, print what would be closed, "
                    "dialled, queued and refused at the present load");
  command
      ->add_option("--output", options->output,
                   "Of show: yaml can be loaded again, json has its origin. Of "
                   "check, diff and apply: json has the numbers")
      ->type_name("")
      ->check(CLI::IsMember({"yaml", "json"}))
      ->capture_default_str();
  command->footer(
      Examples("  hotline config show > in-force.yaml\n"
               "  hotline config apply --dry-run new.yaml\n"
               "  hotline config reload\n"));
  command->final_callback([options, &run] {
    run.action = [options, &run] {
      if (options->verb == "show") return ShowConfig(*options, run);
      if (options->verb == "reload") return ReloadConfig(run);
      return UpdateConfig(*options, run);
    };
  });
}

}  // namespace

void AddDrain(CLI::App& app, Run& run) {
  AddDrainCommand(app, run, "drain",
                  "Take a target, an address or the broker out of service: "
                  "callers are refused, connections closed as they become free",
                  "  hotline drain https://api.example.com\n"
                  "  hotline drain --remote-ip 192.0.2.7\n"
                  "  hotline drain --broker\n",
                  RunDrain);
  AddDrainCommand(app, run, "undrain", "Put back what was drained",
                  "  hotline undrain https://api.example.com\n", RunUndrain);
}

void AddControl(CLI::App& app, Run& run) {
  AddBlock(app, run);
  AddUnblock(app, run);
  AddLogLevel(app, run);
  AddConfig(app, run);
}

}  // namespace hotline::client
