#include "pool/types.h"

#include <charconv>

namespace hotline::pool {

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
  switch (reason) {
    case CloseReason::kPeerClosed:
      return "peer_closed";
    case CloseReason::kError:
      return "error";
    case CloseReason::kIdle:
      return "idle";
    case CloseReason::kLifetime:
      return "lifetime";
    case CloseReason::kProbeFailed:
      return "probe_failed";
    case CloseReason::kUnsolicited:
      return "unsolicited";
    case CloseReason::kBroken:
      return "broken";
    case CloseReason::kDiscarded:
      return "discarded";
    case CloseReason::kExpired:
      return "expired";
    case CloseReason::kReclaimed:
      return "reclaimed";
    case CloseReason::kShrunk:
      return "shrunk";
    case CloseReason::kShutdown:
      return "shutdown";
    case CloseReason::kNoReuse:
      return "no_reuse";
    case CloseReason::kDeadline:
      return "deadline";
    case CloseReason::kCancelled:
      return "cancelled";
  }
  return "unknown";
}

std::string_view ToString(RejectReason reason) {
  switch (reason) {
    case RejectReason::kQueueFull:
      return "queue_full";
    case RejectReason::kNoIdleConnection:
      return "no_idle_connection";
    case RejectReason::kTooManyTargets:
      return "too_many_targets";
    case RejectReason::kWaitTimeout:
      return "wait_timeout";
    case RejectReason::kDialFailed:
      return "dial_failed";
    case RejectReason::kSuperseded:
      return "superseded";
    case RejectReason::kIdConflict:
      return "id_conflict";
    case RejectReason::kShutdown:
      return "shutdown";
    case RejectReason::kCircuitOpen:
      return "circuit_open";
    case RejectReason::kWontMakeDeadline:
      return "wont_make_deadline";
  }
  return "unknown";
}

std::string_view ToString(BreakerState state) {
  switch (state) {
    case BreakerState::kClosed:
      return "closed";
    case BreakerState::kOpen:
      return "open";
    case BreakerState::kHalfOpen:
      return "half_open";
  }
  return "unknown";
}

std::string_view ToString(WaitLimit limit) {
  switch (limit) {
    case WaitLimit::kNone:
      return "none";
    case WaitLimit::kDial:
      return "dial";
    case WaitLimit::kTargetConnections:
      return "target_connections";
    case WaitLimit::kTargetDials:
      return "target_dials";
    case WaitLimit::kGlobalConnections:
      return "global_connections";
    case WaitLimit::kGlobalDials:
      return "global_dials";
    case WaitLimit::kDialBackoff:
      return "dial_backoff";
    case WaitLimit::kCircuitOpen:
      return "circuit_open";
  }
  return "unknown";
}

std::string_view ToString(ConnState state) {
  switch (state) {
    case ConnState::kDialing:
      return "dialing";
    case ConnState::kReady:
      return "ready";
    case ConnState::kProbing:
      return "probing";
    case ConnState::kDraining:
      return "draining";
    case ConnState::kClosing:
      return "closing";
  }
  return "unknown";
}

}  // namespace hotline::pool
