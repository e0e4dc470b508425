// The state of a BrokerSession: who waits, what has been sent, which stream.
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
  BrokerSession::ItemDone done;  // Null: nobody waits (any more).
  uint64_t stream = 0;           // Of its lease: on no other; 0: any.
  int sends = 0;
};

// Earlier than the caller's deadline, as unary calls have it: so that the
// broker's explained error arrives in time.
Duration LessMargin(Duration left);

// After such a failure, opening a stream may work another time.
bool MayPass(const absl::Status& status);

// NOT_FOUND/LEASE_LOST.
absl::Status LeaseLost();

// Thread-safe. No callback is called with the lock held.
//
//   kDown ──call──> kConnecting ──OnOpened──> kUp ──OnEnded──> kEnded
//     ^─────────────────┴──────────OnClosed──────────────────────┘
//
// Nothing is written before the broker has answered with its headers, so what
// fails before has certainly not been sent.
class SessionCore : public std::enable_shared_from_this<SessionCore> {
 public:
  SessionCore(BrokerSessionOptions options,
              const std::shared_ptr<grpc::Channel>& channel);

  // Ends in `done`, once.
  void Call(std::unique_ptr<v1::SessionItem> item, const CallOptions& options,
            uint64_t stream, BrokerSession::ItemDone done);
  // The stream that is open; 0: none.
  uint64_t open_stream() const;
  void Close();

  const BrokerSessionOptions& options() const { return options_; }

  // Told by the stream.
  void OnOpened(SessionStream* stream);
  void OnResults(v1::SessionResponse* response);
  void OnWritten();
  void OnEnded(SessionStream* stream);
  void OnClosed(SessionStream* stream, const absl::Status& status);
  // The last word of each stream that was opened.
  void OnDeleted();

 private:
  enum class State : uint8_t { kDown, kConnecting, kUp, kEnded };
  using Entry = std::unique_ptr<SessionEntry>;
  // Calls to end, and how; when the lock has been let go of.
  using Endings = std::vector<std::pair<BrokerSession::ItemDone, absl::Status>>;

  static void Tell(Endings& endings);
  void Submit(Entry entry);
  // Opens a stream or writes a message, if that is to be done now.
  void Pump();
  SessionStream* TakeBatchLocked(SessionStream::Batch* batch)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Names it, and tells the broker how long it may take. False: too late.
  bool PrepareLocked(SessionEntry* entry, Instant now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void OpenLocked(Instant now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // For how long the next stream may wait for a connection.
  Duration ConnectWaitLocked(Instant now) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The stream, to be cancelled and let go of, if its connection takes too
  // long; or null.
  SessionStream* GiveUpLocked(Instant now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool connected() const;
  // Lets the stream end, if nobody is about to use it.
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
  // Close() takes them down, when no stream is left that holds the channel: the
  // last to let go of a channel may not be one of gRPC's own threads, which
  // would then have to wait for itself. Until then they are only read.
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Broker::Stub> stub_;

  mutable Mutex mu_;
  std::condition_variable changed_;
  State state_ ABSL_GUARDED_BY(mu_) = State::kDown;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  // Results are being told: what is called meanwhile goes into one message.
  bool corked_ ABSL_GUARDED_BY(mu_) = false;
  SessionStream* stream_ ABSL_GUARDED_BY(mu_) = nullptr;
  int streams_ ABSL_GUARDED_BY(mu_) = 0;      // Opened and not yet deleted.
  uint64_t number_ ABSL_GUARDED_BY(mu_) = 0;  // Of the stream.
  uint64_t last_id_ ABSL_GUARDED_BY(mu_) = 0;
  int failures_ ABSL_GUARDED_BY(mu_) = 0;  // To open one, in a row.
  Instant open_after_ ABSL_GUARDED_BY(mu_){};
  // connect_wait has been used up, since there was a stream or calls failed for
  // want of one.
  bool waited_ ABSL_GUARDED_BY(mu_) = false;
  Instant give_up_at_ ABSL_GUARDED_BY(mu_) = kNever;  // While kConnecting.
  std::deque<Entry> queue_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<uint64_t, Entry> sent_ ABSL_GUARDED_BY(mu_);
  Instant alarm_at_ ABSL_GUARDED_BY(mu_) = kNever;
  std::shared_ptr<grpc::Alarm> alarm_ ABSL_GUARDED_BY(mu_);
};

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_SESSION_CORE_H_
