#include "server/broker/stream.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace hotline::server {
namespace {

// Of the request, given to the upstream in one call.
constexpr size_t kMostSlice = 256 << 10;
// Of the answer, before AnswerMemory is asked for more; see Request::room.
constexpr int64_t kLeastBuffered = 64 << 10;
// Of the request, kept for another attempt.
constexpr size_t kMostHeld = 256 << 10;

}  // namespace

StreamCall::StreamCall(BrokerParts* parts, v1::ExecuteStreamResponse* last,
                       CallContext context, StreamPeer* peer)
    : PooledCall(parts, RpcMethod::kExecuteStream, /*request_bytes=*/0,
                 std::move(context), static_cast<Completion*>(this)),
      peer_(peer),
      last_(last),
      exchange_(this, parts) {}

ErrorPtr StreamCall::Prepare(Instant) {
  if (ErrorPtr error = BeginRunning()) return error;
  ArmTimer();
  Act();
  return nullptr;
}

// Steps.

void StreamCall::Act() {
  const std::shared_ptr<Call> keep = shared_from_this();
  for (bool first = true;; first = false) {
    Step step;
    {
      MutexLock lock(&stream_mu_);
      if (first && acting_) return;  // The acting thread sees the change.
      step = NextLocked();
      acting_ = step != Step::kNone;
    }
    if (step == Step::kNone) return;
    Take(step);
  }
}

StreamCall::Step StreamCall::NextLocked() const {
  if (reported_) return Step::kNone;
  if (completed_) return Step::kReport;
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
    case Step::kReport:
      return ReportEnd();
    case Step::kFinish:
      return Finish();
    case Step::kBegin:
      return BeginRequest();
    case Step::kConfirm:
      return ConfirmEnd();
    case Step::kWrite:
      return WriteNext();
    case Step::kConsume:
      return ConsumeNext();
    case Step::kSend:
      return SendNext();
    case Step::kRead:
      return ReadNext();
  }
}

void StreamCall::ConfirmEnd() {
  {
    MutexLock lock(&stream_mu_);
    writing_ = true;
    writing_bytes_ = 0;
  }
  peer_->Confirm();
}

void StreamCall::ReadNext() {
  {
    MutexLock lock(&stream_mu_);
    reading_ = true;
  }
  peer_->Read();
}

void StreamCall::ReportEnd() {
  ErrorPtr error;
  {
    MutexLock lock(&stream_mu_);
    reported_ = true;
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
  if (ErrorPtr error = exchange_.Begin(head_.lease_id(), MonotonicNow())) {
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
  pool::ConnId conn;
  {
    MutexLock lock(&stream_mu_);
    bytes = std::exchange(consumed_, 0);
    conn = conn_;
  }
  parts_->upstream->Consume(conn, call(), bytes);
}

void StreamCall::SendNext() {
  std::string_view data;
  bool end;
  uint64_t attempt;
  pool::ConnId conn;
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
    exchange_.NoteSent(data.size());
    end = request_ended_ && piece_used_ == piece_.size();
    sent_end_ = end;
    sendable_ = false;
    attempt = attempt_;
    conn = conn_;
    id = call();
  }
  const size_t held = parts_->upstream->SendBody(conn, id, data, end);
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
  exchange_.FillReceipt(MonotonicNow(), end->mutable_receipt());
  Complete(nullptr);
}

void StreamCall::OnSlot(pool::SlotLease slot, Instant now) {
  const std::shared_ptr<Call> keep = shared_from_this();
  const pool::ConnId conn = slot.conn();
  if (ErrorPtr error = exchange_.Take(std::move(slot), now)) {
    return Complete(std::move(error));
  }
  Attempt& attempt = exchange_.attempt();
  const uint64_t number = attempt.number();
  const std::optional<bool> end = BeginSending(number, conn);
  if (!end.has_value()) {
    exchange_.GiveBack(now);
    return Complete(EndedError());  // Judge replaces it by the fault.
  }
  exchange_.answer().Offer(kLeastBuffered);
  Exchange::HeaderViews headers;
  upstream::Request request = exchange_.RequestOf(head_, &headers);
  request.room = this;
  const std::string length = absl::StrCat(head_.content_length());
  if (head_.has_content_length()) {
    headers.push_back({"content-length", length});
    request.headers = headers;
  }
  attempt.Open(request, *end, this, now);
  {
    MutexLock lock(&stream_mu_);
    // The next attempt may have begun.
    if (attempt_ == number) running_ = true;
  }
  Act();
}

std::optional<bool> StreamCall::BeginSending(uint64_t number,
                                             pool::ConnId conn) {
  MutexLock lock(&stream_mu_);
  if (fault_.has_value()) return std::nullopt;
  attempt_ = number;
  conn_ = conn;
  replay_ = !held_.empty();
  sendable_ = true;
  sent_end_ = request_ended_ && !replay_ && piece_used_ == piece_.size();
  return sent_end_;
}

bool StreamCall::Grow(upstream::CallId, size_t, size_t want) {
  return exchange_.answer().TryGrow(static_cast<int64_t>(want));
}

// The end.

bool StreamCall::Claim(Stage stage) {
  MutexLock lock(&stream_mu_);
  if (stage_ != stage) return false;
  stage_ = Stage::kOver;
  return true;
}

void StreamCall::OnEnded() {
  if (Claim(Stage::kAsking)) return Complete(EndedError());
  if (Claim(Stage::kAnswering)) return Complete(AnswerLost());
  exchange_.attempt().Cancel();
}

ErrorPtr StreamCall::Judge(ErrorPtr error) {
  {
    MutexLock lock(&stream_mu_);
    if (fault_.has_value()) return FromInput(*fault_);
  }
  return exchange_.Judge(std::move(error));
}

void StreamCall::Describe(CallRecord* record) {
  {
    MutexLock lock(&stream_mu_);
    if (!has_head_) return;
  }
  // The head does not change any more.
  exchange_.Describe(head_.method(), record);
}

void StreamCall::OnComplete(ErrorPtr error) {
  exchange_.Record(error);
  upstream::Upstream::Timer timer;
  {
    MutexLock lock(&stream_mu_);
    completed_ = true;
    error_ = std::move(error);
    std::swap(timer_, timer);
  }
  parts_->upstream->CancelTimer(timer);
  Act();
}

ErrorPtr StreamCall::AnswerLost() const {
  if (ended() == Ended::kCancelled) return EndedError();
  ErrorPtr error = MakeError(
      absl::StatusCode::kAborted, "UPSTREAM_RESET",
      absl::StrCat(terms_.key.target,
                   ": this process ends before the answer has been taken"));
  error->metadata.emplace_back("verdict",
                               ToString(upstream::Verdict::kResponseStarted));
  return error;
}

void StreamCall::ArmTimer() {
  const Instant when = terms_.deadline;
  upstream::Upstream::Timer timer =
      parts_->upstream->RunAt(when, [this, weak = weak_from_this()] {
        if (const auto keep = weak.lock()) Expire();
      });
  {
    MutexLock lock(&stream_mu_);
    expires_ = when;
    if (!completed_) std::swap(timer_, timer);
  }
  // The one before; or this one, if the call is over.
  parts_->upstream->CancelTimer(timer);
}

void StreamCall::Expire() {
  {
    MutexLock lock(&stream_mu_);
    if (MonotonicNow() < expires_) return;
  }
  if (!Claim(Stage::kAsking) && !Claim(Stage::kAnswering)) return;
  Complete(MakeError(
      "CALLER_TIMEOUT",
      absl::StrCat("the caller did not send its request, or did "
                   "not take the whole answer, in ",
                   ToSeconds(terms_.deadline - terms_.context.arrival), " s")));
}

}  // namespace hotline::server
