#include "client/cli/child.h"

#include <poll.h>
#include <spawn.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "absl/strings/str_cat.h"

extern char** environ;

namespace hotline::client {
namespace {

std::vector<char*> Pointers(std::vector<std::string>& words) {
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  return pointers;
}

// Ours, without the variables that are replaced.
std::vector<std::string> Environment(
    const std::map<std::string, std::string>& variables) {
  std::vector<std::string> all;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string text = *variable;
    if (variables.count(text.substr(0, text.find('='))) == 0) {
      all.push_back(text);
    }
  }
  for (const auto& [name, value] : variables) {
    all.push_back(absl::StrCat(name, "=", value));
  }
  return all;
}

}  // namespace

SignalForwarder::SignalForwarder() {
  sigemptyset(&passed_on_);
  for (const int signal :
       {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2}) {
    sigaddset(&passed_on_, signal);
  }
  pthread_sigmask(SIG_BLOCK, &passed_on_, &before_);
}

SignalForwarder::~SignalForwarder() {
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

int SignalForwarder::Spawn(const std::vector<std::string>& words,
                           const std::map<std::string, std::string>& variables,
                           pid_t* child) {
  std::vector<std::string> arguments = words;
  std::vector<std::string> environment = Environment(variables);
  // The child has the mask of before, and the default for what we ignore.
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  posix_spawnattr_setsigmask(&attributes, &before_);
  sigset_t defaults;
  sigemptyset(&defaults);
  sigaddset(&defaults, SIGPIPE);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  const int error =
      posix_spawnp(child, arguments.front().c_str(), nullptr, &attributes,
                   Pointers(arguments).data(), Pointers(environment).data());
  posix_spawnattr_destroy(&attributes);
  return error;
}

int SignalForwarder::Wait(pid_t child) const {
  // glibc 2.36 declares its pidfd_open for C alone.
  const int ended = static_cast<int>(syscall(SYS_pidfd_open, child, 0));
  const int signals = signalfd(-1, &passed_on_, SFD_CLOEXEC | SFD_NONBLOCK);
  for (;;) {
    pollfd ready[] = {{ended, POLLIN, 0}, {signals, POLLIN, 0}};
    poll(ready, 2, -1);
    signalfd_siginfo info;
    while (read(signals, &info, sizeof info) == sizeof info) {
      // The terminal's signals reach the whole foreground group.
      if (info.ssi_code == SI_KERNEL) continue;
      kill(child, static_cast<int>(info.ssi_signo));
    }
    if (ready[0].revents != 0) break;
  }
  close(ended);
  close(signals);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

absl::StatusOr<int> SignalForwarder::Run(
    const std::vector<std::string>& words,
    const std::map<std::string, std::string>& variables) {
  pid_t child = 0;
  const int error = Spawn(words, variables, &child);
  if (error == 0) return Wait(child);
  const std::string text =
      absl::StrCat("cannot run ", words.front(), ": ", std::strerror(error));
  return error == ENOENT ? absl::NotFoundError(text)
                         : absl::FailedPreconditionError(text);
}

}  // namespace hotline::client
