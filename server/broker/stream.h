// ExecuteStream, as a call: a request and its answer in pieces, at the pace of
// the slowest end.
#ifndef HOTLINE_SERVER_BROKER_STREAM_H_
#define HOTLINE_SERVER_BROKER_STREAM_H_

#include <cstddef>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "server/broker/request.h"

namespace hotline::server {

// What happens (messages, pieces, room to send) only changes the state, under
// stream_mu_, and then calls Act. Act carries out what follows from the state,
// one step after the other, without the lock, on one thread at a time: so the
// peer and the upstream are asked in order, and the peer is told of the end
// when nobody can ask it anything any more.
//
// Memory. One message of the caller's is taken at a time, and the next only
// when it is with the upstream, which holds some of it (Upstream::SendBody). Of
// the answer, what was not written to the caller counts as not consumed
// (Upstream::Consume): 64 KiB at most, 1 MiB where AnswerMemory has that much.
class StreamCall final : public RequestCall,
                         public StreamedCall,
                         private upstream::StreamHandler,
                         private Completion {
 public:
  StreamCall(Broker* broker, v1::ExecuteStreamResponse* last,
             CallContext context, StreamPeer* peer);

  void OnRead(v1::ExecuteStreamRequest* message) override;
  void OnWritten() override;
  void OnConfirmed() override;
  std::shared_ptr<Call> AsCall() override { return shared_from_this(); }

 private:
  // Who ends the call. All but kAttempting are left by Claim or MoveTo only, so
  // that one party alone completes it.
  enum class Stage : uint8_t {
    kAsking,      // The caller has not begun its body. Nothing is borrowed.
    kAttempting,  // In line, running, or backing off: as any RequestCall.
    kAnswering,   // The upstream is done, the caller has not got it all.
    kOver,
  };

  enum class Step : uint8_t {
    kNone,
    kTell,  // The end, to the peer.
    kFinish,
    kBegin,
    kConfirm,
    kWrite,
    kConsume,
    kSend,
    kRead,
  };

  RpcMethod rpc() const override { return RpcMethod::kExecuteStream; }
  ErrorPtr Prepare(Instant now) override;
  void Run(Instant now) override;
  bool CanRepeat() override;
  void EndRunning() override;
  ErrorPtr Judge(ErrorPtr error) override;

  // upstream::AnswerRoom, which never waits: with less, less is buffered.
  bool Grow(upstream::CallId call, size_t have, size_t want) override;

  // upstream::StreamHandler:
  void OnHead(int status, std::vector<upstream::Header> headers) override;
  void OnBody(std::string piece) override;
  void OnTrailers(std::vector<upstream::Header> trailers) override;
  void OnSendable() override;
  void OnDone(upstream::CallResult result) override;

  // Completion: what RequestCall completes with; the peer hears it from Act.
  void OnComplete(ErrorPtr error) override;

  void Act();
  Step NextLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(stream_mu_);
  bool HasToSendLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(stream_mu_);
  bool WantsReadLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(stream_mu_);
  void Take(Step step) ABSL_LOCKS_EXCLUDED(stream_mu_);
  void TellPeer();
  void BeginRequest();
  void WriteNext();
  void SendNext();
  void ConsumeNext();
  void Finish();

  // From `stage` to kOver; false: it is in another one.
  bool Claim(Stage stage);
  std::optional<InputError> TakeMessageLocked(v1::ExecuteStreamRequest* message)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(stream_mu_);
  std::optional<InputError> TakeHeadLocked(v1::ExecuteStreamHead* head)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(stream_mu_);
  std::optional<InputError> TakePieceLocked(std::string piece)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(stream_mu_);
  // The caller breaks the rules: the call ends.
  void Refuse(const InputError& fault);
  // Keeps what is about to be sent for another attempt, if there is room.
  void HoldLocked(std::string_view data)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(stream_mu_);
  void ExpireAt(Instant when);
  void Expire();
  ErrorPtr AnswerLost() const;

  StreamPeer* const peer_;
  v1::ExecuteStreamResponse* const last_;

  Mutex stream_mu_;
  Stage stage_ ABSL_GUARDED_BY(stream_mu_) = Stage::kAsking;
  bool acting_ ABSL_GUARDED_BY(stream_mu_) = false;
  Instant expires_ ABSL_GUARDED_BY(stream_mu_) = kNever;
  std::optional<InputError> fault_ ABSL_GUARDED_BY(stream_mu_);
  // The end: known, and told.
  bool completed_ ABSL_GUARDED_BY(stream_mu_) = false;
  bool told_ ABSL_GUARDED_BY(stream_mu_) = false;
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
  // Changed by the acting thread, and by OnRead while it waits for that.
  std::string piece_;
  size_t piece_used_ ABSL_GUARDED_BY(stream_mu_) = 0;  // Sent, of piece_.
  // What was sent before that, if that is still all; by the acting thread.
  std::string held_;
  bool replayable_ ABSL_GUARDED_BY(stream_mu_) = true;

  // The request, to the upstream.
  uint64_t attempt_ ABSL_GUARDED_BY(stream_mu_) = 0;  // 0: none.
  bool running_ ABSL_GUARDED_BY(stream_mu_) = false;  // It has a name, too.
  pool::Handle handle_ ABSL_GUARDED_BY(stream_mu_) = 0;
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
  size_t consumed_ ABSL_GUARDED_BY(stream_mu_) = 0;  // Not said yet.
  // Of the upstream's loop, and then of whoever finishes.
  std::vector<upstream::Header> trailers_;
  upstream::CallResult result_;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_STREAM_H_
