// Calls: how they begin, what comes of them, how they end.
#include <algorithm>
#include <charconv>
#include <utility>

#include "upstream/codec/http_text.h"
#include "upstream/codec/request_fault.h"
#include "upstream/connection/connection.h"

namespace hotline::upstream {
namespace {

// Taken on an answer's word that so much will come.
constexpr size_t kMostReserved = 1 << 20;

// What a well-formed Content-Length announces; 0: nothing.
size_t AnnouncedLength(const std::vector<Header>& headers) {
  for (const Header& header : headers) {
    if (header.name != "content-length") continue;
    size_t length = 0;
    const char* const begin = header.value.data();
    const auto result =
        std::from_chars(begin, begin + header.value.size(), length);
    return result.ec == std::errc() ? length : 0;
  }
  return 0;
}

// What a request takes on the wire, without its compression.
size_t BytesOf(const Request& request) {
  size_t bytes = request.method.size() + request.authority.size() +
                 request.path.size() + request.body.size();
  for (const HeaderView& header : request.headers) {
    bytes += header.name.size() + header.value.size();
  }
  return bytes;
}

size_t BytesOf(const std::vector<Header>& headers) {
  size_t bytes = 0;
  for (const Header& header : headers) {
    bytes += header.name.size() + header.value.size();
  }
  return bytes;
}

}  // namespace

// Calls: begun by whoever was lent the connection.

CallResult Connection::NeverSent(std::string why, CallError error) {
  CallResult result;
  result.error = error;
  result.verdict = Verdict::kNotSent;
  result.message = std::move(why);
  return result;
}

CallId Connection::Begin(const Request& request, CallHandler* handler,
                         StreamHandler* streamed, bool end, Instant now) {
  // Behind tls:// and tcp:// nothing of it is written.
  const char* const fault = options_.raw ? nullptr : FaultOf(request);
  if (fault != nullptr) {
    handler->OnDone(NeverSent(fault, CallError::kBadRequest));
    return 0;
  }
  Rest rest;
  Instant arm = kNever;
  CallId id = 0;
  {
    MutexLock lock(&mu_);
    if (state_ == State::kClosing) {
      late_.push_back(handler);
      return 0;
    }
    if (state_ == State::kOpen && codec_->CanSubmit()) {
      const Call& call = BeginCallLocked(request, handler, streamed, end, now);
      id = call.stream;
      rest = TryFlushLocked();
      arm = ToArmLocked(std::min(call.deadline, SilenceDueLocked()));
      handler = nullptr;
    }
  }
  if (handler != nullptr) {
    handler->OnDone(NeverSent("the connection is not fit for a call"));
    return 0;
  }
  if (arm != kNever) ArmDeadline(arm);
  LeaveToLoop(rest);
  if (options_.raw) {
    loop_->Post([self = shared_from_this()] { self->TellOpened(); });
  }
  return id;
}

const Connection::Call& Connection::BeginCallLocked(const Request& request,
                                                    CallHandler* handler,
                                                    StreamHandler* streamed,
                                                    bool end, Instant now) {
  if (http2_ != nullptr && !HasCallsLocked()) http2_->heard = now;
  const StreamId stream = streamed == nullptr
                              ? codec_->Submit(request)
                              : codec_->OpenStream(request, end);
  if (streamed != nullptr) {
    streamed->call_.store(stream, std::memory_order_relaxed);
  }
  Call* call = &first_;
  if (first_.stream != 0) {
    auto owned = std::make_unique<Call>();
    call = owned.get();
    http2_->others.emplace(stream, std::move(owned));
  }
  call->stream = stream;
  call->handler = handler;
  call->streamed = streamed;
  call->max_response_bytes = request.max_response_bytes;
  call->truncate = request.truncate;
  call->room = request.room;
  call->deadline = request.deadline;
  call->started = now;
  if (http2_ != nullptr) call->request_bytes = BytesOf(request);
  return *call;
}

Connection::Call* Connection::FindLocked(StreamId stream) {
  if (stream == 0) return nullptr;
  if (first_.stream == stream) return first_.ended ? nullptr : &first_;
  if (http2_ == nullptr) return nullptr;
  const auto found = http2_->others.find(stream);
  return found == http2_->others.end() ? nullptr : found->second.get();
}

void Connection::CancelCall(CallId id, CallError why) {
  loop_->Post([self = shared_from_this(), id, why] {
    self->now_ = MonotonicNow();
    {
      MutexLock lock(&self->mu_);
      if (self->state_ != State::kOpen) return;
      Call* const call = self->FindLocked(static_cast<StreamId>(id));
      if (call == nullptr) return;
      self->EndCallLocked(call, why, "the call was cancelled");
      if (self->http2_ == nullptr) {
        self->CloseLocked(pool::CloseReason::kCancelled);
      }
    }
    self->Settle();
  });
}

// How calls end.

void Connection::FinishCallLocked(Call* call) {
  call->ended = true;
  CallResult& result = call->result;
  if (result.error == CallError::kNone) NoteAnswerLocked();
  if (call->first_byte != Instant{}) {
    result.first_byte = call->first_byte - call->started;
    result.transfer = now_ - call->first_byte;
  }
  if (http2_ == nullptr) return;
  if (result.verdict == Verdict::kPartial) {
    // Streams share what is written: of one, only this is known.
    result.bytes_written = std::max<size_t>(1, call->request_bytes / 2);
  } else if (result.verdict != Verdict::kNotSent) {
    result.bytes_written = call->request_bytes;
  }
  if (call == &first_) return;
  auto node = http2_->others.extract(call->stream);
  http2_->news.others.push_back(std::move(node.mapped()));
}

Verdict Connection::VerdictLocked(StreamId stream) const {
  const Verdict verdict = codec_->VerdictOf(stream);
  const bool unread =
      verdict == Verdict::kPartial || verdict == Verdict::kSentUnknown;
  return tls_refused_ && unread ? Verdict::kRefusedByPeer : verdict;
}

void Connection::EndCallLocked(Call* call, CallError error,
                               std::string message) {
  call->result.error = error;
  call->result.verdict = VerdictLocked(call->stream);
  call->result.message = std::move(message);
  codec_->Cancel(call->stream);
  cut_off_ = tunnel_;
  FinishCallLocked(call);
}

void Connection::EndAllLocked(CallError error, const std::string& message) {
  if (first_.stream != 0 && !first_.ended) {
    EndCallLocked(&first_, error, message);
  }
  while (http2_ != nullptr && !http2_->others.empty()) {
    EndCallLocked(http2_->others.begin()->second.get(), error, message);
  }
}

void Connection::LoseAllLocked(const std::string& why) {
  const auto lose = [&](Call* call) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    const Verdict verdict = VerdictLocked(call->stream);
    CallError error = CallError::kReset;
    if (tls_refused_ && verdict != Verdict::kResponseStarted) {
      error = CallError::kTlsRefused;
    } else if (verdict == Verdict::kNotSent) {
      error = CallError::kConnectionGone;
    }
    EndCallLocked(call, error, why);
  };
  if (first_.stream != 0 && !first_.ended) lose(&first_);
  while (http2_ != nullptr && !http2_->others.empty()) {
    lose(http2_->others.begin()->second.get());
  }
  why_ = why;
}

void Connection::OnHead(StreamId stream, int status,
                        std::vector<Header> headers) {
  Call* const call = FindLocked(stream);
  if (call == nullptr) return;
  if (http2_ != nullptr) {
    served_ = true;
    call->first_byte = now_;
    call->result.bytes_read += BytesOf(headers);
  } else {
    NoteKeepAlive(headers);
  }
  if (call->streamed != nullptr) {
    StreamNews* const news = NewsOfLocked(call);
    news->status = status;
    news->headers = std::move(headers);
    if (call->room != nullptr &&
        call->room->Grow(stream, 0, Codec::kFullWindow)) {
      codec_->Widen(stream, Codec::kFullWindow);
    }
    return;
  }
  Response& response = call->result.response;
  response.status = status;
  response.headers = std::move(headers);
}

void Connection::NoteKeepAlive(const std::vector<Header>& headers) {
  for (const Header& header : headers) {
    if (header.name != "keep-alive") continue;
    const Duration said = KeepAliveTimeout(header.value);
    if (said <= Duration(0) || said == keep_alive_) return;
    keep_alive_ = said;
    keep_alive_told_ = false;
    return;
  }
}

void Connection::OnBody(StreamId stream, std::string_view piece) {
  Call* const call = FindLocked(stream);
  if (call == nullptr) return;
  if (http2_ != nullptr || options_.raw) {
    call->result.bytes_read += piece.size();
  }
  if (call->streamed != nullptr) {
    NewsOfLocked(call)->body.append(piece);
    return;
  }
  Response& response = call->result.response;
  std::string& body = response.body;
  const auto limit =
      static_cast<size_t>(std::max<int64_t>(call->max_response_bytes, 0));
  if (body.empty()) {
    body.reserve(
        std::min({AnnouncedLength(response.headers), limit, kMostReserved}));
  }
  const size_t room = limit - body.size();
  body.append(piece.substr(0, room));
  if (piece.size() <= room) return MeterLocked(call, piece.size());
  if (call->truncate) {
    response.truncated = true;
    codec_->Cancel(stream);
    FinishCallLocked(call);
  } else {
    EndCallLocked(call, CallError::kResponseTooLarge,
                  "the answer's body is longer than " +
                      std::to_string(call->max_response_bytes) + " bytes");
  }
}

void Connection::MeterLocked(Call* call, size_t piece) {
  if (call->room == nullptr) return;
  call->held_back += piece;
  if (call->starved) return;
  const size_t have = call->result.response.body.size();
  const size_t announced = AnnouncedLength(call->result.response.headers);
  // No more can come than that.
  size_t most =
      static_cast<size_t>(std::max<int64_t>(call->max_response_bytes, 0));
  if (announced > 0) most = std::min(most, announced);
  if (std::min(have + call->window, most) <= call->granted) {
    return codec_->Consume(call->stream, std::exchange(call->held_back, 0));
  }
  call->wanted = announced > 0 ? most : std::min(most, 2 * have + call->window);
  call->starved = !call->room->Grow(call->stream, have, call->wanted);
  if (!call->starved) GrantLocked(call);
}

void Connection::GrantLocked(Call* call) {
  const size_t have = call->result.response.body.size();
  call->starved = false;
  call->granted = call->wanted;
  const size_t window = call->granted > have
                            ? std::min(Codec::kFullWindow, call->granted - have)
                            : 0;
  if (window > call->window) {
    call->window = window;
    codec_->Widen(call->stream, window);
  }
  codec_->Consume(call->stream, std::exchange(call->held_back, 0));
}

void Connection::ResumeAnswer(CallId id) {
  loop_->Post([self = shared_from_this(), id] {
    {
      MutexLock lock(&self->mu_);
      if (self->state_ != State::kOpen) return;
      Call* const call = self->FindLocked(static_cast<StreamId>(id));
      if (call == nullptr || !call->starved) return;
      self->GrantLocked(call);
      if (self->read_paused_) self->read_paused_ = !self->WantsReadLocked();
    }
    self->FlushOnLoop();
    self->UpdateWatch();
  });
}

void Connection::OnTrailers(StreamId stream, std::vector<Header> trailers) {
  Call* const call = FindLocked(stream);
  if (call == nullptr) return;
  if (call->streamed != nullptr) {
    NewsOfLocked(call)->trailers = std::move(trailers);
  } else {
    call->result.response.trailers = std::move(trailers);
  }
}

void Connection::OnComplete(StreamId stream) {
  Call* const call = FindLocked(stream);
  if (call != nullptr) FinishCallLocked(call);
}

void Connection::OnStreamError(StreamId stream, CallError error,
                               Verdict verdict, std::string message) {
  Call* const call = FindLocked(stream);
  if (call == nullptr) return;
  call->result.error = error;
  call->result.verdict = verdict;
  call->result.message = std::move(message);
  // A refusal says nothing against the connection.
  if (http2_ != nullptr && verdict != Verdict::kRefusedByPeer) {
    ++http2_->news.errors;
  }
  FinishCallLocked(call);
}

}  // namespace hotline::upstream
