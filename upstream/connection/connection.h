// One open connection: a net::Wire, a Codec, the CallTable of what runs on it,
// and its Liveness.
//
//   - The thread that starts a call serializes, encrypts and writes it, under
//     the connection's lock. What the socket does not take, the loop writes.
//   - The loop reads, decrypts, parses and ends calls, and it alone closes the
//     socket. It reads all the time, so a FIN or a stray byte retires an idle
//     connection when it arrives.
//
// Where a codec's streams share the connection (HTTP/2), a call that ends early
// resets its stream and nothing else, and calls are written in batches: while
// the loop is about to write, or the socket is full, a call only adds its
// request to the output. Elsewhere one call runs at a time, and ending it early
// closes the connection. A tunnel is a streamed call, the last of its
// connection; each side ends separately.
//
// A streamed call is delivered piece by piece, on the loop; what it sends is
// written by the thread that brings it. Bytes that are not consumed stop the
// peer: by the stream's window on HTTP/2, elsewhere by not reading on.
//
// Thread safety: any thread, unless stated otherwise.
//
// Invariants:
//   1. Handlers and the owner are called on the loop, without the lock.
//   2. The owner learns that the connection is of no further use before the
//      handlers of the calls that this ends.
//   3. An idle connection owns no buffer.
#ifndef HOTLINE_UPSTREAM_CONNECTION_CONNECTION_H_
#define HOTLINE_UPSTREAM_CONNECTION_CONNECTION_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "base/mutex.h"
#include "base/time.h"
#include "net/loop.h"
#include "net/socket_watch.h"
#include "net/tls/tls.h"
#include "net/wire.h"
#include "pool/types.h"
#include "upstream/address/keeper.h"
#include "upstream/codec/codec.h"
#include "upstream/codec/http2.h"
#include "upstream/connection/call_table.h"
#include "upstream/connection/liveness.h"
#include "upstream/connection/probation.h"
#include "upstream/types.h"

namespace hotline::upstream {

class Connection;

// Called by an announced connection, on the loop's thread.
class ConnectionOwner {
 public:
  virtual ~ConnectionOwner() = default;
  // Once, after all others.
  virtual void OnConnectionClosed(Connection& connection,
                                  pool::CloseReason reason) = 0;
  // How long the peer keeps an idle connection, by its answers' Keep-Alive
  // header. Again only when it changes.
  virtual void OnKeepAlive(Connection& connection, Duration timeout) = 0;
  // The number of streams that the peer allows has changed.
  virtual void OnConcurrency(Connection& connection, int max_streams) = 0;
  // The peer takes no new streams. Once.
  virtual void OnGoAway(Connection& connection) = 0;
  // `count` calls failed; the connection goes on.
  virtual void OnErrors(Connection& connection, int count) = 0;
  // A call was answered in full. Once, for the first one.
  virtual void OnAnswered(Connection& connection) = 0;
};

class Connection final : public std::enable_shared_from_this<Connection>,
                         private Http2Events,
                         private net::SocketWatch::Watcher {
 public:
  enum class Protocol : uint8_t { kHttp1, kHttp2, kRaw };
  struct Options {
    std::string target;
    std::shared_ptr<const ConnectionFacts> facts;
    AddressTicket ticket;  // Where it counts.
    Protocol protocol = Protocol::kHttp1;
    int64_t max_header_bytes = 65536;
    // See upstream::Options.
    Duration ping_after = std::chrono::seconds(20);
    Duration ping_timeout = std::chrono::seconds(5);
  };

  // Owns `fd`, a connected socket. `engine` has finished its handshake; null:
  // no TLS.
  Connection(net::Loop* loop, int fd, std::unique_ptr<net::TlsEngine> engine,
             Options options);

  // Begins to read and sends the protocol's preface, if any. `early`: bytes
  // that were received by now. `changed` is called once, when IsReady may have
  // become true or the connection has closed; not if it is ready already.
  // False: the loop cannot watch the socket (errno says why), and the
  // connection is to be dropped. Once, on the loop.
  bool Open(std::string_view early = {},
            absl::AnyInvocable<void()> changed = nullptr);

  // Whether calls can be made: on HTTP/2, the peer's settings have come and
  // allow one. `*problem`: why they never will be.
  bool IsReady(std::string* problem);

  // Hands the connection to `owner`, which is called from now on. Returns how
  // many calls may run at the same time; nothing: it is of no use any more. On
  // the loop.
  std::optional<int> Announce(ConnectionOwner* owner, pool::ConnId id);

  // See Upstream for these.
  CallId StartCall(const Request& request, CallHandler* handler, Instant now) {
    return Begin(request, handler, /*streamed=*/nullptr, /*end=*/true, now);
  }
  CallId OpenStream(const Request& head, bool end, StreamHandler* handler,
                    Instant now) {
    return Begin(head, handler, handler, end, now);
  }
  size_t SendBody(CallId call, std::string_view piece, bool end);
  void Consume(CallId call, size_t bytes);
  void ResumeAnswer(CallId call);
  void CancelCall(CallId call, CallError why = CallError::kCancelled);

  // Sends a PING; `answer` is called once, on the loop, with whether it was
  // acknowledged by `deadline`. If not, the connection is closed. REQUIRES:
  // HTTP/2.
  void Ping(Instant deadline, Liveness::Answer answer);
  bool HasPing() const { return traits_.multiplexed; }

  // Whether the connection is open and no bytes have arrived unasked.
  bool IsSilent();

  // Whether a call, or a PING, was answered in full: since Announce, once that
  // was.
  bool answered();
  // The peer ended it before that, with calls under way or on probation: the
  // address may be bad. Final when the owner hears of the end.
  bool broke_early();
  // The peer ended it on probation (pool::kProbation), or announced the end,
  // before any byte of an answer: what its dial has failed with after all.
  // Once.
  std::optional<pool::DialError> TakeEarlyEnd();
  // Why the peer refused the TLS handshake after our side had finished it;
  // empty: it did not. If it did, nothing that was sent was processed. Final
  // when the owner hears of the end.
  std::string tls_refusal();
  // After kUnsolicited: the first of the stray bytes.
  std::string Evidence();

  // Closes soon, on the loop; running calls end with kCancelled.
  void Close(pool::CloseReason reason);
  // The same at once. On the loop.
  void CloseNow(pool::CloseReason reason);

  const std::shared_ptr<const ConnectionFacts>& facts() const {
    return options_.facts;
  }
  const std::string& target() const { return options_.target; }
  const AddressTicket& ticket() const { return options_.ticket; }
  net::Loop& loop() const { return *loop_; }
  // Set by Announce, before other threads know the connection.
  pool::ConnId id() const { return id_; }

 private:
  enum class State : uint8_t {
    kOpen,
    kClosing,  // Of no further use; the owner does not know yet.
    kClosed,   // The owner knows.
  };

  // What is to be delivered once the lock is free.
  struct News {
    CallNews calls;
    bool answered = false;
    int errors = 0;
    Duration keep_alive{0};  // Zero: nothing new.
    // Of Http2Events:
    struct Changes {
      bool going_away = false;
      std::optional<int> max_streams;
      absl::AnyInvocable<void()> changed;
      Liveness::Answer pinged;
    } changes;
  };

  // What a flush outside the loop leaves for the loop to do.
  struct FollowUp {
    bool blocked = false;
    bool broken = false;
    bool news = false;
    bool watch = false;  // What the socket is watched for has changed.
  };

  // Http2Events, from inside the codec.
  void OnReady(int max_streams) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void OnConcurrency(int max_streams) override
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void OnGoAway(StreamId last, std::string why) override
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void OnPingAck() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // `streamed` is null or `handler`.
  CallId Begin(const Request& request, CallHandler* handler,
               StreamHandler* streamed, bool end, Instant now);
  // Lets the codec report what came before the first call. On the loop.
  void DeliverEarly();

  // --- Input, on the loop (io.cc) ---

  void OnSocketReady(bool readable, bool writable) override;
  // Applies read_paused_, read_ended_ and write_armed_ to the socket.
  void UpdateWatch();
  void OnReadable();
  void OnWritable();
  // Writing failed. There may be an answer to read that explains it.
  void OnBroken();
  void TakeInputLocked(std::string_view bytes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void TakePlainLocked(std::string_view plain)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // recv has returned no bytes, because of `error`; 0: the end.
  void TakeNoInputLocked(int error) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The peer sends no more. `clean`: it has sent everything that it wanted to.
  void TakeEndLocked(bool clean, std::string why)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool WantsReadLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // --- Output (io.cc) ---

  // Writes what the codec has, as far as the socket takes it.
  net::Wire::Result FlushLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Writes what the wire has; adds to `*total` what was written.
  net::Wire::Result FlushWireLocked(size_t* total)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  net::Wire::Result EndOutputLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // FlushLocked on any thread, unless the loop is about to flush or the socket
  // is full.
  FollowUp TryFlushLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void PostFollowUp(const FollowUp& todo);
  void FlushOnLoop();

  // --- Deadlines ---

  // Returns `due` if it has to be armed by ArmDeadline, which counts as done
  // from now on; kNever if OnDeadline runs early enough anyway.
  Instant ToArmLocked(Instant due) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ArmDeadline(Instant when);
  void OnDeadline();
  void CheckLivenessLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // --- News and the end, on the loop ---

  // False: the connection has to be closed, and FinishClose delivers the news.
  bool TakeNewsLocked(News* news) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Deliver(News* news);
  // Delivers what an event has brought, or closes.
  void FinishEvent();
  // The peer ends the connection, or is about to.
  void NotePeerEndsLocked(std::string why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The connection is lost, and all calls with it.
  void LoseLocked(const std::string& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Begins to close; FinishClose does the rest.
  void CloseLocked(pool::CloseReason reason) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void FinishClose();
  void DeliverLast();

  net::Loop* const loop_;
  const Options options_;
  const int fd_;          // The wire's, to receive from without the lock.
  Codec::Traits traits_;  // But for `tunnel`, an Upgrade does not change them.

  // Written by Announce.
  ConnectionOwner* owner_ = nullptr;
  pool::ConnId id_ = 0;

  Mutex mu_;
  State state_ ABSL_GUARDED_BY(mu_) = State::kOpen;
  pool::CloseReason close_reason_ ABSL_GUARDED_BY(mu_) =
      pool::CloseReason::kError;
  Probation probation_ ABSL_GUARDED_BY(mu_);
  net::Wire wire_ ABSL_GUARDED_BY(mu_);
  // Replaced after an Upgrade.
  std::unique_ptr<Codec> codec_ ABSL_GUARDED_BY(mu_) ABSL_PT_GUARDED_BY(mu_);
  CallTable calls_ ABSL_GUARDED_BY(mu_);
  Liveness liveness_ ABSL_GUARDED_BY(mu_);
  // Calls that came while kClosing.
  std::vector<CallHandler*> late_ ABSL_GUARDED_BY(mu_);
  News::Changes changes_ ABSL_GUARDED_BY(mu_);
  absl::AnyInvocable<void()> changed_ ABSL_GUARDED_BY(mu_);

  bool read_paused_ ABSL_GUARDED_BY(mu_) = false;   // Until bytes are consumed.
  bool read_ended_ ABSL_GUARDED_BY(mu_) = false;    // By the peer; we go on.
  bool write_armed_ ABSL_GUARDED_BY(mu_) = false;   // The loop awaits room.
  bool loop_flushes_ ABSL_GUARDED_BY(mu_) = false;  // It is about to.
  bool going_away_ ABSL_GUARDED_BY(mu_) = false;
  bool tls_failed_ ABSL_GUARDED_BY(mu_) = false;
  bool tls_refused_ ABSL_GUARDED_BY(mu_) = false;
  std::string why_ ABSL_GUARDED_BY(mu_);  // Why it is of no further use.
  // The earliest RunAt under way; deadline_ names it, once it is known.
  Instant deadline_armed_ ABSL_GUARDED_BY(mu_) = kNever;
  net::Loop::Deadline deadline_ ABSL_GUARDED_BY(mu_);

  // On the loop only.
  net::SocketWatch::Token watch_ = 0;
  bool socket_closed_ = false;
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_CONNECTION_CONNECTION_H_
