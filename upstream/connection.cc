#include "upstream/connection.h"

#include <errno.h>
#include <sys/socket.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "upstream/http1.h"
#include "upstream/socket_io.h"
#include "upstream/sockets.h"

namespace hotline::upstream {
namespace {

// Of one event; then others have their turn.
constexpr int kReadsPerEvent = 16;
// Taken on an answer's word that so much will come.
constexpr size_t kMostReserved = 1 << 20;

CallResult NeverSent(const char* why) {
  CallResult result;
  result.error = CallError::kConnectionGone;
  result.verdict = Verdict::kNotSent;
  result.message = why;
  return result;
}

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

}  // namespace

Connection::Connection(Loop* loop, std::unique_ptr<SocketIo> io,
                       std::unique_ptr<TlsEngine> engine, Options options)
    : loop_(loop),
      options_(std::move(options)),
      io_(std::move(io)),
      fd_(io_->descriptor.native_handle()),
      engine_(std::move(engine)),
      codec_(MakeHttp1Codec(this,
                            {.max_header_bytes = options_.max_header_bytes})),
      sender_(fd_, engine_.get()) {}

Connection::~Connection() = default;

void Connection::Open() { ArmRead(); }

bool Connection::Announce(ConnectionOwner* owner, pool::ConnId id,
                          pool::Handle handle) {
  MutexLock lock(&mu_);
  if (state_ != State::kOpen) return false;
  owner_ = owner;
  id_ = id;
  handle_ = handle;
  return true;
}

// Calls: begun by whoever was lent the connection.

CallId Connection::StartCall(const Request& request, CallHandler* handler,
                             Instant now) {
  bool blocked = false;
  bool broken = false;
  Instant arm = kNever;
  CallId id = 0;
  {
    MutexLock lock(&mu_);
    id = ++last_call_;
    if (state_ == State::kClosing) {
      late_.push_back(handler);
      return id;
    }
    if (state_ == State::kOpen && call_.id == 0 && codec_->CanSubmit()) {
      BeginCallLocked(request, handler, now);
      const Sender::Result flush = FlushLocked();
      blocked = flush == Sender::Result::kBlocked &&
                !std::exchange(write_armed_, true);
      broken = flush == Sender::Result::kBroken;
      arm = DeadlineToArmLocked();
      handler = nullptr;
    }
  }
  if (handler != nullptr) {
    handler->OnDone(NeverSent("the connection is not fit for a call"));
    return id;
  }
  if (arm != kNever) ArmDeadline(arm);
  if (blocked) loop_->Post([self = shared_from_this()] { self->ArmWrite(); });
  // There may be an answer to read that explains it.
  if (broken) loop_->Post([self = shared_from_this()] { self->OnReadable(); });
  return id;
}

void Connection::BeginCallLocked(const Request& request, CallHandler* handler,
                                 Instant now) {
  call_.id = last_call_;
  call_.handler = handler;
  call_.max_response_bytes = request.max_response_bytes;
  call_.truncate = request.truncate;
  call_.deadline = request.deadline;
  call_.started = now;
  call_.stream = codec_->Submit(request);
  codec_->TakeOutput(sender_.plain());
  call_.request_bytes = sender_.waiting();
}

void Connection::CancelCall(CallId call) {
  loop_->Post([self = shared_from_this(), call] {
    {
      MutexLock lock(&self->mu_);
      if (self->state_ != State::kOpen || self->call_.id != call) return;
      self->EndCallLocked(CallError::kCancelled, "the call was cancelled");
      self->CloseLocked(pool::CloseReason::kError);
    }
    self->FinishClose();
  });
}

bool Connection::IsSilent() {
  MutexLock lock(&mu_);
  if (state_ != State::kOpen) return false;
  char byte;
  const ssize_t size = recv(fd_, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  if (size < 0) return errno == EAGAIN || errno == EWOULDBLOCK;
  // Under TLS it may be a session ticket; the loop will find out.
  return size > 0 && engine_ != nullptr;
}

void Connection::Close(pool::CloseReason reason) {
  loop_->Post([self = shared_from_this(), reason] { self->CloseNow(reason); });
}

void Connection::CloseNow(pool::CloseReason reason) {
  {
    MutexLock lock(&mu_);
    if (state_ != State::kOpen) return;
    EndCallLocked(CallError::kCancelled, "the connection was closed");
    CloseLocked(reason);
  }
  FinishClose();
}

// Deadlines. One RunAt serves many calls: it is set for the first deadline, and
// set again when it fires too early for the call that runs by then.

Instant Connection::DeadlineToArmLocked() {
  if (call_.id == 0 || call_.deadline >= deadline_armed_) return kNever;
  return deadline_armed_ = call_.deadline;
}

void Connection::ArmDeadline(Instant when) {
  loop_->RunAt(when, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->OnDeadline();
  });
}

void Connection::OnDeadline() {
  Instant arm = kNever;
  bool closed = false;
  {
    MutexLock lock(&mu_);
    const Instant now = MonotonicNow();
    if (deadline_armed_ <= now) deadline_armed_ = kNever;
    if (state_ != State::kOpen) return;
    if (call_.id != 0 && call_.deadline <= now) {
      EndCallLocked(CallError::kTimeout,
                    call_.result.bytes_read > 0
                        ? "the answer was not complete at the deadline"
                        : "no answer came before the deadline");
      CloseLocked(pool::CloseReason::kError);
      closed = true;
    } else {
      arm = DeadlineToArmLocked();
    }
  }
  if (closed) FinishClose();
  if (arm != kNever) ArmDeadline(arm);
}

// How calls end.

Verdict Connection::VerdictLocked() const {
  const CallResult& result = call_.result;
  if (result.bytes_read > 0) return Verdict::kResponseStarted;
  if (result.bytes_written == 0) return Verdict::kNotSent;
  return result.bytes_written < call_.request_bytes ? Verdict::kPartial
                                                    : Verdict::kSentUnknown;
}

void Connection::EndCallLocked(CallError error, std::string message) {
  if (call_.id == 0 || call_.ended) return;
  call_.ended = true;
  call_.result.error = error;
  call_.result.verdict = VerdictLocked();
  call_.result.message = std::move(message);
  codec_->Cancel(call_.stream);
}

std::optional<Connection::Ending> Connection::TakeEndingLocked() {
  if (!call_.ended) return std::nullopt;
  if (call_.first_byte != Instant{}) {
    call_.result.first_byte = call_.first_byte - call_.started;
    call_.result.transfer = now_ - call_.first_byte;
  }
  Ending ending{call_.handler, std::move(call_.result)};
  call_ = Call();
  return ending;
}

void Connection::OnHead(StreamId, int status, std::vector<Header> headers) {
  if (call_.ended) return;
  Response& response = call_.result.response;
  response.status = status;
  response.headers = std::move(headers);
}

void Connection::OnBody(StreamId stream, std::string_view piece) {
  if (call_.ended) return;
  Response& response = call_.result.response;
  std::string& body = response.body;
  const auto limit =
      static_cast<size_t>(std::max<int64_t>(call_.max_response_bytes, 0));
  if (body.empty()) {
    body.reserve(
        std::min({AnnouncedLength(response.headers), limit, kMostReserved}));
  }
  const size_t room = limit - body.size();
  body.append(piece.substr(0, room));
  if (piece.size() <= room) return;
  if (call_.truncate) {
    call_.ended = true;
    response.truncated = true;
    codec_->Cancel(stream);
  } else {
    EndCallLocked(CallError::kResponseTooLarge,
                  "the answer's body is longer than " +
                      std::to_string(call_.max_response_bytes) + " bytes");
  }
}

void Connection::OnTrailers(StreamId, std::vector<Header> trailers) {
  if (!call_.ended) call_.result.response.trailers = std::move(trailers);
}

void Connection::OnComplete(StreamId) { call_.ended = true; }

void Connection::OnStreamError(StreamId, CallError error, Verdict verdict,
                               std::string message) {
  if (call_.ended) return;
  call_.ended = true;
  call_.result.error = error;
  call_.result.verdict = verdict;
  call_.result.message = std::move(message);
}

// Input, on the loop.

void Connection::ArmRead() {
  if (!io_->descriptor.is_open()) return;
  io_->descriptor.async_wait(
      SocketIo::Descriptor::wait_read,
      [self = shared_from_this()](const boost::system::error_code& error) {
        if (error) return;  // Closed.
        self->OnReadable();
        self->ArmRead();
      });
}

void Connection::OnReadable() {
  char* const buffer = loop_->scratch();
  now_ = MonotonicNow();
  for (int i = 0; i < kReadsPerEvent; ++i) {
    if (!io_->descriptor.is_open()) return;
    const ssize_t size = recv(fd_, buffer, Loop::kScratchBytes, 0);
    const int error = size < 0 ? errno : 0;
    if (error == EINTR) continue;
    std::optional<Ending> ending;
    bool closed = false;
    {
      MutexLock lock(&mu_);
      if (size > 0) {
        TakeInputLocked({buffer, static_cast<size_t>(size)});
      } else if (size == 0) {
        // Under TLS the peer has to say so itself; anybody can send a FIN.
        TakeEndLocked(engine_ == nullptr && !sender_.broken(),
                      sender_.broken() ? sender_.broken_why()
                                       : "the upstream closed the connection");
      } else if (error != EAGAIN && error != EWOULDBLOCK) {
        TakeEndLocked(false, SocketErrorText(error));
      } else if (sender_.broken()) {
        TakeEndLocked(false, sender_.broken_why());
      }
      closed = state_ != State::kOpen;
      if (!closed) ending = TakeEndingLocked();
    }
    if (closed) return FinishClose();
    if (ending) ending->handler->OnDone(std::move(ending->result));
    // A short read means that nothing is left: what comes next is an event.
    if (size < static_cast<ssize_t>(Loop::kScratchBytes)) return;
  }
}

void Connection::TakeInputLocked(std::string_view bytes) {
  if (engine_ == nullptr) {
    TakePlainLocked(bytes);
  } else {
    DecryptLocked(bytes);
  }
}

void Connection::DecryptLocked(std::string_view bytes) {
  char* const buffer = loop_->plain_scratch();
  engine_->Feed(bytes);
  while (state_ == State::kOpen) {
    size_t size = 0;
    const TlsResult result =
        engine_->Read(buffer, Loop::kScratchBytes, &size, sender_.wire());
    if (result == TlsResult::kOk) {
      TakePlainLocked({buffer, size});
      continue;
    }
    if (result == TlsResult::kClosed) {
      TakeEndLocked(!sender_.broken(), "the upstream closed the connection");
    } else if (result != TlsResult::kWantInput) {
      TakeEndLocked(false, "TLS: " + engine_->error());
    }
    break;
  }
  // The protocol's own answers: key updates, alerts.
  if (!sender_.wire()->empty() && FlushLocked() == Sender::Result::kBlocked &&
      !std::exchange(write_armed_, true)) {
    loop_->Post([self = shared_from_this()] { self->ArmWrite(); });
  }
}

void Connection::TakePlainLocked(std::string_view plain) {
  if (call_.id != 0 && !call_.ended) {
    if (call_.result.bytes_written > 0) {
      call_.result.bytes_read += plain.size();
      if (call_.first_byte == Instant{}) call_.first_byte = now_;
    }
  }
  const bool more = codec_->Feed(plain);
  if (!more) {
    CloseLocked(codec_->error().unsolicited ? pool::CloseReason::kUnsolicited
                                            : pool::CloseReason::kError);
  } else if (call_.ended && !codec_->CanSubmit()) {
    CloseLocked(pool::CloseReason::kPeerClosed);
  }
}

void Connection::TakeEndLocked(bool clean, std::string why) {
  const bool idle = call_.id == 0 || call_.ended;
  if (clean) {
    codec_->FeedEof();
  } else {
    EndCallLocked(call_.result.bytes_written == 0 ? CallError::kConnectionGone
                                                  : CallError::kReset,
                  std::move(why));
  }
  const bool failed = call_.result.error != CallError::kNone;
  CloseLocked(idle || !failed ? pool::CloseReason::kPeerClosed
                              : pool::CloseReason::kError);
}

// Output.

void Connection::ArmWrite() {
  if (!io_->descriptor.is_open()) return;
  io_->descriptor.async_wait(
      SocketIo::Descriptor::wait_write,
      [self = shared_from_this()](const boost::system::error_code& error) {
        if (!error) self->OnWritable();
      });
}

void Connection::OnWritable() {
  Sender::Result flush;
  {
    MutexLock lock(&mu_);
    if (state_ != State::kOpen) return;
    flush = FlushLocked();
    write_armed_ = flush == Sender::Result::kBlocked;
  }
  if (flush == Sender::Result::kBlocked) ArmWrite();
  if (flush == Sender::Result::kBroken) OnReadable();
}

Sender::Result Connection::FlushLocked() {
  size_t written = 0;
  const Sender::Result result = sender_.Flush(&written);
  if (written > 0) {
    codec_->OnWritten(written);
    call_.result.bytes_written += written;
  }
  return result;
}

// The end.

void Connection::CloseLocked(pool::CloseReason reason) {
  if (state_ != State::kOpen) return;
  state_ = State::kClosing;
  close_reason_ = reason;
}

void Connection::FinishClose() {
  now_ = MonotonicNow();
  pool::CloseReason reason;
  {
    MutexLock lock(&mu_);
    reason = close_reason_;
    sender_.Finish();
  }
  boost::system::error_code ignored;
  io_->descriptor.close(ignored);
  if (owner_ != nullptr) owner_->OnConnectionClosed(*this, reason);
  std::optional<Ending> ending;
  std::vector<CallHandler*> late;
  {
    MutexLock lock(&mu_);
    state_ = State::kClosed;
    ending = TakeEndingLocked();
    late.swap(late_);
  }
  if (ending) ending->handler->OnDone(std::move(ending->result));
  for (CallHandler* handler : late) {
    handler->OnDone(NeverSent("the connection was closed"));
  }
}

}  // namespace hotline::upstream
