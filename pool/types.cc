#include "pool/types.h"

#include <charconv>
#include <cstddef>
#include <iterator>

namespace hotline::pool {
namespace {

// Looks `value` up in an array with one name for each enumerator, in order.
template <typename Enum, size_t size>
std::string_view NameOf(Enum value, const std::string_view (&names)[size]) {
  const auto index = static_cast<size_t>(value);
  return index < size ? names[index] : "unknown";
}

constexpr std::string_view kCloseReasonNames[] = {
    "peer_closed",  "error",       "idle",      "lifetime",
    "probe_failed", "unsolicited", "broken",    "discarded",
    "expired",      "reclaimed",   "shrunk",    "shutdown",
    "no_reuse",     "deadline",    "cancelled", "operator"};
static_assert(std::size(kCloseReasonNames) == kCloseReasons);

constexpr std::string_view kRejectReasonNames[] = {
    "queue_full",   "no_idle_connection", "too_many_targets", "wait_timeout",
    "dial_failed",  "superseded",         "id_conflict",      "shutdown",
    "circuit_open", "wont_make_deadline", "drained"};
static_assert(std::size(kRejectReasonNames) == kRejectReasons);

constexpr std::string_view kWaitLimitNames[] = {"none",
                                                "dial",
                                                "target_connections",
                                                "target_dials",
                                                "global_connections",
                                                "global_dials",
                                                "dial_backoff",
                                                "circuit_open",
                                                "paused"};
static_assert(std::size(kWaitLimitNames) == kWaitLimits);

constexpr std::string_view kAdmissionNames[] = {"open", "paused", "drained"};
static_assert(std::size(kAdmissionNames) == kAdmissions);

constexpr std::string_view kBreakerStateNames[] = {"closed", "open",
                                                   "half_open"};
static_assert(std::size(kBreakerStateNames) == kBreakerStates);

constexpr std::string_view kConnStateNames[] = {"dialing", "ready", "probing",
                                                "draining", "closing"};
static_assert(std::size(kConnStateNames) == kConnStates);

}  // namespace

std::string ToText(const ConnectionCheck& check) {
  return check.method + " " + std::to_string(check.min_status) + "-" +
         std::to_string(check.max_status) + " " + check.path;
}

ConnectionCheck CheckOfText(std::string_view text) {
  ConnectionCheck check;
  const size_t range = text.find(' ') + 1;
  const size_t dash = text.find('-', range) + 1;
  const size_t path = text.find(' ', dash) + 1;
  check.method = text.substr(0, range - 1);
  const char* const at = text.data();
  std::from_chars(at + range, at + dash - 1, check.min_status);
  std::from_chars(at + dash, at + path - 1, check.max_status);
  check.path = text.substr(path);
  return check;
}

std::string_view ToString(CloseReason reason) {
  return NameOf(reason, kCloseReasonNames);
}

std::string_view ToString(RejectReason reason) {
  return NameOf(reason, kRejectReasonNames);
}

std::string_view ToString(WaitLimit limit) {
  return NameOf(limit, kWaitLimitNames);
}

std::string_view ToString(Admission admission) {
  return NameOf(admission, kAdmissionNames);
}

std::string_view ToString(BreakerState state) {
  return NameOf(state, kBreakerStateNames);
}

std::string_view ToString(ConnState state) {
  return NameOf(state, kConnStateNames);
}

}  // namespace hotline::pool
