// What happens to a streamed call: it changes the state, and Act does the rest.
#include <utility>

#include "server/broker/stream.h"

namespace hotline::server {
namespace {

// Of the answer, in one message.
constexpr size_t kMostPiece = 256 << 10;

InputError BadMessage(const char* field, const char* message) {
  return {"BAD_OPTION", field, message};
}

}  // namespace

// The caller's side.

void StreamCall::OnRead(v1::ExecuteStreamRequest* message) {
  std::optional<InputError> fault;
  {
    MutexLock lock(&stream_mu_);
    reading_ = false;
    if (message != nullptr) {
      fault = TakeMessageLocked(message);
    } else if (has_head_) {
      end_seen_ = true;
    } else {
      fault = BadMessage("head", "the caller ended without a request");
    }
  }
  if (fault.has_value()) Refuse(*fault);
  Act();
}

std::optional<InputError> StreamCall::TakeMessageLocked(
    v1::ExecuteStreamRequest* message) {
  switch (message->part_case()) {
    case v1::ExecuteStreamRequest::kHead:
      return TakeHeadLocked(message->mutable_head());
    case v1::ExecuteStreamRequest::kBody:
      return TakePieceLocked(std::move(*message->mutable_body()));
    case v1::ExecuteStreamRequest::PART_NOT_SET:
      break;
  }
  return BadMessage("part", "a message is the head or a piece of the body");
}

std::optional<InputError> StreamCall::TakeHeadLocked(
    v1::ExecuteStreamHead* head) {
  if (has_head_) return BadMessage("head", "only the first message is one");
  if (auto bad = ValidateExecuteStream(*head, &url_)) return bad;
  if (auto bad = ValidateTlsProfile(head->options(), settings_->tls_profiles)) {
    return bad;
  }
  head_ = std::move(*head);
  has_head_ = true;
  TakeTerms(head_, context_.arrival);
  if (head_.has_timeout()) ExpireAt(deadline_);
  expires_ = deadline_;
  length_left_ = static_cast<uint64_t>(head_.content_length());
  request_ended_ = head_.has_content_length() && length_left_ == 0;
  return std::nullopt;
}

std::optional<InputError> StreamCall::TakePieceLocked(std::string piece) {
  if (!has_head_) return BadMessage("head", "the first message must be one");
  has_piece_ = true;
  if (head_.has_content_length()) {
    if (piece.size() > length_left_) {
      return BadMessage("content_length", "the body is longer than that");
    }
    length_left_ -= piece.size();
    request_ended_ = length_left_ == 0;
  }
  piece_ = std::move(piece);
  piece_used_ = 0;
  return std::nullopt;
}

void StreamCall::OnWritten() {
  answer_.Took(MonotonicNow());
  {
    MutexLock lock(&stream_mu_);
    writing_ = false;
    consumed_ += std::exchange(writing_bytes_, 0);
  }
  Act();
}

void StreamCall::OnConfirmed() {
  bool is_short;
  {
    MutexLock lock(&stream_mu_);
    writing_ = false;
    confirmed_ = true;
    is_short = head_.has_content_length() && length_left_ > 0;
    request_ended_ = !is_short;
  }
  if (is_short) {
    Refuse(BadMessage("content_length", "the body is shorter than that"));
  }
  Act();
}

void StreamCall::Refuse(const InputError& fault) {
  if (Claim(Stage::kAsking)) return Complete(FromInput(fault));
  {
    MutexLock lock(&stream_mu_);
    if (stage_ != Stage::kAttempting || fault_.has_value()) return;
    fault_ = fault;
  }
  CancelAttempt();
}

// The upstream's side.

bool StreamCall::CanRepeat() {
  MutexLock lock(&stream_mu_);
  return replayable_ && !answered_ && !fault_.has_value();
}

void StreamCall::OnHead(int status, std::vector<upstream::Header> headers) {
  NoteAnswer(status, headers, MonotonicNow());
  v1::ExecuteStreamResponseHead head;
  head.set_status(status);
  MoveHeaders(&headers, head.mutable_headers());
  {
    MutexLock lock(&stream_mu_);
    answer_head_ = std::move(head);
    answered_ = true;
    replayable_ = false;
  }
  Act();
}

void StreamCall::OnBody(std::string piece) {
  {
    MutexLock lock(&stream_mu_);
    if (!pieces_.empty() &&
        pieces_.back().size() + piece.size() <= kMostPiece) {
      pieces_.back().append(piece);
    } else {
      pieces_.push_back(std::move(piece));
    }
  }
  Act();
}

void StreamCall::OnTrailers(std::vector<upstream::Header> trailers) {
  trailers_ = std::move(trailers);
}

void StreamCall::OnSendable() {
  {
    MutexLock lock(&stream_mu_);
    sendable_ = true;
  }
  Act();
}

void StreamCall::OnDone(upstream::CallResult result) {
  const std::shared_ptr<Call> keep = shared_from_this();
  const Instant now = MonotonicNow();
  EndAttempt();
  {
    MutexLock lock(&stream_mu_);
    attempt_ = 0;
    running_ = false;
  }
  if (result.error != upstream::CallError::kNone) {
    return Fail(std::move(result), now);
  }
  FillReceiptConnection(now, last_->mutable_end()->mutable_receipt());
  GiveBack(now);
  result_ = std::move(result);
  {
    MutexLock lock(&stream_mu_);
    stage_ = Stage::kAnswering;
  }
  // Whoever ended the call before that found nothing to end.
  if (ended() != Ended::kNo && Claim(Stage::kAnswering)) {
    return Complete(AnswerLost());
  }
  Act();
}

}  // namespace hotline::server
