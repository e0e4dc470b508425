// Whether a valid configuration can be used on this machine.
#ifndef HOTLINE_SERVER_DAEMON_START_CHECK_H_
#define HOTLINE_SERVER_DAEMON_START_CHECK_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/config/config.h"

namespace hotline::server {

// The checks of LoadConfig that need a library which config does not see.
ConfigChecks ChecksOfStart();

// Runs before every start; --check-config does this and nothing else, so that
// it finds the same faults. Reads files and tries addresses, but changes
// nothing; an address in use is not a fault, so that a running process does not
// matter.
//
// Errors: FAILED_PRECONDITION with every fault that prevents a start, one per
// line, each with its file or address: the listener's certificates, key and
// authorities; the addresses to listen on; authorities and certificates of TLS
// profiles, and everything else that Upstream::CheckOptions refuses. `warnings`
// gets faults that do not prevent it.
absl::Status CheckStart(const std::shared_ptr<const Settings>& settings,
                        std::vector<std::string>* warnings);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_DAEMON_START_CHECK_H_
