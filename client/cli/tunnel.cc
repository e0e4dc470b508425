// `hotline tunnel`: connects standard input and output with an upstream.
#include "client/cli/tunnel.h"

#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "client/cli/command.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "client/cli/pump.h"
#include "client/proto_time.h"

namespace hotline::client {
namespace {

int RunTunnel(const TunnelOptions& options, const Run& run) {
  const auto open = MakeOpen(options);
  if (!open.ok()) return run.FailUsage(std::string(open.status().message()));
  auto client = run.Connect();
  if (!client.ok()) return run.Fail(client.status());
  auto tunnel = (*client)->OpenTunnel(*open, run.Call());
  if (!tunnel.ok()) {
    return run.Fail(tunnel.status(), &open->upgrade().headers());
  }
  if (options.receipt) {
    run.io.err << "connection "
               << FormatConnection((*tunnel)->opened().connection()) << "\n"
               << FormatTimings((*tunnel)->opened().timings());
  }
  absl::StatusOr<v1::TunnelReceipt> receipt;
  {
    const Feeder feeder(run.io.in_fd, tunnel->get());
    if (!CopyOut(tunnel->get(), run.io.out_fd,
                 run.io.terminal_out && !options.raw)) {
      (*tunnel)->Cancel();
      run.io.err << "hotline: cannot write the output\n";
      return kExitFailed;
    }
    EndOutput(run.io.out_fd);
    receipt = (*tunnel)->Finish();
  }
  if (!receipt.ok()) return run.Fail(receipt.status());
  if (options.receipt) {
    run.io.err << "sent       " << receipt->bytes_sent() << " bytes\n"
               << "received   " << receipt->bytes_received() << " bytes\n";
  }
  return kExitOk;
}

void AddTargetOptions(CLI::App& command, TunnelOptions& tunnel) {
  command
      .add_option("target", tunnel.target,
                  "tls://host:port or tcp://host:port; with --upgrade "
                  "https://host[:port] or http://")
      ->type_name("TARGET");
  command
      .add_option("-l,--lease", tunnel.lease_id,
                  "Use this exclusive lease's connection, which is closed "
                  "afterwards")
      ->type_name("LEASE_ID");
}

void AddUpgradeOptions(CLI::App& command, TunnelOptions& tunnel) {
  command
      .add_option(
          "--upgrade", tunnel.upgrade,
          "Upgrade an HTTP/1.1 connection to this protocol, such as websocket")
      ->type_name("PROTOCOL");
  command
      .add_option("--path", tunnel.path,
                  "The path of the upgrade request (default: /)")
      ->type_name("PATH");
  command
      .add_option(
          "-H,--header", tunnel.headers,
          "A header of the upgrade request, 'Name: value'; may be repeated")
      ->type_name("HEADER")
      ->allow_extra_args(false)
      ->trigger_on_parse(false);
}

void AddOutputOptions(CLI::App& command, TunnelOptions& tunnel) {
  command.add_flag("-r,--receipt", tunnel.receipt,
                   "Report on standard error which connection was used and how "
                   "many bytes passed");
  command.add_flag("--raw", tunnel.raw,
                   "Write the upstream's bytes unescaped even to a terminal");
}

}  // namespace

absl::StatusOr<v1::TunnelOpen> MakeOpen(const TunnelOptions& tunnel) {
  v1::TunnelOpen open;
  open.set_target(tunnel.target);
  open.set_lease_id(tunnel.lease_id);
  if (!tunnel.sni.empty()) open.mutable_options()->set_sni(tunnel.sni);
  if (!tunnel.pool_group.empty()) {
    open.mutable_options()->set_pool_group(tunnel.pool_group);
  }
  if (!tunnel.alpn.empty()) open.mutable_options()->set_alpn(tunnel.alpn);
  if (!tunnel.idle_timeout.empty()) {
    *open.mutable_idle_timeout() = ToProto(*ParseDuration(tunnel.idle_timeout));
  }
  if (!tunnel.upgrade.empty()) {
    open.mutable_upgrade()->set_protocol(tunnel.upgrade);
    open.mutable_upgrade()->set_path(tunnel.path);
  }
  for (const std::string& text : tunnel.headers) {
    if (!ParseHeader(text, open.mutable_upgrade()->add_headers())) {
      return absl::InvalidArgumentError(
          absl::StrCat("-H wants 'Name: value', not '", text, "'"));
    }
  }
  return open;
}

void AddTunnelOptions(CLI::App& command, TunnelOptions& tunnel) {
  command
      .add_option(
          "--sni", tunnel.sni,
          "Server name sent and verified in TLS (default: the target's host)")
      ->type_name("NAME");
  command
      .add_option(
          "--pool-group", tunnel.pool_group,
          "Share connections only with callers that name the same group")
      ->type_name("NAME");
  command
      .add_option("--alpn", tunnel.alpn,
                  "The protocol to negotiate in TLS (default: none)")
      ->type_name("NAME");
  command
      .add_option("--idle-timeout", tunnel.idle_timeout,
                  "End after this time without traffic (default: the broker's)")
      ->type_name("TIME")
      ->check(IsDuration());
}

void AddTunnel(CLI::App& app, Run& run) {
  auto tunnel = std::make_shared<TunnelOptions>();
  CLI::App* command = app.add_subcommand(
      "tunnel", "Join standard input and output with an upstream");
  AddTargetOptions(*command, *tunnel);
  AddTunnelOptions(*command, *tunnel);
  AddUpgradeOptions(*command, *tunnel);
  AddOutputOptions(*command, *tunnel);
  command->footer(
      Examples("  hotline tunnel tcp://redis.example.com:6379\n  hotline "
               "tunnel --receipt tls://mail.example.com:993\n  hotline tunnel "
               "--upgrade websocket --path /chat -H 'Sec-WebSocket-Version: "
               "13' -H \"Sec-WebSocket-Key: $(openssl rand -base64 16)\" "
               "https://api.example.com\n\nEach direction ends separately: the "
               "end of standard input is passed on, and standard output is "
               "closed when the upstream has ended. There is no deadline "
               "unless --max-time is given. After an upgrade the bytes are the "
               "protocol's own, such as WebSocket frames.\n"));
  command->final_callback([tunnel, &run] {
    run.action = [tunnel, &run] { return RunTunnel(*tunnel, run); };
  });
}

}  // namespace hotline::client
