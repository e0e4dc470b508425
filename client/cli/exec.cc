// `hotline exec`: a lease for as long as a command runs.
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "client/cli/child.h"
#include "client/cli/command.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "client/cli/leases.h"

namespace hotline::client {
namespace {

// As env and timeout: the command itself has not run.
constexpr int kExitNoLease = 125;
constexpr int kExitCannotRun = 126;
constexpr int kExitNoCommand = 127;
constexpr char kDefaultTtl[] = "30s";
constexpr Duration kShortestTtl = std::chrono::seconds(1);

struct ExecOptions {
  AcquireOptions acquire;
  std::vector<std::string> words;
};

// Renews a lease three times in its time to live, on a thread of its own.
class Renewer {
 public:
  Renewer(Lease* lease, Duration ttl, const Run& run)
      : lease_(lease), ttl_(ttl), run_(run), thread_([this] { Work(); }) {}
  ~Renewer() {
    {
      MutexLock lock(&mu_);
      stop_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  Renewer(const Renewer&) = delete;
  Renewer& operator=(const Renewer&) = delete;

 private:
  // False: the end.
  bool Pause() {
    const Instant until = MonotonicNow() + ttl_ / 3;
    MutexLock lock(&mu_);
    while (!stop_ && MonotonicNow() < until) lock.WaitUntil(&changed_, until);
    return !stop_;
  }

  void Work() {
    while (Pause()) {
      const absl::Status status = lease_->Renew(ttl_, {.timeout = ttl_ / 3});
      if (!absl::IsNotFound(status)) continue;  // A later one may succeed.
      run_.io.err << "hotline: the lease has ended before the command: "
                  << FormatError(status, run_.address) << std::flush;
      return;
    }
  }

  Lease* const lease_;
  const Duration ttl_;
  const Run& run_;
  Mutex mu_;
  std::condition_variable changed_;
  bool stop_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

// The broker may have shortened the time to live. Its clock may differ.
Duration TtlOf(const ExecOptions& options, const v1::AcquireResponse& answer) {
  const auto& expiry = answer.lease().expire_time();
  const Duration left = std::chrono::seconds(expiry.seconds()) +
                        std::chrono::nanoseconds(expiry.nanos()) -
                        std::chrono::system_clock::now().time_since_epoch();
  return std::min(*ParseDuration(options.acquire.ttl),
                  std::max(left, kShortestTtl));
}

int RunWithLease(const ExecOptions& options, SignalForwarder& signals,
                 Lease& lease, const Run& run) {
  const std::map<std::string, std::string> variables = {
      {"HOTLINE_ADDRESS", run.address},
      {"HOTLINE_LEASE", lease.id()},
      {"HOTLINE_URL", options.acquire.target}};
  const Renewer renewer(&lease, TtlOf(options, lease.answer()), run);
  const auto code = signals.Run(options.words, variables);
  if (code.ok()) return *code;
  run.FailUsage(absl::StrCat("exec: ", std::string(code.status().message())));
  return absl::IsNotFound(code.status()) ? kExitNoCommand : kExitCannotRun;
}

int RunExec(const ExecOptions& options, const Run& run) {
  // Before the threads that the client starts.
  SignalForwarder signals;
  auto client = run.Connect();
  if (!client.ok()) {
    run.Fail(client.status());
    return kExitNoLease;
  }
  auto lease = (*client)->Acquire(MakeAcquire(options.acquire), run.Call());
  if (!lease.ok()) {
    run.Fail(lease.status());
    return kExitNoLease;
  }
  ReportAcquired(options.acquire, lease->answer(), run);
  const int code = RunWithLease(options, signals, *lease, run);
  // A lease that cannot be released expires.
  lease->Release().IgnoreError();
  return code;
}

}  // namespace

void AddExec(CLI::App& app, Run& run) {
  auto options = std::make_shared<ExecOptions>();
  options->acquire.ttl = kDefaultTtl;
  CLI::App* command =
      app.add_subcommand("exec", "Hold a lease for as long as a command runs");
  AddAcquireOptions(*command, options->acquire);
  command
      ->add_option("cmd", options->words,
                   "The command and its arguments, after --")
      ->required()
      ->type_name("CMD");
  command->footer(Examples(
      "  hotline exec https://api.example.com -- sh -c 'hotline get --lease "
      "\"$HOTLINE_LEASE\" \"$HOTLINE_URL/v1/things\"'\n"
      "  hotline exec --exclusive --purpose migration "
      "tcp://db.example.com:5432 -- sh -c 'hotline tunnel --lease "
      "\"$HOTLINE_LEASE\"'\n"
      "\nThe command's environment has HOTLINE_LEASE (the lease's id), "
      "HOTLINE_URL (TARGET) and HOTLINE_ADDRESS (the broker). The lease is "
      "renewed while the command runs, and released when it ends. Signals are "
      "passed on to it. --max-time limits the wait for the lease.\n\n"
      "Exit status: the command's; 128 + N if signal N ended it; 125 without a "
      "lease, 126 if the command cannot be run, 127 if it does not exist.\n"));
  command->final_callback([options, &run] {
    run.action = [options, &run] { return RunExec(*options, run); };
  });
}

}  // namespace hotline::client
