// A session: many calls over one stream, and the leases that end with it.
//
//   auto session = Session::Start(&broker, context, &transport);
//   // The transport answers each Read, Write and Yield by OnRead, OnWritten
//   // and OnTurn, until it is asked to Finish.
//
// A message is worked on in turns of bounded work. Items that can be answered
// at once (a lease of an idle connection, a release) are, without an object of
// their own; the others become calls of the broker that complete in any order.
// Results are collected while a write is under way and go out together after
// it: under load messages grow, and a lone caller waits for nothing.
//
//   OnRead ──> turn ──(results)──> Outgoing ──Write──> OnWritten ──> next
//     ^          │ calls ──OnComplete──^
//     └──Read────┘  unless too many bytes are held
//
// Thread safety: all methods may be called from any thread; OnRead, OnWritten
// and OnTurn only as the answer to a request to the transport.
//
// Invariants:
//   1. Every item that was read is answered exactly once, unless the session is
//      cancelled or the item is an Acquire after OnLeave.
//   2. A session ends by one Finish, when no write and no turn is under way:
//      half-closed  after all items have been answered: OK
//      drained      after nothing runs and no lease is held, or by OnAbort,
//                   which ends the calls that run: UNAVAILABLE/DRAINING. Items
//                   in messages not read by then are not begun. After OnLeave
//                   no Acquires are begun, and no messages are read while no
//                   lease is held
//      cancelled    at once (the caller is gone, or a deadline): calls are
//                   cancelled
//   3. All its leases end with it (Broker::Reclaim).
#ifndef HOTLINE_SERVER_BROKER_SESSION_H_
#define HOTLINE_SERVER_BROKER_SESSION_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "base/lease_id.h"
#include "base/mutex.h"
#include "hotline/v1/broker.pb.h"
#include "server/broker/broker.h"
#include "server/broker/registry.h"
#include "server/broker/session_messages.h"

namespace hotline::server {

// The stream below a session. Called without a lock held; may answer from
// inside the call. One read and one write at a time. No call follows Finish.
class SessionTransport {
 public:
  virtual ~SessionTransport() = default;
  // Answered by OnRead. `into` stays valid until then.
  virtual void Read(v1::SessionRequest* into) = 0;
  // Answered by OnWritten. `message`, an encoded v1.SessionResponse, stays
  // valid until then.
  virtual void Write(const std::string* message) = 0;
  // Answered by OnTurn after other sessions have had a turn.
  virtual void Yield() = 0;
  // Ends the stream, including a read that is under way. Null: OK.
  virtual void Finish(ErrorPtr error) = 0;
};

class Session final : public OpenSession {
 public:
  // The transport must live until Finish. `context` has the stream's deadline
  // and trace. The session keeps the limits that are configured now.
  static std::shared_ptr<Session> Start(Broker* broker, CallContext context,
                                        SessionTransport* transport);
  ~Session() override;

  // A message was read; not ok: the end of the stream.
  void OnRead(bool ok, Instant now);
  void OnWritten();
  void OnTurn();
  // The caller is gone.
  void OnCancel();

  // OpenSession:
  void OnDrain() override;
  void OnLeave() override;
  void OnAbort() override;

 private:
  friend class SessionCall;

  struct LeaseHash {
    // Secrets are random.
    size_t operator()(const LeaseId& id) const { return id.secret; }
  };

  enum class State : uint8_t {
    kOpen,
    kEnding,     // Items are refused; what runs is answered, then Finish.
    kCancelled,  // The caller is gone.
    kFinished,
  };

  Session(Broker* broker, CallContext context, SessionTransport* transport);

  // --- session_items.cc: items, on the thread that has the turn ---
  // Return the cost, in units of a turn.
  int Handle(const v1::SessionItem& item, Outgoing* out);
  int HandleAcquire(const v1::SessionItem& item, Outgoing* out);
  int HandleExecute(const v1::SessionItem& item, Outgoing* out);
  void HandleRelease(const v1::SessionItem& item, Outgoing* out);
  void HandleRenew(const v1::SessionItem& item, Outgoing* out);
  void HandleCancel(const v1::SessionItem& item, Outgoing* out);
  // Why the item cannot be begun; null if it can.
  ErrorPtr Refusal(const v1::SessionItem& item);
  // Registers a call for the item; null if there are too many.
  SessionCall* AddCall(uint64_t id, bool acquires);
  void StartCall(SessionCall* entry, std::shared_ptr<Call> call);
  bool HasRoomForLease();
  // Drops leases that ended otherwise than by an item of the session.
  void ForgetEndedLeases();

  // --- session.cc: the stream ---
  enum class Action : uint8_t { kNone, kWrite, kTurn, kRead, kFinish };

  // Takes action after action until none is due.
  void Pump();
  Action DecideLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void DoFinish(State before);
  void OnCallDone(SessionCall* entry, ErrorPtr error);
  std::vector<std::shared_ptr<Call>> CallsLocked() const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::vector<LeaseId> TakeLeasesLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool HasResultsLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::unique_ptr<Outgoing> NewOutgoingLocked()
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void PutLocked(std::unique_ptr<Outgoing> out)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void HoldLocked(Batch* batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void LetGoLocked(Batch* batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void EndTurnLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  Broker* const broker_;
  SessionTransport* const transport_;
  const SessionLimits limits_;
  CallContext context_;  // `arrival` is the turn's.

  // Owned by the turn, and by the read before it.
  Batch* batch_ = nullptr;
  int next_ = 0;           // The index of the batch's next item.
  Instant next_search_{};  // When to search for ended leases again.

  std::atomic<bool> leaving_{false};
  mutable Mutex mu_;
  State state_ ABSL_GUARDED_BY(mu_) = State::kOpen;
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  bool half_closed_ ABSL_GUARDED_BY(mu_) = false;
  bool reading_ ABSL_GUARDED_BY(mu_) = false;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool turn_ ABSL_GUARDED_BY(mu_) = false;    // A batch is being worked on.
  bool paused_ ABSL_GUARDED_BY(mu_) = false;  // Between two of its turns.
  // Calls to the transport that have not returned yet.
  int transport_calls_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t held_ ABSL_GUARDED_BY(mu_) = 0;  // Against max_buffered_bytes.

  absl::flat_hash_map<uint64_t, std::unique_ptr<SessionCall>> calls_
      ABSL_GUARDED_BY(mu_);
  int acquiring_ ABSL_GUARDED_BY(mu_) = 0;  // Acquires among the calls.
  // Some may have ended since, by their time to live or by a unary Release.
  absl::flat_hash_set<LeaseId, LeaseHash> leases_ ABSL_GUARDED_BY(mu_);

  // Results: being added to; full; being written.
  std::unique_ptr<Outgoing> open_ ABSL_GUARDED_BY(mu_);
  std::deque<std::unique_ptr<Outgoing>> full_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<Outgoing> written_ ABSL_GUARDED_BY(mu_);
  // Reused for the next message.
  std::unique_ptr<Outgoing> spare_out_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<Batch> spare_batch_ ABSL_GUARDED_BY(mu_);
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_SESSION_H_
