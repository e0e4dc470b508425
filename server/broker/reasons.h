// The table of reasons: every error that Hotline answers with, once.
//
// Errors, the label `result` of executes_total, the codes that /metrics lists
// for each RPC, and RetryInfo are made from it; the lists in broker.proto and
// docs/operations.md are checked against it (reasons_test). MakeError takes a
// Reason, and a Reason can only be made of a name in the table:
//
//   MakeError("QUEUE_FULL", "the wait queue is full");  // RESOURCE_EXHAUSTED.
//   MakeError("QUEUE_FUL", "");                         // Does not compile.
//
// A new reason is a row here, a word in broker.proto, and, if callers need
// advice, a line in docs/operations.md. Constants only: thread-safe.
//
// Invariants:
// 1. Names are unique.
// 2. UNAVAILABLE means that the upstream processed nothing.
#ifndef HOTLINE_SERVER_BROKER_REASONS_H_
#define HOTLINE_SERVER_BROKER_REASONS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "server/broker/rpc.h"

namespace hotline::server {

// What a row says besides name and code.
enum ReasonFlag : uint8_t {
  // The error has a RetryInfo: when it makes sense to try again.
  kRetryLater = 1,
  // The call was refused before its target was looked up in the pool. Such a
  // call does not make a target known to CallMetrics.
  kTargetUntouched = 2,
};

// The RPCs that may end with a reason, as bits.
using RpcSet = uint16_t;
struct ReasonRow {
  std::string_view name;  // Of the ErrorInfo.
  absl::StatusCode code;
  RpcSet rpcs;
  uint8_t flags = 0;
  // The code in some cases; kOk: always `code`.
  absl::StatusCode other_code = absl::StatusCode::kOk;
};

namespace reasons {

using absl::StatusCode;

constexpr RpcSet BitOf(RpcMethod rpc) {
  return static_cast<RpcSet>(1 << static_cast<int>(rpc));
}

inline constexpr RpcSet kAcquire = BitOf(RpcMethod::kAcquire);
inline constexpr RpcSet kTunnel = BitOf(RpcMethod::kTunnel);
inline constexpr RpcSet kStats = BitOf(RpcMethod::kStats);
inline constexpr RpcSet kSession = BitOf(RpcMethod::kSession);  // Its end.
inline constexpr RpcSet kWatch = BitOf(RpcMethod::kWatchEvents);
inline constexpr RpcSet kUnary = BitOf(RpcMethod::kExecute);
inline constexpr RpcSet kStream = BitOf(RpcMethod::kExecuteStream);
inline constexpr RpcSet kExecute = kUnary | kStream;
inline constexpr RpcSet kRun = kExecute | kTunnel;
inline constexpr RpcSet kBorrow = kAcquire | kRun;
inline constexpr RpcSet kRelease = BitOf(RpcMethod::kRelease);
inline constexpr RpcSet kRenew = BitOf(RpcMethod::kRenew);
inline constexpr RpcSet kLease = kRelease | kRenew | kRun;
inline constexpr RpcSet kAdmin = BitOf(RpcMethod::kAdmin);
// Any RPC. Not listed for each.
inline constexpr RpcSet kAny = 1 << kRuledMethods.size();
// An item of a Session alone.
inline constexpr RpcSet kItem = kAny << 1;

inline constexpr ReasonRow kTable[] = {
    // The caller's input.
    {"BAD_TARGET", StatusCode::kInvalidArgument,
     kBorrow | kRelease | kStats | kWatch | kAdmin, kTargetUntouched},
    {"BAD_OPTION", StatusCode::kInvalidArgument,
     kBorrow | kLease | kStats | kWatch | kAdmin, kTargetUntouched},
    {"BAD_URL", StatusCode::kInvalidArgument, kRun, kTargetUntouched},
    {"BAD_METHOD", StatusCode::kInvalidArgument, kExecute, kTargetUntouched},
    {"BAD_HEADER", StatusCode::kInvalidArgument, kRun, kTargetUntouched},
    {"BAD_LEASE_ID", StatusCode::kInvalidArgument, kLease, kTargetUntouched},
    {"BODY_TOO_LARGE", StatusCode::kInvalidArgument, kUnary},
    {"LEASE_TARGET_MISMATCH", StatusCode::kInvalidArgument, kRun},
    {"REQUEST_ID_CONFLICT", StatusCode::kInvalidArgument, kAcquire},
    {"BAD_MESSAGE", StatusCode::kInvalidArgument, kAny | kTunnel,
     kTargetUntouched},
    {"BAD_PAGE_TOKEN", StatusCode::kInvalidArgument, kStats},
    {"CONFIG_REFUSED", StatusCode::kInvalidArgument, kAdmin},
    {"BAD_ITEM", StatusCode::kInvalidArgument, kItem},
    {"BAD_ITEM_ID", StatusCode::kInvalidArgument, kItem},
    {"DUPLICATE_ITEM_ID", StatusCode::kInvalidArgument, kItem},

    // Policy and overload.
    {"NO_IDENTITY", StatusCode::kUnauthenticated, kAny, kTargetUntouched},
    {"NOT_AUTHORIZED", StatusCode::kPermissionDenied, kAny, kTargetUntouched},
    {"QUOTA", StatusCode::kResourceExhausted, kAny,
     kRetryLater | kTargetUntouched},
    {"OVERLOADED", StatusCode::kResourceExhausted, kAny,
     kRetryLater | kTargetUntouched},
    {"DRAINING", StatusCode::kUnavailable,
     kAny | kBorrow | kSession | kWatch | kAdmin,
     kRetryLater | kTargetUntouched},

    // The pool.
    {"QUEUE_FULL", StatusCode::kResourceExhausted, kBorrow, kRetryLater},
    {"NO_IDLE_CONNECTION", StatusCode::kResourceExhausted, kBorrow,
     kRetryLater},
    {"TOO_MANY_TARGETS", StatusCode::kResourceExhausted, kBorrow | kAdmin,
     kRetryLater | kTargetUntouched},
    {"WONT_MAKE_DEADLINE", StatusCode::kResourceExhausted, kBorrow,
     kRetryLater},
    {"WAIT_TIMEOUT", StatusCode::kDeadlineExceeded, kBorrow},
    {"CIRCUIT_OPEN", StatusCode::kUnavailable, kBorrow, kRetryLater},
    {"SUPERSEDED", StatusCode::kAborted, kBorrow},
    {"CANCELLED", StatusCode::kCancelled, kBorrow | kSession},
    {"TARGET_UNKNOWN", StatusCode::kNotFound, kStats | kAdmin},
    {"CONNECTION_UNKNOWN", StatusCode::kNotFound, kAdmin},
    {"NOT_BLOCKED", StatusCode::kNotFound, kAdmin},
    {"TOO_MANY_BLOCKS", StatusCode::kResourceExhausted, kAdmin},

    // Leases.
    {"LEASE_UNKNOWN", StatusCode::kNotFound, kLease | kAdmin},
    {"LEASE_EXPIRED", StatusCode::kNotFound, kRenew | kRun},
    {"LEASE_NOT_YOURS", StatusCode::kPermissionDenied, kLease},
    {"LEASE_OTHER_INSTANCE", StatusCode::kFailedPrecondition, kLease},
    {"LEASE_BUSY", StatusCode::kFailedPrecondition, kRun},
    {"LEASE_NOT_EXCLUSIVE", StatusCode::kFailedPrecondition, kTunnel},

    // Dials.
    {"DNS_FAILED", StatusCode::kUnavailable, kBorrow, kRetryLater},
    {"CONNECT_FAILED", StatusCode::kUnavailable, kBorrow, kRetryLater},
    {"PROXY_REFUSED", StatusCode::kUnavailable, kBorrow, kRetryLater},
    {"TLS_FAILED", StatusCode::kUnavailable, kBorrow, kRetryLater},
    {"TLS_VERIFY_FAILED", StatusCode::kFailedPrecondition, kBorrow},
    {"ALPN_MISMATCH", StatusCode::kFailedPrecondition, kBorrow},
    {"VALIDATION_FAILED", StatusCode::kFailedPrecondition, kBorrow},
    {"EGRESS_DENIED", StatusCode::kPermissionDenied, kBorrow, kTargetUntouched},
    {"ADDRESS_BLOCKED", StatusCode::kUnavailable, kBorrow, kRetryLater},

    // The call on the upstream's connection.
    {"UPSTREAM_TIMEOUT", StatusCode::kDeadlineExceeded, kRun},
    {"CALLER_TIMEOUT", StatusCode::kDeadlineExceeded, kStream},
    {"IDLE_TIMEOUT", StatusCode::kDeadlineExceeded, kTunnel},
    // UNAVAILABLE if the verdict is NOT_SENT or REFUSED_BY_PEER.
    {"UPSTREAM_RESET", StatusCode::kAborted, kRun, 0, StatusCode::kUnavailable},
    {"UPGRADE_REFUSED", StatusCode::kFailedPrecondition, kTunnel},
    {"RESPONSE_TOO_LARGE", StatusCode::kResourceExhausted, kUnary},
    {"PROTOCOL_ERROR", StatusCode::kInternal, kRun},
};

}  // namespace reasons

inline constexpr auto& kReasons = reasons::kTable;

// Whether an Execute or ExecuteStream may end with it: it has a label `result`.
constexpr bool EndsExecutes(const ReasonRow& row) {
  return (row.rpcs & (reasons::kExecute | reasons::kAny)) != 0;
}

// A row of the table.
class Reason {
 public:
  // A name that is not in the table does not compile.
  consteval Reason(const char* name) : index_(IndexOf(name)) {
    if (index_ == kNone) throw "not in the table of reasons";
  }
  // For names known at run time only; nothing if it is not in the table.
  static constexpr std::optional<Reason> Find(std::string_view name) {
    const size_t index = IndexOf(name);
    if (index == kNone) return std::nullopt;
    return Reason(index);
  }

  std::string name() const { return std::string(row().name); }
  absl::StatusCode code() const { return row().code; }
  bool retry_later() const { return (row().flags & kRetryLater) != 0; }

 private:
  static constexpr size_t kNone = std::string_view::npos;

  explicit constexpr Reason(size_t index) : index_(index) {}
  // Not a pointer: gcc 12 cannot compare one in a constant expression when
  // undefined behaviour is instrumented.
  static constexpr size_t IndexOf(std::string_view name) {
    for (size_t i = 0; i < std::size(kReasons); ++i) {
      if (kReasons[i].name == name) return i;
    }
    return kNone;
  }
  const ReasonRow& row() const { return kReasons[index_]; }

  size_t index_;
};

// The status codes that broker.proto lists for `rpc`, OK included, as bits.
constexpr uint32_t CodesOf(RpcMethod rpc) {
  uint32_t codes = 1;
  for (const ReasonRow& row : kReasons) {
    if ((row.rpcs & reasons::BitOf(rpc)) == 0) continue;
    codes |= 1u << static_cast<int>(row.code);
    codes |= 1u << static_cast<int>(row.other_code);
  }
  return codes;
}

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_REASONS_H_
