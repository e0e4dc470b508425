// Runs a program, and passes signals on to it.
#ifndef HOTLINE_CLIENT_CLI_CHILD_H_
#define HOTLINE_CLIENT_CLI_CHILD_H_

#include <signal.h>
#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace hotline::client {

// Blocks the signals that a child gets, in this thread and those that it
// starts, while it exists. At most one exists at a time.
class SignalForwarder {
 public:
  SignalForwarder();
  ~SignalForwarder();
  SignalForwarder(const SignalForwarder&) = delete;
  SignalForwarder& operator=(const SignalForwarder&) = delete;

  // Runs a program, found in PATH, with the variables added to the
  // environment, and waits for its end. Meanwhile SIGINT, SIGTERM, SIGHUP,
  // SIGQUIT, SIGUSR1 and SIGUSR2 are passed on, but for those that the terminal
  // sends to both. Returns its exit code, or 128 + N if signal N ended it.
  // Errors: NOT_FOUND; FAILED_PRECONDITION if it cannot be run.
  // REQUIRES: `words` is not empty.
  absl::StatusOr<int> Run(const std::vector<std::string>& words,
                          const std::map<std::string, std::string>& variables);

 private:
  // 0, or an errno.
  int Spawn(const std::vector<std::string>& words,
            const std::map<std::string, std::string>& variables, pid_t* child);
  int Wait(pid_t child) const;

  sigset_t passed_on_;
  sigset_t before_;
};

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_CLI_CHILD_H_
