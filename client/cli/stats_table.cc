#include "client/cli/stats_table.h"

#include <algorithm>
#include <chrono>

#include "absl/strings/str_cat.h"
#include "base/text.h"
#include "client/cli/format.h"
#include "client/cli/read_stats.h"
#include "client/cli/table.h"
#include "client/proto_time.h"

namespace hotline::client {
namespace {

constexpr auto kRight = Table::Align::kRight;
constexpr auto kLeft = Table::Align::kLeft;

std::string Or(const std::string& text) { return text.empty() ? "-" : text; }

std::string ModeName(v1::Mode mode) {
  return mode == v1::MODE_EXCLUSIVE ? "exclusive" : "shared";
}

std::string Totals(const v1::StatsResponse& stats, Duration now) {
  const v1::Totals& totals = stats.totals();
  const v1::ConnectionCounts& connections = totals.connections();
  const v1::Counters& counters = totals.counters();
  return absl::StrCat(
      "broker       ", Printable(stats.instance()), ", up ",
      FormatUptime(stats, now), "\n",  //
      "connections  ", OpenConnections(connections), " of ",
      totals.max_connections(), ": ", connections.idle(), " idle, ",
      connections.leased(), " leased, ", connections.dialing(), " dialing, ",
      connections.probing(), " probing, ", connections.draining(),
      " draining\n",                            //
      "waiters      ", totals.waiters(), "\n",  //
      "acquires     ", counters.acquires(), ": ", counters.reused(),
      " reused, ", counters.acquire_failures(), " failed\n",  //
      "executes     ", counters.executes(), ": ", counters.execute_failures(),
      " failed\n",  //
      "dials        ", counters.dials(), ": ", counters.dial_failures(),
      " failed; ", counters.opened(), " opened, ", counters.closed(),
      " closed\n",                                              //
      "expired      ", counters.leases_expired(), " leases\n",  //
      "sessions     ", totals.sessions(), ": ", counters.leases_reclaimed(),
      " leases taken back\n");
}

Table Targets(const v1::StatsResponse& stats) {
  Table table({{"TARGET", kLeft},
               {"CONNS", kRight},
               {"LIMIT", kRight},
               {"IDLE", kRight},
               {"LEASED", kRight},
               {"WAITERS", kRight},
               {"OLDEST WAIT", kRight},
               {"ACQUIRES", kRight},
               {"REUSED", kRight},
               {"FAILED", kRight},
               {"WAIT P50", kRight},
               {"P99", kRight},
               {"LAST DIAL ERROR", kLeft}});
  for (const v1::TargetStats& target : stats.targets()) {
    const v1::Counters& counters = target.counters();
    const v1::Quantiles& wait = target.acquire_wait();
    table.Add(
        {target.target(), absl::StrCat(OpenConnections(target.connections())),
         absl::StrCat(target.max_connections()),
         absl::StrCat(target.connections().idle()),
         absl::StrCat(target.connections().leased()),
         absl::StrCat(target.waiters()),
         target.waiters() > 0 ? FormatDuration(target.oldest_wait()) : "-",
         absl::StrCat(counters.acquires()), absl::StrCat(counters.reused()),
         absl::StrCat(counters.acquire_failures()),
         FormatQuantile(wait, wait.p50()), FormatQuantile(wait, wait.p99()),
         Or(target.last_dial_error())});
  }
  return table;
}

// For targets that have several addresses, or one that is not ACTIVE.
Table Addresses(const v1::StatsResponse& stats, Duration now) {
  Table table({{"TARGET", kLeft},
               {"ADDRESS", kLeft},
               {"STATE", kLeft},
               {"CONNS", kRight},
               {"DIALING", kRight},
               {"DIAL TIME", kRight},
               {"DIALS", kRight},
               {"FAILURES", kRight},
               {"TEST IN", kRight},
               {"WHY", kLeft}});
  for (const v1::TargetStats& target : stats.targets()) {
    if (target.addresses_size() == 1 && target.addresses(0).why().empty()) {
      continue;
    }
    for (const v1::AddressStats& address : target.addresses()) {
      const Duration until = std::chrono::seconds(address.until().seconds()) +
                             std::chrono::nanoseconds(address.until().nanos()) -
                             now;
      table.Add(
          {target.target(), address.address(), address.state(),
           absl::StrCat(address.connections()), absl::StrCat(address.dialing()),
           address.has_dial_time() ? FormatDuration(address.dial_time()) : "-",
           absl::StrCat(address.dials()), absl::StrCat(address.failures()),
           address.has_until() ? FormatDuration(std::max(until, Duration(0)))
                               : "-",
           Or(address.why())});
    }
  }
  return table;
}

Table Connections(const v1::StatsResponse& stats) {
  Table table({{"ID", kRight},
               {"TARGET", kLeft},
               {"STATE", kLeft},
               {"MODE", kLeft},
               {"ACTIVE", kRight},
               {"LIMIT", kRight},
               {"USES", kRight},
               {"ERRORS", kRight},
               {"AGE", kRight},
               {"IDLE", kRight},
               {"SNI", kLeft},
               {"GROUP", kLeft}});
  for (const v1::ConnectionStats& connection : stats.connections()) {
    table.Add(
        {absl::StrCat(connection.connection_id()), connection.target(),
         connection.state(), ModeName(connection.mode()),
         absl::StrCat(connection.active()), absl::StrCat(connection.limit()),
         absl::StrCat(connection.uses()), absl::StrCat(connection.errors()),
         FormatDuration(connection.age()),
         connection.has_idle() ? FormatDuration(connection.idle()) : "-",
         Or(connection.options().sni()),
         Or(connection.options().pool_group())});
  }
  return table;
}

Table Leases(const v1::StatsResponse& stats) {
  Table table({{"AGE", kRight},
               {"REMAINING", kRight},
               {"TARGET", kLeft},
               {"CONNECTION", kRight},
               {"MODE", kLeft},
               {"BUSY", kLeft},
               {"SESSION", kRight},
               {"CLIENT", kLeft},
               {"PURPOSE", kLeft},
               {"TRACE", kLeft}});
  for (const v1::LeaseStats& lease : stats.leases()) {
    table.Add({FormatDuration(lease.age()),
               lease.has_remaining() ? FormatDuration(lease.remaining()) : "-",
               lease.target(), absl::StrCat(lease.connection_id()),
               ModeName(lease.mode()), lease.busy() ? "yes" : "no",
               lease.session() > 0 ? absl::StrCat(lease.session()) : "-",
               Or(lease.holder().client_id()), Or(lease.holder().purpose()),
               Or(lease.holder().trace())});
  }
  return table;
}

}  // namespace

std::string FormatUptime(const v1::StatsResponse& stats, Duration now) {
  const Duration up = now - std::chrono::seconds(stats.start_time().seconds()) -
                      std::chrono::nanoseconds(stats.start_time().nanos());
  return FormatDuration(std::max(up, Duration(0)));
}

std::string FormatQuantile(const v1::Quantiles& all,
                           const google::protobuf::Duration& quantile) {
  if (all.count() == 0) return "-";
  if (all.has_least() && FromProto(quantile) <= FromProto(all.least())) {
    return absl::StrCat("< ", FromProto(all.least()).count() / 1000, " us");
  }
  return FormatDuration(quantile);
}

std::string FormatStats(const v1::StatsResponse& stats, v1::StatsView view,
                        Duration now, bool color) {
  const std::string totals = Totals(stats, now);
  switch (view) {
    case v1::STATS_VIEW_SUMMARY:
      return totals;
    case v1::STATS_VIEW_CONNECTIONS:
      return absl::StrCat(totals, "\n", Connections(stats).Render(color));
    case v1::STATS_VIEW_LEASES:
      return absl::StrCat(totals, "\n", Leases(stats).Render(color));
    default: {
      const Table addresses = Addresses(stats, now);
      return absl::StrCat(
          totals, "\n", Targets(stats).Render(color),
          addresses.empty() ? "" : "\n" + addresses.Render(color));
    }
  }
}

}  // namespace hotline::client
