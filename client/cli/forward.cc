// `hotline forward`: a local port or socket, each of whose connections is a
// tunnel.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <list>
#include <memory>
#include <string>
#include <thread>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "base/text.h"
#include "base/url.h"
#include "client/cli/command.h"
#include "client/cli/exit_code.h"
#include "client/cli/interrupt.h"
#include "client/cli/local_listener.h"
#include "client/cli/pump.h"
#include "client/cli/tunnel.h"

namespace hotline::client {
namespace {

// How often finished connections are looked for.
constexpr Duration kReap = std::chrono::milliseconds(200);

struct ForwardOptions {
  std::string local;
  TunnelOptions tunnel;
  int max_connections = 64;
};

// What all connections share.
struct Forward {
  const v1::TunnelOpen open;
  BrokerClient& client;
  const Run& run;
  Mutex mu;  // For run.io.err.
};

// One local connection and its tunnel, served by a thread of its own.
class Forwarded {
 public:
  // Takes `fd` over.
  Forwarded(int fd, Forward* forward)
      : fd_(fd), forward_(forward), thread_([this] { Run(); }) {}
  // Ends the tunnel. Waits for one that is being opened.
  ~Forwarded() {
    Cancel();
    thread_.join();
  }
  Forwarded(const Forwarded&) = delete;
  Forwarded& operator=(const Forwarded&) = delete;

  bool done() const { return done_; }
  void Cancel() {
    MutexLock lock(&mu_);
    cancelled_ = true;
    if (tunnel_ != nullptr) tunnel_->Cancel();
    // The local program may not read what is being written to it.
    if (open_) shutdown(fd_, SHUT_RDWR);
  }

 private:
  void Run() {
    const absl::Status status = Serve();
    if (!status.ok() && !cancelled_) {
      // The local program sees a reset: what it has may be incomplete.
      const linger reset = {.l_onoff = 1, .l_linger = 0};
      setsockopt(fd_, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
      MutexLock lock(&forward_->mu);
      forward_->run.Fail(status);
    }
    MutexLock lock(&mu_);
    close(fd_);
    open_ = false;
    done_ = true;
  }

  absl::Status Serve() {
    auto tunnel =
        forward_->client.OpenTunnel(forward_->open, forward_->run.Call());
    if (!tunnel.ok()) return tunnel.status();
    {
      MutexLock lock(&mu_);
      tunnel_ = tunnel->get();
      if (cancelled_) tunnel_->Cancel();
    }
    const absl::Status status = Copy(**tunnel);
    MutexLock lock(&mu_);
    tunnel_ = nullptr;
    return status;
  }

  absl::Status Copy(Tunnel& tunnel) {
    // A descriptor of its own, which EndOutput replaces.
    const int out = fcntl(fd_, F_DUPFD_CLOEXEC, 0);
    const Feeder feeder(fd_, &tunnel);
    if (CopyOut(&tunnel, out, /*escaped=*/false)) {
      EndOutput(out);
    } else {
      tunnel.Cancel();
    }
    const absl::Status status = tunnel.Finish().status();
    close(out);
    return status;
  }

  const int fd_;
  Forward* const forward_;
  Mutex mu_;
  Tunnel* tunnel_ ABSL_GUARDED_BY(mu_) = nullptr;  // Null: not open.
  bool open_ ABSL_GUARDED_BY(mu_) = true;          // fd_ is.
  std::atomic<bool> cancelled_{false};
  std::atomic<bool> done_{false};
  std::thread thread_;
};

void Serve(const LocalListener& listener, size_t max_connections,
           Forward* forward) {
  const Interruptible interruptible;
  std::list<Forwarded> connections;
  while (!interruptible.flag()) {
    connections.remove_if([](const Forwarded& one) { return one.done(); });
    const bool room = connections.size() < max_connections;
    interruptible.Wait(kReap, room ? listener.fd() : -1);
    if (!room || interruptible.flag()) continue;
    if (const int fd = listener.Accept(); fd >= 0) {
      connections.emplace_back(fd, forward);
    }
  }
  // All at once, so that the end takes as long as that of one.
  for (Forwarded& connection : connections) connection.Cancel();
}

int RunForward(const ForwardOptions& options, const Run& run) {
  ParsedTarget target;
  if (ParseTarget(options.tunnel.target, &target) || !target.raw) {
    return run.FailUsage(
        absl::StrCat("forward: TARGET is tls://host:port or tcp://host:port, "
                     "not ",
                     options.tunnel.target));
  }
  const auto open = MakeOpen(options.tunnel);
  if (!open.ok()) return run.FailUsage(std::string(open.status().message()));
  auto client = run.Connect();
  if (!client.ok()) return run.Fail(client.status());
  const auto listener = LocalListener::Open(options.local);
  if (!listener.ok()) {
    const int code = run.FailUsage(
        absl::StrCat("forward: ", std::string(listener.status().message())));
    return absl::IsInvalidArgument(listener.status()) ? code : kExitFailed;
  }
  run.io.out << "forwarding " << Printable((*listener)->address()) << " to "
             << Printable(options.tunnel.target) << std::endl;
  Forward forward{.open = *open, .client = **client, .run = run, .mu = {}};
  Serve(**listener, static_cast<size_t>(options.max_connections), &forward);
  return kExitOk;
}

}  // namespace

void AddForward(CLI::App& app, Run& run) {
  auto options = std::make_shared<ForwardOptions>();
  CLI::App* command = app.add_subcommand(
      "forward", "Listen locally, and tunnel each connection to an upstream");
  command
      ->add_option("local", options->local,
                   "A port of 127.0.0.1 (0: a free one, which is printed), a "
                   "loopback address and port, or unix:///path")
      ->required()
      ->type_name("LOCAL");
  command
      ->add_option("target", options->tunnel.target,
                   "tls://host:port or tcp://host:port")
      ->required()
      ->type_name("TARGET");
  AddTunnelOptions(*command, options->tunnel);
  command
      ->add_option("--max-connections", options->max_connections,
                   "Connections at a time; others wait to be accepted")
      ->type_name("N")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  command->footer(Examples(
      "  hotline forward 5432 tcp://db.example.com:5432\n"
      "  hotline forward unix:///tmp/redis.sock tls://redis.example.com:6380\n"
      "\nEvery program that can connect to LOCAL uses the upstream as you: a "
      "port is open to all users of this machine, a socket to you alone. "
      "Ctrl-C "
      "ends the tunnels; a second one does not wait for those being opened. "
      "--max-time applies to each connection.\n"));
  command->final_callback([options, &run] {
    run.action = [options, &run] { return RunForward(*options, run); };
  });
}

}  // namespace hotline::client
