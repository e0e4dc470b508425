#include "net/http2/server_session.h"

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <cassert>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "net/http2/server_memory.h"

namespace hotline::net {
namespace {

constexpr size_t kPrefaceBytes = NGHTTP2_CLIENT_MAGIC_LEN;
constexpr uint8_t kDrainPing[8] = {'d', 'r', 'a', 'i', 'n', 0, 0, 0};
constexpr int kPingBytes = 8;

// nghttp2's only error left where this is used.
void MustWork(int64_t result) {
  if (result == NGHTTP2_ERR_NOMEM) std::abort();
}

uint8_t* Bytes(std::string_view text) {
  return reinterpret_cast<uint8_t*>(const_cast<char*>(text.data()));
}

}  // namespace

ServerSession::ServerSession(ServerEvents* events, ServerMemory* memory,
                             const ServerOptions* options, Instant now)
    : events_(events),
      memory_(memory),
      options_(options),
      allocator_{memory},
      account_({.max_useless_frames = options->max_useless_frames,
                .useless_frames_per_second = options->useless_frames_per_second,
                .max_continuations = options->max_continuations}),
      resets_(options->max_resets_per_second * int64_t{3} / 2,
              options->max_resets_per_second),
      started_(now),
      now_(now),
      last_received_(now) {
  StartNghttp2();
  const nghttp2_settings_entry settings[] = {
      {NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, options_->header_table_bytes},
      {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
       options_->max_concurrent_streams},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE,
       static_cast<uint32_t>(options_->stream_window_bytes)},
      // More than is served: clients do not send what is over it, and fail in
      // ways of their own, some of them with a protocol error. What is sent is
      // answered with a status. It must fit into the CONTINUATIONs allowed.
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE,
       static_cast<uint32_t>(options_->header_limits.flood_bytes / 2)},
      {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
  };
  MustWork(nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings,
                                   std::size(settings)));
  MustWork(nghttp2_session_set_local_window_size(
      session_, NGHTTP2_FLAG_NONE, 0, options_->connection_window_bytes));
}

ServerSession::~ServerSession() {
  End(SessionEnd::kClosed, NGHTTP2_NO_ERROR, {});
  Deliver();
  nghttp2_session_del(session_);
  if (head_ != nullptr) memory_->Give(std::move(head_));
  memory_->Give(std::move(output_));
}

ServerStream* ServerSession::Find(int32_t id) const {
  return static_cast<ServerStream*>(
      nghttp2_session_get_stream_user_data(session_, id));
}

// Answers.

void ServerSession::SubmitFields(ServerStream* stream,
                                 absl::Span<const HeaderField> fields,
                                 bool trailers, bool with_body) {
  constexpr size_t kUsual = 16;
  absl::InlinedVector<nghttp2_nv, kUsual> pairs;
  for (const HeaderField& field : fields) {
    const uint8_t flags =
        field.indexed ? NGHTTP2_NV_FLAG_NONE : NGHTTP2_NV_FLAG_NO_INDEX;
    pairs.push_back({Bytes(field.name), Bytes(field.value), field.name.size(),
                     field.value.size(), flags});
  }
  if (trailers) {
    MustWork(nghttp2_submit_trailer(session_, stream->id_, pairs.data(),
                                    pairs.size()));
    return;
  }
  nghttp2_data_provider body = {};
  body.source.ptr = stream;
  body.read_callback = [](nghttp2_session*, int32_t, uint8_t*, size_t most,
                          uint32_t* flags, nghttp2_data_source* source,
                          void* self) -> ssize_t {
    return static_cast<ServerSession*>(self)->ReadBody(
        static_cast<ServerStream*>(source->ptr), most, flags);
  };
  MustWork(nghttp2_submit_response(session_, stream->id_, pairs.data(),
                                   pairs.size(), with_body ? &body : nullptr));
}

void ServerSession::SubmitHeaders(ServerStream* stream,
                                  absl::Span<const HeaderField> fields,
                                  bool end) {
  if (stream->closed_) return;
  assert(!stream->answering_);
  stream->answering_ = true;
  SubmitFields(stream, fields, /*trailers=*/false, /*with_body=*/!end);
}

size_t ServerSession::SubmitData(ServerStream* stream, std::string_view head,
                                 std::string_view body) {
  if (stream->closed_ || head.size() + body.size() == 0) return 0;
  Borrowed borrowed;
  borrowed.stream = stream;
  borrowed.head = head;
  borrowed.body = body;
  return SendBorrowed(borrowed);
}

size_t ServerSession::SubmitData(ServerStream* stream, size_t size,
                                 absl::FunctionRef<void(char*)> fill) {
  if (stream->closed_ || size == 0) return 0;
  Borrowed borrowed;
  borrowed.stream = stream;
  borrowed.fill = &fill;
  borrowed.fill_size = size;
  return SendBorrowed(borrowed);
}

void ServerSession::SubmitTrailers(ServerStream* stream,
                                   absl::Span<const HeaderField> fields) {
  if (stream->closed_) return;
  assert(stream->answering_ && !stream->trailers_due_);
  if (stream->waiting_bytes() == 0) {
    return SubmitFields(stream, fields, /*trailers=*/true, false);
  }
  stream->trailers_due_ = true;
  stream->trailers_ = std::make_unique<ServerStream::OwnedFields>();
  for (const HeaderField& field : fields) {
    stream->trailers_->emplace_back(field.name, field.value);
  }
}

void ServerSession::Respond(ServerStream* stream,
                            absl::Span<const HeaderField> headers, size_t size,
                            absl::FunctionRef<void(char*)> fill,
                            absl::Span<const HeaderField> trailers) {
  SubmitHeaders(stream, headers, /*end=*/false);
  if (size == 0) return SubmitTrailers(stream, trailers);
  if (stream->closed_) return;
  Borrowed borrowed;
  borrowed.stream = stream;
  borrowed.fill = &fill;
  borrowed.fill_size = size;
  borrowed.trailers = trailers;
  stream->trailers_due_ = true;
  SendBorrowed(borrowed);
  // They were not needed yet, and have to wait.
  if (!stream->closed_ && std::exchange(stream->trailers_due_, false)) {
    SubmitTrailers(stream, trailers);
  }
}

size_t ServerSession::SendBorrowed(const Borrowed& borrowed) {
  ServerStream* const stream = borrowed.stream;
  assert(stream->answering_ && borrowed_.stream == nullptr);
  borrowed_ = borrowed;
  if (stream->deferred_) {
    stream->deferred_ = false;
    MustWork(nghttp2_session_resume_data(session_, stream->id_));
  }
  Pump();
  if (!stream->closed_) KeepBorrowed();
  borrowed_ = {};
  if (stream->closed_) return 0;
  stream->owes_sendable_ = stream->waiting_bytes() > 0;
  return stream->waiting_bytes();
}

void ServerSession::KeepBorrowed() {
  std::string* const kept = &borrowed_.stream->body_;
  if (borrowed_.size() == 0) return;
  kept->erase(0, std::exchange(borrowed_.stream->body_used_, 0));
  kept->append(borrowed_.head);
  kept->append(borrowed_.body);
  if (borrowed_.fill_size > 0) {
    const size_t old = kept->size();
    kept->resize(old + borrowed_.fill_size);
    (*borrowed_.fill)(kept->data() + old);
  }
  borrowed_.head = borrowed_.body = {};
  borrowed_.fill_size = 0;
}

void ServerSession::SubmitDueTrailers(ServerStream* stream) {
  stream->trailers_due_ = false;
  if (stream->trailers_ == nullptr) {
    return SubmitFields(stream, borrowed_.trailers, /*trailers=*/true, false);
  }
  std::vector<HeaderField> fields;
  for (const auto& [name, value] : *stream->trailers_) {
    fields.push_back({name, value, /*indexed=*/false});
  }
  SubmitFields(stream, fields, /*trailers=*/true, false);
  stream->trailers_.reset();
}

ptrdiff_t ServerSession::ReadBody(ServerStream* stream, size_t most,
                                  uint32_t* flags) {
  if (output_.size() >= options_->max_output_bytes) return NGHTTP2_ERR_PAUSE;
  const bool borrowed = borrowed_.stream == stream;
  // What is filled in goes out in one frame, or from a copy.
  if (borrowed && borrowed_.fill_size > 0 &&
      (stream->waiting_bytes() > 0 || borrowed_.fill_size > most)) {
    KeepBorrowed();
  }
  const size_t left =
      stream->waiting_bytes() + (borrowed ? borrowed_.size() : 0);
  if (left == 0) {
    stream->deferred_ = true;
    return NGHTTP2_ERR_DEFERRED;
  }
  *flags = NGHTTP2_DATA_FLAG_NO_COPY;
  if (left <= most && stream->trailers_due_) {
    *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
    SubmitDueTrailers(stream);
  }
  return static_cast<ptrdiff_t>(std::min(left, most));
}

int ServerSession::SendBody(ServerStream* stream, const uint8_t* frame_head,
                            size_t size) {
  constexpr size_t kHeadBytes = 9;
  output_.Append(frame_head, kHeadBytes);
  account_.OnDataSent(size);
  const size_t old = std::min(size, stream->waiting_bytes());
  output_.Append(stream->body_.data() + stream->body_used_, old);
  stream->body_used_ += old;
  if (stream->waiting_bytes() == 0) {
    stream->body_.clear();
    stream->body_used_ = 0;
    if (std::exchange(stream->owes_sendable_, false)) {
      sendable_.push_back(stream);
    }
  }
  size -= old;
  if (size == 0) return 0;
  if (borrowed_.fill_size > 0) {
    (*borrowed_.fill)(output_.Extend(size));
    borrowed_.fill_size = 0;
    return 0;
  }
  for (std::string_view* const part : {&borrowed_.head, &borrowed_.body}) {
    const size_t taken = std::min(size, part->size());
    output_.Append(part->substr(0, taken));
    part->remove_prefix(taken);
    size -= taken;
  }
  return 0;
}

void ServerSession::Reset(ServerStream* stream, uint32_t code) {
  if (!stream->closed_) ResetStream(stream, code);
}

// Output.

bool ServerSession::PumpFrame() {
  const size_t before = output_.size();
  const uint8_t* data = nullptr;
  const ssize_t size = nghttp2_session_mem_send(session_, &data);
  if (size < 0) {
    Fault(SessionEnd::kPeerError, NGHTTP2_INTERNAL_ERROR,
          nghttp2_strerror(static_cast<int>(size)));
    return false;
  }
  output_.Append(data, static_cast<size_t>(size));
  return output_.size() > before;  // Bodies went by SendBody.
}

void ServerSession::Pump() {
  // Until it is known that the peer speaks HTTP/2, it is sent nothing.
  if (end_ != SessionEnd::kNone || blocked() || preface_seen_ < kPrefaceBytes) {
    return;
  }
  if (!drain_due_ && nghttp2_session_want_write(session_) == 0) return;
  if (output_.capacity() == 0) output_ = memory_->TakeOutput();
  if (std::exchange(drain_due_, false)) FinishDrain();
  while (output_.size() < options_->max_output_bytes && PumpFrame()) {
  }
  Settle();
}

std::string_view ServerSession::Output() {
  do {
    Pump();
  } while (Deliver());
  if (end_ == SessionEnd::kNone && preface_seen_ == kPrefaceBytes &&
      nghttp2_session_want_read(session_) == 0 &&
      nghttp2_session_want_write(session_) == 0) {
    End(SessionEnd::kDone, NGHTTP2_NO_ERROR, {});
    Deliver();
  }
  handed_ = output_.size();
  return output_.view();
}

void ServerSession::OnWritten(size_t bytes) {
  assert(bytes <= handed_);
  output_.Drop(bytes);
  handed_ -= bytes;
  if (output_.empty() && output_.capacity() > 0) {
    memory_->Give(std::exchange(output_, OutputBuffer()));
  }
}

bool ServerSession::WantsWrite() const {
  return !output_.empty() || first_closed_ != nullptr || !sendable_.empty() ||
         (end_ == SessionEnd::kNone && preface_seen_ == kPrefaceBytes &&
          (drain_due_ || nghttp2_session_want_write(session_) != 0 ||
           nghttp2_session_want_read(session_) == 0));
}

bool ServerSession::finished() const {
  return end_ != SessionEnd::kNone && output_.empty() &&
         first_closed_ == nullptr;
}

bool ServerSession::Deliver() {
  bool any = false;
  for (ServerStream* const stream : std::exchange(sendable_, {})) {
    if (stream->closed_) continue;
    any = true;
    events_->OnSendable(stream);
  }
  while (first_closed_ != nullptr) {
    any = true;
    std::unique_ptr<ServerStream> stream(first_closed_);
    first_closed_ = stream->next_;
    if (first_closed_ == nullptr) last_closed_ = nullptr;
    if (stream->announced_) {
      events_->OnClosed(stream.get(), stream->end_, stream->end_code_);
    }
    memory_->Give(std::move(stream));
  }
  return any;
}

// Streams.

void ServerSession::Consume(ServerStream* stream, size_t bytes) {
  bytes = std::min(bytes, stream->unconsumed_);
  if (bytes == 0) return;
  stream->unconsumed_ -= bytes;
  if (!stream->closed_) {
    MustWork(nghttp2_session_consume_stream(session_, stream->id_, bytes));
  }
  ReleaseUnconsumed(bytes);
}

void ServerSession::ReleaseUnconsumed(size_t bytes) {
  unconsumed_ -= bytes;
  const size_t credit = std::min(bytes, withheld_);
  withheld_ -= credit;
  if (credit > 0 && end_ == SessionEnd::kNone) {
    MustWork(nghttp2_session_consume_connection(session_, credit));
  }
}

void ServerSession::Unlink(ServerStream* stream) {
  ServerStream* const next = stream->next_;
  if (next != nullptr) next->previous_ = stream->previous_;
  (stream->previous_ == nullptr ? first_open_ : stream->previous_->next_) =
      next;
  stream->previous_ = stream->next_ = nullptr;
  --open_streams_;
}

std::vector<ServerStream*> ServerSession::ListOpen() const {
  std::vector<ServerStream*> open;
  for (ServerStream* stream = first_open_; stream != nullptr;
       stream = stream->next_) {
    if (stream->announced_) open.push_back(stream);
  }
  return open;
}

void ServerSession::CloseStream(ServerStream* stream, StreamEnd end,
                                uint32_t code) {
  nghttp2_session_set_stream_user_data(session_, stream->id_, nullptr);
  Unlink(stream);
  stream->closed_ = true;
  stream->end_ = end;
  stream->end_code_ = code;
  if (block_stream_ == stream) block_stream_ = nullptr;
  if (stream->unconsumed_ > 0) {
    ReleaseUnconsumed(std::exchange(stream->unconsumed_, 0));
  }
  (last_closed_ == nullptr ? first_closed_ : last_closed_->next_) = stream;
  last_closed_ = stream;
}

void ServerSession::ResetStream(ServerStream* stream, uint32_t code) {
  MustWork(nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, stream->id_,
                                     code));
  reset_sent_ = true;
  CloseStream(stream, StreamEnd::kReset, code);
}

// The connection.

void ServerSession::Fault(SessionEnd end, uint32_t code, const char* why) {
  if (fault_ != SessionEnd::kNone) return;
  fault_ = end;
  fault_code_ = code;
  fault_text_ = why;
}

void ServerSession::Settle() {
  if (fault_ == SessionEnd::kNone || end_ != SessionEnd::kNone) return;
  Close(fault_code_, fault_text_);
}

void ServerSession::Close(uint32_t code, std::string_view why) {
  if (end_ != SessionEnd::kNone) return;
  if (fault_ == SessionEnd::kNone) fault_ = SessionEnd::kClosed;
  if (preface_seen_ == kPrefaceBytes && nghttp2_session_want_read(session_)) {
    if (output_.capacity() == 0) output_ = memory_->TakeOutput();
    MustWork(nghttp2_submit_goaway(
        session_, NGHTTP2_FLAG_NONE,
        nghttp2_session_get_last_proc_stream_id(session_), code,
        reinterpret_cast<const uint8_t*>(why.data()), why.size()));
    // It is sent ahead of bodies, even to a peer that reads nothing.
    const int before = goaways_sent_;
    while (goaways_sent_ == before && PumpFrame()) {
    }
  }
  End(fault_, code, why);
}

void ServerSession::End(SessionEnd end, uint32_t code, std::string_view text) {
  if (end_ != SessionEnd::kNone) return;
  end_ = end;
  if (end_text_.empty()) end_text_ = std::string(text);
  while (first_open_ != nullptr) {
    CloseStream(first_open_, StreamEnd::kConnection, code);
  }
}

void ServerSession::OnGoAwaySent(uint32_t code, std::string_view text) {
  ++goaways_sent_;
  if (code == NGHTTP2_NO_ERROR || fault_ != SessionEnd::kNone) return;
  // nghttp2 has given the connection up.
  end_text_ = text.empty() ? nghttp2_http2_strerror(code) : std::string(text);
  Fault(SessionEnd::kPeerError, code, "");
}

void ServerSession::StartDrain(Instant now) {
  if (draining_ || end_ != SessionEnd::kNone) return;
  draining_ = true;
  drain_sent_ = now;
  MustWork(nghttp2_submit_shutdown_notice(session_));
  MustWork(nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, kDrainPing));
}

void ServerSession::FinishDrain() {
  // Nothing may be accepted between the choice of the id and the frame.
  MustWork(
      nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE,
                            nghttp2_session_get_last_proc_stream_id(session_),
                            NGHTTP2_NO_ERROR, nullptr, 0));
  const int before = goaways_sent_;
  while (goaways_sent_ < before + 1 && PumpFrame()) {
  }
}

// Time.

void ServerSession::PingSilentPeer() {
  // A stream that is to be reset is in nghttp2's table until that is sent.
  const bool idle = open_streams_ == 0 && allocator_.table != nullptr &&
                    nghttp2_session_want_write(session_) == 0;
  uint8_t payload[kPingBytes] = {'a', 'l', 'i', 'v'};
  ++ping_number_;
  std::memcpy(payload + sizeof ping_number_, &ping_number_,
              sizeof ping_number_);
  MustWork(nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, payload));
  ping_sent_ = now_;
  ping_unacknowledged_ = true;
  // nghttp2 has looked into the table for the last time.
  if (idle) memory_->TrimTable(allocator_.table);
}

void ServerSession::OnPingAck(const uint8_t* payload) {
  if (std::memcmp(payload, kDrainPing, kPingBytes) == 0) {
    if (drain_sent_ == kNever) return;
    drain_sent_ = kNever;
    drain_due_ = useful_ = true;
  } else if (std::memcmp(payload + sizeof ping_number_, &ping_number_,
                         sizeof ping_number_) == 0) {
    useful_ = std::exchange(ping_unacknowledged_, false);
  }
}

Instant ServerSession::NextTimer() const {
  if (end_ != SessionEnd::kNone) return kNever;
  Instant next = kNever;
  const auto consider = [&next](Instant from, Duration wait) {
    next = std::min(next, SaturatingAdd(from, wait));
  };
  if (!ready_) consider(started_, options_->handshake_timeout);
  if (drain_sent_ != kNever) consider(drain_sent_, options_->keepalive_timeout);
  if (ping_sent_ != kNever) {
    consider(ping_sent_, options_->keepalive_timeout);
  } else if (options_->keepalive_interval > Duration::zero()) {
    consider(last_received_, options_->keepalive_interval);
  }
  return next;
}

void ServerSession::OnTimer(Instant now) {
  if (end_ != SessionEnd::kNone) return;
  now_ = now;
  const auto due = [now](Instant from, Duration wait) {
    return from != kNever && now >= SaturatingAdd(from, wait);
  };
  if (!ready_ && due(started_, options_->handshake_timeout)) {
    Fault(SessionEnd::kTimeout, NGHTTP2_SETTINGS_TIMEOUT, "no SETTINGS");
  } else if (due(ping_sent_, options_->keepalive_timeout)) {
    Fault(SessionEnd::kTimeout, NGHTTP2_NO_ERROR, "no sign of life");
  } else if (ready_ && ping_sent_ == kNever &&
             options_->keepalive_interval > Duration::zero() &&
             due(last_received_, options_->keepalive_interval)) {
    PingSilentPeer();
  }
  if (due(drain_sent_, options_->keepalive_timeout)) {
    drain_sent_ = kNever;
    drain_due_ = true;
  }
  Settle();
  Deliver();
}

}  // namespace hotline::net
