// One open connection: a socket, perhaps a TLS engine, and a codec.
//
// Who does what:
//   - The thread that starts a call serializes, encrypts and sends it, under
//     the connection's own lock. What the socket does not take is written by
//     the loop.
//   - The loop reads, decrypts, parses, and ends calls; it alone closes the
//     socket. Its read is armed from the beginning to the end, so that a FIN or
//     a stray byte retires an idle connection when it arrives.
// Callers are told without the lock, on the loop's thread; when the connection
// is of no further use, after its owner was told.
//
// On HTTP/1.1 one call runs at a time, on HTTP/2 many. What ends one of these
// (its deadline, its cancelling) resets its stream and nothing else. Their
// writes come together: while the loop is about to send, or the socket takes no
// more, a call only adds its request to what waits.
//
// A tunnel is a streamed call of a codec that knows no messages. It is the last
// of its connection; each side ends by itself, so one may go on when nothing
// more is read.
//
// A streamed call is told piece by piece, by Tell on the loop; what it sends is
// written by the thread that brings it. What nobody consumes stops the peer: on
// HTTP/1.1 by not reading on, on HTTP/2 by the stream's window.
//
// An idle connection owns no buffer.
//
// Thread safety: any thread, unless said otherwise.
#ifndef HOTLINE_UPSTREAM_CONNECTION_CONNECTION_H_
#define HOTLINE_UPSTREAM_CONNECTION_CONNECTION_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "base/mutex.h"
#include "base/time.h"
#include "net/loop.h"
#include "net/sender.h"
#include "net/socket_watch.h"
#include "net/tls/tls.h"
#include "pool/types.h"
#include "upstream/address/keeper.h"
#include "upstream/codec/codec.h"
#include "upstream/types.h"

namespace hotline::upstream {

class Connection;

// Told of an announced connection, on the loop's thread.
class ConnectionOwner {
 public:
  virtual ~ConnectionOwner() = default;
  // Once, and the last of all.
  virtual void OnConnectionClosed(Connection& connection,
                                  pool::CloseReason reason) = 0;

  // Of HTTP/1.1 only: how long the peer keeps it when it is idle, as it said in
  // an answer. Again only when it says something else.
  virtual void OnKeepAlive(Connection& connection, Duration timeout) = 0;

  // Of HTTP/2 only. The peer allows so many streams from now on.
  virtual void OnConcurrency(Connection& connection, int max_streams) = 0;
  // The peer takes no new streams. Once.
  virtual void OnGoAway(Connection& connection) = 0;
  // Calls failed whose failure the connection survived.
  virtual void OnErrors(Connection& connection, int count) = 0;
  // A call was answered in full. Once, for the first one.
  virtual void OnAnswered(Connection& connection) = 0;
};

class Connection final : public std::enable_shared_from_this<Connection>,
                         private CodecEvents,
                         private net::SocketWatch::Watcher {
 public:
  struct Options {
    std::string target;
    std::shared_ptr<const ConnectionFacts> facts;
    AddressTicket ticket;  // Where it counts.
    int64_t max_header_bytes = 65536;
    // See upstream::Options.
    Duration ping_after = std::chrono::seconds(20);
    Duration ping_timeout = std::chrono::seconds(5);
    bool http2 = false;
    bool raw = false;  // Bytes as they are: a tunnel's.
  };

  // `fd` is connected, and the handshake done where there is an `engine`. The
  // connection owns it from now on.
  Connection(net::Loop* loop, int fd, std::unique_ptr<net::TlsEngine> engine,
             Options options);
  ~Connection() override;

  // Begins to read. On HTTP/2 it also says what the protocol begins with, and
  // `changed` is told once that IsReady() has an answer. `early`: what has been
  // received by now. Once, on the loop. False: the loop cannot watch the socket
  // (errno says why), and the connection is to be dropped.
  bool Open(std::string_view early = {},
            absl::AnyInvocable<void()> changed = nullptr);

  // Whether calls can be made: on HTTP/2 not before the peer's settings came
  // and allow one. When they never will, and on HTTP/2, `*problem` says why.
  bool IsReady(std::string* problem);

  // From now on `owner` is told what happens. Returns how many calls can run
  // side by side; nothing: the connection is of no use any more. On the loop.
  std::optional<int> Announce(ConnectionOwner* owner, pool::ConnId id,
                              pool::Handle handle);

  // See Upstream::StartCall.
  CallId StartCall(const Request& request, CallHandler* handler, Instant now) {
    return Begin(request, handler, /*streamed=*/nullptr, /*end=*/true, now);
  }
  // `why`: kCancelled, or kNoRoom.
  void CancelCall(CallId call, CallError why = CallError::kCancelled);
  // See Upstream::ResumeAnswer.
  void ResumeAnswer(CallId call);

  // See Upstream::OpenStream.
  CallId OpenStream(const Request& head, bool end, StreamHandler* handler,
                    Instant now) {
    return Begin(head, handler, handler, end, now);
  }
  size_t SendBody(CallId call, std::string_view piece, bool end);
  void Consume(CallId call, size_t bytes);

  // Asks the peer for a sign of life; `told` hears once whether it came by
  // `deadline`, on the loop. Without one the connection is closed. HTTP/2 only.
  void Ping(Instant deadline, absl::AnyInvocable<void(bool alive)> told);

  // Open, and nothing has come that nobody asked for.
  bool IsSilent();

  // Whether a call, or a PING, was answered yet; since Announce, once that was.
  bool answered();
  // The peer ended it before that, with a call under way or on probation: its
  // address may be no good. Final once its owner is told.
  bool broke_early();
  // The peer ended it, or says that it will, on probation (pool::kProbation)
  // and before any byte of an answer: the error that its dial has failed with.
  // Once.
  std::optional<pool::DialError> TakeEarlyEnd();

  // Why the peer refused the TLS handshake after our end of it; "": it did not.
  // Nothing that was sent was processed. Final once its owner is told.
  std::string tls_refusal();

  // Closes soon, on the loop; a running call ends with kCancelled.
  void Close(pool::CloseReason reason);
  // The same at once. On the loop.
  void CloseNow(pool::CloseReason reason);

  const std::shared_ptr<const ConnectionFacts>& facts() const {
    return options_.facts;
  }
  const std::string& target() const { return options_.target; }
  const AddressTicket& ticket() const { return options_.ticket; }
  // Of one that was closed as kUnsolicited: the first of those bytes.
  std::string Evidence() {
    MutexLock lock(&mu_);
    return codec_->error().evidence;
  }
  net::Loop& loop() const { return *loop_; }
  bool http2() const { return options_.http2; }
  // Set by Announce, before anybody else knows the connection.
  pool::ConnId id() const { return id_; }
  pool::Handle handle() const { return handle_; }

 private:
  enum class State : uint8_t {
    kOpen,
    kClosing,  // Of no use any more; its owner has not been told yet.
    kClosed,   // Its owner knows.
  };

  // What is to be told of a streamed call, but for its end.
  struct StreamNews {
    StreamHandler* handler = nullptr;
    StreamId stream = 0;
    int status = 0;  // 0: no head.
    std::vector<Header> headers;
    std::string body;
    std::optional<std::vector<Header>> trailers;
    bool sendable = false;
  };

  // A call that runs.
  struct Call {
    StreamId stream = 0;  // 0: none. It is also the call's name.
    CallHandler* handler = nullptr;
    StreamHandler* streamed = nullptr;  // The same, if it is.
    StreamNews* news = nullptr;         // In stream_news_, if it is.
    int64_t max_response_bytes = 0;
    bool truncate = false;
    bool ended = false;  // `result` is what is to be told.
    // What of the answer's body may be in memory by its AnswerRoom, if it has
    // one; how much may come before it is consumed; what is not, for want of
    // room. While `starved` it waits until `wanted` is granted.
    AnswerRoom* room = nullptr;
    bool starved = false;
    size_t granted = 2 * Codec::kFirstWindow;
    size_t wanted = 0;
    size_t window = Codec::kFirstWindow;
    size_t held_back = 0;
    Instant deadline = kNever;
    Instant started{};
    Instant first_byte{};
    size_t request_bytes = 0;  // About; HTTP/2 only.
    CallResult result;
  };

  struct Ending {
    CallHandler* handler = nullptr;
    CallResult result;
  };

  // What happened under the lock and is to be told without it; on HTTP/1.1 only
  // `streams`, `first` and `keep_alive`.
  struct News {
    std::vector<std::unique_ptr<StreamNews>> streams;
    std::optional<Ending> first;
    Duration keep_alive{0};  // Zero: nothing new.
    std::vector<std::unique_ptr<Call>> others;
    std::optional<int> max_streams;
    bool going_away = false;
    int errors = 0;
    bool answered = false;
    absl::AnyInvocable<void()> changed;
    absl::AnyInvocable<void(bool)> pinged;
  };

  // What a connection with HTTP/2 has beside all that.
  struct Http2 {
    absl::flat_hash_map<StreamId, std::unique_ptr<Call>> others;
    News news;
    bool ready = false;
    bool going_away = false;
    absl::AnyInvocable<void()> changed;
    absl::AnyInvocable<void(bool)> pinged;
    Instant ping_deadline = kNever;
    Instant heard{};         // The last sign of life, or when one was awaited.
    Instant asked = kNever;  // When one was asked for, for want of any.
  };

  // What a flush leaves for the loop.
  struct Rest {
    bool blocked = false;
    bool broken = false;
    bool news = false;
  };

  // CodecEvents, from inside the codec: under the lock.
  void OnHead(StreamId stream, int status, std::vector<Header> headers) override
      ABSL_NO_THREAD_SAFETY_ANALYSIS;
  void OnBody(StreamId stream,
              std::string_view piece) override ABSL_NO_THREAD_SAFETY_ANALYSIS;
  void OnTrailers(StreamId stream, std::vector<Header> trailers) override
      ABSL_NO_THREAD_SAFETY_ANALYSIS;
  void OnComplete(StreamId stream) override ABSL_NO_THREAD_SAFETY_ANALYSIS;
  void OnStreamError(StreamId stream, CallError error, Verdict verdict,
                     std::string message) override
      ABSL_NO_THREAD_SAFETY_ANALYSIS;
  void OnSendable(StreamId stream) override ABSL_NO_THREAD_SAFETY_ANALYSIS;
  void OnReady(int max_streams) override ABSL_NO_THREAD_SAFETY_ANALYSIS;
  void OnConcurrency(int max_streams) override ABSL_NO_THREAD_SAFETY_ANALYSIS;
  void OnGoAway(StreamId last,
                std::string why) override ABSL_NO_THREAD_SAFETY_ANALYSIS;
  void OnPingAck() override ABSL_NO_THREAD_SAFETY_ANALYSIS;

  // Sees to room for what comes after what there is of a body, and consumes the
  // latter as far as there is.
  void MeterLocked(Call* call, size_t piece) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void GrantLocked(Call* call) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool WantsReadLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return codec_->WantsRead() && (http2_ != nullptr || !first_.starved);
  }
  void NoteKeepAlive(const std::vector<Header>& headers)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  void OnSocketReady(bool readable, bool writable) override;
  // After a change of what the socket is waited for. On the loop.
  void UpdateWatch();
  void OnReadable();
  void OnWritable();
  // Writing failed: there may be an answer to read that explains it.
  void OnBroken();
  void OnDeadline();

  // `due` if OnDeadline has to be armed for it, which counts as done from now
  // on; kNever if it runs early enough anyway.
  Instant ToArmLocked(Instant due) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Instant DueLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // When the peer's silence becomes strange.
  Instant SilenceDueLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void CheckSilenceLocked(Instant now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ExpireCallsLocked(Instant now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ArmDeadline(Instant when);

  bool HasCallsLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return (first_.stream != 0 && !first_.ended) ||
           (http2_ != nullptr && !http2_->others.empty());
  }
  // Null: no such call, or it has ended.
  Call* FindLocked(StreamId stream) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // `streamed` is null or `handler`.
  CallId Begin(const Request& request, CallHandler* handler,
               StreamHandler* streamed, bool end, Instant now);
  const Call& BeginCallLocked(const Request& request, CallHandler* handler,
                              StreamHandler* streamed, bool end, Instant now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  static CallResult NeverSent(std::string why,
                              CallError error = CallError::kConnectionGone);
  // Gives the call up, with the verdict it has by now.
  void EndCallLocked(Call* call, CallError error, std::string message)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void EndAllLocked(CallError error, const std::string& message)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void NoteAnswerLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (!std::exchange(answered_, true)) tell_answered_ = true;
  }
  // The peer is about to end the connection.
  void NoteBreakLocked(std::string why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // How far a call got.
  Verdict VerdictLocked(StreamId stream) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // All fail: the connection has ended.
  void LoseAllLocked(const std::string& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Its result is final.
  void FinishCallLocked(Call* call) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // Where to note what is to be told of a streamed call.
  StreamNews* NewsOfLocked(Call* call) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::vector<std::unique_ptr<StreamNews>> TakeStreamNewsLocked()
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  static void TellStreams(News* news);

  // False: the connection has to be closed, and FinishClose tells the news.
  bool TakeNewsLocked(News* news) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Tells, and then sends what is to be sent. On the loop.
  void Tell(News* news);
  void TellEndings(News* news);
  // After an event: TakeNewsLocked, Tell or FinishClose. On the loop.
  void Settle();

  // Takes what arrived. Ends with state_ kClosing when it was the last.
  void TakeInputLocked(std::string_view bytes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void DecryptLocked(std::string_view bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void TakePlainLocked(std::string_view plain)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void TakeHttp1Locked(std::string_view plain)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // `clean`: nothing is missing that the peer wanted to send.
  void TakeEndLocked(bool clean, std::string why)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void CloseLocked(pool::CloseReason reason) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The rest of a close that was begun under the lock. On the loop.
  void FinishClose();

  // Lets a tunnel's codec tell what came before the tunnel. On the loop.
  void TellOpened();

  // Says to the peer that nothing follows.
  net::Sender::Result EndOutputLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Sends what the codec wants to be sent, as far as the socket takes it.
  net::Sender::Result FlushLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // What of it is written is added to `*total`.
  net::Sender::Result FlushTakenLocked(size_t* total)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The same on the loop, which sees to what comes of it.
  void FlushOnLoop();
  // The same on any thread, unless the loop is about to or the socket is full.
  Rest TryFlushLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void LeaveToLoop(const Rest& rest);

  net::Loop* const loop_;
  const Options options_;

  // Written by Announce.
  ConnectionOwner* owner_ = nullptr;
  pool::ConnId id_ = 0;
  pool::Handle handle_ = 0;

  const int fd_;

  Mutex mu_;
  State state_ ABSL_GUARDED_BY(mu_) = State::kOpen;
  pool::CloseReason close_reason_ ABSL_GUARDED_BY(mu_) =
      pool::CloseReason::kError;
  const std::unique_ptr<net::TlsEngine> engine_ ABSL_PT_GUARDED_BY(mu_);
  // Another one after an Upgrade.
  std::unique_ptr<Codec> codec_ ABSL_GUARDED_BY(mu_) ABSL_PT_GUARDED_BY(mu_);
  Call first_ ABSL_GUARDED_BY(mu_);              // HTTP/1.1 has no other.
  Duration keep_alive_ ABSL_GUARDED_BY(mu_){0};  // As the peer said last.
  bool keep_alive_told_ ABSL_GUARDED_BY(mu_) = true;
  const std::unique_ptr<Http2> http2_ ABSL_PT_GUARDED_BY(mu_);  // Or null.
  // Calls that came between the end and the owner's knowing of it.
  std::vector<CallHandler*> late_ ABSL_GUARDED_BY(mu_);

  std::vector<std::unique_ptr<StreamNews>> stream_news_ ABSL_GUARDED_BY(mu_);
  StreamId sending_ ABSL_GUARDED_BY(mu_) = 0;  // Inside its SendBody.
  // Until somebody has consumed what there is.
  bool read_paused_ ABSL_GUARDED_BY(mu_) = false;
  // The peer sends no more, and we go on.
  bool read_ended_ ABSL_GUARDED_BY(mu_) = false;
  // Of tunnels: one is over whose bytes were not all sent.
  bool tunnel_ ABSL_GUARDED_BY(mu_);
  bool cut_off_ ABSL_GUARDED_BY(mu_) = false;

  net::Sender sender_ ABSL_GUARDED_BY(mu_);
  bool write_armed_ ABSL_GUARDED_BY(mu_) = false;
  bool loop_flushes_ ABSL_GUARDED_BY(mu_) = false;  // It will, very soon.
  bool answered_ ABSL_GUARDED_BY(mu_) = false;
  bool tell_answered_ ABSL_GUARDED_BY(mu_) = false;  // The owner knows not yet.
  bool broke_early_ ABSL_GUARDED_BY(mu_) = false;
  // A part of an answer has come since Announce.
  bool served_ ABSL_GUARDED_BY(mu_) = false;
  bool ended_on_probation_ ABSL_GUARDED_BY(mu_) = false;
  bool tls_failed_ ABSL_GUARDED_BY(mu_) = false;
  Instant probation_began_ ABSL_GUARDED_BY(mu_) = MonotonicNow();
  bool tls_refused_ ABSL_GUARDED_BY(mu_) = false;
  std::string why_ ABSL_GUARDED_BY(mu_);  // It is of no use any more.
  // The earliest RunAt that is under way; deadline_ names it, once it is there.
  Instant deadline_armed_ ABSL_GUARDED_BY(mu_) = kNever;
  net::Loop::Deadline deadline_ ABSL_GUARDED_BY(mu_);

  // On the loop only.
  net::SocketWatch::Token watch_ = 0;
  bool socket_closed_ = false;
  Instant now_{};  // Of the event being handled.
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_CONNECTION_CONNECTION_H_
