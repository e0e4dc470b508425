// nghttp2's callbacks: events of streams and of the connection.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "upstream/codec/http2_codec.h"

namespace hotline::upstream {
namespace {

constexpr std::string_view kBadOrder =
    "a frame for a stream whose request was not sent";

// The peer's explanation, fit for a log.
std::string Printable(const uint8_t* data, size_t size) {
  constexpr size_t kMost = 100;
  std::string text;
  for (size_t i = 0; i < std::min(size, kMost); ++i) {
    text += data[i] >= ' ' && data[i] < 0x7f ? static_cast<char>(data[i]) : '?';
  }
  return text;
}

std::string CodeName(uint32_t code) {
  const char* const name = nghttp2_http2_strerror(code);
  return std::strcmp(name, "unknown") == 0 ? "error " + std::to_string(code)
                                           : name;
}

std::string_view View(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

}  // namespace

// nghttp2's callbacks are C functions.
struct Http2Callbacks {
  static Http2Codec* Self(void* self) { return static_cast<Http2Codec*>(self); }

  static int BeginFrame(nghttp2_session*, const nghttp2_frame_hd* head,
                        void* self) {
    if (head->type != NGHTTP2_PUSH_PROMISE) return 0;
    return Self(self)->Break("a pushed stream", NGHTTP2_PROTOCOL_ERROR);
  }
  static int BeginHead(nghttp2_session*, const nghttp2_frame* frame,
                       void* self) {
    return Self(self)->OnBeginHead(*frame);
  }
  static int Field(nghttp2_session*, const nghttp2_frame* frame,
                   const uint8_t* name, size_t name_size, const uint8_t* value,
                   size_t value_size, uint8_t, void* self) {
    return Self(self)->OnField(*frame, View(name, name_size),
                               View(value, value_size));
  }
  static int Frame(nghttp2_session*, const nghttp2_frame* frame, void* self) {
    return Self(self)->OnFrame(*frame);
  }
  static int Data(nghttp2_session*, uint8_t, int32_t id, const uint8_t* data,
                  size_t size, void* self) {
    return Self(self)->OnData(id, View(data, size));
  }
  static int FrameSent(nghttp2_session*, const nghttp2_frame* frame,
                       void* self) {
    return Self(self)->OnFrameSent(*frame);
  }
  static int SendData(nghttp2_session*, nghttp2_frame* frame,
                      const uint8_t* head, size_t size, nghttp2_data_source*,
                      void* self) {
    return Self(self)->SendBody(frame->hd.stream_id, head, size);
  }
  static int StreamClosed(nghttp2_session*, int32_t id, uint32_t code,
                          void* self) {
    return Self(self)->OnStreamClosed(id, code);
  }
};

namespace {

nghttp2_session_callbacks* NewCallbacks() {
  nghttp2_session_callbacks* callbacks = nullptr;
  if (nghttp2_session_callbacks_new(&callbacks) != 0) std::abort();
  using C = Http2Callbacks;
  nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks,
                                                        C::BeginFrame);
  nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks,
                                                          C::BeginHead);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, C::Field);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, C::Frame);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, C::Data);
  nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, C::FrameSent);
  nghttp2_session_callbacks_set_send_data_callback(callbacks, C::SendData);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks,
                                                         C::StreamClosed);
  return callbacks;
}

nghttp2_option* NewOption(const Http2Limits& limits) {
  nghttp2_option* option = nullptr;
  if (nghttp2_option_new(&option) != 0) std::abort();
  // Http2Answer checks the messages.
  nghttp2_option_set_no_http_messaging(option, 1);
  nghttp2_option_set_no_auto_window_update(option, 1);
  nghttp2_option_set_no_closed_streams(option, 1);
  nghttp2_option_set_max_settings(option, limits.max_settings);
  // Above the codec's own limit, which applies first.
  nghttp2_option_set_max_outbound_ack(option, limits.max_useless_frames + 1000);
  // The same: some versions count a frame once for each piece in which its
  // header arrives.
  constexpr int kHeadBytes = 9;
  nghttp2_option_set_max_continuations(
      option, (MaxContinuations(limits) + 1) * kHeadBytes);
  // The size of a request's headers is limited elsewhere.
  nghttp2_option_set_max_send_header_block_length(option, 64 << 20);
  return option;
}

}  // namespace

nghttp2_session* NewHttp2Session(Http2Codec* codec, const Http2Limits& limits,
                                 net::Http2Memory* memory) {
  nghttp2_session_callbacks* const callbacks = NewCallbacks();
  nghttp2_option* const option = NewOption(limits);
  nghttp2_session* session = nullptr;
  if (nghttp2_session_client_new3(&session, callbacks, codec, option,
                                  memory->functions()) != 0) {
    std::abort();  // Out of memory.
  }
  nghttp2_option_del(option);
  nghttp2_session_callbacks_del(callbacks);
  return session;
}

// Answers.

int Http2Codec::OnBeginHead(const nghttp2_frame& frame) {
  Http2Stream* const stream = Find(frame.hd.stream_id);
  if (stream == nullptr) return 0;
  if (written_ <= stream->begin) {
    return Break(std::string(kBadOrder), NGHTTP2_PROTOCOL_ERROR);
  }
  stream->answered = true;
  return 0;
}

int Http2Codec::OnField(const nghttp2_frame& frame, std::string_view name,
                        std::string_view value) {
  Http2Stream* const stream = Find(frame.hd.stream_id);
  if (stream == nullptr) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  constexpr int64_t kPerField = 32;
  stream->header_bytes += name.size() + value.size() + kPerField;
  if (stream->header_bytes > limits_.max_header_bytes ||
      ++stream->header_count > limits_.max_headers) {
    FailMalformed(stream, "its headers are more than the limit",
                  NGHTTP2_ENHANCE_YOUR_CALM);
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  }
  if (const char* const problem = stream->answer.OnField(name, value)) {
    FailMalformed(stream, problem);
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  }
  if (name != ":status") {
    stream->headers.push_back({std::string(name), std::string(value)});
  }
  return 0;
}

int Http2Codec::OnFrame(const nghttp2_frame& frame) {
  const StreamId id = frame.hd.stream_id;
  const bool last = (frame.hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
  switch (frame.hd.type) {
    case NGHTTP2_HEADERS:
      if (Http2Stream* const stream = Find(id)) OnHeadWhole(stream, last);
      if (Http2Stream* const stream = Find(id); stream && last) {
        Complete(stream);
      }
      break;
    case NGHTTP2_DATA:
      if (std::exchange(data_came_, false)) account_.Earn(2);
      if (Http2Stream* const stream = Find(id); stream && last) {
        const char* const problem = stream->answer.OnEnd();
        problem == nullptr ? Complete(stream) : FailMalformed(stream, problem);
      }
      break;
    case NGHTTP2_RST_STREAM:
      if (Http2Stream* const stream = Find(id)) {
        return OnPeerReset(stream, frame.rst_stream.error_code);
      }
      break;
    case NGHTTP2_SETTINGS:
      if ((frame.hd.flags & NGHTTP2_FLAG_ACK) == 0) OnSettings();
      break;
    case NGHTTP2_PING:
      if ((frame.hd.flags & NGHTTP2_FLAG_ACK) != 0) OnPong(frame.ping);
      break;
    case NGHTTP2_GOAWAY:
      OnGoAwayFrame(frame.goaway);
      break;
    default:
      break;
  }
  return 0;
}

void Http2Codec::OnHeadWhole(Http2Stream* stream, bool last) {
  if (const char* const problem = stream->answer.OnFieldsEnd(last)) {
    return FailMalformed(stream, problem);
  }
  if (stream->head_given) {
    return events_->OnTrailers(stream->id, std::move(stream->headers));
  }
  stream->header_count = 0;
  if (stream->answer.status() < 200) {
    // It counts towards header_bytes, which limits how many there can be.
    stream->headers.clear();
    return account_.Earn(1);
  }
  stream->head_given = true;
  stream->header_bytes = 0;
  account_.Earn(2);
  events_->OnHead(stream->id, stream->answer.status(),
                  std::exchange(stream->headers, {}));
}

int Http2Codec::OnData(StreamId id, std::string_view piece) {
  data_came_ = true;
  if (nghttp2_session_consume_connection(session_, piece.size()) < 0) {
    return NGHTTP2_ERR_CALLBACK_FAILURE;
  }
  Http2Stream* const stream = Find(id);
  if (stream == nullptr) return 0;
  if (const char* const problem = stream->answer.OnData(piece.size())) {
    FailMalformed(stream, problem);
    return 0;
  }
  const bool metered = stream->metered;
  stream->received += piece.size();
  if (metered) stream->unconsumed += piece.size();
  if (!stream->keeps_window &&
      limits_.stream_window_bytes > limits_.first_window_bytes &&
      stream->received > static_cast<size_t>(limits_.first_window_bytes) / 2) {
    Widen(id, limits_.stream_window_bytes);
  }
  events_->OnBody(id, piece);
  // By now the stream may be over.
  if (metered || Find(id) == nullptr) return 0;
  return nghttp2_session_consume_stream(session_, id, piece.size()) < 0
             ? NGHTTP2_ERR_CALLBACK_FAILURE
             : 0;
}

int Http2Codec::OnPeerReset(Http2Stream* stream, uint32_t code) {
  if (written_ <= stream->begin) {
    return Break(std::string(kBadOrder), NGHTTP2_PROTOCOL_ERROR);
  }
  const Verdict verdict = stream->VerdictAt(written_);
  const bool refused =
      code == NGHTTP2_REFUSED_STREAM && verdict != Verdict::kResponseStarted;
  Fail(stream, CallError::kReset, refused ? Verdict::kRefusedByPeer : verdict,
       "the upstream reset the stream: " + CodeName(code), NGHTTP2_NO_ERROR);
  return 0;
}

// Called for streams whose end has not been reported yet.
int Http2Codec::OnStreamClosed(StreamId id, uint32_t code) {
  Http2Stream* const stream = Find(id);
  if (stream == nullptr) return 0;
  if (!stream->head_sent) {
    if (problem_.empty()) problem_ = "a request could not be put on the wire";
  } else if (code == NGHTTP2_REFUSED_STREAM) {  // Above GOAWAY's last one.
    const Verdict verdict = stream->VerdictAt(written_);
    Fail(stream, CallError::kReset,
         verdict == Verdict::kResponseStarted ? verdict
                                              : Verdict::kRefusedByPeer,
         "the upstream accepts no more streams on this connection",
         NGHTTP2_NO_ERROR);
  } else if (code == NGHTTP2_FLOW_CONTROL_ERROR &&
             frames_.head().type == NGHTTP2_SETTINGS) {
    // INITIAL_WINDOW_SIZE has opened its window past the limit, which is the
    // connection's mistake (RFC 9113, 6.9.2); nghttp2 makes it the stream's.
    if (problem_.empty()) problem_ = "SETTINGS that open a window too far";
    problem_code_ = code;
  } else {  // nghttp2 has reset it.
    FailMalformed(stream,
                  code == NGHTTP2_FLOW_CONTROL_ERROR
                      ? "it violates flow control"
                      : "its parts do not fit together",
                  NGHTTP2_NO_ERROR);
  }
  return 0;
}

// The connection.

void Http2Codec::OnSettings() {
  const uint32_t allowed = nghttp2_session_get_remote_settings(
      session_, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
  const int before = max_streams_;
  max_streams_ = static_cast<int>(std::min<uint32_t>(
      allowed, static_cast<uint32_t>(std::max(limits_.max_streams, 1))));
  if (!std::exchange(ready_, true)) {
    idling_ = true;
    connection_events_->OnReady(max_streams_);
  } else if (max_streams_ != before) {
    connection_events_->OnConcurrency(max_streams_);
  }
}

void Http2Codec::OnPong(const nghttp2_ping& frame) {
  if (!ping_open_ ||
      std::memcmp(frame.opaque_data, &pings_, sizeof pings_) != 0) {
    return;
  }
  ping_open_ = false;
  account_.Earn(1);
  connection_events_->OnPingAck();
}

void Http2Codec::OnGoAwayFrame(const nghttp2_goaway& frame) {
  going_away_ = true;
  std::string why = CodeName(frame.error_code);
  if (frame.opaque_data_len > 0) {
    why += ": " + Printable(frame.opaque_data, frame.opaque_data_len);
  }
  connection_events_->OnGoAway(frame.last_stream_id, std::move(why));
}

// Output.

ssize_t Http2Codec::ReadBody(StreamId id, size_t most, uint32_t* flags) {
  const Http2Stream* const stream = Find(id);
  if (stream == nullptr) return NGHTTP2_ERR_DEFERRED;
  const size_t left = stream->body.size();
  if (left == 0 && !stream->body_ended) return NGHTTP2_ERR_DEFERRED;
  if (output_.size() >= limits_.max_output_bytes) return NGHTTP2_ERR_PAUSE;
  *flags = NGHTTP2_DATA_FLAG_NO_COPY;
  if (left <= most && stream->body_ended) *flags |= NGHTTP2_DATA_FLAG_EOF;
  return static_cast<ssize_t>(std::min(left, most));
}

int Http2Codec::SendBody(StreamId id, const uint8_t* frame_head, size_t size) {
  Http2Stream* const stream = Find(id);
  if (stream == nullptr) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  constexpr size_t kHead = 9;
  output_.append(reinterpret_cast<const char*>(frame_head), kHead);
  stream->body.Take(size, &output_);
  produced_ += kHead + size;
  account_.OnDataSent(size);
  if (stream->body.size() == 0 && std::exchange(stream->owes_sendable, false)) {
    sendable_.push_back(stream->id);
  }
  return 0;
}

int Http2Codec::OnFrameSent(const nghttp2_frame& frame) {
  const bool last = (frame.hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
  switch (frame.hd.type) {
    case NGHTTP2_HEADERS:
      if (Http2Stream* const stream = Find(frame.hd.stream_id)) {
        stream->head_sent = true;
      }
      break;
    case NGHTTP2_DATA:
      account_.Earn(4);
      if (Http2Stream* const stream = Find(frame.hd.stream_id);
          stream && last) {
        stream->end = produced_;
      }
      break;
    case NGHTTP2_GOAWAY:
      // nghttp2 sends GOAWAY when the peer broke the protocol; the codec sends
      // it only then.
      if (problem_.empty()) {
        const size_t size = frame.goaway.opaque_data_len;
        problem_ = size > 0 ? Printable(frame.goaway.opaque_data, size)
                            : CodeName(frame.goaway.error_code);
      }
      break;
    default:
      account_.OnReply();
      break;
  }
  return 0;
}

}  // namespace hotline::upstream
