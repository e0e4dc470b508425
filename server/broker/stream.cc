#include "server/broker/stream.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace hotline::server {
namespace {

// Of the request, given to the upstream at once.
constexpr size_t kMostSlice = 256 << 10;
// Of the answer, before AnswerMemory was asked for more; see Request::room.
constexpr int64_t kLeastBuffered = 64 << 10;
// Of the request, kept for another attempt.
constexpr size_t kMostHeld = 256 << 10;

}  // namespace

StreamCall::StreamCall(Broker* broker, v1::ExecuteStreamResponse* last,
                       CallContext context, StreamPeer* peer)
    : RequestCall(broker, std::move(context), static_cast<Completion*>(this)),
      peer_(peer),
      last_(last) {}

ErrorPtr StreamCall::Prepare(Instant) {
  if (ErrorPtr error = BeginAsking()) return error;
  {
    MutexLock lock(&stream_mu_);
    expires_ = deadline_;
  }
  ExpireAt(deadline_);
  Act();
  return nullptr;
}

// One step after the other.

void StreamCall::Act() {
  const std::shared_ptr<Call> keep = shared_from_this();
  for (bool first = true;; first = false) {
    Step step;
    {
      MutexLock lock(&stream_mu_);
      if (first && acting_) return;  // Whoever acts sees what has changed.
      step = NextLocked();
      acting_ = step != Step::kNone;
    }
    if (step == Step::kNone) return;
    Take(step);
  }
}

StreamCall::Step StreamCall::NextLocked() const {
  if (told_) return Step::kNone;
  if (completed_) return Step::kTell;
  if (stage_ == Stage::kOver) return Step::kNone;
  if (!writing_) {
    if (end_seen_ && !confirmed_ && !request_ended_ &&
        stage_ != Stage::kAnswering) {
      return Step::kConfirm;
    }
    if (answer_head_.has_value() || !pieces_.empty()) return Step::kWrite;
    if (stage_ == Stage::kAnswering) return Step::kFinish;
  }
  if (stage_ == Stage::kAsking && has_head_ && (has_piece_ || request_ended_)) {
    return Step::kBegin;
  }
  if (running_ && consumed_ > 0) return Step::kConsume;
  if (running_ && HasToSendLocked()) return Step::kSend;
  return WantsReadLocked() ? Step::kRead : Step::kNone;
}

bool StreamCall::HasToSendLocked() const {
  return sendable_ && !sent_end_ &&
         (replay_ || piece_used_ < piece_.size() || request_ended_);
}

bool StreamCall::WantsReadLocked() const {
  if (reading_ || end_seen_ || request_ended_) return false;
  return stage_ == Stage::kAsking || (running_ && sendable_);
}

void StreamCall::Take(Step step) {
  switch (step) {
    case Step::kNone:
      return;
    case Step::kTell:
      return TellPeer();
    case Step::kFinish:
      return Finish();
    case Step::kBegin:
      return BeginRequest();
    case Step::kConfirm: {
      {
        MutexLock lock(&stream_mu_);
        writing_ = true;
        writing_bytes_ = 0;
      }
      return peer_->Confirm();
    }
    case Step::kWrite:
      return WriteNext();
    case Step::kConsume:
      return ConsumeNext();
    case Step::kSend:
      return SendNext();
    case Step::kRead: {
      {
        MutexLock lock(&stream_mu_);
        reading_ = true;
      }
      return peer_->Read();
    }
  }
}

void StreamCall::TellPeer() {
  ErrorPtr error;
  {
    MutexLock lock(&stream_mu_);
    told_ = true;
    error = std::move(error_);
  }
  peer_->OnComplete(std::move(error));
}

void StreamCall::BeginRequest() {
  {
    MutexLock lock(&stream_mu_);
    if (stage_ != Stage::kAsking) return;
    stage_ = Stage::kAttempting;
  }
  if (ErrorPtr error = Begin(head_.lease_id(), MonotonicNow())) {
    Complete(std::move(error));
  }
}

void StreamCall::WriteNext() {
  v1::ExecuteStreamResponse message;
  {
    MutexLock lock(&stream_mu_);
    writing_ = true;
    writing_bytes_ = 0;
    if (answer_head_.has_value()) {
      *message.mutable_head() = *std::move(answer_head_);
      answer_head_.reset();
    } else {
      writing_bytes_ = pieces_.front().size();
      message.set_body(std::move(pieces_.front()));
      pieces_.pop_front();
    }
  }
  peer_->Write(std::move(message));
}

void StreamCall::ConsumeNext() {
  size_t bytes;
  pool::Handle handle;
  {
    MutexLock lock(&stream_mu_);
    bytes = std::exchange(consumed_, 0);
    handle = handle_;
  }
  broker_->upstream_->Consume(handle, call(), bytes);
}

void StreamCall::SendNext() {
  std::string_view data;
  bool end;
  uint64_t attempt;
  pool::Handle handle;
  upstream::CallId id;
  {
    MutexLock lock(&stream_mu_);
    if (!running_) return;
    if (std::exchange(replay_, false)) {
      data = held_;
    } else {
      data = std::string_view(piece_).substr(piece_used_, kMostSlice);
      piece_used_ += data.size();
      HoldLocked(data);
    }
    end = request_ended_ && piece_used_ == piece_.size();
    sent_end_ = end;
    sendable_ = false;
    attempt = attempt_;
    handle = handle_;
    id = call();
  }
  const size_t held = broker_->upstream_->SendBody(handle, id, data, end);
  MutexLock lock(&stream_mu_);
  if (!replayable_) std::string().swap(held_);
  if (piece_used_ == piece_.size()) {
    std::string().swap(piece_);
    piece_used_ = 0;
  }
  if (attempt_ == attempt && held == 0) sendable_ = true;
}

void StreamCall::HoldLocked(std::string_view data) {
  if (!replayable_) return;
  if (held_.size() + data.size() <= kMostHeld) {
    held_.append(data);
  } else {
    replayable_ = false;
  }
}

void StreamCall::Finish() {
  if (!Claim(Stage::kAnswering)) return;
  v1::ExecuteStreamResponseEnd* const end = last_->mutable_end();
  MoveHeaders(&trailers_, end->mutable_trailers());
  FillReceipt(result_, MonotonicNow(), end->mutable_receipt());
  Complete(nullptr);
}

void StreamCall::Run(Instant now) {
  const std::shared_ptr<Call> keep = shared_from_this();
  const pool::Handle handle = slot_.handle;
  const uint64_t attempt = BeginAttempt();
  bool end;
  bool refused;
  {
    MutexLock lock(&stream_mu_);
    refused = fault_.has_value();
    attempt_ = refused ? 0 : attempt;
    handle_ = handle;
    replay_ = !held_.empty();
    end = request_ended_ && !replay_ && piece_used_ == piece_.size();
    sent_end_ = end;
    sendable_ = true;
  }
  if (refused) {
    EndAttempt();
    GiveBack(now);
    return Complete(EndedError());  // See Judge.
  }
  answer_.Offer(kLeastBuffered);
  HeaderViews headers;
  upstream::Request request = RequestOf(head_, &headers);
  const std::string length = absl::StrCat(head_.content_length());
  if (head_.has_content_length()) {
    headers.push_back({"content-length", length});
    request.headers = headers;
  }
  const upstream::CallId id =
      broker_->upstream_->OpenStream(handle, request, end, this, now);
  {
    MutexLock lock(&stream_mu_);
    // The next one may run by now.
    if (attempt_ == attempt) running_ = true;
  }
  NameAttempt(attempt, id);
  // What came while it had no name, and would have ended it.
  bool late;
  {
    MutexLock lock(&stream_mu_);
    late = fault_.has_value();
  }
  if (late) CancelAttempt();
  Act();
}

bool StreamCall::Grow(upstream::CallId, size_t, size_t want) {
  return answer_.TryGrow(static_cast<int64_t>(want));
}

// How it ends.

bool StreamCall::Claim(Stage stage) {
  MutexLock lock(&stream_mu_);
  if (stage_ != stage) return false;
  stage_ = Stage::kOver;
  return true;
}

void StreamCall::EndRunning() {
  if (Claim(Stage::kAsking)) return Complete(EndedError());
  if (Claim(Stage::kAnswering)) return Complete(AnswerLost());
  CancelAttempt();
}

void StreamCall::OnComplete(ErrorPtr error) {
  {
    MutexLock lock(&stream_mu_);
    completed_ = true;
    error_ = std::move(error);
  }
  Act();
}

ErrorPtr StreamCall::Judge(ErrorPtr error) {
  {
    MutexLock lock(&stream_mu_);
    if (fault_.has_value()) return FromInput(*fault_);
  }
  return RequestCall::Judge(std::move(error));
}

ErrorPtr StreamCall::AnswerLost() const {
  if (ended() == Ended::kCancelled) return EndedError();
  ErrorPtr error = MakeError(
      absl::StatusCode::kAborted, "UPSTREAM_RESET",
      absl::StrCat(key_.target,
                   ": this process ends before the answer has been taken"));
  error->metadata.emplace_back("verdict",
                               ToString(upstream::Verdict::kResponseStarted));
  return error;
}

void StreamCall::ExpireAt(Instant when) {
  SetTimer(broker_->upstream_->RunAt(when, [this, weak = weak_from_this()] {
    if (const auto keep = weak.lock()) Expire();
  }));
}

void StreamCall::Expire() {
  {
    MutexLock lock(&stream_mu_);
    if (MonotonicNow() < expires_) return;
  }
  if (!Claim(Stage::kAsking) && !Claim(Stage::kAnswering)) return;
  Complete(
      MakeError(absl::StatusCode::kDeadlineExceeded, "CALLER_TIMEOUT",
                absl::StrCat("the caller did not send its request, or did "
                             "not take the whole answer, in ",
                             ToSeconds(deadline_ - context_.arrival), " s")));
}

}  // namespace hotline::server
