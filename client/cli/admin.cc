// The operators' commands: pause, resume, reconnect, warm, evict, lease,
// reset-breaker; admin_control.cc has the others.
#include "client/cli/admin.h"

#include <memory>
#include <string>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "base/text.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "client/cli/json.h"
#include "client/proto_time.h"

namespace hotline::client {
namespace {

using Stub = v1::Admin::Stub;

std::string Leases(int count) {
  return absl::StrCat(count, count == 1 ? " lease" : " leases");
}

// Prints `text` of the answer, or reports the error.
template <typename Response, typename Text>
int Report(const Run& run, const absl::StatusOr<Response>& answer, Text text) {
  if (!answer.ok()) return FailAdmin(run, answer.status());
  run.io.out << Printable(text(*answer)) << "\n";
  return kExitOk;
}

int RunPause(const std::string& target, const Run& run) {
  v1::PauseRequest request;
  request.set_target(target);
  return Report(run, CallAdmin(run, &Stub::Pause, request),
                [&](const v1::PauseResponse& answer) {
                  return absl::StrCat(target, ": paused (it was ",
                                      answer.before(), "); ",
                                      Leases(answer.leases()), " held");
                });
}

int RunResume(const std::string& target, const Run& run) {
  v1::ResumeRequest request;
  request.set_target(target);
  return Report(run, CallAdmin(run, &Stub::Resume, request),
                [&](const v1::ResumeResponse& answer) {
                  return absl::StrCat(target, ": open (it was ",
                                      answer.before(), ")");
                });
}

int RunReconnect(const std::string& target, const Run& run) {
  v1::ReconnectRequest request;
  request.set_target(target);
  return Report(run, CallAdmin(run, &Stub::Reconnect, request),
                [&](const v1::ReconnectResponse& answer) {
                  return absl::StrCat(target, ": ", answer.connections(),
                                      answer.connections() == 1
                                          ? " connection is"
                                          : " connections are",
                                      " being replaced");
                });
}

int RunResetBreaker(const std::string& target, const Run& run) {
  v1::ResetBreakerRequest request;
  request.set_target(target);
  return Report(run, CallAdmin(run, &Stub::ResetBreaker, request),
                [&](const v1::ResetBreakerResponse&) {
                  return absl::StrCat(target, ": failed dials are forgotten");
                });
}

// A command whose only argument is a target.
void AddTargetCommand(CLI::App& app, Run& run, const char* name,
                      const char* description, const std::string& examples,
                      int (*work)(const std::string&, const Run&)) {
  auto target = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand(name, description);
  command->add_option("target", *target, "The target, or a URL of it")
      ->required()
      ->type_name("TARGET");
  command->footer(Examples(examples));
  command->final_callback([target, work, &run] {
    run.action = [target, work, &run] { return work(*target, run); };
  });
}

// --- warm ---

int RunWarm(const std::string& target, int connections, const std::string& wait,
            const Run& run) {
  v1::WarmRequest request;
  request.set_target(target);
  request.set_connections(connections);
  *request.mutable_wait() = ToProto(*ParseDuration(wait));
  const auto answer = CallAdmin(run, &Stub::Warm, request);
  if (!answer.ok()) return FailAdmin(run, answer.status());
  run.io.out << Printable(target) << ": ";
  if (answer->missing() == 0) {
    run.io.out << "ready\n";
    return kExitOk;
  }
  run.io.out << answer->missing() << " still missing\n";
  return kExitFailed;
}

void AddWarm(CLI::App& app, Run& run) {
  auto target = std::make_shared<std::string>();
  auto connections = std::make_shared<int>(0);
  auto wait = std::make_shared<std::string>("5s");
  CLI::App* command =
      app.add_subcommand("warm", "Dial connections before callers need them");
  command->add_option("target", *target, "The target, or a URL of it")
      ->required()
      ->type_name("TARGET");
  command
      ->add_option("-n,--connections", *connections,
                   "How many to have ready (default: the target's `warm`)")
      ->type_name("N");
  command
      ->add_option("--wait", *wait,
                   "How long to wait until they are ready, at most 60s "
                   "(default: 5s)")
      ->type_name("TIME")
      ->check(IsDuration());
  command->footer(Examples("  hotline warm -n 4 https://api.example.com\n"));
  command->final_callback([target, connections, wait, &run] {
    run.action = [target, connections, wait, &run] {
      return RunWarm(*target, *connections, *wait, run);
    };
  });
}

// --- evict, lease ---

int RunEvict(uint64_t connection, bool at_once, const Run& run) {
  v1::EvictConnectionRequest request;
  request.set_connection_id(connection);
  request.set_at_once(at_once);
  return Report(run, CallAdmin(run, &Stub::EvictConnection, request),
                [&](const v1::EvictConnectionResponse&) {
                  return absl::StrCat(
                      "connection ", connection,
                      at_once ? ": closed" : ": closes when it is free");
                });
}

void AddEvict(CLI::App& app, Run& run) {
  auto connection = std::make_shared<uint64_t>(0);
  auto at_once = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand("evict", "Close one connection");
  command
      ->add_option("connection", *connection,
                   "Its id, as `stats --view connections` shows it")
      ->required()
      ->type_name("ID");
  command->add_flag("--now", *at_once,
                    "At once: calls on it are aborted (default: when its last "
                    "lease ends)");
  command->footer(Examples("  hotline evict --now 4711\n"));
  command->final_callback([connection, at_once, &run] {
    run.action = [connection, at_once, &run] {
      return RunEvict(*connection, *at_once, run);
    };
  });
}

int RunLeaseEnd(uint64_t number, const Run& run) {
  v1::EndLeaseRequest request;
  request.set_lease_number(number);
  return Report(run, CallAdmin(run, &Stub::EndLease, request),
                [&](const v1::EndLeaseResponse& answer) {
                  return absl::StrCat(
                      "lease number ", number, ": ended",
                      answer.call_ended() ? ", with its call" : "");
                });
}

void AddLease(CLI::App& app, Run& run) {
  auto number = std::make_shared<uint64_t>(0);
  CLI::App* command =
      app.add_subcommand("lease", "End a lease that its holder keeps");
  // "end" is the only one: the check is all that it needs.
  command
      ->add_option_function<std::string>(
          "action", [](const std::string&) {}, "What to do with it")
      ->required()
      ->type_name("")
      ->check(CLI::IsMember({"end"}));
  command
      ->add_option("number", *number,
                   "The lease's number, as `explain` shows it")
      ->required()
      ->type_name("NUMBER");
  command->footer(Examples("  hotline lease end 4711\n"));
  command->final_callback([number, &run] {
    run.action = [number, &run] { return RunLeaseEnd(*number, run); };
  });
}

}  // namespace

int FailAdmin(const Run& run, const absl::Status& status) {
  Run admin{.io = run.io, .address = run.admin_address};
  return admin.Fail(status);
}

void AddAdmin(CLI::App& app, Run& run) {
  AddDrain(app, run);
  AddTargetCommand(app, run, "pause",
                   "Make a target's callers wait; nothing new is sent to it",
                   "  hotline pause https://db.example.com\n", RunPause);
  AddTargetCommand(app, run, "resume", "Serve the callers of a paused target",
                   "  hotline resume https://db.example.com\n", RunResume);
  AddTargetCommand(app, run, "reconnect",
                   "Replace a target's connections, dialling each new one "
                   "before an old one is closed",
                   "  hotline reconnect https://api.example.com\n",
                   RunReconnect);
  AddTargetCommand(app, run, "reset-breaker",
                   "Forget a target's failed dials, so that the next "
                   "caller dials at once",
                   "  hotline reset-breaker https://api.example.com\n",
                   RunResetBreaker);
  AddWarm(app, run);
  AddEvict(app, run);
  AddLease(app, run);
  AddControl(app, run);
}

}  // namespace hotline::client
