#include "server/daemon/successor.h"

#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/read_file.h"

namespace hotline::server {
namespace {

// As the process was started.
absl::StatusOr<std::vector<std::string>> OwnArguments() {
  constexpr size_t kMostBytes = 1 << 20;
  const auto text = ReadFile("/proc/self/cmdline", kMostBytes);
  if (!text.ok()) return text.status();
  std::vector<std::string> arguments;
  for (size_t from = 0; from < text->size();) {
    const size_t end = text->find('\0', from);
    if (end == std::string::npos) break;
    arguments.push_back(text->substr(from, end - from));
    from = end + 1;
  }
  if (arguments.empty()) return absl::InternalError("no arguments");
  return arguments;
}

}  // namespace

absl::Status Successor::Start() {
  Reap();
  if (pid_ != 0) {
    return absl::AlreadyExistsError(
        absl::StrCat("process ", pid_, " is about to take over"));
  }
  auto arguments = OwnArguments();
  if (!arguments.ok()) return arguments.status();
  std::vector<char*> argv;
  for (std::string& argument : *arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  // Our signals are blocked, and some are ignored.
  sigset_t none;
  sigset_t ignored;
  sigemptyset(&none);
  sigemptyset(&ignored);
  sigaddset(&ignored, SIGPIPE);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &ignored);
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  // Libraries open some descriptors without O_CLOEXEC.
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
  const int error =
      posix_spawnp(&pid_, argv[0], &files, &attributes, argv.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) {
    pid_ = 0;
    return absl::ErrnoToStatus(error, argv[0]);
  }
  HOTLINE_LOG(kInfo, "started a new process to take over", {{"pid", pid_}});
  return absl::OkStatus();
}

void Successor::Reap() {
  int status = 0;
  if (pid_ == 0 || waitpid(pid_, &status, WNOHANG) != pid_) return;
  const bool exited = WIFEXITED(status);
  HOTLINE_LOG(kError, "the new process has ended before it took over",
              {{"pid", pid_},
               {exited ? "exit_code" : "signal",
                exited ? WEXITSTATUS(status) : WTERMSIG(status)}});
  pid_ = 0;
}

}  // namespace hotline::server
