#include "upstream/codec/http2.h"

#include <algorithm>
#include <cassert>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "upstream/codec/http2_codec.h"
#include "upstream/codec/http2_request.h"

namespace hotline::upstream {
namespace {

// What a request and each frame of its body may draw from the peer: resets,
// updates of windows, what crosses a reset.
constexpr int kEarnedByHead = 8;
// Kept when idle.
constexpr size_t kSmallBuffer = 1024;

// nghttp2's only errors left where this is used.
void MustWork(int result) {
  if (result < 0) std::abort();  // Out of memory.
}

}  // namespace

Http2Codec::Http2Codec(CodecEvents* events, Http2Events* connection_events,
                       std::string_view scheme, const Http2Limits& limits)
    : events_(events),
      connection_events_(connection_events),
      scheme_(scheme),
      limits_(limits),
      session_(NewHttp2Session(this, limits, &memory_)),
      account_({.max_useless_frames = limits.max_useless_frames,
                .max_continuations = MaxContinuations(limits),
                .max_stray_bytes = limits.connection_window_bytes}) {
  const nghttp2_settings_entry settings[] = {
      {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE,
       static_cast<uint32_t>(
           std::min(limits_.first_window_bytes, limits_.stream_window_bytes))},
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE,
       static_cast<uint32_t>(
           std::min<int64_t>(limits_.max_header_bytes, UINT32_MAX))},
  };
  MustWork(nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings,
                                   std::size(settings)));
  MustWork(nghttp2_session_set_local_window_size(
      session_, NGHTTP2_FLAG_NONE, 0, limits_.connection_window_bytes));
}

Http2Codec::~Http2Codec() { nghttp2_session_del(session_); }

Http2Stream* Http2Codec::Find(StreamId id) const {
  return static_cast<Http2Stream*>(
      nghttp2_session_get_stream_user_data(session_, static_cast<int32_t>(id)));
}

// Requests.

bool Http2Codec::CanSubmit() const {
  return ready_ && !going_away_ && !closed_ && problem_.empty() &&
         static_cast<int64_t>(streams_.size()) < max_streams_ &&
         produced_ - written_ <= limits_.max_unwritten_bytes &&
         nghttp2_session_check_request_allowed(session_) != 0;
}

Http2Stream* Http2Codec::Open(const Request& request, bool with_body,
                              bool metered) {
  assert(CanSubmit());
  Pump();  // Resets of cancelled streams make room; and what follows is ours.
  auto owned = std::make_unique<Http2Stream>(request.method == "HEAD");
  Http2Stream* const stream = owned.get();
  nghttp2_data_provider body = {};
  body.read_callback = [](nghttp2_session*, int32_t id, uint8_t*, size_t most,
                          uint32_t* flags, nghttp2_data_source*, void* self) {
    return static_cast<Http2Codec*>(self)->ReadBody(id, most, flags);
  };
  const int32_t id =
      nghttp2_submit_request(session_, nullptr, fields_.data(), fields_.size(),
                             with_body ? &body : nullptr, stream);
  MustWork(id);
  stream->id = id;
  stream->metered = metered;
  stream->keeps_window = request.room != nullptr;
  stream->body_ended = !with_body;
  stream->begin = produced_;
  stream->index = streams_.size();
  streams_.push_back(std::move(owned));
  while (!stream->head_sent && PumpFrame()) {
  }
  if (!stream->head_sent && problem_.empty()) {
    problem_ = "a request could not be put on the wire";
  }
  if (!with_body) stream->end = produced_;
  fields_.clear();
  account_.Earn(kEarnedByHead);
  return stream;
}

StreamId Http2Codec::Submit(const Request& request) {
  Http2RequestHead head(&fields_, scheme_, request);
  head.AddHeaders(request, /*with_length=*/false);
  const bool with_body = !request.body.empty();
  if (with_body || MeantToHaveBody(request.method)) {
    head.AddLength(request.body.size());
  }
  Http2Stream* const stream =
      Open(request, with_body, /*metered=*/request.room != nullptr);
  if (with_body) {
    stream->body_ended = true;
    stream->body.Lend(request.body);
    nghttp2_session_resume_data(session_, stream->id);
    Pump();
    stream->body.Keep();
  }
  return stream->id;
}

StreamId Http2Codec::OpenStream(const Request& request, bool end) {
  Http2RequestHead head(&fields_, scheme_, request);
  head.AddHeaders(request, /*with_length=*/true);
  return Open(request, !end, /*metered=*/true)->id;
}

size_t Http2Codec::Send(StreamId id, std::string_view piece, bool end) {
  Http2Stream* const stream = Find(id);
  if (stream == nullptr || stream->body_ended) return 0;
  stream->body_ended = end;
  stream->body.Lend(piece);
  nghttp2_session_resume_data(session_, stream->id);  // Unless it waits not.
  if (!feeding_) Pump();
  stream->body.Keep();
  stream->owes_sendable = stream->body.size() > 0;
  return stream->body.size();
}

void Http2Codec::Consume(StreamId id, size_t bytes) {
  Http2Stream* const stream = Find(id);
  if (stream == nullptr) return;
  bytes = std::min(bytes, stream->unconsumed);
  stream->unconsumed -= bytes;
  MustWork(nghttp2_session_consume_stream(session_, stream->id, bytes));
}

void Http2Codec::Widen(StreamId id, size_t window) {
  Http2Stream* const stream = Find(id);
  if (stream == nullptr) return;
  stream->keeps_window = true;
  MustWork(nghttp2_session_set_local_window_size(
      session_, NGHTTP2_FLAG_NONE, static_cast<int32_t>(id),
      static_cast<int32_t>(
          std::min<size_t>(window, limits_.stream_window_bytes))));
}

Verdict Http2Codec::VerdictOf(StreamId id) const {
  const Http2Stream* const stream = Find(id);
  return stream == nullptr ? Verdict::kNotSent : stream->VerdictAt(written_);
}

void Http2Codec::Ping() {
  if (closed_ || ping_open_) return;
  ping_open_ = true;
  ++pings_;
  uint8_t number[8];
  static_assert(sizeof number == sizeof pings_);
  std::memcpy(number, &pings_, sizeof number);
  MustWork(nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, number));
  idling_ = true;
}

void Http2Codec::Cancel(StreamId id) {
  Http2Stream* const stream = Find(id);
  if (stream == nullptr) return;
  Reset(stream, NGHTTP2_CANCEL);
  Remove(stream);
}

// Output.

bool Http2Codec::PumpFrame() {
  const uint8_t* data = nullptr;
  const uint64_t before = produced_;
  const ssize_t size = nghttp2_session_mem_send(session_, &data);
  if (size < 0) {
    if (problem_.empty()) problem_ = nghttp2_strerror(static_cast<int>(size));
    return false;
  }
  output_.append(reinterpret_cast<const char*>(data), size);
  produced_ += size;
  return produced_ > before;  // Bodies went by SendBody.
}

void Http2Codec::Pump() {
  if (closed_ || nghttp2_session_want_write(session_) == 0) return;
  while (PumpFrame()) {
  }
}

void Http2Codec::TakeOutput(std::string* out) {
  Pump();
  if (out->empty()) {
    out->swap(output_);
  } else {
    out->append(output_);
  }
  output_.clear();
  ReportSendable();
  if (streams_.empty() && output_.capacity() > kSmallBuffer) {
    std::string().swap(output_);
  }
  if (std::exchange(idling_, false) && streams_.empty() && !closed_ &&
      nghttp2_session_want_write(session_) == 0) {
    memory_.GiveBack();
  }
}

bool Http2Codec::WantsWrite() const {
  return !output_.empty() ||
         (!closed_ && nghttp2_session_want_write(session_) != 0);
}

void Http2Codec::OnWritten(size_t bytes) {
  written_ += bytes;
  account_.OnWritten(written_, produced_);
}

void Http2Codec::ReportSendable() {
  if (sendable_.empty()) return;
  feeding_ = true;
  for (const StreamId id : std::exchange(sendable_, {})) {
    if (Find(id) != nullptr) events_->OnSendable(id);
  }
  feeding_ = false;
}

// Ends.

void Http2Codec::FeedEof() {
  if (closed_) return;
  Close("the upstream closed the connection", /*culprit=*/0);
  output_.clear();
}

std::unique_ptr<Http2Stream> Http2Codec::Remove(Http2Stream* stream) {
  nghttp2_session_set_stream_user_data(session_, stream->id, nullptr);
  if (stream->unconsumed > 0) {
    MustWork(nghttp2_session_consume_connection(session_, stream->unconsumed));
  }
  const size_t index = stream->index;
  std::swap(streams_[index], streams_.back());
  streams_[index]->index = index;
  std::unique_ptr<Http2Stream> owned = std::move(streams_.back());
  streams_.pop_back();
  return owned;
}

void Http2Codec::Complete(Http2Stream* stream) {
  const StreamId id = stream->id;
  if (stream->end == 0) {
    // The peer has answered without the request's end.
    Reset(stream, NGHTTP2_CANCEL);
  }
  Remove(stream);
  events_->OnComplete(id);
}

void Http2Codec::Reset(Http2Stream* stream, uint32_t code) {
  MustWork(
      nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, stream->id, code));
  newest_reset_ = std::max(newest_reset_, stream->id);
  account_.AllowStray(limits_.stream_window_bytes);
}

// What the peer sent before it saw our reset is ignored. Otherwise it uses a
// stream that is over: an error of that stream (RFC 9113, 6.1), which the peer
// is told once.
void Http2Codec::OnStray(StreamId id) {
  const bool ours = id % 2 == 1;
  if (!ours || id <= newest_reset_ ||
      id >= nghttp2_session_get_next_stream_id(session_)) {
    return;
  }
  newest_reset_ = id;
  MustWork(nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE,
                                     static_cast<int32_t>(id),
                                     NGHTTP2_STREAM_CLOSED));
}

void Http2Codec::Fail(Http2Stream* stream, CallError error, Verdict verdict,
                      std::string message, uint32_t code) {
  const StreamId id = stream->id;
  if (code != NGHTTP2_NO_ERROR) Reset(stream, code);
  Remove(stream);
  events_->OnStreamError(id, error, verdict, std::move(message));
}

void Http2Codec::FailMalformed(Http2Stream* stream, std::string_view problem,
                               uint32_t code) {
  Fail(stream, CallError::kProtocol, stream->VerdictAt(written_),
       "the upstream's answer is not valid HTTP/2: " + std::string(problem),
       code);
}

int Http2Codec::Break(std::string problem, uint32_t code) {
  problem_ = std::move(problem);
  problem_code_ = code;
  return NGHTTP2_ERR_CALLBACK_FAILURE;
}

void Http2Codec::BreakFlood(const char* problem) {
  if (problem != nullptr) Break(problem, NGHTTP2_ENHANCE_YOUR_CALM);
}

void Http2Codec::Close(std::string message, StreamId culprit) {
  if (problem_code_ != NGHTTP2_NO_ERROR) {
    MustWork(nghttp2_session_terminate_session(session_, problem_code_));
    Pump();
  }
  closed_ = true;
  error_.message = message;
  while (!streams_.empty()) {
    Http2Stream* const stream = streams_.back().get();
    const Verdict verdict = stream->VerdictAt(written_);
    const CallError error = verdict == Verdict::kNotSent
                                ? CallError::kConnectionGone
                            : stream->id == culprit ? CallError::kProtocol
                                                    : CallError::kReset;
    Fail(stream, error, verdict, message, NGHTTP2_NO_ERROR);
  }
}

std::unique_ptr<Codec> MakeHttp2Codec(CodecEvents* events,
                                      Http2Events* connection_events,
                                      std::string_view scheme,
                                      const Http2Limits& limits) {
  return std::make_unique<Http2Codec>(events, connection_events, scheme,
                                      limits);
}

}  // namespace hotline::upstream
