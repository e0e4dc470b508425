// Everything that touches the network towards upstreams, behind one door.
//
// An Upstream owns the event loops. It carries out what the pool decides (dial,
// probe, close) and runs calls on connections that were lent. The thread that
// starts a call writes the request itself, under the connection's own lock; the
// connection's loop reads the answer and finishes the call. So a call costs one
// wake-up, the loop's.
//
// Thread safety: every method but Create and Stop may be called from any
// thread. None blocks.
#ifndef HOTLINE_UPSTREAM_UPSTREAM_H_
#define HOTLINE_UPSTREAM_UPSTREAM_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "base/time.h"
#include "pool/transport.h"
#include "upstream/address/book.h"
#include "upstream/options.h"
#include "upstream/types.h"

namespace hotline::net {
class Loop;
}  // namespace hotline::net

namespace hotline::upstream {

class Upstream final : public pool::Transport {
 public:
  // Errors: an unreadable CA file; a TLS profile with a fault; an egress rule,
  // source address or DNS server that does not parse (INVALID_ARGUMENT, naming
  // it).
  static absl::StatusOr<std::unique_ptr<Upstream>> Create(Options options);
  // Whether Create would take them: files are read, nothing is kept.
  static absl::Status CheckOptions(Options options);
  ~Upstream() override;

  // Starts the loops. `events` and `tick` (Pool::Tick) must outlive Stop.
  void Start(pool::TransportEvents* events,
             std::function<void(int shard, Instant now)> tick);

  // Closes everything, finishes what runs (kCancelled) and joins the loops.
  // Nothing is told to anybody afterwards.
  void Stop();

  // Replaces egress rules, TLS profiles, timeouts and limits for what starts
  // from now on; `loops` and `dns_servers` stay as they are. All or nothing;
  // errors as for Create.
  absl::Status Reconfigure(Options options);

  // Reads the files of TLS profiles that are others now, for dials from now
  // on. True: there were some. Where they are bad, what was read before stays
  // in force, and the error (INVALID_ARGUMENT) tells; the next call looks
  // again. One thread at a time, and none that also calls Reconfigure
  // meanwhile.
  absl::StatusOr<bool> RefreshTlsFiles();

  // Runs a request on a connection that was lent to the caller. `handler` is
  // told exactly once, maybe before this returns. A handle whose connection is
  // gone ends with kConnectionGone and kNotSent.
  CallId StartCall(pool::Handle handle, const Request& request,
                   CallHandler* handler, Instant now);

  // Begins a request whose body follows by SendBody, unless `end` says that
  // there is none; `head.body` and the limit on the answer do not count. The
  // answer comes piece by piece, at the pace of Consume. Otherwise as
  // StartCall.
  CallId OpenStream(pool::Handle handle, const Request& head, bool end,
                    StreamHandler* handler, Instant now);

  // The next piece of a streamed request's body; `end`: the last one. Returns
  // how many bytes are held in memory because the peer or the socket takes no
  // more (at most about 512 KiB and the piece, if the caller then waits for
  // OnSendable). 0: more may be sent at once. Nothing happens (0) when the call
  // is over. One thread at a time for each call.
  size_t SendBody(pool::Handle handle, CallId call, std::string_view piece,
                  bool end);

  // So many bytes that OnBody gave are out of the way. What is neither consumed
  // nor told yet is about 1 MiB at most; then the peer has to wait, on HTTP/2
  // with this stream alone. Nothing happens when the call is over.
  void Consume(pool::Handle handle, CallId call, size_t bytes);

  // There is room for the answer by now, as much as its AnswerRoom was asked
  // for last. Nothing happens when the call is over.
  void ResumeAnswer(pool::Handle handle, CallId call);

  // Ends a call with `why` (kCancelled, kNoRoom), unless it has ended; the
  // handler is told either way, once. On HTTP/1.1 the connection is closed, on
  // HTTP/2 the stream reset.
  void CancelCall(pool::Handle handle, CallId call,
                  CallError why = CallError::kCancelled);

  // Null when the connection is gone. Never changes while it lives, so the
  // answer is shared, not copied.
  std::shared_ptr<const ConnectionFacts> Describe(pool::Handle handle) const;

  // Runs `work` on a loop's thread at `when` or soon after. Never after Stop.
  // Returns its name.
  struct Timer {
    size_t loop = 0;
    Instant when = kNever;
    uint64_t sequence = 0;  // 0: names none.
  };
  Timer RunAt(Instant when, absl::AnyInvocable<void()> work);
  // Forgets it, with all that `work` holds. Nothing happens when it has run, or
  // is about to.
  void CancelTimer(const Timer& timer);

  // The loops, which run from Start to Stop and live as long as this. Callers'
  // connections live on them, too.
  std::vector<net::Loop*> loops() const;

  // The longest time a loop's thread took to come to a timer that was due, of
  // late (decays); seconds matter, microseconds do not.
  Duration LoopLag() const;

  // Counted since the start, per target; sampled by metrics.
  struct Counters {
    uint64_t unsolicited_bytes = 0;  // Connections closed for stray bytes.
    std::string evidence;  // The first 16 of the latest ones, in hexadecimal.
    uint64_t full_handshakes = 0;  // TLS handshakes that were finished.
    uint64_t resumed_handshakes = 0;
  };
  std::vector<std::pair<std::string, Counters>> TargetCounters() const;

  // The addresses that a target's connections may lead to. Empty: no dial of
  // late, or none that got that far.
  std::vector<AddressRow> Addresses(const std::string& target) const;

  // Which of its target's addresses (its proxy's, where it has one) a
  // connection leads to. None: it is gone, or leads to none of them.
  std::optional<IpAddress> AddressOf(pool::Handle handle) const;

  // Leaves an address of a target alone until `until`, and then until it has
  // passed a test (see AddressBook::Cool). False: it is no address of it, or
  // the last one in service.
  bool Cool(const std::string& target, const IpAddress& address, Instant until,
            std::string_view why, Instant now);

  // pool::Transport:
  void Dial(pool::ConnId id,
            std::shared_ptr<const pool::HostPoolKey> key) override;
  void Probe(pool::ConnId id, pool::Handle handle,
             std::shared_ptr<const pool::HostPoolKey> key) override;
  void Close(pool::ConnId id, pool::Handle handle,
             pool::CloseReason reason) override;
  void WakeAt(int shard, Instant when) override;

 private:
  class Impl;
  explicit Upstream(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_UPSTREAM_H_
