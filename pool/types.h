// The pool's vocabulary: what is asked, what is answered, what is counted.
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

// Names a connection for as long as the process lives; never reused. 0 names
// none.
using ConnId = uint64_t;

// The transport's own name for an open connection, opaque to the pool. The
// transport must tolerate a handle whose connection is gone.
using Handle = uint64_t;

enum class Mode : uint8_t {
  kShared,     // One slot: on HTTP/1.1 the connection, on HTTP/2 a stream.
  kExclusive,  // A connection of its own, whatever its protocol.
};

enum class Reuse : uint8_t {
  kPrefer,       // Reuse, else dial, else wait.
  kRequireWarm,  // Only what is idle now; never dials, never waits.
  kForceNew,     // Only a connection that nobody has used.
};

// How a borrower gives a slot back.
enum class Outcome : uint8_t {
  kOk,
  kBroken,   // Close it, and count an error.
  kDiscard,  // Close it.
};

// What makes connections to one target interchangeable, beside the mode.
struct ConnectionOptions {
  std::string sni;         // Empty: the target's host.
  std::string pool_group;  // Empty: the common one.
  // The protocol that alone will do: "h2", "http/1.1"; empty: either. Only with
  // https.
  std::string alpn;
  std::string tls_profile;  // Empty: what the configuration says.
  std::string remote_ip;    // The address to go to; empty: the name's.
  std::string source_ip;    // The local address; empty: the transport's choice.
  // The check that each new connection has to pass, as ToText() has it; empty:
  // the target's own.
  std::string validate;

  friend bool operator==(const ConnectionOptions&,
                         const ConnectionOptions&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const ConnectionOptions& o) {
    return H::combine(std::move(h), o.sni, o.pool_group, o.alpn, o.tls_profile,
                      o.remote_ip, o.source_ip, o.validate);
  }
};

// A request by which the transport checks a new connection before it is lent.
struct ConnectionCheck {
  std::string method = "HEAD";
  std::string path;  // Begins with "/".
  int min_status = 200;
  int max_status = 399;
};
// One word for each check, "HEAD 200-399 /path", so that keys compare fast; and
// back. REQUIRES: the method has no blank; `text` is from ToText.
std::string ToText(const ConnectionCheck& check);
ConnectionCheck CheckOfText(std::string_view text);

// A HostPool's name: connections in it serve each other's callers.
struct HostPoolKey {
  std::string target;  // Canonical: "https://host:port", port always there.
  ConnectionOptions options;
  Mode mode = Mode::kShared;

  friend bool operator==(const HostPoolKey&, const HostPoolKey&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const HostPoolKey& k) {
    return H::combine(std::move(h), k.target, k.options, k.mode);
  }
};

// Who holds a lease, for people. Never interpreted.
struct Holder {
  std::string client_id;
  std::string purpose;
  std::string trace;
  uint64_t session = 0;  // The one it ends with; 0: none.
};

// How an idle connection is checked before it is lent again (R5).
enum class ProbeKind : uint8_t {
  kHttp,  // A request; see the transport for path and range.
  kTcp,   // Still open, and silent.
  kNone,
};

// The numbers of one target. Changing them takes effect at the next event; a
// lowered cap is reached by retiring idle connections and not replacing leased
// ones, never by cutting a lease short.
struct TargetConfig {
  int max_connections = 10;
  int max_waiters = 1024;
  // Who would probably wait past its deadline is refused at once.
  bool deadline_admission = false;
  int max_dials = 4;
  // Streams used at most on one SHARED connection, whatever the peer allows.
  int max_streams = 128;
  // The slots of a connection before the first one is known: 0 while unknown
  // (then one is dialled to learn it), 1 where the protocol is HTTP/1.1.
  int expected_streams = 1;
  // Of the default HostPool, whose options are all empty. Fixed for a target's
  // life.
  Mode default_mode = Mode::kShared;
  int warm = 0;  // Connections kept ready in the default HostPool, at least.
  // At most, as arrivals and dial times want it (AdaptiveFloor); not above
  // `warm`: the floor does not move.
  int warm_max = 0;
  Duration idle_timeout = std::chrono::seconds(45);
  Duration max_lifetime = std::chrono::seconds(300);
  double lifetime_jitter = 0.1;  // +- this share of max_lifetime.
  Duration check_interval = std::chrono::seconds(30);
  ProbeKind probe = ProbeKind::kHttp;
  // A connection of one slot is given up after so many failed checks in a row;
  // and one that failed any is lent again after so many that passed. Meanwhile
  // it is checked every second.
  int probe_fall = 1;
  int probe_rise = 1;
  int max_errors = 10;  // Unhealthy when the count passes it.
  // After a failed dial the next one waits a random time below
  // min(backoff_base * 2^(failures-1), backoff_cap).
  Duration dial_backoff_base = std::chrono::milliseconds(50);
  Duration dial_backoff_cap = std::chrono::seconds(1);
  // So many connections closed for unsolicited bytes put the target in
  // quarantine; 0: none does. See quarantine.h.
  int desync_limit = 3;
  // After so many failed dials in a row the circuit breaker opens (0: never),
  // and no dial begins for breaker_open_for; see breaker.h.
  int breaker_failures = 10;
  Duration breaker_open_for = std::chrono::seconds(2);

  friend bool operator==(const TargetConfig&, const TargetConfig&) = default;
};

// The numbers of the whole pool.
struct PoolConfig {
  int shards = 8;  // At most 65 536. Fixed for the pool's life.
  int max_connections = 100;
  int max_dials = 64;
  int max_targets = 131072;
  // Half of every LeaseId: tells one process's leases from another's.
  uint32_t instance = 0;
  // Seeds jitter; secrets come from the caller of Acquire.
  uint64_t seed = 1;
  Duration leak_after = std::chrono::seconds(60);
  // What one thread carries out at most before it leaves the rest to the next
  // one: among it are the grants of others, whose requests it encrypts and
  // sends. At least 2. Fixed for the pool's life.
  int effects_per_turn = 16;
  static constexpr int kNoTurns = 1 << 30;  // Whoever comes does it all.
};

// What went wrong with a dial (R13), as the transport reports it.
enum class FailureClass : uint8_t {
  kNetwork,     // DNS, TCP.
  kTls,         // Handshake, certificate, ALPN.
  kValidation,  // The status on the validation path.
  kPolicy,      // Egress: the address may not be connected to.
};

// `reason` is one of the ErrorInfo reasons of the contract ("DNS_FAILED",
// "CONNECT_FAILED", "TLS_VERIFY_FAILED", "ALPN_MISMATCH", "EGRESS_DENIED", …);
// it has static storage duration.
struct DialError {
  FailureClass failure_class = FailureClass::kNetwork;
  const char* reason = "CONNECT_FAILED";
  std::string message;
  // It failed a check that one caller had asked for (ConnectionOptions::
  // validate). Connections of others are none the worse for it.
  bool callers_check = false;
};

// How long the phases of a dial took. Zero: did not happen.
struct DialTimings {
  Duration resolve{0};
  Duration connect{0};
  Duration tls{0};
  Duration validate{0};
};

// What a transport tells of a connection that is ready to be lent.
struct Established {
  Handle handle = 0;
  int max_streams = 1;  // What the peer allows at once; 1 for HTTP/1.1.
  DialTimings timings;
};

// Why a connection was closed: the label of connections_closed_total.
enum class CloseReason : uint8_t {
  kPeerClosed,   // FIN or GOAWAY while idle.
  kError,        // Reset, protocol error.
  kIdle,         // Unused for idle_timeout.
  kLifetime,     // Older than max_lifetime.
  kProbeFailed,  // Or too many errors.
  kUnsolicited,  // Bytes nobody asked for, on one that had been used.
  kBroken,       // Released as BROKEN.
  kDiscarded,    // Released as DISCARD.
  kExpired,      // The lease ran out.
  kReclaimed,    // Made room for another target or pool.
  kShrunk,       // A lowered limit, or a warm floor given up.
  kShutdown,
  kNoReuse,    // The target is in quarantine: see quarantine.h.
  kDeadline,   // The deadline of the call on it passed.
  kCancelled,  // The call on it was cancelled.
};
inline constexpr int kCloseReasons = 15;
std::string_view ToString(CloseReason reason);

// Why an Acquire was not served.
enum class RejectReason : uint8_t {
  kQueueFull,
  kNoIdleConnection,  // NO_WAIT or REQUIRE_WARM, and nothing idle.
  kTooManyTargets,
  kWaitTimeout,
  kDialFailed,        // See the DialError.
  kSuperseded,        // The same request_id came again.
  kIdConflict,        // The same request_id with other parameters.
  kShutdown,          // The pool drains.
  kCircuitOpen,       // Only a dial would help, and the breaker bars it.
  kWontMakeDeadline,  // It would wait for longer than it can.
};
inline constexpr int kRejectReasons = 10;
std::string_view ToString(RejectReason reason);

// What bound, when somebody waited.
enum class WaitLimit : uint8_t {
  kNone,  // Nobody waited.
  kDial,  // A connection was being made.
  kTargetConnections,
  kTargetDials,
  kGlobalConnections,
  kGlobalDials,
  kDialBackoff,
  kCircuitOpen,
};
std::string_view ToString(WaitLimit limit);

// What a target's circuit breaker lets pass.
enum class BreakerState : uint8_t {
  kClosed,    // Dials begin as they are wanted.
  kOpen,      // None begins.
  kHalfOpen,  // One at a time, to see how it goes.
};
std::string_view ToString(BreakerState state);

struct HeldFor {
  Holder holder;
  Duration age{0};
  uint64_t owner = 0;
};

// Explains a wait, served or not.
struct WaitInfo {
  WaitLimit limit = WaitLimit::kNone;
  int64_t limit_value = 0;
  int place = 0;  // On arrival, 1 is next; 0: did not wait.
  int dials_in_flight = 0;
  Duration waited{0};
};

enum class ConnState : uint8_t {
  kDialing,   // Being made.
  kReady,     // Lent, or fit to be.
  kProbing,   // Reserved by a check: lent to nobody.
  kDraining,  // Lent no more; closes when its last lease ends.
  kClosing,   // Close was asked of the transport; Closed has not come yet.
};
inline constexpr int kConnStates = 5;
std::string_view ToString(ConnState state);

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_TYPES_H_
