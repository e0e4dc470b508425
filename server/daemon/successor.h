// The process that is to take over from this one, started by it.
//
// Thread safety: none.
#ifndef HOTLINE_SERVER_DAEMON_SUCCESSOR_H_
#define HOTLINE_SERVER_DAEMON_SUCCESSOR_H_

#include <sys/types.h>

#include "absl/status/status.h"

namespace hotline::server {

class Successor {
 public:
  // Starts the program of this process again, with the same arguments and
  // environment. It is looked up by the name that this process was started
  // with, so that a new version in its place is used.
  //
  // Errors: ALREADY_EXISTS while the one before runs; those of the system.
  absl::Status Start();

  // Logs its end, once it has ended; does not wait.
  void Reap();

 private:
  pid_t pid_ = 0;  // 0: none runs.
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_DAEMON_SUCCESSOR_H_
