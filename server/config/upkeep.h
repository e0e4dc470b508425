// How good connections are got and kept: the keys of pool and targets that say
// so. Part of config.
#ifndef HOTLINE_SERVER_CONFIG_UPKEEP_H_
#define HOTLINE_SERVER_CONFIG_UPKEEP_H_

#include "hotline/v1/config.pb.h"
#include "server/config/config.h"

namespace hotline::server {

// What holds for every target.
void ResolveUpkeep(const v1::Pool& in, TargetSettings* out);

RewarmSettings ResolveRewarm(const v1::Rewarm& in);

// What one target says of its own, over what `out` has from the pool's.
void ResolveUpkeep(const v1::Target& in, TargetSettings* out);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_CONFIG_UPKEEP_H_
