// Whether a valid configuration can be used on this machine.
#ifndef HOTLINE_SERVER_DAEMON_START_CHECK_H_
#define HOTLINE_SERVER_DAEMON_START_CHECK_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/config/config.h"

namespace hotline::server {

// The checks of LoadConfig that need a library which config does not see; for a
// reload.
ConfigChecks ChecksOfStart();

// The same and CheckMachine: for a start, and for --check-config, which does
// this and nothing else, so that both find the same faults.
ConfigChecks ChecksOfMachine();

// Reads files and tries addresses, but changes nothing; an address in use is
// not a fault, so that a running process does not matter.
//
// Faults are those that prevent a start: the listener's certificates, key and
// authorities; the addresses to listen on; everything that
// Upstream::CheckOptions refuses. Warnings are of what a process would start
// with, but not do.
std::vector<KeyFault> CheckMachine(const Settings& settings);

// CheckMachine for settings that are in force.
//
// Errors: FAILED_PRECONDITION with the faults, one per line. `warnings` gets
// the others.
absl::Status CheckStart(const std::shared_ptr<const Settings>& settings,
                        std::vector<std::string>* warnings);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_DAEMON_START_CHECK_H_
