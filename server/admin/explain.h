// Explains a target to an operator: what the pool, the address book and the
// settings know of it, as findings with advice, and as facts to read.
//
//   ExplainInput input{.target = "https://a.example:443", ...};
//   Explain(input, &response);
//   // response.summary(): "CONNECT_FAILED: no TCP connection can be made: …"
//
// Pure. Thread-safe.
#ifndef HOTLINE_SERVER_ADMIN_EXPLAIN_H_
#define HOTLINE_SERVER_ADMIN_EXPLAIN_H_

#include <chrono>
#include <string>
#include <vector>

#include "base/time.h"
#include "hotline/v1/admin.pb.h"
#include "pool/snapshot.h"
#include "server/broker/event_log.h"
#include "server/config/config.h"
#include "upstream/upstream.h"

namespace hotline::server {

struct ExplainInput {
  std::string target;  // Canonical.
  const Settings& settings;
  // Of this target alone, with leases.
  const pool::Snapshot& snapshot;
  std::vector<upstream::AddressRow> addresses;
  std::string stray_bytes;            // Upstream::Counters::evidence.
  std::vector<EventPtr> events = {};  // The target's last ones.
  Duration loop_lag{0};
  bool broker_drained = false;
  Instant now{};
  std::chrono::system_clock::time_point time{};  // The same, as events have it.
};

void Explain(const ExplainInput& input, v1::ExplainResponse* out);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_ADMIN_EXPLAIN_H_
