// What a start needs of the machine, beyond a configuration that makes sense.
#ifndef HOTLINE_SERVER_DAEMON_START_CHECK_H_
#define HOTLINE_SERVER_DAEMON_START_CHECK_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/config/config.h"

namespace hotline::server {

// Every start begins with it, and --check-config is nothing else: so the second
// finds what the first would. Files are read and addresses tried; nothing is
// changed, and addresses in use are no fault, so a process may be serving on
// them.
//
// Errors: what a start cannot do without, one per line, each with the file or
// address: the listener's certificates, key and authorities; the addresses it
// is to listen on; authorities and certificates of TLS profiles, and what else
// the upstream's room refuses. `warnings` gets what a start can do with, and is
// probably not meant.
absl::Status CheckStart(const std::shared_ptr<const Settings>& settings,
                        std::vector<std::string>* warnings);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_DAEMON_START_CHECK_H_
