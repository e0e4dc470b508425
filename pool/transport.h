// What the pool asks of the world, and what the world tells the pool.
#ifndef HOTLINE_POOL_TRANSPORT_H_
#define HOTLINE_POOL_TRANSPORT_H_

#include <memory>

#include "base/time.h"
#include "pool/types.h"

namespace hotline::pool {

// Carries out the pool's effects. upstream/ implements it for sockets, the
// tests for a virtual world.
//
// Called without any lock of the pool held, from whatever thread drained the
// outbox; for one shard in the order in which the pool decided. Must not block.
// May answer from inside the call.
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
  // does no harm.
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
  // had not asked for the close itself.
  virtual void Closed(ConnId id, CloseReason reason, Instant now) = 0;
  virtual void Probed(ConnId id, bool passed, Instant now) = 0;
  // The peer allows `max_streams` at once from now on (0 is possible).
  virtual void ConcurrencyChanged(ConnId id, int max_streams, Instant now) = 0;
  // The peer takes no new streams: drain.
  virtual void GoAway(ConnId id, Instant now) = 0;
  // The peer said that it keeps an idle connection for so long (HTTP/1.1's
  // Keep-Alive header). Told again only when it says something else.
  virtual void KeepAliveSaid(ConnId id, Duration timeout, Instant now) = 0;
  // An error that the connection survived (R4).
  virtual void ErrorCounted(ConnId id, Instant now) = 0;
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_TRANSPORT_H_
