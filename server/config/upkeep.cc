#include "server/config/upkeep.h"

#include "server/broker/proto_time.h"

namespace hotline::server {

void ResolveUpkeep(const v1::Pool& in, TargetSettings* out) {
  out->pool.breaker_failures = in.breaker_failures();
  out->pool.breaker_open_for = FromProto(in.breaker_open_for());
  out->pool.desync_limit = in.desync_limit();
}

RewarmSettings ResolveRewarm(const v1::Rewarm& in) {
  return {.file = in.file(),
          .interval = FromProto(in.interval()),
          .dials_per_second = in.dials_per_second(),
          .patience = FromProto(in.patience()),
          .ready_when_warm = in.ready_when_warm()};
}

void ResolveUpkeep(const v1::Target& in, TargetSettings* out) {
  out->ready_when_warm = in.ready_when_warm();
  out->pool.warm_max = in.warm_max();
  if (in.has_probe()) {
    out->pool.probe_fall = in.probe().fall();
    out->pool.probe_rise = in.probe().rise();
  }
  out->pool.deadline_admission = in.deadline_admission();
  if (in.has_cool_down()) {
    const v1::CoolDown& cool = in.cool_down();
    out->cool_down = {
        .statuses = {cool.statuses().begin(), cool.statuses().end()},
        .retry_after = cool.retry_after(),
        .length = FromProto(cool.length()),
        .max_length = FromProto(cool.max_length())};
  }
  if (in.has_desync_limit()) out->pool.desync_limit = in.desync_limit();
  if (in.has_breaker_failures()) {
    out->pool.breaker_failures = in.breaker_failures();
  }
  if (in.has_breaker_open_for()) {
    out->pool.breaker_open_for = FromProto(in.breaker_open_for());
  }
}

}  // namespace hotline::server
