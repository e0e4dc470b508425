#include "server/admin/explain.h"

#include <algorithm>
#include <numeric>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/text.h"
#include "server/admin/explain_facts.h"
#include "server/broker/proto_time.h"

namespace hotline::server {
namespace {

constexpr size_t kMostHoldings = 20;
constexpr size_t kMostNamed = 3;  // Holders in a sentence.
// An upstream is slow if most of its calls take longer.
constexpr Duration kSlow = std::chrono::seconds(1);
constexpr Duration kStuck = std::chrono::seconds(1);
// Connections drop often if the upstream ended so many of the last ones.
constexpr int kOften = 3;
constexpr Duration kLately = std::chrono::minutes(1);

// A reason of failed dials, in words.
struct DialCause {
  std::string_view reason;
  std::string_view text;
  std::string_view advice;
};

constexpr DialCause kDialCauses[] = {
    {"DNS_FAILED", "the host's name does not resolve",
     "check the name, and the name servers (upstream.dns_servers, or the "
     "system's)"},
    {"CONNECT_FAILED", "no connection can be made",
     "check that the upstream runs and that its port is reachable from here "
     "(upstream.tcp_timeout bounds the attempt)"},
    {"PROXY_REFUSED", "the target's proxy refuses to open a tunnel",
     "check the target's `proxy` and what it allows"},
    {"TLS_FAILED", "the TLS handshake is cut off or refused",
     "compare the upstream's TLS versions and suites with the tls_profile; it "
     "may ask for a client certificate"},
    {"TLS_VERIFY_FAILED", "the upstream's certificate is refused",
     "renew or correct the certificate; `ca_file` of upstream or of the "
     "tls_profile names the authorities that are trusted"},
    {"ALPN_MISMATCH", "the upstream does not speak the protocol asked for",
     "change `alpn` in the callers' options, or in the tls_profile"},
    {"VALIDATION_FAILED", "new connections fail the target's check",
     "see `validate` of the target: its path and statuses"},
    {"EGRESS_DENIED", "the egress rules forbid the upstream's address",
     "add the address or name to egress.allow, or remove it from egress.deny"},
    {"ADDRESS_BLOCKED", "an operator took the upstream's addresses out",
     "`hotline unblock ADDRESS` or `hotline undrain --remote-ip ADDRESS` puts "
     "one "
     "back (`hotline config show` lists them)"},
};

class Explainer {
 public:
  Explainer(const ExplainInput& input, v1::ExplainResponse* out)
      : in_(input),
        out_(*out),
        row_(input.snapshot.targets.empty() ? unknown_
                                            : input.snapshot.targets.front()),
        settings_(input.settings.ForTarget(input.target)),
        leases_(input.snapshot.leases) {
    std::sort(leases_.begin(), leases_.end(),
              [](const auto& a, const auto& b) { return a.age > b.age; });
  }

  void Run() {
    out_.set_target(ToUtf8(in_.target));
    FindAdmission();
    FindDials();
    FindSlowDials();
    FindDrops();
    FindLeaks();
    FindLimits();
    FindUpstream();
    FindBroker();
    AddFacts(in_, row_, &out_);
    AddHoldings();
    out_.set_summary(Summary());
  }

 private:
  using Cause = std::string_view;

  void Find(Cause cause, std::string_view text, std::string_view advice) {
    v1::Finding* finding = out_.add_findings();
    finding->set_cause(std::string(cause));
    finding->set_text(Printable(text));
    finding->set_advice(std::string(advice));
  }

  std::string Summary() const {
    if (out_.findings_size() > 0) {
      const v1::Finding& first = out_.findings(0);
      return absl::StrCat(first.cause(), ": ", first.text());
    }
    return known() ? "nothing is wrong"
                   : "nothing was asked of this target yet";
  }

  bool known() const { return !in_.snapshot.targets.empty(); }
  int total() const {
    return std::accumulate(row_.connections.begin(), row_.connections.end(), 0);
  }
  uint64_t rejected(pool::RejectReason reason) const {
    return row_.counters.rejected[static_cast<int>(reason)];
  }
  // A lease of Acquire has a time to live, which stops while a call runs; the
  // slot of a single call has none.
  static bool InCall(const pool::LeaseRow& lease) {
    return !lease.remaining.has_value();
  }
  // Callers waited for its connections, or did not wait and got none.
  bool Pressed() const {
    return row_.waiters > 0 || rejected(pool::RejectReason::kWaitTimeout) > 0 ||
           rejected(pool::RejectReason::kQueueFull) > 0 ||
           rejected(pool::RejectReason::kNoIdleConnection) > 0;
  }
  // The target's events of this kind, of the last minute.
  std::vector<EventPtr> Lately(v1::EventKind kind) const {
    std::vector<EventPtr> found;
    for (const EventPtr& event : in_.events) {
      if (event->kind == kind && in_.time - event->time < kLately) {
        found.push_back(event);
      }
    }
    return found;
  }
  bool Full() const {
    return known() && total() >= row_.max_connections && row_.idle == 0;
  }

  void FindAdmission();
  void FindDials();
  void FindSlowDials();
  void FindDrops();
  void FindLeaks();
  void FindLimits();
  void FindSlowness();
  void FindUpstream();
  void FindBroker();
  void AddHoldings();
  std::string Holders(bool in_call) const;

  const ExplainInput& in_;
  v1::ExplainResponse& out_;
  const pool::TargetRow unknown_;
  const pool::TargetRow& row_;
  const TargetSettings& settings_;
  std::vector<pool::LeaseRow> leases_;  // The longest held first.
};

std::string NameOf(const pool::LeaseRow& lease) {
  std::string name = lease.holder.client_id.empty() ? "a call without a lease"
                                                    : lease.holder.client_id;
  if (lease.holder.client_id.empty() && lease.remaining.has_value()) {
    name = "a holder without a client_id";
  }
  if (!lease.holder.purpose.empty()) {
    absl::StrAppend(&name, " (", lease.holder.purpose, ")");
  }
  return absl::StrCat(name, " for ", InWords(lease.age));
}

// "worker-1 (batch) for 75 s, worker-2 for 3.1 s and 7 more".
std::string Explainer::Holders(bool in_call) const {
  std::vector<std::string> named;
  size_t more = 0;
  for (const pool::LeaseRow& lease : leases_) {
    if (InCall(lease) != in_call) continue;
    if (named.size() < kMostNamed) {
      named.push_back(NameOf(lease));
    } else {
      ++more;
    }
  }
  const std::string list = absl::StrJoin(named, ", ");
  return more == 0 ? list : absl::StrCat(list, " and ", more, " more");
}

void Explainer::FindAdmission() {
  if (in_.broker_drained) {
    Find("BROKER_DRAINED",
         "an operator drained the whole broker: callers are refused",
         "`hotline undrain --broker` puts it back into service");
  }
  if (row_.admission == pool::Admission::kDrained) {
    Find("DRAINED", "an operator drained the target: callers are refused",
         "`hotline undrain` puts it back into service");
  } else if (row_.admission == pool::Admission::kPaused) {
    Find("PAUSED",
         absl::StrCat("an operator paused the target: ",
                      CountOf(row_.waiters, "caller"), " waiting"),
         "`hotline resume` serves them");
  }
}

void Explainer::FindDials() {
  if (!row_.last_dial_error.empty()) {
    const auto cause = std::find_if(
        std::begin(kDialCauses), std::end(kDialCauses),
        [&](const DialCause& c) { return c.reason == row_.last_dial_reason; });
    const bool found = cause != std::end(kDialCauses);
    Find(found ? cause->reason : "CONNECT_FAILED",
         absl::StrCat(std::string(found ? cause->text : "dials fail"), ": ",
                      row_.last_dial_error),
         found ? cause->advice : kDialCauses[1].advice);
  }
  if (row_.breaker == pool::BreakerState::kClosed) return;
  Find("CIRCUIT_OPEN",
       absl::StrCat(CountOf(row_.failures_in_a_row, "dial"),
                    " failed in a row: ",
                    row_.breaker == pool::BreakerState::kOpen
                        ? absl::StrCat("none is made for another ",
                                       InWords(row_.breaker_open_for))
                        : std::string("one is made as a trial")),
       "remove the cause; then `hotline reset-breaker` dials at once "
       "(pool.breaker_failures, pool.breaker_open_for)");
}

void Explainer::FindSlowDials() {
  if (row_.dial_time <= kSlow || Lately(v1::EVENT_KIND_READY).empty()) return;
  const std::pair<std::string_view, const Histogram&> phases[] = {
      {"resolving the name", row_.counters.dial_resolve},
      {"connecting", row_.counters.dial_connect},
      {"the TLS handshake", row_.counters.dial_tls},
      {"the target's check", row_.counters.dial_validate}};
  const auto slowest = std::max_element(
      std::begin(phases), std::end(phases), [](const auto& a, const auto& b) {
        return a.second.sum() < b.second.sum();
      });
  Find("DIALS_SLOW",
       absl::StrCat("a dial takes ", InWords(row_.dial_time),
                    ", most of it for ", std::string(slowest->first)),
       "`warm` of the target dials before callers need it; for a slow name "
       "upstream.dns_servers");
}

void Explainer::FindDrops() {
  const std::vector<EventPtr> closed = Lately(v1::EVENT_KIND_CLOSED);
  const auto dropped =
      std::count_if(closed.begin(), closed.end(), [](const EventPtr& event) {
        return event->reason == "peer_closed" || event->reason == "error" ||
               event->reason == "probe_failed" ||
               event->reason == "unsolicited";
      });
  if (dropped < kOften) return;
  const std::string share =
      absl::StrCat(dropped, " of the last ",
                   CountOf(static_cast<int64_t>(closed.size()), "connection"),
                   " that closed were ended by the upstream");
  const Duration limit =
      std::min(row_.keep_alive_learned, row_.keep_alive_said);
  if (limit < settings_.pool.idle_timeout) {
    Find("IDLE_LIMIT",
         absl::StrCat("the upstream closes idle connections after ",
                      InWords(limit), ": ", share),
         "connections are now retired before that; a longer keep-alive timeout "
         "of the upstream saves dials, `warm` of the target hides them");
  } else {
    Find("CONNECTIONS_DROP", share,
         "see hotline_connections_closed_total by reason, and `hotline events "
         "--kind closed`; the upstream, or a device on the way, ends them");
  }
}

void Explainer::FindLeaks() {
  const Duration leak_after = in_.settings.pool.leak_after;
  std::vector<std::string> names;
  for (const pool::LeaseRow& lease : leases_) {
    if (InCall(lease) || lease.age < leak_after) continue;
    names.push_back(
        absl::StrCat(NameOf(lease), " (lease number ", lease.id, ")"));
  }
  if (names.empty()) return;
  const size_t all = names.size();
  names.resize(std::min(all, kMostNamed));
  Find("LEAK",
       absl::StrCat(CountOf(static_cast<int64_t>(all), "lease"),
                    " held for longer than ", InWords(leak_after),
                    " without a call: ", absl::StrJoin(names, ", ")),
       "make the holder release it; `hotline lease end NUMBER` ends it now "
       "(pool.leak_after)");
}

void Explainer::FindSlowness() {
  const auto slow = std::count_if(
      leases_.begin(), leases_.end(), [](const pool::LeaseRow& lease) {
        // Tunnels live as long as their callers want.
        return InCall(lease) && lease.mode == pool::Mode::kShared &&
               lease.age > kSlow;
      });
  if (2 * slow <= static_cast<int64_t>(leases_.size())) return;
  Find("UPSTREAM_SLOW",
       absl::StrCat(slow, " of ",
                    CountOf(static_cast<int64_t>(leases_.size()), "slot"),
                    " in use have run a call for longer than ", InWords(kSlow),
                    ", the longest: ", Holders(true)),
       "find out why the upstream answers slowly; max_connections of the "
       "target allows more calls at a time");
}

void Explainer::FindLimits() {
  FindSlowness();
  if (row_.waiters > 0 && row_.waiters >= settings_.pool.max_waiters) {
    Find("QUEUE_FULL",
         absl::StrCat("the wait queue is full: ",
                      CountOf(row_.waiters, "caller"), " waiting"),
         "remove the cause of the wait; the limit is "
         "max_waiters of the target");
  }
  if (Full() && Pressed()) {
    const std::string idle = Holders(false);
    Find("POOL_FULL",
         absl::StrCat("all ", CountOf(row_.max_connections, "connection"),
                      " that the target may have are in use, and ",
                      CountOf(row_.waiters, "caller"), " waiting",
                      idle.empty() ? "" : "; held without a call by ", idle),
         "max_connections of the target, if the upstream allows more; "
         "otherwise shorter calls and leases");
  }
}

void Explainer::FindUpstream() {
  if (row_.no_reuse_for > Duration(0)) {
    Find("QUARANTINE",
         absl::StrCat("the upstream sent bytes outside of an answer",
                      in_.stray_bytes.empty() ? "" : " (hexadecimal ",
                      in_.stray_bytes, in_.stray_bytes.empty() ? "" : ")",
                      ": no connection is reused for another ",
                      InWords(row_.no_reuse_for)),
         "correct the upstream's Content-Length or chunked coding "
         "(desync_limit)");
  }
  for (const upstream::AddressRow& address : in_.addresses) {
    if (address.state == upstream::AddressState::kActive) continue;
    Find("ADDRESS_OUT",
         absl::StrCat(address.address.ToString(), " is ",
                      std::string(ToString(address.state)), ": ", address.why),
         upstream::AddressBlocks::IsReason(address.why)
             ? "`hotline unblock` or `hotline undrain --remote-ip` puts it back"
             : "see addresses below; a usable one is tested before it returns");
  }
}

void Explainer::FindBroker() {
  const pool::Snapshot& all = in_.snapshot;
  if (row_.waiters > 0 && !Full() &&
      all.connections_reserved >= all.max_connections) {
    Find("BROKER_FULL",
         absl::StrCat("all ", CountOf(all.max_connections, "connection"),
                      " that the broker may have are in use, and ",
                      CountOf(all.budget_waiters, "target"), " in line"),
         "pool.max_connections, or fewer connections for other targets "
         "(`hotline stats`)");
  }
  if (in_.loop_lag > kStuck) {
    Find("LOOP_STUCK",
         absl::StrCat("an event loop is ", InWords(in_.loop_lag), " late"),
         "the process lacks CPU time, or a loop is stuck: take a profile");
  }
  if (row_.warm_deficit > 0 && out_.findings_size() == 0) {
    Find("NOT_WARM",
         absl::StrCat(row_.warm_deficit, " of ",
                      CountOf(row_.floor, "warm connection"), " missing"),
         "wait until they are dialled; the limits are max_connections of the "
         "target and pool.max_connections");
  }
}

void Explainer::AddHoldings() {
  for (const pool::LeaseRow& lease : leases_) {
    if (out_.holdings_size() >= static_cast<int>(kMostHoldings)) break;
    v1::Holding* holding = out_.add_holdings();
    holding->set_lease_number(lease.id);
    holding->set_connection_id(lease.conn);
    holding->set_client_id(ToUtf8(lease.holder.client_id));
    holding->set_purpose(ToUtf8(lease.holder.purpose));
    FillDuration(lease.age, holding->mutable_age());
    holding->set_in_call(InCall(lease));
  }
}

}  // namespace

void Explain(const ExplainInput& input, v1::ExplainResponse* out) {
  Explainer(input, out).Run();
}

}  // namespace hotline::server
