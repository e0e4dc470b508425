// From snapshots to the answer of Stats.
#ifndef HOTLINE_SERVER_BROKER_STATS_VIEW_H_
#define HOTLINE_SERVER_BROKER_STATS_VIEW_H_

#include <string>
#include <vector>

#include "base/time.h"
#include "hotline/v1/broker.pb.h"
#include "pool/snapshot.h"
#include "server/broker/call_metrics.h"
#include "server/broker/error.h"

namespace hotline::server {

// Fills the view and the page asked for. `target` is canonical, or empty for
// all. The request has been validated but for its page token.
//
// Pages are cut by key (the target's name, the connection's id, the lease's
// start and id), not by position: rows that come or go between two pages move
// no others. No two rows have the same key, and none changes while its row
// lives: so what lives through the whole listing is listed once.
ErrorPtr FillStats(const v1::StatsRequest& request, const std::string& target,
                   const pool::Snapshot& snapshot,
                   const std::vector<CallMetrics::Row>& executes,
                   v1::StatsResponse* response);

// Eight hexadecimal digits.
std::string InstanceName(uint32_t instance);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_STATS_VIEW_H_
