// Builds the response of Stats from snapshots. Pure.
//
// Pages are cut by key (the target's name, the connection's id, the lease's
// start and id), not by position, so rows that appear or vanish between two
// pages do not shift the others.
//
// Invariant: no two rows have the same key, and a row's key never changes. So a
// row that lives through the whole listing is listed exactly once.
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

// Fills the requested view and page. `target` is canonical, or empty for all.
// Errors: INVALID_ARGUMENT for a bad page token; the rest of the request must
// have been validated.
ErrorPtr FillStats(const v1::StatsRequest& request, const std::string& target,
                   const pool::Snapshot& snapshot,
                   const std::vector<CallMetrics::Row>& executes,
                   v1::StatsResponse* response);

// Eight hexadecimal digits.
std::string InstanceName(uint32_t instance);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_STATS_VIEW_H_
