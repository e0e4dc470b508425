// `listen` and `policy`. Part of config.
#ifndef HOTLINE_SERVER_CONFIG_FRONT_H_
#define HOTLINE_SERVER_CONFIG_FRONT_H_

#include "hotline/v1/config.pb.h"
#include "server/config/config.h"
#include "server/config/report.h"

namespace hotline::server {

// Fills out->front, out->http_listen and out->admin. Writes the default
// addresses to `listen`.
void ResolveListen(v1::Listen* listen, const ConfigReport& report,
                   Settings* out);

void ResolvePolicy(const v1::Policy& policy, const ConfigReport& report,
                   PolicyRules* rules);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_CONFIG_FRONT_H_
