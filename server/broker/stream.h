// ExecuteStream, as a call: a request and its answer in pieces, at the pace of
// the slowest end.
//
// Events (a message, a piece of the answer, room to send) only change the
// state, under stream_mu_, and then call Act. Act carries out what follows from
// the state, step by step, without the lock and on one thread at a time. So the
// peer and the upstream are called in order, and the peer learns the end when
// no other thread can be calling it.
//
// Memory. One message of the caller is held at a time; the next one is read
// when the upstream has taken it (Upstream::SendBody holds some of it). The
// part of the answer that was not written to the caller counts as not consumed
// (Upstream::Consume): at most 64 KiB, or 1 MiB if AnswerMemory has that much.
#ifndef HOTLINE_SERVER_BROKER_STREAM_H_
#define HOTLINE_SERVER_BROKER_STREAM_H_

#include <cstddef>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/broker/exchange.h"
#include "server/broker/pooled_call.h"

namespace hotline::server {

class StreamCall final : public PooledCall,
                         public StreamedCall,
                         private Completion,
                         private upstream::StreamHandler,
                         private upstream::AnswerRoom {
 public:
  // See Broker::NewExecuteStream.
  StreamCall(BrokerParts* parts, v1::ExecuteStreamResponse* last,
             CallContext context, StreamPeer* peer);

  void OnRead(v1::ExecuteStreamRequest* message) override;
  void OnWritten() override;
  void OnConfirmed() override;
  std::shared_ptr<Call> AsCall() override { return shared_from_this(); }

 private:
  // Who may end the call. Stages other than kAttempting are left by Claim or
  // BeginRequest only, so exactly one party completes it.
  enum class Stage : uint8_t {
    kAsking,      // The caller has not begun its body. No slot is held.
    kAttempting,  // In line, running, or backing off, as any other call.
    kAnswering,   // The upstream is done, the caller does not have it all.
    kOver,
  };

  enum class Step : uint8_t {
    kNone,
    kReport,  // The end, to the peer.
    kFinish,
    kBegin,
    kConfirm,
    kWrite,
    kConsume,
    kSend,
    kRead,
  };

  // Call, PooledCall:
  void OnLeaseGone(const LeaseId& lease) override {
    exchange_.attempt().CancelOn(lease);
  }
  ErrorPtr Prepare(Instant now) override;
  void OnSlot(pool::SlotLease slot, Instant now) override;
  void OnEnded() override;
  ErrorPtr Judge(ErrorPtr error) override;
  void Describe(CallRecord* record) override;

  // Completion of the PooledCall; the peer learns it from Act.
  void OnComplete(ErrorPtr error) override;

  // upstream::AnswerRoom. Never waits: without room, less is buffered.
  bool Grow(upstream::CallId call, size_t have, size_t want) override;

  // upstream::StreamHandler:
  void OnHead(int status, std::vector<upstream::Header> headers) override;
  void OnBody(std::string piece) override;
  void OnTrailers(std::vector<upstream::Header> trailers) override;
  void OnSendable() override;
  void OnDone(upstream::CallResult result) override;

  void Act();
  Step NextLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(stream_mu_);
  bool HasToSendLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(stream_mu_);
  bool WantsReadLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(stream_mu_);
  void Take(Step step) ABSL_LOCKS_EXCLUDED(stream_mu_);
  void ReportEnd();
  void BeginRequest();
  void ConfirmEnd();
  void WriteNext();
  void SendNext();
  void ConsumeNext();
  void ReadNext();
  void Finish();

  // Prepares to send on attempt `number`. Returns whether the body is at its
  // end; nothing if the call must not run any more.
  std::optional<bool> BeginSending(uint64_t number, pool::ConnId conn);
  // Leaves `stage` for kOver; false: the call is in another stage.
  bool Claim(Stage stage);
  std::optional<InputError> TakeMessageLocked(v1::ExecuteStreamRequest* message)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(stream_mu_);
  std::optional<InputError> TakeHeadLocked(v1::ExecuteStreamHead* head)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(stream_mu_);
  std::optional<InputError> TakePieceLocked(std::string piece)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(stream_mu_);
  // Ends the call because the caller broke the contract.
  void Refuse(const InputError& fault);
  // Keeps data that is about to be sent for another attempt, if there is room.
  void HoldLocked(std::string_view data)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(stream_mu_);
  // Calls Expire when the deadline as of now has passed.
  void ArmTimer();
  void Expire();
  ErrorPtr AnswerLost() const;

  StreamPeer* const peer_;
  v1::ExecuteStreamResponse* const last_;
  Exchange exchange_;

  Mutex stream_mu_;
  Stage stage_ ABSL_GUARDED_BY(stream_mu_) = Stage::kAsking;
  bool acting_ ABSL_GUARDED_BY(stream_mu_) = false;
  Instant expires_ ABSL_GUARDED_BY(stream_mu_) = kNever;
  upstream::Upstream::Timer timer_ ABSL_GUARDED_BY(stream_mu_);
  std::optional<InputError> fault_ ABSL_GUARDED_BY(stream_mu_);
  // The end: known, and told to the peer.
  bool completed_ ABSL_GUARDED_BY(stream_mu_) = false;
  bool reported_ ABSL_GUARDED_BY(stream_mu_) = false;
  ErrorPtr error_ ABSL_GUARDED_BY(stream_mu_);

  // The request, from the caller.
  v1::ExecuteStreamHead head_;  // Written once, in kAsking.
  bool has_head_ ABSL_GUARDED_BY(stream_mu_) = false;
  bool reading_ ABSL_GUARDED_BY(stream_mu_) = false;
  bool has_piece_ ABSL_GUARDED_BY(stream_mu_) = false;  // Any, ever.
  bool end_seen_ ABSL_GUARDED_BY(stream_mu_) = false;
  bool confirmed_ ABSL_GUARDED_BY(stream_mu_) = false;  // The end.
  bool request_ended_ ABSL_GUARDED_BY(stream_mu_) = false;
  uint64_t length_left_ ABSL_GUARDED_BY(stream_mu_) = 0;  // If it is known.
  // Changed by the acting thread, and by OnRead while that waits for it.
  std::string piece_;
  size_t piece_used_ ABSL_GUARDED_BY(stream_mu_) = 0;  // Sent, of piece_.
  // Everything that was sent before piece_, while replayable_; changed by the
  // acting thread.
  std::string held_;
  bool replayable_ ABSL_GUARDED_BY(stream_mu_) = true;

  // The request, to the upstream.
  uint64_t attempt_ ABSL_GUARDED_BY(stream_mu_) = 0;  // Its number; 0: none.
  bool running_ ABSL_GUARDED_BY(stream_mu_) = false;  // It was opened, too.
  pool::ConnId conn_ ABSL_GUARDED_BY(stream_mu_) = 0;
  bool replay_ ABSL_GUARDED_BY(stream_mu_) = false;  // held_ is to be sent.
  bool sendable_ ABSL_GUARDED_BY(stream_mu_) = false;
  bool sent_end_ ABSL_GUARDED_BY(stream_mu_) = false;

  // The answer.
  std::optional<v1::ExecuteStreamResponseHead> answer_head_
      ABSL_GUARDED_BY(stream_mu_);
  bool answered_ ABSL_GUARDED_BY(stream_mu_) = false;
  std::deque<std::string> pieces_ ABSL_GUARDED_BY(stream_mu_);
  // A message, or a question for the end, is on its way to the caller.
  bool writing_ ABSL_GUARDED_BY(stream_mu_) = false;
  size_t writing_bytes_ ABSL_GUARDED_BY(stream_mu_) = 0;
  // Written, but not yet reported to the upstream.
  size_t consumed_ ABSL_GUARDED_BY(stream_mu_) = 0;
  // Written by the upstream's loop, then read by Finish.
  std::vector<upstream::Header> trailers_;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_STREAM_H_
