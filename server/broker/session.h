// A session: many calls over one stream, and the leases that end with it.
//
// A message that was read is worked on in turns of bounded work; what can be
// answered at once (a lease of an idle connection, a release) is, with no
// object made for it, and the rest becomes calls of the broker that complete
// whenever they do. Results are collected while a write is under way and go out
// together when it is through: under load the messages grow, and a lone caller
// waits for nothing.
//
//   OnRead ──> turn ──(results)──> Outgoing ──Write──> OnWritten ──> next
//     ^          │ calls ──OnComplete──^
//     └──Read────┘  unless too much is held
//
// How it ends. Everything ends in one Finish, when no write and no turn is
// under way:
//   half-closed  when all items have been answered: OK
//   drained      when nothing runs and no lease is held, or by OnAbort, which
//                ends what runs: UNAVAILABLE/DRAINING. What was read is
//                answered before; what was not read has not been looked at
//   cancelled    at once (a dead caller, a deadline): calls are cancelled
// and with it all leases end (Broker::Reclaim).
//
// Thread safety: all methods may be called from any thread; OnRead, OnWritten
// and OnTurn each only as the answer to what was asked of the transport.
#ifndef HOTLINE_SERVER_BROKER_SESSION_H_
#define HOTLINE_SERVER_BROKER_SESSION_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "base/lease_id.h"
#include "base/mutex.h"
#include "hotline/v1/broker.pb.h"
#include "server/broker/broker.h"
#include "server/broker/session_messages.h"

namespace hotline::server {

// The stream below a session. Called without a lock held; may answer from
// inside the call. One read and one write at a time. Nothing is asked after
// Finish.
class SessionTransport {
 public:
  virtual ~SessionTransport() = default;
  // Answered by OnRead. `into` stays valid until then.
  virtual void Read(v1::SessionRequest* into) = 0;
  // Answered by OnWritten. `message` stays valid until then.
  virtual void Write(const v1::SessionResponse* message) = 0;
  // Calls OnTurn when other sessions have had theirs.
  virtual void Yield() = 0;
  // Ends the stream, a read that is under way included. Null: OK.
  virtual void Finish(ErrorPtr error) = 0;
};

class Session final : public OpenSession {
 public:
  // The transport must live until it is asked to Finish. `context` has the
  // stream's deadline and trace; the limits are the broker's of now.
  static std::shared_ptr<Session> Start(Broker* broker, CallContext context,
                                        SessionTransport* transport);
  ~Session() override;

  // A message was read, or (not ok) there will be none.
  void OnRead(bool ok, Instant now);
  void OnWritten();
  void OnTurn();
  // The caller is gone.
  void OnCancel();

  // OpenSession:
  void OnDrain() override;
  void OnAbort() override;

 private:
  friend class SessionCall;

  enum class State : uint8_t {
    kOpen,
    kEnding,     // Items are refused; what runs is answered, then Finish.
    kCancelled,  // Nobody listens any more.
    kFinished,
  };
  struct LeaseHash {
    // Secrets are random.
    size_t operator()(const LeaseId& id) const { return id.secret; }
  };

  Session(Broker* broker, CallContext context, SessionTransport* transport);

  // --- session_items.cc: items, on the thread whose turn it is ---
  // Each returns what it has cost, in units of the turn.
  int Handle(const v1::SessionItem& item, Outgoing* out);
  int HandleAcquire(const v1::SessionItem& item, Outgoing* out);
  int HandleExecute(const v1::SessionItem& item, Outgoing* out);
  void HandleRelease(const v1::SessionItem& item, Outgoing* out);
  void HandleRenew(const v1::SessionItem& item, Outgoing* out);
  void HandleCancel(const v1::SessionItem& item, Outgoing* out);
  // Null, or why the item cannot be begun at all.
  ErrorPtr Refusal(const v1::SessionItem& item);
  // Registers a call for the item; null: there are too many.
  SessionCall* AddCall(uint64_t id, bool acquires);
  void StartCall(SessionCall* entry, std::shared_ptr<Call> call);
  bool HasRoomForLease();
  // Drops those that have ended behind the session's back.
  void ForgetEndedLeases();

  // --- session.cc: the stream ---
  // What is to be done next.
  enum class Action : uint8_t { kNone, kWrite, kTurn, kRead, kFinish };

  // Does what is to be done, until nothing is.
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

  // The turn's own, and the read's that comes before it.
  std::shared_ptr<const BrokerSettings> settings_;
  Batch* batch_ = nullptr;
  int next_ = 0;           // Of the batch's items.
  Instant next_search_{};  // For ended leases.

  mutable Mutex mu_;
  State state_ ABSL_GUARDED_BY(mu_) = State::kOpen;
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  bool half_closed_ ABSL_GUARDED_BY(mu_) = false;
  bool reading_ ABSL_GUARDED_BY(mu_) = false;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool turn_ ABSL_GUARDED_BY(mu_) = false;   // A batch is being worked on.
  bool rests_ ABSL_GUARDED_BY(mu_) = false;  // Between two turns of it.
  // Calls of the transport that have not returned yet.
  int handing_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t held_ ABSL_GUARDED_BY(mu_) = 0;  // Against max_buffered_bytes.

  absl::flat_hash_map<uint64_t, std::unique_ptr<SessionCall>> calls_
      ABSL_GUARDED_BY(mu_);
  int acquiring_ ABSL_GUARDED_BY(mu_) = 0;  // Of the calls.
  // Some of them may have ended since, by their time to live or by a unary
  // Release.
  absl::flat_hash_set<LeaseId, LeaseHash> leases_ ABSL_GUARDED_BY(mu_);

  // Results: being added to; full; being written.
  std::unique_ptr<Outgoing> open_ ABSL_GUARDED_BY(mu_);
  std::deque<std::unique_ptr<Outgoing>> full_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<Outgoing> written_ ABSL_GUARDED_BY(mu_);
  // Kept for the next message.
  std::unique_ptr<Outgoing> spare_out_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<Batch> spare_batch_ ABSL_GUARDED_BY(mu_);
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_SESSION_H_
