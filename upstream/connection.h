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
// An idle connection owns no buffer.
//
// Thread safety: any thread, unless said otherwise.
#ifndef HOTLINE_UPSTREAM_CONNECTION_H_
#define HOTLINE_UPSTREAM_CONNECTION_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "base/mutex.h"
#include "base/time.h"
#include "pool/types.h"
#include "upstream/codec.h"
#include "upstream/loop.h"
#include "upstream/sender.h"
#include "upstream/tls/tls.h"
#include "upstream/types.h"
#include "upstream/upstream.h"

namespace hotline::upstream {

struct SocketIo;
class Connection;

// Told once, on the loop's thread, that an announced connection is closed.
class ConnectionOwner {
 public:
  virtual ~ConnectionOwner() = default;
  virtual void OnConnectionClosed(Connection& connection,
                                  pool::CloseReason reason) = 0;
};

class Connection final : public std::enable_shared_from_this<Connection>,
                         private CodecEvents {
 public:
  struct Options {
    std::string target;
    std::shared_ptr<const ConnectionFacts> facts;
    int64_t max_header_bytes = 65536;
  };

  // `io` is connected, and the handshake done where there is an `engine`.
  Connection(Loop* loop, std::unique_ptr<SocketIo> io,
             std::unique_ptr<TlsEngine> engine, Options options);
  ~Connection() override;

  // Arms the read. Once, on the loop.
  void Open();

  // From now on `owner` is told of the end. False: it has come already. On the
  // loop.
  bool Announce(ConnectionOwner* owner, pool::ConnId id, pool::Handle handle);

  // See Upstream::StartCall.
  CallId StartCall(const Request& request, CallHandler* handler, Instant now);
  void CancelCall(CallId call);

  // Open, and nothing has come that nobody asked for.
  bool IsSilent();

  // Closes soon, on the loop; a running call ends with kCancelled.
  void Close(pool::CloseReason reason);
  // The same at once. On the loop.
  void CloseNow(pool::CloseReason reason);

  const std::shared_ptr<const ConnectionFacts>& facts() const {
    return options_.facts;
  }
  const std::string& target() const { return options_.target; }
  Loop& loop() const { return *loop_; }
  // Set by Announce, before anybody else knows the connection.
  pool::ConnId id() const { return id_; }
  pool::Handle handle() const { return handle_; }

 private:
  enum class State : uint8_t {
    kOpen,
    kClosing,  // Of no use any more; its owner has not been told yet.
    kClosed,   // Its owner knows.
  };

  // The call that runs.
  struct Call {
    CallId id = 0;  // 0: none.
    CallHandler* handler = nullptr;
    StreamId stream = 0;
    int64_t max_response_bytes = 0;
    bool truncate = false;
    bool ended = false;  // `result` is what is to be told.
    Instant deadline = kNever;
    Instant started{};
    Instant first_byte{};
    size_t request_bytes = 0;
    CallResult result;
  };

  struct Ending {
    CallHandler* handler = nullptr;
    CallResult result;
  };

  // CodecEvents, from inside codec_->Feed and FeedEof: under the lock.
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

  void ArmRead();
  void ArmWrite();
  void OnReadable();
  void OnWritable();
  void OnDeadline();

  // Sees to it that OnDeadline runs when the lock is released; kNever: it does
  // already.
  Instant DeadlineToArmLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ArmDeadline(Instant when);

  void BeginCallLocked(const Request& request, CallHandler* handler,
                       Instant now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void EndCallLocked(CallError error, std::string message)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Verdict VerdictLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Nothing while no call has ended.
  std::optional<Ending> TakeEndingLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // Takes what arrived. Ends with state_ kClosing when it was the last.
  void TakeInputLocked(std::string_view bytes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void DecryptLocked(std::string_view bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void TakePlainLocked(std::string_view plain)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // `clean`: nothing is missing that the peer wanted to send.
  void TakeEndLocked(bool clean, std::string why)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void CloseLocked(pool::CloseReason reason) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The rest of a close that was begun under the lock. On the loop.
  void FinishClose();

  Sender::Result FlushLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  Loop* const loop_;
  const Options options_;

  // Written by Announce.
  ConnectionOwner* owner_ = nullptr;
  pool::ConnId id_ = 0;
  pool::Handle handle_ = 0;

  // Waited on by the loop only.
  const std::unique_ptr<SocketIo> io_;
  const int fd_;

  Mutex mu_;
  State state_ ABSL_GUARDED_BY(mu_) = State::kOpen;
  pool::CloseReason close_reason_ ABSL_GUARDED_BY(mu_) =
      pool::CloseReason::kError;
  const std::unique_ptr<TlsEngine> engine_ ABSL_PT_GUARDED_BY(mu_);
  const std::unique_ptr<Codec> codec_ ABSL_PT_GUARDED_BY(mu_);
  Call call_ ABSL_GUARDED_BY(mu_);
  CallId last_call_ ABSL_GUARDED_BY(mu_) = 0;
  // Calls that came between the end and the owner's knowing of it.
  std::vector<CallHandler*> late_ ABSL_GUARDED_BY(mu_);

  Sender sender_ ABSL_GUARDED_BY(mu_);
  bool write_armed_ ABSL_GUARDED_BY(mu_) = false;
  // The earliest RunAt that is under way.
  Instant deadline_armed_ ABSL_GUARDED_BY(mu_) = kNever;

  Instant now_{};  // Of the event being handled; on the loop only.
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_CONNECTION_H_
