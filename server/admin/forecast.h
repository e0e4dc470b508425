// What a change of the configuration does at the load of this moment: which
// connections are closed or dialled, which callers would wait or be refused.
//
//   Forecast({.before = *in_force, .after = *proposed, .snapshot = snapshot},
//            &response);
//
// The rules are those of pool/, applied to a snapshot: exact while nothing else
// happens.
//
// Pure, but for the functions it is given. Thread-safe.
#ifndef HOTLINE_SERVER_ADMIN_FORECAST_H_
#define HOTLINE_SERVER_ADMIN_FORECAST_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "hotline/v1/admin.pb.h"
#include "pool/snapshot.h"
#include "server/config/config.h"
#include "upstream/upstream.h"

namespace hotline::server {

struct ForecastInput {
  const Settings& before;
  const Settings& after;
  // Of all targets, with connections and leases.
  const pool::Snapshot& snapshot;
  int calls = 0;  // Under way.
  // Of a lease's owner; empty: it has no identity.
  std::function<std::string(uint64_t owner)> owner_name;
  // Of a target; see Upstream::Addresses.
  std::function<std::vector<upstream::AddressRow>(const std::string& target)>
      addresses;
};

// Fills out->consequences: the broker's first, then those of at most 1000
// targets, by name. What is not affected has none.
void Forecast(const ForecastInput& input, v1::UpdateConfigResponse* out);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_ADMIN_FORECAST_H_
