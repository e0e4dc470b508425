#include "server/broker/event_sources.h"

#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/time.h"

namespace hotline::server {
namespace {

using PoolKind = pool::PoolEvent::Kind;
using AddressKind = upstream::AddressEvent::Kind;

std::string Seconds(Duration length) {
  return absl::StrCat(ToSeconds(length), " s");
}

v1::EventKind KindOf(PoolKind kind) {
  switch (kind) {
    case PoolKind::kDialing:
      return v1::EVENT_KIND_DIALING;
    case PoolKind::kDialFailed:
      return v1::EVENT_KIND_DIAL_FAILED;
    case PoolKind::kReady:
      return v1::EVENT_KIND_READY;
    case PoolKind::kClosed:
      return v1::EVENT_KIND_CLOSED;
    case PoolKind::kBreaker:
      return v1::EVENT_KIND_BREAKER;
    case PoolKind::kQuarantine:
      return v1::EVENT_KIND_QUARANTINE;
    case PoolKind::kLeaseLeaked:
    case PoolKind::kLeaseExpired:
    case PoolKind::kLeaseReclaimed:
      return v1::EVENT_KIND_LEASE;
  }
  return v1::EVENT_KIND_UNSPECIFIED;
}

std::string_view ReasonOf(const pool::PoolEvent& event) {
  switch (event.kind) {
    case PoolKind::kDialFailed:
      return event.reason;
    case PoolKind::kClosed:
      return ToString(event.closed);
    case PoolKind::kBreaker:
      return ToString(event.breaker);
    case PoolKind::kLeaseLeaked:
      return "leaked";
    case PoolKind::kLeaseExpired:
      return "expired";
    case PoolKind::kLeaseReclaimed:
      return "reclaimed";
    default:
      return "";
  }
}

std::string TextOf(const pool::PoolEvent& event) {
  switch (event.kind) {
    case PoolKind::kDialFailed:
      return event.error;
    case PoolKind::kReady:
      return absl::StrCat("after ", Seconds(event.length));
    case PoolKind::kClosed:
      return absl::StrCat("after ", Seconds(event.length), " and ", event.uses,
                          event.uses == 1 ? " use" : " uses");
    case PoolKind::kBreaker:
      if (event.breaker == pool::BreakerState::kClosed) return "";
      return absl::StrCat("for ", Seconds(event.length), " after ",
                          event.failures,
                          " failed dials; the last one: ", event.error);
    case PoolKind::kQuarantine:
      return absl::StrCat("for ", Seconds(event.length));
    case PoolKind::kLeaseLeaked:
    case PoolKind::kLeaseExpired:
    case PoolKind::kLeaseReclaimed:
      return absl::StrCat("held for ", Seconds(event.length));
    case PoolKind::kDialing:
      break;
  }
  return "";
}

v1::EventKind KindOf(AddressKind kind) {
  switch (kind) {
    case AddressKind::kEjected:
      return v1::EVENT_KIND_EJECTED;
    case AddressKind::kCooled:
      return v1::EVENT_KIND_COOLED;
    case AddressKind::kReturned:
      return v1::EVENT_KIND_RETURNED;
    case AddressKind::kTestPassed:
    case AddressKind::kTestFailed:
      return v1::EVENT_KIND_TESTED;
    case AddressKind::kDenied:
    case AddressKind::kAllowed:
      return v1::EVENT_KIND_EGRESS;
    case AddressKind::kJoined:
    case AddressKind::kSuspect:
    case AddressKind::kBack:
    case AddressKind::kDrained:
    case AddressKind::kDnsFails:
    case AddressKind::kDnsAnswers:
      return v1::EVENT_KIND_DNS;
  }
  return v1::EVENT_KIND_UNSPECIFIED;
}

}  // namespace

Event EventOf(const pool::PoolEvent& event) {
  return {.kind = KindOf(event.kind),
          .target = event.key->target,
          .reason = ReasonOf(event),
          .conn = event.conn,
          .text = TextOf(event),
          .holder = event.holder,
          .owner = event.owner};
}

Event EventOf(const std::string& target, const upstream::AddressEvent& event) {
  Event out{.kind = KindOf(event.kind), .target = target, .text = event.why};
  const bool of_dns = event.kind == AddressKind::kDnsFails ||
                      event.kind == AddressKind::kDnsAnswers;
  if (!of_dns) out.address = event.address.ToString();
  // The other kinds say everything.
  if (out.kind == v1::EVENT_KIND_DNS || out.kind == v1::EVENT_KIND_EGRESS ||
      out.kind == v1::EVENT_KIND_TESTED) {
    out.reason = upstream::ToString(event.kind);
  }
  if (event.length > Duration(0)) {
    out.text = absl::StrCat("for ", Seconds(event.length),
                            event.why.empty() ? "" : ": ", event.why);
  }
  return out;
}

pool::EventFn EventsInto(EventLog* log) {
  return [log](const pool::PoolEvent& event) {
    log->Add(EventOf(event), MonotonicNow());
  };
}

upstream::Upstream::Observer ObserverInto(EventLog* log) {
  return {
      .on_address =
          [log](const std::string& target,
                const upstream::AddressEvent& event) {
            log->Add(EventOf(target, event), MonotonicNow());
          },
      .on_go_away =
          [log](const std::string& target, pool::ConnId conn) {
            log->Add(
                {.kind = v1::EVENT_KIND_GOAWAY, .target = target, .conn = conn},
                MonotonicNow());
          }};
}

void AddShed(Shed why, int64_t limit, uint64_t others, EventLog* log) {
  log->Add(
      {.kind = v1::EVENT_KIND_OVERLOAD,
       .reason = kSheds[static_cast<size_t>(why)],
       .text = absl::StrCat("limit ", limit, "; ", others,
                            " more calls were refused since the last one")},
      MonotonicNow());
}

}  // namespace hotline::server
