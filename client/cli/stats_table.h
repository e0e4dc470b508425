// Stats as tables.
#ifndef HOTLINE_CLIENT_CLI_STATS_TABLE_H_
#define HOTLINE_CLIENT_CLI_STATS_TABLE_H_

#include <string>

#include "base/time.h"
#include "hotline/v1/broker.pb.h"

namespace hotline::client {

// The totals in a few lines, then a table of the rows of the view. `now` is the
// wall clock's time since the epoch.
std::string FormatStats(const v1::StatsResponse& stats, v1::StatsView view,
                        Duration now, bool color);

// How long the broker has run.
std::string FormatUptime(const v1::StatsResponse& stats, Duration now);

// One of the quantiles of `all`. Values below the histogram's first bound are
// only known to be below it.
std::string FormatQuantile(const v1::Quantiles& all,
                           const google::protobuf::Duration& quantile);

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_CLI_STATS_TABLE_H_
