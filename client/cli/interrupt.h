// Ends a command that runs until Ctrl-C.
#ifndef HOTLINE_CLIENT_CLI_INTERRUPT_H_
#define HOTLINE_CLIENT_CLI_INTERRUPT_H_

#include <signal.h>

#include <atomic>

#include "base/time.h"

namespace hotline::client {

// While it exists, SIGINT and SIGTERM do not end the process but set `flag`
// and make `fd` readable. A second signal ends the process. At most one exists
// at a time.
class Interruptible {
 public:
  Interruptible();
  ~Interruptible();
  Interruptible(const Interruptible&) = delete;
  Interruptible& operator=(const Interruptible&) = delete;

  const std::atomic<bool>& flag() const { return flag_; }
  int fd() const { return fd_; }

  // Waits that long, less if a signal arrives or `input` (-1: none) becomes
  // readable.
  void Wait(Duration most, int input = -1) const;

 private:
  static void OnSignal(int signal);

  static std::atomic<Interruptible*> current_;
  const int fd_;
  std::atomic<bool> flag_{false};
  struct sigaction interrupt_before_ = {};
  struct sigaction terminate_before_ = {};
};

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_CLI_INTERRUPT_H_
