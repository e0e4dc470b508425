// Restarts without a gap: what Daemon does to take over from another process,
// and to hand over to one.
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/log.h"
#include "server/daemon/daemon.h"
#include "server/daemon/systemd.h"

namespace hotline::server {
namespace {

// SIGTERM or SIGINT has arrived, and waits for ServeUntilSignalled.
bool StopIsPending() {
  sigset_t pending;
  sigemptyset(&pending);
  sigpending(&pending);
  return sigismember(&pending, SIGTERM) == 1 ||
         sigismember(&pending, SIGINT) == 1;
}

}  // namespace

// The new process.

absl::Status Daemon::FindPredecessor() {
  inherited_ = std::make_unique<InheritedSockets>();
  TakeSystemdSockets(inherited_.get());
  if (takeover_path_.empty()) return absl::OkStatus();
  auto found = Predecessor::Find(takeover_path_, geteuid());
  if (!found.ok()) return found.status();
  predecessor_ = *std::move(found);
  if (predecessor_ == nullptr) return absl::OkStatus();
  inherited_ = std::make_unique<InheritedSockets>(predecessor_->TakeSockets());
  HOTLINE_LOG(
      kInfo, "taking over",
      {{"pid", predecessor_->pid()}, {"sockets", inherited_->left().size()}});
  return absl::OkStatus();
}

absl::Status Daemon::AwaitWarm(Duration patience) {
  if (predecessor_ == nullptr) return absl::OkStatus();
  constexpr Duration kStep = std::chrono::milliseconds(20);
  const Instant end = SaturatingAdd(MonotonicNow(), patience);
  std::vector<std::string> missing = warm_->NotWarm();
  while (!missing.empty() && MonotonicNow() < end) {
    if (!predecessor_->AliveFor(kStep)) {
      return absl::UnavailableError(
          "cannot take over: the running process has ended");
    }
    if (StopIsPending()) return absl::CancelledError("stopped by a signal");
    missing = warm_->NotWarm();
  }
  if (!missing.empty()) {
    HOTLINE_LOG(kWarning, "taking over before everything is warm",
                {{"missing", absl::StrJoin(missing, "; ")}});
  }
  return absl::OkStatus();
}

absl::Status Daemon::TakeCharge() {
  if (!takeover_path_.empty()) {
    auto server =
        TakeoverServer::Start(takeover_path_, inherited_.get(), geteuid());
    if (!server.ok()) return server.status();
    takeover_ = *std::move(server);
  }
  if (predecessor_ != nullptr) {
    if (absl::Status done = predecessor_->Finish(); !done.ok()) return done;
    HOTLINE_LOG(kInfo, "took over", {{"pid", predecessor_->pid()}});
    predecessor_ = nullptr;
  }
  for (const ListeningSocket& socket : inherited_->left()) {
    HOTLINE_LOG(kWarning,
                "an inherited socket is closed: the configuration does not "
                "listen there",
                {{"address", socket.address}});
  }
  inherited_ = nullptr;
  SetOwnsFiles(true);
  NotifySystemd("READY=1");
  return absl::OkStatus();
}

void Daemon::SetOwnsFiles(bool owns) {
  front_->SetOwnsFiles(owns);
  if (admin_ != nullptr) admin_->SetOwnsFiles(owns);
  if (takeover_ != nullptr) takeover_->SetOwnsFile(owns);
}

// The old process.

int Daemon::AwaitSignal(const sigset_t& signals) const {
  // How soon a changed file is noticed.
  const timespec interval = {.tv_sec = 1, .tv_nsec = 0};
  if (takeover_ == nullptr) {
    return std::max(0, sigtimedwait(&signals, nullptr, &interval));
  }
  std::vector<pollfd> watched = takeover_->Watched();
  const int fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
  watched.push_back({.fd = fd, .events = POLLIN, .revents = 0});
  ppoll(watched.data(), watched.size(), &interval, nullptr);
  signalfd_siginfo info{};
  const bool any = read(fd, &info, sizeof info) == sizeof info;
  close(fd);
  return any ? static_cast<int>(info.ssi_signo) : 0;
}

void Daemon::StartSuccessor() {
  if (takeover_ == nullptr) {
    HOTLINE_LOG(kWarning, "SIGUSR2 is ignored: started without --takeover");
    return;
  }
  if (absl::Status started = successor_.Start(); !started.ok()) {
    HOTLINE_LOG(kError, "cannot start a new process",
                {{"error", started.message()}});
  }
}

HandOver Daemon::Offer() const {
  HandOver out;
  out.sockets = front_->sockets();
  if (admin_ != nullptr) {
    const auto& admin = admin_->sockets();
    out.sockets.insert(out.sockets.end(), admin.begin(), admin.end());
  }
  if (http_ != nullptr) {
    out.sockets.push_back({.fd = http_->listening_fd(),
                           .role = kHttpRole,
                           .address = started_->http_listen});
  }
  out.warm_set = warm_->CurrentSet(MonotonicNow());
  return out;
}

bool Daemon::HandOverIfTaken() {
  if (takeover_ == nullptr) return false;
  const std::optional<pid_t> successor =
      takeover_->Step(MonotonicNow(), [this] { return Offer(); });
  if (!successor.has_value()) return false;
  HOTLINE_LOG(kInfo, "handing over", {{"pid", *successor}});
  handed_over_ = true;
  SetOwnsFiles(false);
  // Callers that leave connect to the new process, which accepts by now.
  front_->StartDrain(current_.get()->shutdown_grace / 2);
  broker_->HandOver();
  if (admin_ != nullptr) admin_->CloseDoor();
  if (http_ != nullptr) http_->StopAccepting();
  // Before this process ends, or even is seen to drain.
  if (*successor > 0) NotifySystemd(absl::StrCat("MAINPID=", *successor));
  takeover_->Acknowledge();
  takeover_ = nullptr;
  return true;
}

void Daemon::AwaitGoneCallers(const sigset_t& signals, Instant end) {
  const Instant start = MonotonicNow();
  bool leaving = false;
  AwaitDrained(signals, end, [&] {
    if (!leaving && MonotonicNow() >= start + (end - start) / 2) {
      leaving = true;
      broker_->LeaveSessions();
    }
    return front_->idle();
  });
}

}  // namespace hotline::server
