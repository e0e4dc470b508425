// From the configuration to the upstream's options: plain translation.
#ifndef HOTLINE_SERVER_DAEMON_UPSTREAM_OPTIONS_H_
#define HOTLINE_SERVER_DAEMON_UPSTREAM_OPTIONS_H_

#include <memory>

#include "server/config/config.h"
#include "upstream/upstream.h"

namespace hotline::server {

// What is asked for each target, at each dial and probe, comes from the same
// `settings`, which it keeps.
upstream::Options UpstreamOptionsOf(std::shared_ptr<const Settings> settings);

// What only the upstream's room knows of a configuration.
ConfigChecks UpstreamChecks();

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_DAEMON_UPSTREAM_OPTIONS_H_
