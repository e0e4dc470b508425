// Makes events of what the pool and the upstream report.
#ifndef HOTLINE_SERVER_BROKER_EVENT_SOURCES_H_
#define HOTLINE_SERVER_BROKER_EVENT_SOURCES_H_

#include <cstdint>
#include <string>

#include "pool/pool.h"
#include "server/broker/event_log.h"
#include "server/broker/overload.h"
#include "upstream/upstream.h"

namespace hotline::server {

// For the pool: adds its events to `log`, which must outlive it.
pool::EventFn EventsInto(EventLog* log);

// The same for the upstream.
upstream::Upstream::Observer ObserverInto(EventLog* log);

// A call was refused, see Overload::ShedFn.
void AddShed(Shed why, int64_t limit, uint64_t others, EventLog* log);

// For tests.
Event EventOf(const pool::PoolEvent& event);
Event EventOf(const std::string& target, const upstream::AddressEvent& event);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_EVENT_SOURCES_H_
