// Everything that touches the network towards upstreams.
//
// An Upstream owns the event loops. It carries out what the pool decides (dial,
// probe, close: pool::Transport) and runs calls on connections that the pool
// has lent:
//
//   auto upstream = Upstream::Create(options);
//   (*upstream)->Start(&pool, [&](int shard, Instant now) {
//     pool.Tick(shard, now);
//   });
//   const CallId call = (*upstream)->StartCall(
//       conn, {.authority = "example.com", .path = "/"}, &handler, now);
//
// The thread that starts a call writes the request itself, under the
// connection's lock; the connection's loop reads the answer and calls the
// handler. So a call costs one wake-up, the loop's.
//
// Thread safety: any thread, but for Create, Start, Stop and the destructor.
// Nothing blocks except Stop and what reads files (Create, CheckOptions,
// Reconfigure, RefreshTlsFiles).
//
// Invariants:
//   1. A handler that was given to StartCall or OpenStream gets OnDone exactly
//      once, whatever happens to the connection, and at the latest in Stop.
//   2. Once a connection is gone, methods that take its id do nothing and say
//      so by their result.
//   3. The pool learns of a connection's end (TransportEvents::Closed) before
//      the handlers of the calls that ended with it.
//   4. No socket is connected to an address that the egress rules deny.
#ifndef HOTLINE_UPSTREAM_UPSTREAM_H_
#define HOTLINE_UPSTREAM_UPSTREAM_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "base/time.h"
#include "pool/transport.h"
#include "upstream/address/blocks.h"
#include "upstream/address/book.h"
#include "upstream/options.h"
#include "upstream/types.h"

namespace hotline::net {
class Loop;
}  // namespace hotline::net

namespace hotline::upstream {

class Upstream : public pool::Transport {
 public:
  // Errors: an unreadable CA file; a faulty TLS profile; an egress rule, source
  // address or DNS server that does not parse (INVALID_ARGUMENT, naming it).
  static absl::StatusOr<std::unique_ptr<Upstream>> Create(Options options);
  // Whether Create would accept them. Reads files, keeps nothing.
  static absl::Status CheckOptions(Options options);
  // The rule of `rules`, which are valid, that would forbid a dial of `target`
  // to `address`; empty: none.
  static std::string EgressDenial(const EgressRules& rules,
                                  const std::string& target,
                                  const IpAddress& address);
  // Stops.
  ~Upstream() override = default;

  // What operators want to know of the network. Called from any thread, without
  // a lock held; must not block.
  struct Observer {
    std::function<void(const std::string& target, const AddressEvent& event)>
        on_address = nullptr;
    // The peer takes no more requests on a connection.
    std::function<void(const std::string& target, pool::ConnId conn)>
        on_go_away = nullptr;
  };
  // Before Start.
  virtual void Observe(Observer observer) = 0;

  // Starts the loops. `events` and `tick` (Pool::Tick) must outlive Stop.
  virtual void Start(pool::TransportEvents* events,
                     std::function<void(int shard, Instant now)> tick) = 0;

  // Closes everything, ends running calls (kCancelled) and joins the loops.
  // Nothing is called afterwards.
  virtual void Stop() = 0;

  // Replaces egress rules, TLS profiles, timeouts and limits for whatever
  // starts from now on; `loops` and `dns_servers` do not change. All or
  // nothing; errors as for Create.
  virtual absl::Status Reconfigure(Options options) = 0;

  // Reads the files of TLS profiles that have changed, for dials from now on.
  // Returns whether there were any. INVALID_ARGUMENT: some are faulty; their
  // previous contents stay in force, and the next call tries again. Must not
  // run concurrently with itself or Reconfigure.
  virtual absl::StatusOr<bool> RefreshTlsFiles() = 0;

  // --- Calls, on a connection that was lent to the caller ---

  // Runs a request. `handler` may be called before this returns. Without the
  // connection the call ends with kConnectionGone and kNotSent.
  virtual CallId StartCall(pool::ConnId conn, const Request& request,
                           CallHandler* handler, Instant now) = 0;

  // Begins a request whose body follows by SendBody; `end`: it has none.
  // `head.body` and `head.max_response_bytes` are ignored. The answer arrives
  // in pieces, at the pace of Consume. Otherwise as StartCall.
  virtual CallId OpenStream(pool::ConnId conn, const Request& head, bool end,
                            StreamHandler* handler, Instant now) = 0;

  // The next piece of a streamed request's body; `end`: the last one. Returns
  // how many bytes are held in memory because the peer or the socket takes no
  // more: at most about 512 KiB and the piece, if the caller then waits for
  // OnSendable. 0: more may be sent at once, or the call is over. One thread at
  // a time per call.
  virtual size_t SendBody(pool::ConnId conn, CallId call,
                          std::string_view piece, bool end) = 0;

  // Acknowledges that `bytes` of OnBody's were consumed. About 1 MiB may be
  // unconsumed; then the peer has to wait (on HTTP/2 only with this stream).
  virtual void Consume(pool::ConnId conn, CallId call, size_t bytes) = 0;

  // The answer's AnswerRoom has the room that it was last asked for.
  virtual void ResumeAnswer(pool::ConnId conn, CallId call) = 0;

  // Ends a call with `why` (kCancelled, kNoRoom) unless it has ended. Closes
  // the connection on HTTP/1.1, resets the stream on HTTP/2.
  virtual void CancelCall(pool::ConnId conn, CallId call,
                          CallError why = CallError::kCancelled) = 0;

  // Null: the connection is gone. Shared, not copied: it never changes.
  virtual std::shared_ptr<const ConnectionFacts> Describe(
      pool::ConnId conn) const = 0;

  // --- Timers ---

  // Names a timer. The default one names none.
  struct Timer {
    size_t loop = 0;
    Instant when = kNever;
    uint64_t sequence = 0;
  };
  // Runs `work` on a loop's thread at `when` or soon after; never after Stop.
  virtual Timer RunAt(Instant when, absl::AnyInvocable<void()> work) = 0;
  // Drops `work`, unless it has run or is about to.
  virtual void CancelTimer(const Timer& timer) = 0;

  // The loops, which run from Start to Stop and live as long as this. Callers'
  // connections live on them, too.
  virtual std::vector<net::Loop*> loops() const = 0;

  // How late the latest loop runs its timers; decays. Seconds are a problem,
  // microseconds are not.
  virtual Duration LoopLag() const = 0;

  struct LoopFigures {
    uint64_t turns = 0;  // Times that it has served sockets.
    Duration cpu{0};     // CPU time of its thread.
  };
  virtual std::vector<LoopFigures> Loops() const = 0;

  // DNS queries since the start.
  virtual DnsCounters Dns() const = 0;

  // --- Counters and addresses ---

  // Since the start, per target.
  struct Counters {
    uint64_t unsolicited_bytes = 0;  // Connections closed for stray bytes.
    std::string evidence;  // The first 16 of the latest ones, in hexadecimal.
    uint64_t full_handshakes = 0;  // TLS handshakes that were completed.
    uint64_t resumed_handshakes = 0;
    // Expiry of the certificate of the latest connection, in seconds since
    // 1970; 0: none yet.
    int64_t certificate_not_after = 0;
  };
  virtual std::vector<std::pair<std::string, Counters>> TargetCounters()
      const = 0;

  // The addresses of a target. Empty: no recent dial has resolved it.
  virtual std::vector<AddressRow> Addresses(
      const std::string& target) const = 0;

  // Which of its target's addresses (its proxy's, where it has one) a
  // connection leads to. Nothing: it is gone, or leads to none of them.
  virtual std::optional<IpAddress> AddressOf(pool::ConnId conn) const = 0;

  // Takes an address out of service until `until`, and then until it passes a
  // test (see AddressBook::Cool). False: it is not an address of the target, or
  // it is the last one in service.
  virtual bool Cool(const std::string& target, const IpAddress& address,
                    Instant until, std::string_view why, Instant now) = 0;

  // Takes addresses out of service (for a target behind a proxy: the proxy's).
  // Dials that would lead there fail with ADDRESS_BLOCKED. Returns the open
  // connections that lead there, which the caller evicts from the pool;
  // nothing: there are too many blocks.
  virtual std::optional<std::vector<pool::ConnId>> Block(
      const AddressBlock& block, Instant now) = 0;
  // Puts them back. False: there is no block of this kind, target and range.
  virtual bool Unblock(const AddressBlock& block, Instant now) = 0;
  virtual std::vector<AddressBlock> Blocks(Instant now) const = 0;
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_UPSTREAM_H_
