#include "upstream/codec/http1.h"

#include <algorithm>
#include <cassert>
#include <optional>
#include <string>
#include <utility>

#include "upstream/codec/chunk_line.h"
#include "upstream/codec/header_scanner.h"
#include "upstream/codec/http1_parser.h"
#include "upstream/codec/http1_request.h"
#include "upstream/codec/http_text.h"
#include "upstream/codec/stream_output.h"

namespace hotline::upstream {
namespace {

class Http1Codec final : public Codec {
 public:
  Http1Codec(CodecEvents* events, const Http1Limits& limits)
      : events_(events),
        max_header_bytes_(std::max<int64_t>(limits.max_header_bytes, 1)),
        max_unconsumed_(std::max<int64_t>(limits.max_unconsumed_bytes, 1)) {}

  Traits traits() const override { return {}; }
  StreamId Submit(const Request& request) override;
  StreamId OpenStream(const Request& head, bool end) override;
  size_t Send(StreamId stream, std::string_view piece, bool end) override;
  void Consume(StreamId stream, size_t bytes) override {
    if (stream == stream_) unconsumed_ -= std::min(bytes, unconsumed_);
  }
  void Widen(StreamId stream, size_t window) override {
    if (stream == stream_) window_ = std::min(window, max_unconsumed_);
  }
  size_t open_streams() const override { return stream_ != 0 ? 1 : 0; }
  Verdict VerdictOf(StreamId) const override { return VerdictNow(); }
  StreamId TakeUpgrade(std::string* surplus) override;
  bool WantsRead() const override { return unconsumed_ < window_; }
  bool WantsWrite() const override { return !output_.bytes.empty(); }
  bool CanSubmit() const override {
    return phase_ == Phase::kIdle && !closing_ && next_stream_ != 0;
  }
  bool Feed(std::string_view bytes) override;
  void FeedEof() override;
  void Cancel(StreamId stream) override;
  void TakeOutput(std::string* out) override;
  void OnWritten(size_t bytes) override { written_ += bytes; }
  const Error& error() const override { return error_; }

 private:
  // Where the peer's next byte belongs.
  enum class Phase : uint8_t {
    kIdle,       // Nowhere: no stream is open.
    kHead,       // To a head.
    kBody,       // To a body that has a length or ends with the connection.
    kChunkLine,  // To a chunk's size, or to the trailers after the last one.
    kChunkData,
    kUpgraded,  // To another protocol.
    kClosed,    // Nowhere, ever.
  };

  static void OnBodyPiece(void* self, std::string_view piece) {
    auto* codec = static_cast<Http1Codec*>(self);
    if (codec->streamed_) codec->unconsumed_ += piece.size();
    codec->events_->OnBody(codec->stream_, piece);
  }

  StreamId Begin(const Request& request, size_t request_bytes);
  void ExpectHead();
  Verdict VerdictNow() const;

  // Each takes what it can from the front of `rest` and returns how much; 0
  // when it needs more, or the codec is closed.
  size_t Take(std::string_view rest);
  size_t TakeHead(std::string_view rest);
  size_t TakeInterim(size_t size);
  size_t TakeBody(std::string_view rest);
  size_t TakeChunkLine(std::string_view rest);
  size_t TakeChunkData(std::string_view rest);
  size_t TakeTrailers(std::string_view rest, size_t line);
  size_t Refuse(std::string problem);
  size_t RefuseUnsolicited(std::string_view bytes);

  // The answer is whole; `left` more bytes have arrived than belong to it.
  void Complete(size_t left);
  void Fail(CallError error, Verdict verdict, std::string message);
  void Close(std::string message);

  CodecEvents* const events_;
  const size_t max_header_bytes_;
  const size_t max_unconsumed_;

  Phase phase_ = Phase::kIdle;
  bool closing_ = false;  // No further request, whatever the phase.
  StreamId next_stream_ = 1;
  StreamId stream_ = 0;  // 0: none is open.
  Error error_;

  // The request.
  StreamOutput output_;
  size_t request_bytes_ = 0;
  size_t written_ = 0;  // Of those.
  bool to_head_ = false;
  std::string upgrade_;                  // Asked for; empty: nothing.
  bool streamed_ = false;                // Begun with OpenStream.
  bool ended_ = true;                    // Its end is in the output, or was.
  std::optional<uint64_t> length_left_;  // Of its body; none: in chunks.

  // The answer.
  std::string pending_;         // Received, of no use without more.
  bool answered_ = false;       // A byte has come.
  size_t head_bytes_ = 0;       // Of all heads so far.
  size_t extension_bytes_ = 0;  // Of all chunk lines so far.
  bool after_chunk_ = false;    // A chunk's CRLF is still to come.
  uint64_t chunk_left_ = 0;
  size_t unconsumed_ = 0;  // Of a streamed body.
  size_t window_ = 1;      // What may be unconsumed.
  HeaderScanner scanner_{0};
  std::optional<AnswerParser> parser_;
};

StreamId Http1Codec::Begin(const Request& request, size_t request_bytes) {
  request_bytes_ = request_bytes;
  written_ = 0;
  to_head_ = request.method == "HEAD";
  upgrade_ = LowerCase(request.upgrade);
  streamed_ = false;
  ended_ = true;
  output_.owes_sendable = false;
  unconsumed_ = 0;
  window_ = request.room == nullptr ? max_unconsumed_
                                    : std::min(kFirstWindow, max_unconsumed_);
  answered_ = false;
  head_bytes_ = 0;
  extension_bytes_ = 0;
  stream_ = next_stream_++;
  ExpectHead();
  return stream_;
}

StreamId Http1Codec::Submit(const Request& request) {
  assert(CanSubmit());
  const size_t before = output_.bytes.size();
  AppendRequestHead(request, &output_.bytes);
  if (!request.body.empty() || MeantToHaveBody(request.method)) {
    AppendContentLength(request.body.size(), &output_.bytes);
  }
  output_.bytes.append("\r\n").append(request.body);
  return Begin(request, output_.bytes.size() - before);
}

StreamId Http1Codec::OpenStream(const Request& head, bool end) {
  assert(CanSubmit());
  const size_t before = output_.bytes.size();
  length_left_ = LengthAmong(head);
  AppendRequestHead(head, &output_.bytes);
  if (!length_left_.has_value()) {
    if (!end) {
      output_.bytes.append("Transfer-Encoding: chunked\r\n");
    } else if (MeantToHaveBody(head.method)) {
      AppendContentLength(0, &output_.bytes);
    }
  }
  output_.bytes.append("\r\n");
  Begin(head, output_.bytes.size() - before);
  streamed_ = true;
  ended_ = end && length_left_.value_or(0) == 0;
  return stream_;
}

size_t Http1Codec::Send(StreamId stream, std::string_view piece, bool end) {
  if (stream == 0 || stream != stream_ || ended_) return 0;
  const size_t before = output_.bytes.size();
  if (length_left_.has_value()) {
    // What is past the length would be taken for the next request: it is not
    // sent, and somebody who counts like that gets no other.
    closing_ = closing_ || piece.size() > *length_left_;
    piece = piece.substr(0, *length_left_);
    *length_left_ -= piece.size();
    output_.bytes.append(piece);
    ended_ = end && *length_left_ == 0;
  } else {
    AppendChunk(piece, &output_.bytes);
    if (end) output_.bytes.append("0\r\n\r\n");
    ended_ = end;
  }
  request_bytes_ += output_.bytes.size() - before;
  return output_.Held();
}

void Http1Codec::ExpectHead() {
  phase_ = Phase::kHead;
  scanner_ = HeaderScanner(max_header_bytes_ - head_bytes_);
}

void Http1Codec::TakeOutput(std::string* out) {
  if (output_.TakeTo(out) && stream_ != 0) events_->OnSendable(stream_);
}

Verdict Http1Codec::VerdictNow() const {
  if (answered_) return Verdict::kResponseStarted;
  if (written_ == 0) return Verdict::kNotSent;
  return written_ < request_bytes_ || !ended_ ? Verdict::kPartial
                                              : Verdict::kSentUnknown;
}

bool Http1Codec::Feed(std::string_view bytes) {
  if (bytes.empty() || phase_ == Phase::kClosed) {
    return phase_ != Phase::kClosed;
  }
  if (phase_ == Phase::kIdle || written_ == 0) {
    RefuseUnsolicited(bytes);
    return false;
  }
  answered_ = true;
  std::string_view all = bytes;
  if (!pending_.empty()) all = pending_.append(bytes);
  size_t used = 0;
  while (used < all.size()) {
    const size_t taken = Take(all.substr(used));
    if (taken == 0) break;
    used += taken;
  }
  if (stream_ == 0) {
    std::string().swap(pending_);  // Nothing is held while idle.
  } else if (pending_.empty()) {
    pending_.assign(bytes.substr(used));
  } else {
    pending_.erase(0, used);
  }
  return phase_ != Phase::kClosed;
}

size_t Http1Codec::Take(std::string_view rest) {
  switch (phase_) {
    case Phase::kIdle:
      return RefuseUnsolicited(rest);
    case Phase::kHead:
      return TakeHead(rest);
    case Phase::kBody:
      return TakeBody(rest);
    case Phase::kChunkLine:
      return TakeChunkLine(rest);
    case Phase::kChunkData:
      return TakeChunkData(rest);
    case Phase::kUpgraded:
    case Phase::kClosed:
      return 0;
  }
  return 0;
}

size_t Http1Codec::TakeHead(std::string_view rest) {
  // Whatever does not speak HTTP is found out at its first bytes; but of those
  // only that may be there at all, or the verdict depends on the pieces.
  constexpr std::string_view kStart = "HTTP/1.";
  const std::string_view start =
      rest.substr(0, std::min(kStart.size(), max_header_bytes_ - head_bytes_));
  if (start != kStart.substr(0, start.size())) {
    return Refuse("it does not begin with HTTP/1.");
  }
  const HeaderScanner::Result result = scanner_.Scan(rest);
  if (result == HeaderScanner::Result::kMore) return 0;
  if (result == HeaderScanner::Result::kBad) {
    return Refuse(std::string("head: ") + scanner_.problem());
  }
  const size_t size = scanner_.size();
  head_bytes_ += size;
  parser_.emplace(to_head_, scanner_.lines() - 1, &OnBodyPiece, this);
  std::string_view head = rest.substr(0, size);
  std::string as_http11;
  if (const char minor = head[kStart.size()]; minor > '1' && minor <= '9') {
    // To be read as the highest minor version that we know (RFC 9110, 2.5);
    // Beast refuses what is above it.
    as_http11.append(kStart).append("1").append(head.substr(kStart.size() + 1));
    head = as_http11;
  }
  parser_->Put(head, /*whole=*/true);
  if (!parser_->problem().empty()) {
    return Refuse("head: " + parser_->problem());
  }
  if (parser_->status() < 200) return TakeInterim(size);
  phase_ = parser_->chunked() ? Phase::kChunkLine : Phase::kBody;
  after_chunk_ = false;
  scanner_ = HeaderScanner(max_header_bytes_);
  events_->OnHead(stream_, parser_->status(), parser_->TakeFields());
  if (stream_ != 0 && parser_->is_done()) Complete(rest.size() - size);
  return size;
}

// A head of `size` bytes that is not the final one, or the last of all.
size_t Http1Codec::TakeInterim(size_t size) {
  if (parser_->status() == 101) {
    if (upgrade_.empty()) return Refuse("101 without being asked");
    if (!parser_->upgrades_to(upgrade_)) {
      return Refuse("101, but not to the protocol that was asked for");
    }
    // What follows could be either.
    if (parser_->announces_body()) return Refuse("101 with a body");
    phase_ = Phase::kUpgraded;
    events_->OnHead(stream_, parser_->status(), parser_->TakeFields());
    return size;
  }
  // It ends with its head, whatever that says (RFC 9112, 6.3). Who announces a
  // body nevertheless is not trusted with another request.
  closing_ = closing_ || parser_->announces_body();
  ExpectHead();
  return size;
}

StreamId Http1Codec::TakeUpgrade(std::string* surplus) {
  if (phase_ != Phase::kUpgraded || stream_ == 0) return 0;
  *surplus = std::move(pending_);
  Close("the connection speaks another protocol");
  return std::exchange(stream_, 0);
}

size_t Http1Codec::TakeBody(std::string_view rest) {
  const size_t used = parser_->Put(rest, /*whole=*/false);
  if (stream_ == 0) return 0;  // Cancelled from inside OnBody.
  if (!parser_->problem().empty()) return Refuse("body: " + parser_->problem());
  if (parser_->is_done()) Complete(rest.size() - used);
  return used;
}

size_t Http1Codec::TakeChunkLine(std::string_view rest) {
  size_t start = 0;
  if (after_chunk_) {
    constexpr std::string_view kEnd = "\r\n";
    if (rest.substr(0, 2) != kEnd.substr(0, rest.size())) {
      return Refuse("chunk: longer than its size");
    }
    start = std::min(kEnd.size(), rest.size());
  }
  const ChunkLine line = FindChunkLine(rest.substr(start));
  if (line.problem != nullptr) {
    return Refuse(std::string("chunk: ") + line.problem);
  }
  if (line.size == 0) return 0;
  if (line.last) return TakeTrailers(rest, start + line.size);
  extension_bytes_ += line.extension;
  if (extension_bytes_ > max_header_bytes_) {
    return Refuse("chunk: too many extensions");
  }
  parser_->Put(rest.substr(0, start + line.size), /*whole=*/true);
  if (!parser_->problem().empty()) {
    return Refuse("chunk: " + parser_->problem());
  }
  phase_ = Phase::kChunkData;
  chunk_left_ = parser_->chunk_size();
  return start + line.size;
}

size_t Http1Codec::TakeChunkData(std::string_view rest) {
  if (rest.size() > chunk_left_) rest = rest.substr(0, chunk_left_);
  parser_->Put(rest, /*whole=*/true);
  if (stream_ == 0) return 0;  // Cancelled from inside OnBody.
  if (!parser_->problem().empty()) {
    return Refuse("chunk: " + parser_->problem());
  }
  chunk_left_ -= rest.size();
  if (chunk_left_ == 0) {
    phase_ = Phase::kChunkLine;
    after_chunk_ = true;
  }
  return rest.size();
}

// `line`: how long the last chunk's line is, with what precedes it.
size_t Http1Codec::TakeTrailers(std::string_view rest, size_t line) {
  const HeaderScanner::Result result = scanner_.Scan(rest.substr(line));
  if (result == HeaderScanner::Result::kMore) return 0;
  if (result == HeaderScanner::Result::kBad) {
    return Refuse(std::string("trailers: ") + scanner_.problem());
  }
  const size_t size = line + scanner_.size();
  parser_->ReserveFields(scanner_.lines());
  parser_->Put(rest.substr(0, size), /*whole=*/true);
  if (!parser_->problem().empty() || !parser_->is_done()) {
    return Refuse("trailers: " + parser_->problem());
  }
  if (scanner_.lines() > 0) {
    events_->OnTrailers(stream_, parser_->TakeFields());
    if (stream_ == 0) return 0;
  }
  Complete(rest.size() - size);
  return size;
}

void Http1Codec::Complete(size_t left) {
  const StreamId stream = std::exchange(stream_, 0);
  unconsumed_ = 0;
  phase_ = Phase::kIdle;
  closing_ = closing_ || left > 0 || written_ < request_bytes_ || !ended_ ||
             !parser_->reusable();
  if (closing_) output_.bytes.clear();
  events_->OnComplete(stream);
}

size_t Http1Codec::Refuse(std::string problem) {
  Fail(CallError::kProtocol, VerdictNow(),
       "the upstream's answer is not valid HTTP/1.1: " + std::move(problem));
  return 0;
}

size_t Http1Codec::RefuseUnsolicited(std::string_view bytes) {
  constexpr size_t kMostEvidence = 16;
  error_.unsolicited = true;
  error_.evidence = bytes.substr(0, kMostEvidence);
  const char* message = "the upstream sent bytes that answer no request";
  if (stream_ != 0) {
    Fail(CallError::kConnectionGone, Verdict::kNotSent, message);
  } else {
    Close(message);
  }
  return 0;
}

void Http1Codec::FeedEof() {
  if (phase_ == Phase::kClosed) return;
  if (phase_ == Phase::kBody && parser_->need_eof()) {
    closing_ = true;
    Complete(0);
  } else if (stream_ != 0) {
    const Verdict verdict = VerdictNow();
    Fail(verdict == Verdict::kNotSent ? CallError::kConnectionGone
                                      : CallError::kReset,
         verdict,
         answered_ ? "the upstream closed the connection within its answer"
                   : "the upstream closed the connection without an answer");
  }
  Close("the upstream closed the connection");
  std::string().swap(pending_);
}

void Http1Codec::Cancel(StreamId stream) {
  if (stream == 0 || stream != stream_) return;
  stream_ = 0;
  Close("the call was cancelled");
}

void Http1Codec::Fail(CallError error, Verdict verdict, std::string message) {
  const StreamId stream = std::exchange(stream_, 0);
  Close(message);
  events_->OnStreamError(stream, error, verdict, std::move(message));
}

// Leaves pending_ alone: what is being parsed may be a view of it.
void Http1Codec::Close(std::string message) {
  phase_ = Phase::kClosed;
  closing_ = true;
  output_.bytes.clear();
  if (error_.message.empty()) error_.message = std::move(message);
}

}  // namespace

std::unique_ptr<Codec> MakeHttp1Codec(CodecEvents* events,
                                      const Http1Limits& limits) {
  return std::make_unique<Http1Codec>(events, limits);
}

}  // namespace hotline::upstream
