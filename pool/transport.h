// What the pool asks of the world, and what the world tells the pool.
#ifndef HOTLINE_POOL_TRANSPORT_H_
#define HOTLINE_POOL_TRANSPORT_H_

#include <chrono>
#include <memory>

#include "base/time.h"
#include "pool/types.h"

namespace hotline::pool {

// How long a new connection is on probation: until a call on it was answered,
// or for this long. If the peer ends it during probation, before any byte of an
// answer came, then its dial has failed after all: the transport passes the
// error (`early`, once per connection), and the pool backs off, counts it for
// the breaker and under its class, as for any failed dial. Else an upstream
// that accepts and closes would be dialled as fast as it can close.
//
// Why a bound on the age: servers also close connections on which no request
// came in time. That says nothing against the dial, and those times are seconds
// at least (10 s in HAProxy, 20 s in Apache httpd, 60 s in nginx), so a warm
// connection that ends by one is simply replaced; at this rate that is no
// storm. A connection that has served is judged by its idle time
// (idle_limit.h), never by this.
inline constexpr Duration kProbation = std::chrono::seconds(1);

// Carries out the pool's effects. upstream/ implements it for sockets, the
// tests for a virtual world.
//
// Called without any lock of the pool held, from whatever thread drained the
// outbox; for one shard in the order in which the pool decided (but for WakeAt,
// which may come at any time). Must not block. May answer from inside the call.
class Transport {
 public:
  virtual ~Transport() = default;

  // Makes a connection. Answered exactly once, by Dialed or DialFailed. The key
  // outlives the dial.
  virtual void Dial(ConnId id, std::shared_ptr<const HostPoolKey> key) = 0;

  // Checks an idle connection. Answered exactly once, by Probed; also when the
  // connection closes meanwhile (Closed is told besides, before or after).
  virtual void Probe(ConnId id, Handle handle,
                     std::shared_ptr<const HostPoolKey> key) = 0;

  // Closes a connection, aborting what runs on it. Answered by Closed, exactly
  // once per connection: when the connection had closed by itself meanwhile,
  // that Closed is the answer.
  virtual void Close(ConnId id, Handle handle, CloseReason reason) = 0;

  // Wants Pool::Tick(shard, now) soon after `when`. A later call with an
  // earlier time counts; one with a later time may be ignored. A tick too many
  // does no harm. With a time that is not in the future it means at once: a
  // thread has carried out its share of effects, and more are left.
  virtual void WakeAt(int shard, Instant when) = 0;
};

// The transport's side of the conversation; Pool implements it. Every method
// may be called from any thread and returns without blocking.
class TransportEvents {
 public:
  virtual ~TransportEvents() = default;

  virtual void Dialed(ConnId id, const Established& established,
                      Instant now) = 0;
  virtual void DialFailed(ConnId id, const DialError& error,
                          const DialTimings& timings, Instant now) = 0;
  // The connection is gone, whoever closed it. `reason` is taken when the pool
  // had not asked for the close itself. `early`: see kProbation; null
  // otherwise.
  virtual void Closed(ConnId id, CloseReason reason, const DialError* early,
                      Instant now) = 0;
  // A call on it was answered. Once, for the first one.
  virtual void Served(ConnId id, Instant now) = 0;
  virtual void Probed(ConnId id, bool passed, Instant now) = 0;
  // The peer allows `max_streams` at once from now on (0 is possible).
  virtual void ConcurrencyChanged(ConnId id, int max_streams, Instant now) = 0;
  // The peer takes no new streams: drain. `early`: see kProbation; null
  // otherwise.
  virtual void GoAway(ConnId id, const DialError* early, Instant now) = 0;
  // The peer said that it keeps an idle connection for so long (HTTP/1.1's
  // Keep-Alive header). Told again only when it says something else.
  virtual void KeepAliveSaid(ConnId id, Duration timeout, Instant now) = 0;
  // An error that the connection survived (R4).
  virtual void ErrorCounted(ConnId id, Instant now) = 0;
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_TRANSPORT_H_
