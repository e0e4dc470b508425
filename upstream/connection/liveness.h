// Whether the peer of an HTTP/2 connection still answers.
#ifndef HOTLINE_UPSTREAM_CONNECTION_LIVENESS_H_
#define HOTLINE_UPSTREAM_CONNECTION_LIVENESS_H_

#include <cstdint>

#include "absl/functional/any_invocable.h"
#include "base/time.h"

namespace hotline::upstream {

// Decides when to send a PING and when to give the peer up; sends nothing and
// reads no clock. Two reasons to ask:
//   - Silence: calls are under way and nothing was received for `ping_after`.
//     The peer then has `ping_timeout`. Any byte is a sign of life.
//   - A probe: somebody wants to know. Only the acknowledgement is one.
//
// Not thread-safe: the connection's lock protects it.
class Liveness {
 public:
  using Answer = absl::AnyInvocable<void(bool alive)>;

  // `ping_after`: kForever where the protocol has no PING.
  static constexpr Duration kForever = Duration::max();
  Liveness(Duration ping_after, Duration ping_timeout)
      : ping_after_(ping_after), ping_timeout_(ping_timeout) {}

  void OnReceived(Instant now) {
    heard_ = now;
    asked_ = kNever;
  }
  // The first call begins; the silence before it was none.
  void OnFirstCall(Instant now) { heard_ = now; }

  // Takes `answer`, for when the probe ends; the caller sends a PING. False:
  // another probe is under way.
  bool Probe(Instant deadline, Answer& answer);
  // The probe's answer, once the PING was acknowledged or the connection has
  // closed. Null: there is no probe.
  Answer EndProbe();

  // When Check has something to do.
  Instant Due(bool busy) const;

  enum class Action : uint8_t {
    kNone,
    kPing,       // Send a PING.
    kFailProbe,  // Close: the probe was not answered.
    kGiveUp,     // Close: silent for too long.
  };
  Action Check(bool busy, Instant now);

 private:
  Instant SilenceDue(bool busy) const;

  const Duration ping_after_;
  const Duration ping_timeout_;
  Instant heard_{};
  Instant asked_ = kNever;  // When silence made us ask.
  Instant probe_deadline_ = kNever;
  Answer probe_;
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_CONNECTION_LIVENESS_H_
