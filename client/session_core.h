// The state of a BrokerSession: waiting calls, sent calls, and the stream.
// Internal to the client library.
#ifndef HOTLINE_CLIENT_SESSION_CORE_H_
#define HOTLINE_CLIENT_SESSION_CORE_H_

#include <grpcpp/alarm.h>
#include <grpcpp/channel.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"
#include "base/time.h"
#include "client/broker_session.h"
#include "client/session_stream.h"
#include "hotline/v1/broker.grpc.pb.h"

namespace hotline::client {

// One call. Shared with the write that carries it, which may outlive it.
struct SessionEntry {
  std::shared_ptr<v1::SessionItem> item;
  Instant deadline = kNever;
  BrokerSession::ItemDone done;  // Null: no caller waits.
  uint64_t stream = 0;           // That of its lease; 0: any.
  int sends = 0;
};

// Earlier than the caller's deadline, as for unary calls, so that the broker's
// explained error arrives in time.
Duration LessMargin(Duration left);

// Whether opening a stream may succeed later after this failure.
bool MayPass(const absl::Status& status);

// NOT_FOUND/LEASE_LOST.
absl::Status LeaseLost();

// Thread-safe. No callback is called with the lock held.
//
//   kDown ──call──> kConnecting ──OnOpened──> kUp ──OnEnded──> kEnded
//     ^─────────────────┴──────────OnClosed──────────────────────┘
//
// Nothing is written before the broker has sent its headers, so calls that fail
// before that have certainly not been sent.
class SessionCore : public std::enable_shared_from_this<SessionCore> {
 public:
  SessionCore(BrokerSessionOptions options,
              const std::shared_ptr<grpc::Channel>& channel);

  // Calls `done` exactly once.
  void Call(std::unique_ptr<v1::SessionItem> item, const CallOptions& options,
            uint64_t stream, BrokerSession::ItemDone done);
  // The open stream; 0: none.
  uint64_t open_stream() const;
  void Close();

  const BrokerSessionOptions& options() const { return options_; }

  // Called by the stream.
  void OnOpened(SessionStream* stream);
  void OnResults(v1::SessionResponse* response);
  void OnWritten();
  void OnEnded(SessionStream* stream);
  void OnClosed(SessionStream* stream, const absl::Status& status);
  // The last call of each stream that was opened.
  void OnDeleted();

 private:
  enum class State : uint8_t { kDown, kConnecting, kUp, kEnded };
  using Entry = std::unique_ptr<SessionEntry>;
  // Calls to finish, with their results, after unlocking.
  using Endings = std::vector<std::pair<BrokerSession::ItemDone, absl::Status>>;

  static void Deliver(Endings& endings);
  void Submit(Entry entry);
  // Opens a stream or writes a message if one is due.
  void Pump();
  SessionStream* TakeBatchLocked(SessionStream::Batch* batch)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Assigns its id and sets its timeout for the broker. False: too late.
  bool PrepareLocked(SessionEntry* entry, Instant now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void OpenLocked(Instant now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // How long the next stream may wait for a connection.
  Duration ConnectWaitLocked(Instant now) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The stream to cancel and release because its connection takes too long, or
  // null.
  SessionStream* GiveUpLocked(Instant now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool connected() const;
  // Lets the stream end if no thread is about to use it.
  void LetGo(SessionStream* stream);
  void WakeByLocked(Instant when) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void OnAlarm(Instant set_for);
  void ExpireLocked(Instant now, Endings* endings)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void LoseSentLocked(const absl::Status& status, Endings* endings)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void LoseQueuedLocked(const absl::Status* failure, Endings* endings)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const BrokerSessionOptions options_;
  // Reset by Close() when no stream holds the channel any more: the last
  // reference to a channel must not be released on a gRPC thread, which would
  // then wait for itself. Read-only until then.
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Broker::Stub> stub_;

  mutable Mutex mu_;
  std::condition_variable changed_;
  State state_ ABSL_GUARDED_BY(mu_) = State::kDown;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  // Results are being delivered; calls made meanwhile go into one message.
  bool corked_ ABSL_GUARDED_BY(mu_) = false;
  SessionStream* stream_ ABSL_GUARDED_BY(mu_) = nullptr;
  int streams_ ABSL_GUARDED_BY(mu_) = 0;      // Opened and not yet deleted.
  uint64_t number_ ABSL_GUARDED_BY(mu_) = 0;  // Of the stream.
  uint64_t last_id_ ABSL_GUARDED_BY(mu_) = 0;
  int failures_ ABSL_GUARDED_BY(mu_) = 0;  // To open one, consecutive.
  Instant open_after_ ABSL_GUARDED_BY(mu_){};
  // Whether connect_wait has been used up since there was a stream or calls
  // failed for lack of one.
  bool waited_ ABSL_GUARDED_BY(mu_) = false;
  Instant give_up_at_ ABSL_GUARDED_BY(mu_) = kNever;  // While kConnecting.
  std::deque<Entry> queue_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<uint64_t, Entry> sent_ ABSL_GUARDED_BY(mu_);
  Instant alarm_at_ ABSL_GUARDED_BY(mu_) = kNever;
  std::shared_ptr<grpc::Alarm> alarm_ ABSL_GUARDED_BY(mu_);
};

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_SESSION_CORE_H_
