// What the peer sends: its frames before nghttp2 sees them, and what nghttp2
// makes of them.
#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "net/http2/server_memory.h"
#include "net/http2/server_session.h"

namespace hotline::net {
namespace {

constexpr std::string_view kPreface = NGHTTP2_CLIENT_MAGIC;
constexpr std::string_view kHttp1Answer =
    "HTTP/1.1 426 Upgrade Required\r\n"
    "Connection: close\r\n"
    "Upgrade: h2c\r\n"
    "Content-Type: text/plain\r\n"
    "Content-Length: 40\r\n"
    "\r\n"
    "This port speaks gRPC over HTTP/2 only.\n";

// What an answer pays for in advance: updates of windows, a late reset.
constexpr int kEarnedByAnswer = 2;
// Updates of both windows, and a PING that measures the bandwidth.
constexpr int kEarnedByData = 3;
// More than gRPC's clients add to a window at once, and no overflow of it.
constexpr uint32_t kMostFreeIncrement = 64 << 20;
// Streams whose windows one frame of SETTINGS may move for the price of one.
constexpr size_t kStreamsPerFrame = 64;
// After a reset of ours, frames for closed streams may have crossed it.
constexpr Duration kLenience = std::chrono::seconds(10);

void MustWork(int64_t result) {
  if (result == NGHTTP2_ERR_NOMEM) std::abort();
}

std::string_view View(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

}  // namespace

// nghttp2's callbacks are C functions.
struct ServerCallbacks {
  static ServerSession* Self(void* self) {
    return static_cast<ServerSession*>(self);
  }

  static int BeginBlock(nghttp2_session*, const nghttp2_frame* frame,
                        void* self) {
    return Self(self)->OnBeginBlock(frame->hd.stream_id,
                                    frame->headers.cat == NGHTTP2_HCAT_REQUEST);
  }
  static int Field(nghttp2_session*, const nghttp2_frame* frame,
                   const uint8_t* name, size_t name_size, const uint8_t* value,
                   size_t value_size, uint8_t, void* self) {
    return Self(self)->OnField(frame->hd.stream_id, View(name, name_size),
                               View(value, value_size));
  }
  static int Chunk(nghttp2_session*, uint8_t, int32_t id, const uint8_t* data,
                   size_t size, void* self) {
    return Self(self)->OnChunk(id, View(data, size));
  }
  static int FrameReceived(nghttp2_session*, const nghttp2_frame* frame,
                           void* self) {
    const int32_t id = frame->hd.stream_id;
    const bool last = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    const bool ack = (frame->hd.flags & NGHTTP2_FLAG_ACK) != 0;
    switch (frame->hd.type) {
      case NGHTTP2_HEADERS:
        return Self(self)->OnBlockEnd(id, last);
      case NGHTTP2_DATA:
        Self(self)->OnDataEnd(id, last);
        break;
      case NGHTTP2_RST_STREAM:
        Self(self)->OnPeerReset(id, frame->rst_stream.error_code);
        break;
      case NGHTTP2_SETTINGS:
        if (ack || !std::exchange(Self(self)->ready_, true)) {
          Self(self)->useful_ = true;
        }
        break;
      case NGHTTP2_PING:
        if (ack) Self(self)->OnPingAck(frame->ping.opaque_data);
        break;
      default:
        break;
    }
    return 0;
  }
  static int FrameSent(nghttp2_session*, const nghttp2_frame* frame,
                       void* self) {
    switch (frame->hd.type) {
      case NGHTTP2_HEADERS:
        Self(self)->OnHeadersSent(
            frame->hd.stream_id,
            (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0);
        break;
      case NGHTTP2_DATA:
        Self(self)->answered_since_ping_ = true;
        Self(self)->account_.Earn(kEarnedByData);
        break;
      case NGHTTP2_RST_STREAM:
        Self(self)->OnResetSent(frame->hd.stream_id);
        break;
      case NGHTTP2_GOAWAY:
        Self(self)->OnGoAwaySent(
            frame->goaway.error_code,
            View(frame->goaway.opaque_data, frame->goaway.opaque_data_len));
        break;
      default:
        break;
    }
    return 0;
  }
  static int SendData(nghttp2_session*, nghttp2_frame*, const uint8_t* head,
                      size_t size, nghttp2_data_source* source, void* self) {
    return Self(self)->SendBody(static_cast<ServerStream*>(source->ptr), head,
                                size);
  }
  static int StreamGone(nghttp2_session*, int32_t id, uint32_t code,
                        void* self) {
    return Self(self)->OnStreamGone(id, code);
  }

  static const nghttp2_session_callbacks* All() {
    static const nghttp2_session_callbacks* const all = [] {
      nghttp2_session_callbacks* made = nullptr;
      MustWork(nghttp2_session_callbacks_new(&made));
      using C = ServerCallbacks;
      nghttp2_session_callbacks_set_on_begin_headers_callback(made,
                                                              C::BeginBlock);
      nghttp2_session_callbacks_set_on_header_callback(made, C::Field);
      nghttp2_session_callbacks_set_on_data_chunk_recv_callback(made, C::Chunk);
      nghttp2_session_callbacks_set_on_frame_recv_callback(made,
                                                           C::FrameReceived);
      nghttp2_session_callbacks_set_on_frame_send_callback(made, C::FrameSent);
      nghttp2_session_callbacks_set_send_data_callback(made, C::SendData);
      nghttp2_session_callbacks_set_on_stream_close_callback(made,
                                                             C::StreamGone);
      return made;
    }();
    return all;
  }

  // The buffer that all sessions share, and the table of streams, which has a
  // page; everything else comes from malloc.
  static void* Allocate(size_t bytes, void* user) {
    auto* const allocator = static_cast<ServerSession::Allocator*>(user);
    if (!allocator->has_frame && bytes >= ServerMemory::kLeastFrameBytes &&
        bytes <= ServerMemory::kFrameBytes) {
      allocator->has_frame = true;
      return allocator->memory->frame();
    }
    return std::malloc(bytes);
  }
  static void Free(void* memory, void* user) {
    auto* const allocator = static_cast<ServerSession::Allocator*>(user);
    if (memory == nullptr) return;
    if (memory == allocator->memory->frame()) {
      allocator->has_frame = false;
    } else if (memory == allocator->table) {
      allocator->memory->GiveTable(std::exchange(allocator->table, nullptr));
    } else {
      std::free(memory);
    }
  }
  static void* Zeroed(size_t count, size_t bytes, void* user) {
    auto* const allocator = static_cast<ServerSession::Allocator*>(user);
    if (allocator->table == nullptr && count > 1 &&
        count * bytes == ServerMemory::kTableBytes) {
      allocator->table = allocator->memory->TakeTable();
      if (allocator->table != nullptr) return allocator->table;
    }
    return std::calloc(count, bytes);
  }
  static void* Reallocate(void* old, size_t bytes, void* user) {
    auto* const allocator = static_cast<ServerSession::Allocator*>(user);
    if (old == nullptr) return Allocate(bytes, user);
    if (old != allocator->memory->frame()) return std::realloc(old, bytes);
    if (bytes <= ServerMemory::kFrameBytes) return old;
    void* const larger = std::malloc(bytes);
    if (larger == nullptr) return nullptr;
    std::memcpy(larger, old, ServerMemory::kFrameBytes);
    allocator->has_frame = false;
    return larger;
  }
};

void ServerSession::StartNghttp2() {
  nghttp2_option* option = nullptr;
  MustWork(nghttp2_option_new(&option));
  nghttp2_option_set_no_http_messaging(option, 1);  // RequestHeadReader's job.
  nghttp2_option_set_no_auto_window_update(option, 1);
  nghttp2_option_set_no_closed_streams(option, 1);
  nghttp2_option_set_max_settings(option, options_->max_settings);
  nghttp2_option_set_max_deflate_dynamic_table_size(
      option, options_->header_table_bytes);
  // Our own limits are reached first.
  constexpr size_t kMore = 1000;
  nghttp2_option_set_max_outbound_ack(option,
                                      options_->max_useless_frames + kMore);
  constexpr size_t kHeadBytes = 9;
  nghttp2_option_set_max_continuations(
      option, (options_->max_continuations + 1) * kHeadBytes);
  constexpr uint64_t kNoLimit = uint64_t{1} << 62;
  nghttp2_option_set_stream_reset_rate_limit(option, kNoLimit, 0);
  nghttp2_mem functions = {&allocator_, &ServerCallbacks::Allocate,
                           &ServerCallbacks::Free, &ServerCallbacks::Zeroed,
                           &ServerCallbacks::Reallocate};
  MustWork(nghttp2_session_server_new3(&session_, ServerCallbacks::All(), this,
                                       option, &functions));
  nghttp2_option_del(option);
}

// Bytes.

bool ServerSession::Receive(std::string_view bytes, Instant now) {
  if (end_ != SessionEnd::kNone) return false;
  now_ = now;
  last_received_ = now;
  ping_sent_ = kNever;
  if (std::exchange(reset_sent_, false)) {
    lenient_until_ = SaturatingAdd(now, kLenience);
  }
  account_.Refill(now);
  resets_.Refill(now);
  if (preface_seen_ < kPreface.size()) {
    const size_t size = std::min(kPreface.size() - preface_seen_, bytes.size());
    if (!ReadPreface(bytes.substr(0, size))) return false;
    bytes.remove_prefix(size);
  }
  while (!bytes.empty() && end_ == SessionEnd::kNone) {
    const size_t withheld = frames_.pending_head();
    const size_t size = Measure(bytes);
    // A frame's head is handed on when it is known whether to drop the frame.
    if (fault_ == SessionEnd::kNone && frames_.pending_head() == 0) {
      if (!drop_frame_) {
        HandOn(frames_.raw_head().substr(0, withheld));
        HandOn(bytes.substr(0, size));
      }
      ReportPending();
      if (frames_.at_end()) OnFrameEnd(frames_.head());
    }
    Settle();
    bytes.remove_prefix(size);
    if (first_closed_ != nullptr) Deliver();
  }
  Deliver();
  return end_ == SessionEnd::kNone;
}

void ServerSession::HandOn(std::string_view bytes) {
  if (bytes.empty()) return;
  const ssize_t used = nghttp2_session_mem_recv(
      session_, reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  if (used < 0) {
    Fault(SessionEnd::kFlood, NGHTTP2_ENHANCE_YOUR_CALM,
          nghttp2_strerror(static_cast<int>(used)));
  }
}

bool ServerSession::ReadPreface(std::string_view bytes) {
  const std::string_view expected =
      kPreface.substr(preface_seen_, bytes.size());
  const size_t same =
      std::mismatch(bytes.begin(), bytes.end(), expected.begin()).first -
      bytes.begin();
  preface_seen_ += static_cast<uint8_t>(same);
  if (same < bytes.size()) {
    RefusePreface(preface_seen_ == 0 ? bytes[0] : kPreface[0]);
    return false;
  }
  return nghttp2_session_mem_recv(
             session_, reinterpret_cast<const uint8_t*>(bytes.data()),
             bytes.size()) >= 0;
}

void ServerSession::RefusePreface(char first) {
  constexpr char kTlsHandshake = 0x16;
  constexpr size_t kMethodBytes = 3;  // Of "PRI", which is HTTP/2's alone.
  if (first == kTlsHandshake) {
    End(SessionEnd::kTls, NGHTTP2_PROTOCOL_ERROR, "TLS on a port without it");
  } else if (first >= 'A' && first <= 'Z' && preface_seen_ <= kMethodBytes) {
    output_.Append(kHttp1Answer);
    End(SessionEnd::kHttp1, NGHTTP2_HTTP_1_1_REQUIRED, "HTTP/1");
  } else {
    End(SessionEnd::kPeerError, NGHTTP2_PROTOCOL_ERROR, "no HTTP/2 preface");
  }
}

size_t ServerSession::Measure(std::string_view bytes) {
  size_t size = 0;
  do {
    bool begun = false;
    size += frames_.Next(bytes.substr(size), &begun);
    if (begun) OnFrameBegun(frames_.head());
  } while (size < bytes.size() && !frames_.at_end());
  return size;
}

void ServerSession::OnFrameBegun(const FrameHead& frame) {
  const bool block =
      frame.type == NGHTTP2_HEADERS || frame.type == NGHTTP2_CONTINUATION;
  const bool in_block = std::exchange(
      block_open_, block && (frame.flags & NGHTTP2_FLAG_END_HEADERS) == 0);
  drop_frame_ = false;
  if (const char* const flood = account_.CountContinuation(frame)) {
    Fault(SessionEnd::kFlood, NGHTTP2_ENHANCE_YOUR_CALM, flood);
  }
  if (frame.type == NGHTTP2_CONTINUATION) return;
  useful_ = false;
  if (frame.type == NGHTTP2_HEADERS) {
    newest_stream_ = std::max(newest_stream_, frame.stream);
  }
  // gRPC's C core resets a stream that it numbered but did not open, when its
  // call is cancelled just then. RFC 9113 section 5.1 makes that a connection
  // error, which would end every other call of an honest caller.
  drop_frame_ = frame.type == NGHTTP2_RST_STREAM && frame.length == 4 &&
                !in_block && ready_ && (frame.stream & 1) == 1 &&
                frame.stream > newest_stream_;
  const bool for_stream =
      frame.type == NGHTTP2_DATA || frame.type == NGHTTP2_HEADERS;
  if (!for_stream || in_block || now_ < lenient_until_ || reset_sent_ ||
      (frame.stream & 1) == 0 ||
      frame.stream > nghttp2_session_get_last_proc_stream_id(session_)) {
    return;
  }
  if (Find(frame.stream) == nullptr) {
    Fault(SessionEnd::kPeerError, NGHTTP2_STREAM_CLOSED,
          "a frame for a closed stream");
  }
}

void ServerSession::OnFrameEnd(const FrameHead& frame) {
  if (block_open_) return;
  int64_t price = 1;
  switch (frame.type) {
    case NGHTTP2_SETTINGS:
      price += open_streams_ / kStreamsPerFrame;
      break;
    case NGHTTP2_PING:
      if ((frame.flags & NGHTTP2_FLAG_ACK) == 0) OnPing();
      break;
    case NGHTTP2_WINDOW_UPDATE:
      // gRPC's C core enlarges the window of each stream that it opens.
      if (account_.OnWindowUpdate(frame.stream, frames_.number()) ||
          TakeFreeUpdate(frame.stream, frames_.number())) {
        useful_ = true;
      }
      break;
    case NGHTTP2_PRIORITY:
      // nghttp2 ignores it altogether.
      if (frame.stream == 0 ||
          frames_.number() == static_cast<uint32_t>(frame.stream)) {
        Fault(SessionEnd::kPeerError, NGHTTP2_PROTOCOL_ERROR,
              "PRIORITY for stream 0, or on itself");
      }
      break;
    default:
      break;
  }
  if (useful_) return;
  account_.Charge(price);
  if (const char* const flood = account_.Check()) {
    Fault(SessionEnd::kFlood, NGHTTP2_ENHANCE_YOUR_CALM, flood);
  }
}

void ServerSession::OnPing() {
  const bool free = std::exchange(answered_since_ping_, false);
  if (free) ping_strikes_ = 0;
  if (!free && now_ < next_free_ping_ &&
      ++ping_strikes_ > options_->max_ping_strikes) {
    // gRPC's clients know this text, and ping less often afterwards.
    Fault(SessionEnd::kFlood, NGHTTP2_ENHANCE_YOUR_CALM, "too_many_pings");
  }
  next_free_ping_ = SaturatingAdd(now_, options_->min_ping_interval);
}

bool ServerSession::TakeFreeUpdate(int32_t id, uint32_t increment) {
  ServerStream* const stream = Find(id);
  if (stream == nullptr || stream->free_updates_ == 0 ||
      increment > kMostFreeIncrement) {
    return false;
  }
  --stream->free_updates_;
  return true;
}

// Requests.

int ServerSession::OnBeginBlock(int32_t id, bool request) {
  ServerStream* stream = request ? nullptr : Find(id);
  if (request) {
    stream = memory_->TakeStream().release();
    stream->id_ = id;
    stream->opened_ = now_;
    stream->next_ = first_open_;
    if (first_open_ != nullptr) first_open_->previous_ = stream;
    first_open_ = stream;
    ++open_streams_;
    MustWork(nghttp2_session_set_stream_user_data(session_, id, stream));
    // Bodies take turns.
    const nghttp2_extpri turns = {NGHTTP2_EXTPRI_DEFAULT_URGENCY, 1};
    MustWork(nghttp2_session_change_extpri_stream_priority(
        session_, id, &turns, /*ignore_client_signal=*/1));
  } else if (stream == nullptr) {
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  }
  block_stream_ = stream;
  if (head_ == nullptr) head_ = memory_->TakeHeadReader();
  head_->Begin(options_->header_limits, stream->head_over_);
  return 0;
}

int ServerSession::OnField(int32_t /*id*/, std::string_view name,
                           std::string_view value) {
  if (block_stream_ == nullptr) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  switch (head_->Add(name, value)) {
    case RequestHeadReader::Result::kOk:
      return 0;
    case RequestHeadReader::Result::kMalformed:
      Malformed(block_stream_);
      break;
    case RequestHeadReader::Result::kFlood:
      PayForReset(*block_stream_);
      ResetStream(block_stream_, NGHTTP2_ENHANCE_YOUR_CALM);
      break;
  }
  GiveReaderBack();
  return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

int ServerSession::OnBlockEnd(int32_t /*id*/, bool last) {
  ServerStream* const stream = std::exchange(block_stream_, nullptr);
  if (stream == nullptr) return 0;
  const bool trailers = std::exchange(stream->head_over_, true);
  const bool fine =
      head_->Finish(last) && (!trailers || stream->content_length_ < 0 ||
                              stream->content_length_ == stream->received_);
  if (fine) {
    useful_ = true;
    stream->peer_ended_ = last;
    pending_.stream = stream;
    pending_.head = !trailers;
    pending_.end = last;
    if (!trailers) stream->content_length_ = head_->head().content_length;
  } else {
    Malformed(stream);
  }
  if (!pending_.head) GiveReaderBack();
  return 0;
}

int ServerSession::OnChunk(int32_t id, std::string_view piece) {
  ServerStream* const stream = Find(id);
  if (stream != nullptr) {
    useful_ = true;
    stream->received_ += static_cast<int64_t>(piece.size());
    if (stream->content_length_ < 0 ||
        stream->received_ <= stream->content_length_) {
      pending_.stream = stream;
      pending_.data = piece;
      stream->unconsumed_ += piece.size();
      unconsumed_ += piece.size();
      if (unconsumed_ > options_->max_unconsumed_bytes) {
        withheld_ += piece.size();
        return 0;
      }
    } else {
      Malformed(stream);
    }
  }
  MustWork(nghttp2_session_consume_connection(session_, piece.size()));
  return 0;
}

void ServerSession::OnDataEnd(int32_t id, bool last) {
  ServerStream* const stream = Find(id);
  if (stream == nullptr || !last) return;
  useful_ = true;
  stream->peer_ended_ = true;
  if (stream->content_length_ >= 0 &&
      stream->content_length_ != stream->received_) {
    return Malformed(stream);
  }
  pending_.stream = stream;
  pending_.end = true;
}

void ServerSession::OnPeerReset(int32_t id, uint32_t code) {
  ServerStream* const stream = Find(id);
  if (stream == nullptr) {
    pending_.late_reset = id;
    pending_.late_code = code;
    return;
  }
  useful_ = true;
  stream->peer_reset_ = true;
  if (!stream->answered_) PayForReset(*stream);
}

void ServerSession::PayForReset(const ServerStream& stream) {
  if (now_ - stream.opened_ >= options_->free_reset_age) return;
  if (!resets_.Pay(1)) {
    Fault(SessionEnd::kFlood, NGHTTP2_ENHANCE_YOUR_CALM, "too many resets");
  }
}

void ServerSession::Malformed(ServerStream* stream) {
  PayForReset(*stream);
  ResetStream(stream, NGHTTP2_PROTOCOL_ERROR);
}

void ServerSession::GiveReaderBack() {
  if (head_ != nullptr) memory_->Give(std::move(head_));
}

void ServerSession::ReportPending() {
  const Pending pending = std::exchange(pending_, {});
  if (ServerStream* const stream = pending.stream) {
    if (pending.head && !stream->closed_) {
      stream->announced_ = true;
      events_->OnRequestHeaders(stream, head_->head(), pending.end);
    }
    if (!pending.data.empty() && !stream->closed_) {
      events_->OnData(stream, pending.data);
    }
    if (pending.end && !pending.head && !stream->closed_) {
      events_->OnEnd(stream);
    }
    if (pending.head) GiveReaderBack();
  }
  if (pending.late_reset != 0) {
    events_->OnLateReset(pending.late_reset, pending.late_code);
  }
}

// Answers.

void ServerSession::OnHeadersSent(int32_t id, bool last) {
  answered_since_ping_ = true;
  ServerStream* const stream = Find(id);
  if (stream == nullptr || !last) return;
  stream->answered_ = true;
  resets_.Earn(1);
  account_.Earn(kEarnedByAnswer);
  if (stream->peer_ended_) return;
  // The rest of the request is of no interest (RFC 9113, 8.1).
  MustWork(nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, id,
                                     NGHTTP2_NO_ERROR));
}

void ServerSession::OnResetSent(int32_t id) {
  reset_sent_ = true;
  const ServerStream* const stream = Find(id);
  // nghttp2 has reset it: the peer broke a rule.
  if (stream != nullptr && !stream->answered_) PayForReset(*stream);
}

int ServerSession::OnStreamGone(int32_t id, uint32_t code) {
  ServerStream* const stream = Find(id);
  if (stream == nullptr) return 0;
  const StreamEnd end = stream->peer_reset_ ? StreamEnd::kPeerReset
                        : stream->answered_ ? StreamEnd::kComplete
                                            : StreamEnd::kReset;
  CloseStream(stream, end, code);
  return 0;
}

}  // namespace hotline::net
