#include "server/config_upkeep.h"

#include "server/proto_time.h"

namespace hotline::server {

void ResolveUpkeep(const v1::Pool& in, TargetSettings* out) {
  out->pool.breaker_failures = in.breaker_failures();
  out->pool.breaker_open_for = FromProto(in.breaker_open_for());
}

void ResolveUpkeep(const v1::Target& in, TargetSettings* out) {
  if (in.has_breaker_failures()) {
    out->pool.breaker_failures = in.breaker_failures();
  }
  if (in.has_breaker_open_for()) {
    out->pool.breaker_open_for = FromProto(in.breaker_open_for());
  }
}

}  // namespace hotline::server
