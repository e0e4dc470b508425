// Detects a dead peer of an HTTP/2 connection.
#ifndef HOTLINE_UPSTREAM_CONNECTION_LIVENESS_H_
#define HOTLINE_UPSTREAM_CONNECTION_LIVENESS_H_

#include <cstdint>

#include "absl/functional/any_invocable.h"
#include "base/time.h"

namespace hotline::upstream {

// Decides when to send a PING and when to close the connection; sends nothing
// itself and reads no clock. A PING has one of two reasons:
//   - Silence: calls are in progress and nothing was received for `ping_after`.
//     Any byte received within `ping_timeout` is a sign of life.
//   - A probe of the pool. Only the acknowledgement answers it.
//
//   switch (liveness.Check(table.busy(), now)) {
//     case Action::kPing: codec->Ping(); break;
//     case Action::kFailProbe: case Action::kGiveUp: Close(); break;
//     case Action::kNone: break;
//   }
//   timer.Set(liveness.Due(table.busy()));
//
// Not thread-safe: the connection's lock protects it.
class Liveness {
 public:
  using Answer = absl::AnyInvocable<void(bool alive)>;

  // `ping_after`: kForever if the protocol has no PING.
  static constexpr Duration kForever = Duration::max();
  Liveness(Duration ping_after, Duration ping_timeout)
      : ping_after_(ping_after), ping_timeout_(ping_timeout) {}

  void OnReceived(Instant now) {
    heard_ = now;
    asked_ = kNever;
  }
  // The first call begins; silence before it does not count.
  void OnFirstCall(Instant now) { heard_ = now; }

  // Starts a probe: takes `answer`, and the caller sends a PING. False: another
  // probe is in progress.
  bool Probe(Instant deadline, Answer& answer);
  // Ends the probe, after the acknowledgement or the connection's end, and
  // returns its answer to call. Null: there is no probe.
  Answer EndProbe();

  // When Check is due.
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
  Instant asked_ = kNever;  // When a PING was sent because of silence.
  Instant probe_deadline_ = kNever;
  Answer probe_;
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_CONNECTION_LIVENESS_H_
