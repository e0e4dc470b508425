// The exit codes of the command line.
#ifndef HOTLINE_CLIENT_CLI_EXIT_CODE_H_
#define HOTLINE_CLIENT_CLI_EXIT_CODE_H_

#include "absl/status/status.h"

namespace hotline::client {

enum ExitCode : int {
  kExitOk = 0,
  kExitFailed = 1,
  kExitUsage = 2,
  kExitUnreachable = 3,
  kExitRefused = 4,
  kExitDeadline = 5,
  kExitUpstream = 6,
  kExitNotFound = 7,
  kExitHttpError = 8,
};

// The same, for --help and the man page: one line each.
inline constexpr char kExitCodesHelp[] =
    "  0  done\n"
    "  1  failed for another reason; health: not serving\n"
    "  2  wrong usage, or the broker rejected an argument\n"
    "  3  the broker cannot be reached\n"
    "  4  the broker refused: not allowed, draining, overloaded, quota, queue\n"
    "     full, nothing idle, circuit open, lease busy\n"
    "  5  the deadline passed, in the queue or upstream\n"
    "  6  the upstream failed: name, connection, certificate, reset\n"
    "  7  no such lease or connection, or it has ended; no such target\n"
    "  8  get --fail: the upstream's status is 400 or above\n";

// Of a call's status. The reason decides where a code has several meanings:
// DRAINING and CONNECT_FAILED are both UNAVAILABLE.
ExitCode ExitCodeFor(const absl::Status& status);

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_CLI_EXIT_CODE_H_
