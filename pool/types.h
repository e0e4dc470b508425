// The vocabulary of the pool: keys, options, limits, errors and states. Every
// other room that talks to the pool includes this file; it holds plain values
// only.
//
// A connection belongs to exactly one HostPool, which its HostPoolKey names.
// Two callers can use the same connection if and only if their keys are equal:
//
//   HostPoolKey key;
//   key.target = "https://api.example.com:443";  // Canonical, with the port.
//   key.mode = Mode::kShared;
//   key.options.alpn = "h2";
//
// Terms used throughout the pool:
//   slot      The unit that is lent: a whole connection (HTTP/1.1, kExclusive)
//             or one stream of it (HTTP/2, kShared).
//   lease     The loan of a slot, from its grant to its release.
//   waiter    A caller in line for a slot.
//   target    Scheme, host and port; owns limits, counters and health.
//   HostPool  The connections of one target that share a key.
//
// Thread safety: plain values; synchronize as for an int.
//
// Invariants:
//   1. A ConnId is never reused while the process lives, and is never 0.
//   2. All times are on the monotonic clock and are passed in: the pool reads
//      no clock.
//   3. Strings returned by ToString and DialError::reason have static storage
//      duration.
#ifndef HOTLINE_POOL_TYPES_H_
#define HOTLINE_POOL_TYPES_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>

#include "absl/hash/hash.h"
#include "base/time.h"

namespace hotline::pool {

// Identifies a connection, from the start of its dial, to the pool and to the
// transport. 0 means none.
using ConnId = uint64_t;

// One of the transport's event loops: 0 to PoolConfig::loops - 1.
using LoopIndex = uint16_t;
// No loop in particular.
inline constexpr LoopIndex kNoLoop = UINT16_MAX;

// Identifies the call that runs on a lease, chosen by the caller of
// Pool::BeginCall and opaque to the pool. 0 means none.
using CallTag = uint64_t;

enum class Mode : uint8_t {
  kShared,     // A slot: on HTTP/1.1 the connection, on HTTP/2 a stream.
  kExclusive,  // The whole connection, on either protocol.
};

enum class Reuse : uint8_t {
  kPrefer,       // Reuse if possible, else dial, else wait.
  kRequireWarm,  // Only a connection that is idle now: no dial, no wait.
  kForceNew,     // Only a connection that has served no caller.
};

// The borrower's verdict on a connection, given with the release of its slot.
enum class Outcome : uint8_t {
  kOk,
  kBroken,   // Close the connection and count an error.
  kDiscard,  // Close the connection.
};

// What connections must have in common, besides target and mode, to be
// interchangeable. An empty string means the default.
struct ConnectionOptions {
  std::string sni;         // Default: the target's host.
  std::string pool_group;  // Default: the common group.
  std::string alpn;  // "h2" or "http/1.1": this protocol only; https only.
  std::string tls_profile;  // Default: as configured.
  std::string remote_ip;    // The address to connect to. Default: resolved.
  std::string source_ip;  // The local address. Default: the transport's choice.
  // The check that a new connection must pass, as ToText(ConnectionCheck).
  // Default: the target's own check.
  std::string validate;

  friend bool operator==(const ConnectionOptions&,
                         const ConnectionOptions&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const ConnectionOptions& o) {
    return H::combine(std::move(h), o.sni, o.pool_group, o.alpn, o.tls_profile,
                      o.remote_ip, o.source_ip, o.validate);
  }
};

// The HTTP request by which the transport checks a new connection before the
// pool lends it.
struct ConnectionCheck {
  std::string method = "HEAD";
  std::string path;  // Begins with "/".
  int min_status = 200;
  int max_status = 399;
};

// Converts a check to one string, "HEAD 200-399 /path", so that keys compare
// fast, and back. REQUIRES: the method contains no space; `text` is from
// ToText.
std::string ToText(const ConnectionCheck& check);
ConnectionCheck CheckOfText(std::string_view text);

// Names a HostPool.
struct HostPoolKey {
  std::string target;  // Canonical: "https://host:port", always with the port.
  ConnectionOptions options;
  Mode mode = Mode::kShared;

  friend bool operator==(const HostPoolKey&, const HostPoolKey&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const HostPoolKey& k) {
    return H::combine(std::move(h), k.target, k.options, k.mode);
  }
};

// Describes the holder of a lease to an operator; opaque to the pool.
struct Holder {
  std::string client_id;
  std::string purpose;
  std::string trace;
  uint64_t session = 0;  // The Session RPC that owns the lease; 0: none.
};

// How an idle connection is checked before it is lent again.
enum class ProbeKind : uint8_t {
  kHttp,  // By a request; the transport knows its path and status range.
  kTcp,   // It must be open, with no bytes received.
  kNone,
};

// The settings of one target. A change takes effect at the next event. A
// lowered limit is reached by retiring idle connections and not replacing
// leased ones; no lease is cut short.
struct TargetConfig {
  int max_connections = 10;
  int max_waiters = 1024;
  // Refuse a caller immediately if its estimated wait exceeds its deadline.
  bool deadline_admission = false;
  int max_dials = 4;
  // Upper bound on streams of one kShared connection, below the peer's own.
  int max_streams = 128;
  // Slots per connection, assumed until the first one is established. 0:
  // unknown, so a single dial is made to learn it; 1 for HTTP/1.1.
  int expected_streams = 1;
  // Mode of the default HostPool, whose options are all empty. Fixed for the
  // target's life.
  Mode default_mode = Mode::kShared;
  // The warm floor: connections kept ready in the default HostPool. It moves
  // between `warm` and `warm_max` with arrivals and dial times (AdaptiveFloor);
  // it is fixed if warm_max <= warm.
  int warm = 0;
  int warm_max = 0;
  Duration idle_timeout = std::chrono::seconds(45);
  Duration max_lifetime = std::chrono::seconds(300);
  double lifetime_jitter = 0.1;  // +- this share of max_lifetime.
  Duration check_interval = std::chrono::seconds(30);
  ProbeKind probe = ProbeKind::kHttp;
  // A connection of one slot is closed after `probe_fall` consecutive failed
  // checks. After a failed check it is not lent until `probe_rise` consecutive
  // checks have passed, one every second.
  int probe_fall = 1;
  int probe_rise = 1;
  int max_errors = 10;  // Above this many errors a connection is retired.
  // After a failed dial, the next one is delayed by a random time below
  // min(dial_backoff_base * 2^(failures-1), dial_backoff_cap).
  Duration dial_backoff_base = std::chrono::milliseconds(50);
  Duration dial_backoff_cap = std::chrono::seconds(1);
  // The number of connections closed for unsolicited bytes that puts the target
  // in quarantine; 0: never. See quarantine.h.
  int desync_limit = 3;
  // The number of consecutive failed dials that opens the circuit breaker (0:
  // never), and how long it then stays open. See breaker.h.
  int breaker_failures = 10;
  Duration breaker_open_for = std::chrono::seconds(2);

  friend bool operator==(const TargetConfig&, const TargetConfig&) = default;
};

// The settings of the whole pool.
struct PoolConfig {
  int shards = 8;  // At most 65 536. Fixed for the pool's life.
  // The transport's loops. Fixed for the pool's life.
  int loops = 1;
  int max_connections = 100;
  int max_dials = 64;
  int max_targets = 131072;
  // Part of every LeaseId; distinguishes the leases of different processes.
  uint32_t instance = 0;
  // Seeds jitter and key hashes. Lease secrets come from the caller of Acquire.
  uint64_t seed = 1;
  Duration leak_after = std::chrono::seconds(60);
  // The maximum number of effects that a thread carries out before it leaves
  // the rest to the next thread. Bounded because an effect may be a grant to
  // another caller, whose request this thread then encrypts and sends. At least
  // 2. Fixed for the pool's life.
  int effects_per_turn = 16;
  static constexpr int kNoTurns = 1 << 30;  // Unbounded.
};

// The phase in which a dial failed.
enum class FailureClass : uint8_t {
  kNetwork,     // DNS, TCP.
  kTls,         // Handshake, certificate, ALPN.
  kValidation,  // The check of the new connection.
  kPolicy,      // Egress: the address is denied.
};
inline constexpr int kFailureClasses = 4;

struct DialError {
  FailureClass failure_class = FailureClass::kNetwork;
  // An ErrorInfo reason of the contract: "DNS_FAILED", "CONNECT_FAILED",
  // "TLS_VERIFY_FAILED", "ALPN_MISMATCH", "EGRESS_DENIED", ...
  const char* reason = "CONNECT_FAILED";
  std::string message;
  // The failed check was requested by one caller (ConnectionOptions::validate),
  // so it says nothing about other connections.
  bool callers_check = false;
};

// Durations of the phases of a dial. Zero: there was no such phase.
struct DialTimings {
  Duration resolve{0};
  Duration connect{0};
  Duration tls{0};
  Duration validate{0};

  Duration total() const { return resolve + connect + tls + validate; }
};

// A new connection, as the transport reports it.
struct Established {
  int max_streams = 1;  // Concurrent streams the peer allows; 1 for HTTP/1.1.
  DialTimings timings;
  LoopIndex loop = 0;  // The loop it lives on.
};

// Why a connection was closed: the label of connections_closed_total.
enum class CloseReason : uint8_t {
  kPeerClosed,   // FIN or GOAWAY while idle.
  kError,        // Reset, protocol error.
  kIdle,         // Idle for idle_timeout, or nearly as long as the peer allows.
  kLifetime,     // Older than max_lifetime.
  kProbeFailed,  // Also for more than max_errors errors.
  kUnsolicited,  // Bytes outside a response, on a connection that has served.
  kBroken,       // Released as kBroken.
  kDiscarded,    // Released as kDiscard.
  kExpired,      // Its lease expired.
  kReclaimed,    // Its place went to another target or HostPool.
  kShrunk,       // A limit or warm floor was lowered.
  kShutdown,
  kNoReuse,    // The target is in quarantine: see quarantine.h.
  kDeadline,   // The call on it reached its deadline.
  kCancelled,  // The call on it was cancelled.
  kOperator,   // Pool::Evict, Reconnect, or its target is drained.
};
inline constexpr int kCloseReasons = 16;
std::string_view ToString(CloseReason reason);

// Why an Acquire was refused.
enum class RejectReason : uint8_t {
  kQueueFull,
  kNoIdleConnection,  // The caller does not wait, and nothing is idle.
  kTooManyTargets,
  kWaitTimeout,
  kDialFailed,        // See Rejection::dial_error.
  kSuperseded,        // A later Acquire or Release has this request_id.
  kIdConflict,        // The request_id was used with other parameters.
  kShutdown,          // The pool is shutting down.
  kCircuitOpen,       // It needs a dial, and the circuit breaker is open.
  kWontMakeDeadline,  // The estimated wait exceeds its deadline.
  kDrained,           // The target is drained: see Admission.
};
inline constexpr int kRejectReasons = 11;
std::string_view ToString(RejectReason reason);

// The limit that made a caller wait.
enum class WaitLimit : uint8_t {
  kNone,  // The caller did not wait.
  kDial,  // A connection was being dialled.
  kTargetConnections,
  kTargetDials,
  kGlobalConnections,
  kGlobalDials,
  kDialBackoff,
  kCircuitOpen,
  kPaused,  // The target is paused: see Admission.
};
inline constexpr int kWaitLimits = 9;
std::string_view ToString(WaitLimit limit);

// Whether an operator lets callers use a target. Leases that exist stay valid
// in every state, and calls on them run.
enum class Admission : uint8_t {
  kOpen,
  kPaused,   // Callers wait; nothing is lent, dialled or checked.
  kDrained,  // Callers are rejected (kDrained); connections are closed when
             // their last lease ends.
};
inline constexpr int kAdmissions = 3;
std::string_view ToString(Admission admission);

// What a target's circuit breaker allows.
enum class BreakerState : uint8_t {
  kClosed,    // Any dial.
  kOpen,      // No dial.
  kHalfOpen,  // One dial, as a trial.
};
inline constexpr int kBreakerStates = 3;
std::string_view ToString(BreakerState state);

// The holder of a lease, as named in another caller's rejection.
struct HeldFor {
  Holder holder;
  Duration age{0};
  uint64_t owner = 0;
};

// Explains a wait, whether it ended in a grant or in a rejection.
struct WaitInfo {
  WaitLimit limit = WaitLimit::kNone;
  int64_t limit_value = 0;
  int place = 0;  // In line on arrival; 1 is next, 0: did not wait.
  int dials_in_flight = 0;
  Duration waited{0};
};

enum class ConnState : uint8_t {
  kDialing,   // Being established.
  kReady,     // Usable: lent, idle, or partly lent.
  kProbing,   // Being checked: not lent.
  kDraining,  // No longer lent; closes when its last lease ends.
  kClosing,   // The transport was asked to close it; not reported closed yet.
};
inline constexpr int kConnStates = 5;
std::string_view ToString(ConnState state);

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_TYPES_H_
