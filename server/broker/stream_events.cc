// The events of a streamed call: each changes the state, then calls Act.
#include <utility>

#include "server/broker/stream.h"
#include "server/broker/validate.h"

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
  bool has_timeout = false;
  {
    MutexLock lock(&stream_mu_);
    reading_ = false;
    const bool had_head = has_head_;
    if (message != nullptr) {
      fault = TakeMessageLocked(message);
    } else if (has_head_) {
      end_seen_ = true;
    } else {
      fault = BadMessage("head", "the caller ended without a request");
    }
    has_timeout = has_head_ && !had_head && head_.has_timeout();
  }
  if (has_timeout) ArmTimer();
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
  if (auto bad = ValidateExecuteStream(*head, exchange_.url())) return bad;
  if (auto bad =
          ValidateTlsProfile(head->options(), terms_.settings.tls_profiles)) {
    return bad;
  }
  head_ = std::move(*head);
  has_head_ = true;
  exchange_.TakeTerms(head_, terms_.context.arrival);
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
  exchange_.answer().Took(MonotonicNow());
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
  exchange_.attempt().Cancel();
}

// The upstream's side.

void StreamCall::OnHead(int status, std::vector<upstream::Header> headers) {
  exchange_.NoteStatus(status);
  exchange_.NoteAnswer(status, headers, MonotonicNow());
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
  exchange_.NoteReceived(piece.size());
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
  const bool failed = result.error != upstream::CallError::kNone;
  bool may_repeat;
  {
    MutexLock lock(&stream_mu_);
    attempt_ = 0;
    running_ = false;
    may_repeat = replayable_ && !answered_ && !fault_.has_value();
  }
  exchange_.End(std::move(result));
  if (failed) return exchange_.Fail(may_repeat, now);
  exchange_.GiveBack(now);
  {
    MutexLock lock(&stream_mu_);
    stage_ = Stage::kAnswering;
  }
  // Cancel and Abort before this moment found no call to end.
  if (ended() != Ended::kNo && Claim(Stage::kAnswering)) {
    return Complete(AnswerLost());
  }
  Act();
}

}  // namespace hotline::server
