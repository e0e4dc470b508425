// `upstream`, `egress` and pool.probe_timeout. Part of config.
#ifndef HOTLINE_SERVER_CONFIG_UPSTREAM_H_
#define HOTLINE_SERVER_CONFIG_UPSTREAM_H_

#include "hotline/v1/config.pb.h"
#include "server/config/report.h"
#include "upstream/options.h"

namespace hotline::server {

// Everything but the TLS profiles (tls.h) and target_policy. `cores`: of the
// machine.
void ResolveUpstream(const v1::Config& config, int cores,
                     const ConfigReport& report, upstream::Options* out);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_CONFIG_UPSTREAM_H_
