// hotlined: flags, the configuration, and the start of the process.
//
// The main thread runs the Daemon: it waits for signals and carries no traffic.

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "base/commit.h"
#include "base/library_log/library_log.h"
#include "base/log.h"
#include "base/version.h"
#include "server/config/config.h"
#include "server/daemon/build_facts.h"
#include "server/daemon/daemon.h"
#include "server/daemon/start_check.h"

namespace hotline::server {
namespace {

// Exit codes, as --help lists them.
constexpr int kExitOk = 0;
constexpr int kExitFailure = 1;
constexpr int kExitUsage = 2;

// Every connection needs a descriptor.
void RaiseDescriptorLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

// Of --version: the version, and below it the commit and the libraries.
std::string VersionText() {
  std::string text = absl::StrCat("hotlined ", kVersion);
  for (const auto& [name, version] : BuildFacts()) {
    absl::StrAppend(&text, "\n", name, " ", version);
  }
  return text;
}

int Serve(std::string config_path, std::string takeover_path,
          std::shared_ptr<const Settings> settings) {
  // Before the first thread is started, so that all threads inherit the mask
  // and only the main thread receives them.
  sigset_t signals;
  sigemptyset(&signals);
  for (int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR2}) {
    sigaddset(&signals, signal);
  }
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  RaiseDescriptorLimit();

  SetLogLevel(settings->log_level);
  SetLogFormat(settings->log_format);
  FlushLogOnCrash();
  HOTLINE_LOG(
      kInfo, "starting",
      {{"version", kVersion},
       {"commit", kCommit},
       {"configuration", config_path.empty() ? std::string_view("defaults")
                                             : std::string_view(config_path)}});
  for (const std::string& warning : settings->warnings) {
    HOTLINE_LOG(kWarning, warning);
  }
  Daemon daemon(std::move(config_path), std::move(settings),
                std::move(takeover_path));
  if (const absl::Status status = daemon.Start(); !status.ok()) {
    HOTLINE_LOG(kError, "cannot start", {{"error", status.message()}});
    return kExitFailure;
  }
  daemon.ServeUntilSignalled(signals);
  daemon.Drain(signals);
  return kExitOk;
}

int Check(const Settings& settings) {
  for (const std::string& warning : settings.warnings) {
    std::fprintf(stderr, "%s\n", warning.c_str());
  }
  std::fputs(settings.effective_yaml.c_str(), stdout);
  return kExitOk;
}

// Loads the configuration; then checks it, or serves with it.
int Run(const std::string& config_path, const std::string& takeover_path,
        bool check_only) {
  absl::StatusOr<Settings> loaded =
      config_path.empty()
          ? ParseConfig("", "defaults", /*cores=*/0, ChecksOfMachine())
          : LoadConfig(config_path, /*cores=*/0, ChecksOfMachine());
  if (!loaded.ok()) {
    const std::string message(loaded.status().message());
    std::fprintf(stderr, "%s\n", message.c_str());
    return kExitFailure;
  }
  auto settings = std::make_shared<const Settings>(*std::move(loaded));
  return check_only ? Check(*settings)
                    : Serve(config_path, takeover_path, std::move(settings));
}

int Main(int argc, char** argv) {
  // The distribution's Abseil checks every lock that gRPC takes for cycles: a
  // debugging aid that costs a few percent of a call.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  TakeLibraryLogs();
  CLI::App app{
      "hotlined keeps connections to upstream servers hot and lends them out "
      "over gRPC.",
      "hotlined"};
  app.footer(
      "Signals: SIGTERM and SIGINT drain and exit (a second one exits at "
      "once);\n"
      "SIGHUP reloads the configuration, as does a change of the file;\n"
      "SIGUSR2 starts the program again, to take over (needs --takeover).\n"
      "Exit codes: 0 stopped or valid, 1 cannot start or invalid, 2 usage.");
  std::string config_path;
  bool check_only = false;
  app.add_option("--config", config_path,
                 "YAML configuration (default: none; every key has a default)")
      ->type_name("FILE");
  std::string takeover_path;
  app.add_option("--takeover", takeover_path,
                 "Unix socket for restarts without a gap: takes the listening "
                 "sockets over from the hotlined that was started with the "
                 "same path, which then drains and exits")
      ->type_name("PATH");
  app.add_flag(
      "--check-config", check_only,
      "check the configuration, print it with every default, and exit");
  app.set_version_flag("--version", VersionText());
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  return Run(config_path, takeover_path, check_only);
}

}  // namespace
}  // namespace hotline::server

int main(int argc, char** argv) { return hotline::server::Main(argc, argv); }
