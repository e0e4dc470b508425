// The border between the pool and the network: what the pool asks of the
// transport, and what the transport reports back.
//
// The pool decides, the transport acts. A dial, for example:
//
//   pool       transport.Dial(id, key, loop)
//   transport  resolves, connects, handshakes, checks; then
//              events.Dialed(id, established, now)
//   pool       lends the connection; later transport.Close(id, reason)
//   transport  events.Closed(id, reason, nullptr, now)
//
// upstream/ implements Transport over sockets; the tests implement it over a
// virtual clock. Pool implements TransportEvents.
//
// Thread safety: the pool calls a Transport from any thread, without a lock
// held. For one shard, calls come in the order of the pool's decisions, except
// WakeAt, which may come at any time. A Transport must not block. It may call
// TransportEvents from inside such a call: events never re-enter the pool, they
// are queued.
//
// Invariants, kept by the transport:
//   1. Each Dial is answered exactly once, by Dialed or DialFailed.
//   2. Each Probe is answered exactly once, by Probed, also if the connection
//      closes meanwhile.
//   3. Each connection that was Dialed is Closed exactly once, whether or not
//      the pool asked for it.
//   4. Events that name an unknown or closed connection are ignored.
#ifndef HOTLINE_POOL_TRANSPORT_H_
#define HOTLINE_POOL_TRANSPORT_H_

#include <chrono>
#include <memory>

#include "base/time.h"
#include "pool/types.h"

namespace hotline::pool {

// A new connection is on probation until a call on it has been answered, or for
// this long. If the peer ends it during probation, before any byte of an
// answer, its dial counts as failed after all: the transport passes the error
// (`early`, once per connection), and the pool backs off and counts it for the
// breaker as for any failed dial. Otherwise an upstream that accepts and closes
// would be dialled as fast as it can close.
//
// The time is bounded because servers also close connections on which no
// request arrives in time, after 10 s (HAProxy) to 60 s (nginx). That is no
// failure of the dial: such a warm connection is simply replaced, which at this
// rate is no storm. A connection that has served is judged by its idle time
// instead (idle_limit.h).
inline constexpr Duration kProbation = std::chrono::seconds(1);

// Carries out the pool's decisions.
class Transport {
 public:
  virtual ~Transport() = default;

  // Establishes a connection, on `loop` if the transport can; kNoLoop: on any.
  // `key` is valid for as long as the transport keeps it.
  virtual void Dial(ConnId id, std::shared_ptr<const HostPoolKey> key,
                    LoopIndex loop) = 0;

  // Checks an idle connection, which may have closed by itself.
  virtual void Probe(ConnId id, std::shared_ptr<const HostPoolKey> key) = 0;

  // Closes a connection and aborts the calls on it. If it had closed by itself,
  // that Closed is the answer.
  virtual void Close(ConnId id, CloseReason reason) = 0;

  // Asks for Pool::Tick(shard, now) soon after `when`; at once if `when` is not
  // in the future (a thread has carried out its share of effects, and more are
  // left). An earlier time replaces a later one; a later one may be ignored.
  // Additional ticks do no harm.
  virtual void WakeAt(int shard, Instant when) = 0;
};

// Receives the transport's reports. Every method may be called from any thread
// and returns without blocking.
class TransportEvents {
 public:
  virtual ~TransportEvents() = default;

  virtual void Dialed(ConnId id, const Established& established,
                      Instant now) = 0;
  virtual void DialFailed(ConnId id, const DialError& error, Instant now) = 0;
  // The connection is closed. `reason` is used unless the pool asked for the
  // close. `early`: see kProbation; else null.
  virtual void Closed(ConnId id, CloseReason reason, const DialError* early,
                      Instant now) = 0;
  // The first call on the connection was answered.
  virtual void Served(ConnId id, Instant now) = 0;
  virtual void Probed(ConnId id, bool passed, Instant now) = 0;
  // From now on the peer allows `max_streams` concurrent streams; may be 0.
  virtual void ConcurrencyChanged(ConnId id, int max_streams, Instant now) = 0;
  // The peer accepts no new streams. `early`: see kProbation; else null.
  virtual void GoAway(ConnId id, const DialError* early, Instant now) = 0;
  // The peer announced how long it keeps an idle connection (the Keep-Alive
  // header of HTTP/1.1). Reported again only if the value changes.
  virtual void KeepAliveSaid(ConnId id, Duration timeout, Instant now) = 0;
  // An error that did not end the connection.
  virtual void ErrorCounted(ConnId id, Instant now) = 0;
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_TRANSPORT_H_
