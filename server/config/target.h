// `pool`, `targets` and `rewarm`. Part of config.
#ifndef HOTLINE_SERVER_CONFIG_TARGET_H_
#define HOTLINE_SERVER_CONFIG_TARGET_H_

#include "hotline/v1/config.pb.h"
#include "server/config/config.h"
#include "server/config/report.h"
#include "server/config/tls.h"

namespace hotline::server {

// Fills out->pool, the defaults of every target, and how long leases live.
// `cores`: of the machine. Lowers a default of lease_ttl to max_lease_ttl.
void ResolvePool(v1::Pool* pool, int cores, const ConfigReport& report,
                 Settings* out);

RewarmSettings ResolveRewarm(const v1::Rewarm& in);

// Fills out->targets from config->targets(), over the defaults of ResolvePool.
void ResolveTargets(v1::Config* config, const ConfigReport& report,
                    const TlsProfileRules& tls, Settings* out);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_CONFIG_TARGET_H_
