// `hotline acquire`, `release`, `renew`.
#include "client/cli/leases.h"

#include <unistd.h>

#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/text.h"
#include "client/cli/command.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "client/cli/json.h"
#include "client/proto_time.h"

namespace hotline::client {
namespace {

struct LeaseOptions {
  std::string lease_id;
  std::string target;
  std::string request_id;
  std::string client_id;
  std::string outcome = "ok";
  std::string ttl;
};

// With a request_id the client id includes user and host, because the same
// request_id of another user must be a different one.
template <typename Options>
std::string ClientId(const Options& options) {
  constexpr char kName[] = "hotline-cli";
  if (!options.client_id.empty()) return options.client_id;
  if (options.request_id.empty()) return kName;
  char host[65] = "";
  gethostname(host, sizeof host - 1);
  return absl::StrCat(kName, "/", getuid(), "@", host);
}

int RunAcquire(const AcquireOptions& acquire, const Run& run) {
  auto client = run.Connect();
  if (!client.ok()) return run.Fail(client.status());
  auto lease = (*client)->Acquire(MakeAcquire(acquire), run.Call());
  if (!lease.ok()) return run.Fail(lease.status());
  if (acquire.output == "json") {
    run.io.out << FormatJson(lease->answer());
  } else {
    run.io.out << Printable(lease->id()) << "\n";
  }
  run.io.out.flush();
  // The id could not be written: the destructor releases the lease.
  if (!run.io.out.good()) return kExitFailed;
  ReportAcquired(acquire, lease->answer(), run);
  lease->Detach();
  return kExitOk;
}

// "-" reads a line of standard input, which keeps the id out of `ps`.
std::string LeaseId(const LeaseOptions& options, std::istream& in) {
  if (options.lease_id != "-") return options.lease_id;
  std::string line;
  std::getline(in, line);
  return std::string(absl::StripAsciiWhitespace(line));
}

int RunRelease(const LeaseOptions& options, const Run& run) {
  v1::ReleaseRequest request;
  request.set_outcome(options.outcome == "broken"    ? v1::OUTCOME_BROKEN
                      : options.outcome == "discard" ? v1::OUTCOME_DISCARD
                                                     : v1::OUTCOME_OK);
  if (options.request_id.empty()) {
    request.set_lease_id(LeaseId(options, run.io.in));
  } else {
    request.set_target(options.target);
    request.set_request_id(options.request_id);
    request.set_client_id(ClientId(options));
  }
  auto client = run.Connect();
  if (!client.ok()) return run.Fail(client.status());
  const auto answer = (*client)->Release(request, run.Call());
  if (!answer.ok()) return run.Fail(answer.status());
  if (answer->already_released()) {
    run.io.err << "hotline: the lease had ended before\n";
  }
  return kExitOk;
}

int RunRenew(const LeaseOptions& options, const Run& run) {
  auto client = run.Connect();
  if (!client.ok()) return run.Fail(client.status());
  const auto answer = (*client)->Renew(LeaseId(options, run.io.in),
                                       *ParseDuration(options.ttl), run.Call());
  if (!answer.ok()) return run.Fail(answer.status());
  return kExitOk;
}

void AddWaitOptions(CLI::App& command, AcquireOptions& acquire) {
  command
      .add_option("-t,--ttl", acquire.ttl,
                  "How long the lease lasts, at most 10m (default: 30s)")
      ->type_name("TIME")
      ->check(IsDuration());
  CLI::Option* max_wait =
      command
          .add_option("-w,--max-wait", acquire.max_wait,
                      "How long to wait for a connection, within --max-time "
                      "(default: all of it)")
          ->type_name("TIME")
          ->check(IsDuration());
  command
      .add_flag("--no-wait", acquire.no_wait,
                "Take a connection that is available now, or fail")
      ->excludes(max_wait);
  command
      .add_option("--request-id", acquire.request_id,
                  "Makes the command safe to repeat (default: random)")
      ->type_name("ID");
}

void AddConnectionOptions(CLI::App& command, AcquireOptions& acquire) {
  command.add_flag("-x,--exclusive", acquire.exclusive,
                   "A whole connection, from the pool of exclusive ones");
  CLI::Option* force_new =
      command.add_flag("--force-new", acquire.force_new,
                       "Only a connection that has never been used");
  command
      .add_flag("--require-warm", acquire.require_warm,
                "Only an idle connection; do not dial")
      ->excludes(force_new);
  command
      .add_option(
          "--sni", acquire.sni,
          "Server name sent and verified in TLS (default: the target's host)")
      ->type_name("NAME");
  command
      .add_option(
          "--pool-group", acquire.pool_group,
          "Share connections only with callers that name the same group")
      ->type_name("NAME");
  command
      .add_option(
          "--alpn", acquire.alpn,
          "The only acceptable protocol: h2 or http/1.1 (default: either)")
      ->type_name("NAME");
  command
      .add_option(
          "--tls-profile", acquire.tls_profile,
          "The TLS profile (default: the one configured for the target)")
      ->type_name("NAME");
  command
      .add_option("--remote-ip", acquire.remote_ip,
                  "Connect to this address instead of resolving the host")
      ->type_name("ADDRESS");
  command
      .add_option("--source-ip", acquire.source_ip,
                  "Local address of the broker to connect from")
      ->type_name("ADDRESS");
}

void AddHolderOptions(CLI::App& command, AcquireOptions& acquire) {
  command
      .add_option("--client-id", acquire.client_id,
                  "Who holds the lease, as shown by stats (default: "
                  "hotline-cli)")
      ->type_name("NAME");
  command
      .add_option("--purpose", acquire.purpose,
                  "What the lease is for, as shown by stats")
      ->type_name("TEXT");
}

void AddAcquire(CLI::App& app, Run& run) {
  auto acquire = std::make_shared<AcquireOptions>();
  CLI::App* command = app.add_subcommand(
      "acquire", "Borrow a connection and print the lease's id");
  AddAcquireOptions(*command, *acquire);
  command
      ->add_option("--output", acquire->output,
                   "text: the lease id. json: the whole answer")
      ->type_name("")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  command->footer(Examples(
      "  LEASE=$(hotline acquire https://api.example.com)\n"
      "  hotline get --lease \"$LEASE\" https://api.example.com/a\n"
      "  hotline release \"$LEASE\"\n"
      "  hotline acquire --no-wait --ttl 5m https://api.example.com\n"));
  command->final_callback([acquire, &run] {
    run.action = [acquire, &run] { return RunAcquire(*acquire, run); };
  });
}

CLI::Option* AddLeaseId(CLI::App& command, LeaseOptions& options) {
  return command
      .add_option(
          "lease_id", options.lease_id,
          "The id printed by `hotline acquire`; - reads it from standard input")
      ->type_name("LEASE_ID");
}

// Names the acquire instead of its lease.
void AddRequestId(CLI::App& command, LeaseOptions& options,
                  CLI::Option* lease_id) {
  CLI::Option* request_id =
      command
          .add_option("--request-id", options.request_id,
                      "Instead of LEASE_ID: the --request-id of the acquire, "
                      "which is ended if it still waits")
          ->type_name("ID")
          ->excludes(lease_id);
  CLI::Option* target =
      command
          .add_option("--target", options.target, "The target of that acquire")
          ->type_name("TARGET")
          ->needs(request_id);
  request_id->needs(target);
  command
      .add_option("--client-id", options.client_id,
                  "The --client-id of that acquire, if it had one")
      ->type_name("NAME")
      ->needs(request_id);
}

void AddRelease(CLI::App& app, Run& run) {
  auto options = std::make_shared<LeaseOptions>();
  CLI::App* command =
      app.add_subcommand("release", "Give a borrowed connection back");
  CLI::Option* const lease_id = AddLeaseId(*command, *options);
  AddRequestId(*command, *options, lease_id);
  command
      ->add_option("--outcome", options->outcome,
                   "ok: it may be lent again. broken: it misbehaved, close it. "
                   "discard: close it without blame")
      ->type_name("")
      ->check(CLI::IsMember({"ok", "broken", "discard"}))
      ->capture_default_str();
  command->footer(
      Examples("  hotline release \"$LEASE\"\n"
               "  hotline release --outcome broken \"$LEASE\"\n"
               "  echo \"$LEASE\" | hotline release -\n"
               "  hotline release --target https://api.example.com "
               "--request-id 7\n"));
  command->final_callback([options, lease_id, &run] {
    if (lease_id->empty() && options->request_id.empty()) {
      throw CLI::RequiredError("LEASE_ID or --request-id");
    }
    run.action = [options, &run] { return RunRelease(*options, run); };
  });
}

void AddRenew(CLI::App& app, Run& run) {
  auto options = std::make_shared<LeaseOptions>();
  options->ttl = "30s";
  CLI::App* command = app.add_subcommand("renew", "Extend a lease");
  AddLeaseId(*command, *options)->required();
  command
      ->add_option("-t,--ttl", options->ttl, "The new time to live, from now")
      ->type_name("TIME")
      ->check(IsDuration())
      ->capture_default_str();
  command->footer(Examples("  hotline renew --ttl 2m \"$LEASE\"\n"));
  command->final_callback([options, &run] {
    run.action = [options, &run] { return RunRenew(*options, run); };
  });
}

}  // namespace

v1::AcquireRequest MakeAcquire(const AcquireOptions& acquire) {
  v1::AcquireRequest request;
  request.set_target(acquire.target);
  request.set_request_id(acquire.request_id);
  request.mutable_holder()->set_client_id(ClientId(acquire));
  request.mutable_holder()->set_purpose(acquire.purpose);
  if (acquire.exclusive) request.set_mode(v1::MODE_EXCLUSIVE);
  if (acquire.force_new) request.set_reuse(v1::REUSE_FORCE_NEW);
  if (acquire.require_warm) request.set_reuse(v1::REUSE_REQUIRE_WARM);
  if (!acquire.ttl.empty()) {
    *request.mutable_lease_ttl() = ToProto(*ParseDuration(acquire.ttl));
  }
  if (!acquire.max_wait.empty()) {
    *request.mutable_max_wait() = ToProto(*ParseDuration(acquire.max_wait));
  }
  if (acquire.no_wait) *request.mutable_max_wait() = ToProto(Duration(0));
  if (!acquire.sni.empty()) request.mutable_options()->set_sni(acquire.sni);
  if (!acquire.pool_group.empty()) {
    request.mutable_options()->set_pool_group(acquire.pool_group);
  }
  if (!acquire.alpn.empty()) request.mutable_options()->set_alpn(acquire.alpn);
  if (!acquire.tls_profile.empty()) {
    request.mutable_options()->set_tls_profile(acquire.tls_profile);
  }
  if (!acquire.remote_ip.empty()) {
    request.mutable_options()->set_remote_ip(acquire.remote_ip);
  }
  if (!acquire.source_ip.empty()) {
    request.mutable_options()->set_source_ip(acquire.source_ip);
  }
  return request;
}

void AddAcquireOptions(CLI::App& command, AcquireOptions& acquire) {
  command
      .add_option("target", acquire.target,
                  "https://host[:port] or http://; with --exclusive also "
                  "tls://host:port or tcp://")
      ->required()
      ->type_name("TARGET");
  AddWaitOptions(command, acquire);
  AddConnectionOptions(command, acquire);
  AddHolderOptions(command, acquire);
  command.add_flag("-r,--receipt", acquire.receipt,
                   "Report the connection and the wait on standard error");
}

void ReportAcquired(const AcquireOptions& acquire,
                    const v1::AcquireResponse& answer, const Run& run) {
  if (!acquire.receipt) return;
  run.io.err << "connection " << FormatConnection(answer.connection()) << "\n"
             << FormatTimings(answer.timings());
  if (answer.has_wait()) {
    run.io.err << "wait       " << FormatWait(answer.wait()) << "\n";
  }
}

void AddLeases(CLI::App& app, Run& run) {
  AddAcquire(app, run);
  AddRelease(app, run);
  AddRenew(app, run);
}

}  // namespace hotline::client
