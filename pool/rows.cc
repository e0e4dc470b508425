#include "pool/rows.h"

#include <algorithm>

namespace hotline::pool {

TargetRow RowOf(const Target& target, Instant now) {
  TargetRow row;
  row.target = target.name();
  row.connections = target.counts();
  row.idle = target.idle();
  row.max_connections = target.config().max_connections;
  row.waiters = target.waiters();
  row.admission = target.admission();
  row.reconnecting = target.renewing();
  row.leases = target.leases();
  row.warm_deficit = target.WarmDeficit();
  target.health().FillRow(now, &row);
  row.counters = target.counters();
  Instant oldest = now;
  for (const auto& pool : target.pools()) {
    oldest = std::min(oldest, pool->OldestArrival(now));
  }
  row.oldest_wait = now - oldest;
  return row;
}

ConnectionRow RowOf(const ConnRecord& conn, const IdCodec& ids, Instant now) {
  ConnectionRow row;
  row.id = ids.Encode(conn);
  row.key = conn.pool->key();
  row.state = conn.state;
  row.active = conn.active;
  row.limit = conn.limit;
  const bool open = conn.state != ConnState::kDialing;
  row.age = now - (open ? conn.ready_since : conn.dial_began);
  if (conn.state == ConnState::kReady && conn.active == 0) {
    row.idle = now - conn.idle_since;
  }
  row.uses = conn.uses;
  row.errors = conn.errors;
  return row;
}

LeaseRow RowOf(const Lease& lease, const IdCodec& ids, Instant now) {
  LeaseRow row;
  row.id = ids.Encode(lease);
  row.target = lease.conn->pool->key().target;
  row.mode = lease.conn->pool->key().mode;
  row.conn = ids.Encode(*lease.conn);
  if (lease.holder != nullptr) row.holder = *lease.holder;
  row.owner = lease.owner;
  row.granted = lease.granted;
  row.age = std::max(Duration(0), now - lease.granted);
  row.busy = lease.busy();
  if (lease.expires != kNever) row.remaining = lease.expires - now;
  return row;
}

}  // namespace hotline::pool
