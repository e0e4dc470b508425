#include "server/admin/explain_facts.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/text.h"

namespace hotline::server {
namespace {

class Facts {
 public:
  Facts(const ExplainInput& input, const pool::TargetRow& row,
        v1::ExplainResponse* out)
      : in_(input),
        row_(row),
        out_(*out),
        settings_(input.settings.ForTarget(input.target)) {}

  void AddState();
  void AddDials();
  void AddUpstream();

 private:
  void Say(std::string_view name, std::string_view text) {
    v1::Fact* fact = out_.add_facts();
    fact->set_name(ToUtf8(std::string(name)));
    fact->set_text(Printable(text));
  }
  int count(pool::ConnState state) const {
    return row_.connections[static_cast<int>(state)];
  }

  const ExplainInput& in_;
  const pool::TargetRow& row_;
  v1::ExplainResponse& out_;
  const TargetSettings& settings_;
};

void Facts::AddState() {
  Say("target", absl::StrCat(std::string(ToString(row_.admission)),
                             row_.reconnecting ? ", reconnecting" : "",
                             in_.settings.targets.contains(in_.target)
                                 ? ", configured"
                                 : ", not configured: the defaults hold"));
  const int total =
      std::accumulate(row_.connections.begin(), row_.connections.end(), 0);
  Say("connections",
      absl::StrCat(total, " of ", settings_.pool.max_connections, ": ",
                   row_.idle, " idle, ", count(pool::ConnState::kDialing),
                   " being dialled, ", count(pool::ConnState::kProbing),
                   " being checked, ", count(pool::ConnState::kDraining),
                   " draining; ", CountOf(row_.leases, "slot"),
                   " lent; warm: ", settings_.pool.warm));
  Say("broker",
      absl::StrCat(in_.snapshot.connections_reserved, " of ",
                   in_.snapshot.max_connections, " connections in use"));
  Say("callers",
      absl::StrCat(
          row_.waiters, " waiting",
          row_.waiters > 0
              ? absl::StrCat(", the oldest for ", InWords(row_.oldest_wait))
              : "",
          "; ", row_.counters.granted, " served so far, ", row_.counters.reused,
          " of them without a dial; ",
          row_.counters
              .rejected[static_cast<int>(pool::RejectReason::kWaitTimeout)],
          " waited in vain"));
  if (row_.counters.lease.total() > 0) {
    const Histogram& held = row_.counters.lease;
    Say("slots held",
        absl::StrCat("half for less than ", InWords(held.Quantile(0.5)),
                     ", 99 of 100 for less than ",
                     InWords(held.Quantile(0.99))));
  }
}

void Facts::AddDials() {
  const pool::TargetCounters& counters = row_.counters;
  const uint64_t failed = std::accumulate(
      counters.dials_failed.begin(), counters.dials_failed.end(), uint64_t{0});
  Say("dials",
      absl::StrCat(counters.dials_ok, " succeeded, ", failed, " failed",
                   row_.dial_time > Duration(0)
                       ? absl::StrCat("; they take ", InWords(row_.dial_time))
                       : ""));
  Say("last dial error", row_.last_dial_error.empty() ? "none since a success"
                                                      : row_.last_dial_error);
  Say("breaker", ToString(row_.breaker));
  std::vector<std::string> profiles = settings_.upstream.tls_profiles;
  if (profiles.empty()) profiles = {in_.settings.upstream.tls_profile};
  Say("TLS profile",
      in_.target.starts_with("http:") || in_.target.starts_with("tcp:")
          ? "none: the target is plain text"
          : absl::StrJoin(profiles, ", "));
  if (!settings_.upstream.proxy.empty()) {
    Say("proxy", settings_.upstream.proxy);
  }
  const upstream::EgressRules& egress = in_.settings.upstream.egress;
  Say("egress",
      absl::StrCat(egress.default_public ? "public addresses" : "no address",
                   "; allowed: ", absl::StrJoin(egress.allow, ", "),
                   "; denied: ", absl::StrJoin(egress.deny, ", ")));
}

void Facts::AddUpstream() {
  if (in_.addresses.empty()) Say("address", "none: no recent dial resolved it");
  for (const upstream::AddressRow& address : in_.addresses) {
    std::string text = absl::StrCat(address.address.ToString(), " ",
                                    std::string(ToString(address.state)), ", ",
                                    CountOf(address.connections, "connection"));
    absl::StrAppend(&text, ", ", address.failures, " of ",
                    CountOf(static_cast<int64_t>(address.dials), "dial"),
                    " failed");
    if (!address.why.empty()) absl::StrAppend(&text, ": ", address.why);
    if (address.until != kNever && address.until > in_.now) {
      absl::StrAppend(&text, "; tested in ", InWords(address.until - in_.now));
    }
    Say("address", text);
  }
  if (row_.keep_alive_learned != Duration::max() ||
      row_.keep_alive_said != Duration::max()) {
    Say("idle connections",
        absl::StrCat(
            "the upstream closes them after ",
            InWords(std::min(row_.keep_alive_learned, row_.keep_alive_said))));
  }
}

}  // namespace

void AddFacts(const ExplainInput& input, const pool::TargetRow& row,
              v1::ExplainResponse* out) {
  Facts facts(input, row, out);
  facts.AddState();
  facts.AddDials();
  facts.AddUpstream();
}

std::string InWords(Duration length) {
  const double seconds = ToSeconds(length);
  if (seconds < 1) return absl::StrFormat("%.0f ms", seconds * 1000);
  if (seconds < 120) return absl::StrFormat("%.3g s", seconds);
  return absl::StrFormat("%.0f min", seconds / 60);
}

std::string CountOf(int64_t number, std::string_view noun) {
  return absl::StrCat(number, " ", std::string(noun), number == 1 ? "" : "s");
}

}  // namespace hotline::server
