// Stats for the commands that show them: all pages, and the order of the rows.
#ifndef HOTLINE_CLIENT_CLI_READ_STATS_H_
#define HOTLINE_CLIENT_CLI_READ_STATS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/broker_client.h"
#include "hotline/v1/broker.pb.h"

namespace hotline::client {

// Merges all pages: the totals of the first, the rows of all, within one
// timeout. `request` without page size and token.
absl::StatusOr<v1::StatsResponse> ReadStats(BrokerClient& client,
                                            v1::StatsRequest request,
                                            CallOptions call);

// Connections that are open or being opened.
int64_t OpenConnections(const v1::ConnectionCounts& counts);

// What the rows of a view can be sorted by.
std::vector<std::string> SortKeys(v1::StatsView view);

// Sorts the rows: by a name in its order, by a figure with the highest first.
// Equal rows keep their order.
// REQUIRES: `key` is one of SortKeys(view).
void SortRows(v1::StatsView view, const std::string& key,
              v1::StatsResponse* stats);

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_CLI_READ_STATS_H_
