// From the configuration to the upstream's options: plain translation.
#ifndef HOTLINE_SERVER_UPSTREAM_OPTIONS_H_
#define HOTLINE_SERVER_UPSTREAM_OPTIONS_H_

#include <functional>
#include <memory>

#include "server/config.h"
#include "upstream/upstream.h"

namespace hotline::server {

// The settings in force now. Thread-safe.
using SettingsFn = std::function<std::shared_ptr<const Settings>()>;

// Of `settings`; what is asked for each target comes from `current`, at each
// dial and probe.
upstream::Options UpstreamOptionsOf(const Settings& settings,
                                    SettingsFn current);

// What only the upstream's room knows of a configuration.
ConfigChecks UpstreamChecks();

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_UPSTREAM_OPTIONS_H_
