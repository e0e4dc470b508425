#include "upstream/connection/connection.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "net/sockets.h"
#include "pool/transport.h"
#include "upstream/codec/http1.h"
#include "upstream/codec/http2.h"
#include "upstream/codec/raw_codec.h"

namespace hotline::upstream {
namespace {

// On HTTP/2, whatever the pool's own limit.
constexpr int kMostStreams = 1000;

std::unique_ptr<Codec> MakeCodec(CodecEvents* events,
                                 const Connection::Options& options) {
  if (options.raw) return MakeRawCodec(events);
  if (!options.http2) {
    return MakeHttp1Codec(events,
                          {.max_header_bytes = options.max_header_bytes});
  }
  Http2Limits limits;
  limits.max_streams = kMostStreams;
  limits.max_header_bytes = options.max_header_bytes;
  return MakeHttp2Codec(events, "https", limits);
}

}  // namespace

Connection::Connection(net::Loop* loop, int fd,
                       std::unique_ptr<net::TlsEngine> engine, Options options)
    : loop_(loop),
      options_(std::move(options)),
      fd_(fd),
      engine_(std::move(engine)),
      codec_(MakeCodec(this, options_)),
      http2_(options_.http2 ? std::make_unique<Http2>() : nullptr),
      tunnel_(options_.raw),
      sender_(fd_, engine_.get()) {}

Connection::~Connection() {
  if (!socket_closed_) close(fd_);
}

// The beginning.

bool Connection::Open(std::string_view early,
                      absl::AnyInvocable<void()> changed) {
  watch_ = loop_->sockets().Add(fd_, std::shared_ptr<net::SocketWatch::Watcher>(
                                         shared_from_this(), this));
  if (watch_ == 0) return false;
  now_ = MonotonicNow();
  if (http2_ != nullptr) {
    {
      MutexLock lock(&mu_);
      http2_->changed = std::move(changed);
    }
    FlushOnLoop();
  }
  if (early.empty()) return true;
  {
    MutexLock lock(&mu_);
    TakePlainLocked(early);
  }
  Settle();
  return true;
}

bool Connection::IsReady(std::string* problem) {
  MutexLock lock(&mu_);
  if (state_ != State::kOpen) {
    *problem = why_.empty() ? "the connection was closed" : why_;
    return false;
  }
  // One that takes no request is of no use; the peer may still change its mind.
  return http2_ == nullptr || (http2_->ready && codec_->MaxStreams() > 0);
}

std::optional<int> Connection::Announce(ConnectionOwner* owner, pool::ConnId id,
                                        pool::Handle handle) {
  MutexLock lock(&mu_);
  if (state_ != State::kOpen) return std::nullopt;
  if (http2_ != nullptr && http2_->going_away) return std::nullopt;
  owner_ = owner;
  id_ = id;
  handle_ = handle;
  // What a validation heard served nobody.
  answered_ = tell_answered_ = served_ = false;
  probation_began_ = MonotonicNow();
  return codec_->MaxStreams();
}

void Connection::OnReady(int max_streams) {
  http2_->ready = true;
  if (max_streams > 0) http2_->news.changed = std::move(http2_->changed);
}

void Connection::OnConcurrency(int max_streams) {
  http2_->news.max_streams = max_streams;
  if (http2_->changed) http2_->news.changed = std::move(http2_->changed);
}

void Connection::OnGoAway(StreamId /*last*/, std::string why) {
  if (std::exchange(http2_->going_away, true)) return;
  http2_->news.going_away = true;
  NoteBreakLocked("the upstream takes no more requests: " + why);
}

bool Connection::IsSilent() {
  MutexLock lock(&mu_);
  if (state_ != State::kOpen) return false;
  char byte;
  const ssize_t size = recv(fd_, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  if (size < 0) return errno == EAGAIN || errno == EWOULDBLOCK;
  // Under TLS it may be a session ticket, and the loop will find out; what
  // waits for a tunnel may be anything.
  return size > 0 && (engine_ != nullptr || options_.raw);
}

bool Connection::answered() {
  MutexLock lock(&mu_);
  return answered_;
}

bool Connection::broke_early() {
  MutexLock lock(&mu_);
  return broke_early_;
}

std::optional<pool::DialError> Connection::TakeEarlyEnd() {
  MutexLock lock(&mu_);
  if (served_ || !std::exchange(ended_on_probation_, false)) {
    return std::nullopt;
  }
  return pool::DialError{
      tls_failed_ ? pool::FailureClass::kTls : pool::FailureClass::kNetwork,
      tls_failed_ ? "TLS_FAILED" : "CONNECT_FAILED",
      absl::StrCat(
          options_.target, " (", options_.facts->remote_address,
          ") ended the connection before it had answered anything: ", why_)};
}

std::string Connection::tls_refusal() {
  MutexLock lock(&mu_);
  return tls_refused_ ? why_ : "";
}

void Connection::NoteBreakLocked(std::string why) {
  const bool on_probation =
      MonotonicNow() - probation_began_ < pool::kProbation;
  ended_on_probation_ = ended_on_probation_ || (!served_ && on_probation);
  broke_early_ = !answered_ && (HasCallsLocked() || on_probation);
  why_ = std::move(why);
}

void Connection::Close(pool::CloseReason reason) {
  loop_->Post([self = shared_from_this(), reason] { self->CloseNow(reason); });
}

void Connection::CloseNow(pool::CloseReason reason) {
  now_ = MonotonicNow();
  {
    MutexLock lock(&mu_);
    if (state_ != State::kOpen) return;
    EndAllLocked(CallError::kCancelled, "the connection was closed");
    CloseLocked(reason);
  }
  FinishClose();
}

// Signs of life.

void Connection::Ping(Instant deadline, absl::AnyInvocable<void(bool)> told) {
  loop_->Post(
      [self = shared_from_this(), deadline, told = std::move(told)]() mutable {
        Instant arm = kNever;
        {
          MutexLock lock(&self->mu_);
          if (self->state_ == State::kOpen && !self->http2_->pinged) {
            self->http2_->pinged = std::move(told);
            self->http2_->ping_deadline = deadline;
            self->codec_->Ping();
            arm = self->ToArmLocked(deadline);
          }
        }
        if (told) return told(false);
        if (arm != kNever) self->ArmDeadline(arm);
        self->FlushOnLoop();
      });
}

void Connection::OnPingAck() {
  served_ = true;
  NoteAnswerLocked();
  http2_->ping_deadline = kNever;
  http2_->news.pinged = std::move(http2_->pinged);
}

Instant Connection::SilenceDueLocked() const {
  if (http2_ == nullptr || !HasCallsLocked()) return kNever;
  return http2_->asked != kNever
             ? SaturatingAdd(http2_->asked, options_.ping_timeout)
             : SaturatingAdd(http2_->heard, options_.ping_after);
}

void Connection::CheckSilenceLocked(Instant now) {
  std::string why;
  if (http2_->ping_deadline <= now) {
    why = "the upstream did not answer a PING";
    CloseLocked(pool::CloseReason::kProbeFailed);
  } else if (SilenceDueLocked() > now) {
    return;
  } else if (http2_->asked == kNever) {
    http2_->asked = now;
    codec_->Ping();
    return;
  } else {
    why = "the upstream gave no sign of life, nor answered a PING";
    NoteBreakLocked(why);
    CloseLocked(pool::CloseReason::kError);
  }
  LoseAllLocked(why);
}

// Deadlines. One RunAt serves many calls: it is set for the first deadline, and
// set again when it fires too early for those that run by then.

Instant Connection::ToArmLocked(Instant due) {
  if (due >= deadline_armed_) return kNever;
  return deadline_armed_ = due;
}

Instant Connection::DueLocked() const {
  Instant due = first_.stream != 0 ? first_.deadline : kNever;
  if (http2_ == nullptr) return due;
  for (const auto& [stream, call] : http2_->others) {
    due = std::min(due, call->deadline);
  }
  return std::min({due, SilenceDueLocked(), http2_->ping_deadline});
}

void Connection::ArmDeadline(Instant when) {
  net::Loop::Deadline armed = loop_->RunAt(when, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->OnDeadline();
  });
  {
    MutexLock lock(&mu_);
    // Else an earlier one has been armed meanwhile, or this one has run.
    if (state_ == State::kOpen && deadline_armed_ == when) {
      std::swap(armed, deadline_);
    }
  }
  loop_->Cancel(armed);
}

void Connection::OnDeadline() {
  Instant arm = kNever;
  now_ = MonotonicNow();
  {
    MutexLock lock(&mu_);
    if (deadline_armed_ <= now_) deadline_armed_ = kNever;
    if (state_ != State::kOpen) return;
    ExpireCallsLocked(now_);
    if (http2_ != nullptr) CheckSilenceLocked(now_);
    if (state_ == State::kOpen) arm = ToArmLocked(DueLocked());
  }
  if (arm != kNever) ArmDeadline(arm);
  Settle();
}

void Connection::ExpireCallsLocked(Instant now) {
  const auto expire = [this](Call* call) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    EndCallLocked(call, CallError::kTimeout,
                  call->result.bytes_read > 0
                      ? "the answer was not complete at the deadline"
                      : "no answer came before the deadline");
  };
  if (first_.stream != 0 && first_.deadline <= now) {
    expire(&first_);
    if (http2_ == nullptr) return CloseLocked(pool::CloseReason::kDeadline);
    ++http2_->news.errors;
  }
  if (http2_ == nullptr) return;
  std::vector<Call*> late;
  for (const auto& [stream, call] : http2_->others) {
    if (call->deadline <= now) late.push_back(call.get());
  }
  for (Call* call : late) expire(call);
  http2_->news.errors += static_cast<int>(late.size());
}

// What is told.

bool Connection::TakeNewsLocked(News* news) {
  if (state_ != State::kOpen) return false;
  if (http2_ != nullptr) *news = std::exchange(http2_->news, News());
  if (!stream_news_.empty()) news->streams = TakeStreamNewsLocked();
  news->answered = std::exchange(tell_answered_, false);
  if (first_.ended) {
    news->first = Ending{first_.handler, std::move(first_.result)};
    first_ = Call();
  }
  // What a validation hears is told with the first call's answer.
  if (!keep_alive_told_ && owner_ != nullptr) [[unlikely]] {
    news->keep_alive = keep_alive_;
    keep_alive_told_ = true;
  }
  if (http2_ == nullptr) return true;
  if (!HasCallsLocked()) http2_->others = {};  // Nothing is kept while idle.
  // Until Tell is through, which may bring new calls, here and elsewhere.
  loop_flushes_ = true;
  return true;
}

void Connection::Settle() {
  News news;
  bool open;
  {
    MutexLock lock(&mu_);
    open = TakeNewsLocked(&news);
  }
  open ? Tell(&news) : FinishClose();
}

void Connection::Tell(News* news) {
  if (news->answered && owner_ != nullptr) owner_->OnAnswered(*this);
  if (http2_ == nullptr) {
    // First of all: the end of the call gives the connection back.
    if (news->keep_alive > Duration(0)) {
      owner_->OnKeepAlive(*this, news->keep_alive);
    }
    return TellEndings(news);
  }
  // Who hears that its call was refused must not be lent this connection again.
  if (owner_ != nullptr) {
    if (news->going_away) owner_->OnGoAway(*this);
    if (news->max_streams) owner_->OnConcurrency(*this, *news->max_streams);
    if (news->errors > 0) owner_->OnErrors(*this, news->errors);
  }
  if (news->changed) news->changed();
  if (news->pinged) news->pinged(true);
  TellEndings(news);
  FlushOnLoop();
}

void Connection::TellEndings(News* news) {
  TellStreams(news);
  if (news->first) news->first->handler->OnDone(std::move(news->first->result));
  for (const auto& call : news->others) {
    call->handler->OnDone(std::move(call->result));
  }
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
  net::Loop::Deadline deadline;
  bool tell_answered = false;
  {
    MutexLock lock(&mu_);
    if (state_ != State::kClosing) return;
    reason = close_reason_;
    deadline = std::exchange(deadline_, {});
    tell_answered = std::exchange(tell_answered_, false);
    // Which streams are given up, and why.
    if (http2_ != nullptr && sender_.empty()) FlushLocked();
    // A tunnel that was cut off must not look as if it had ended.
    cut_off_ ? net::ResetOnClose(fd_) : sender_.Finish();
  }
  loop_->Cancel(deadline);
  // Whoever ends here may have nobody left but this watch.
  const std::shared_ptr<Connection> keep = shared_from_this();
  loop_->sockets().Remove(watch_);
  close(fd_);
  socket_closed_ = true;
  if (owner_ != nullptr) {
    if (tell_answered) owner_->OnAnswered(*this);
    owner_->OnConnectionClosed(*this, reason);
  }
  News news;
  std::vector<CallHandler*> late;
  CallResult too_late = NeverSent("the connection was closed");
  {
    MutexLock lock(&mu_);
    state_ = State::kClosed;
    if (tls_refused_) too_late = NeverSent(why_, CallError::kTlsRefused);
    if (http2_ != nullptr) {
      news = std::exchange(http2_->news, News());
      if (http2_->changed) news.changed = std::move(http2_->changed);
      if (http2_->pinged) news.pinged = std::move(http2_->pinged);
    }
    news.streams = TakeStreamNewsLocked();
    if (first_.ended) {
      news.first = Ending{first_.handler, std::move(first_.result)};
      first_ = Call();
    }
    late.swap(late_);
  }
  if (news.changed) news.changed();
  if (news.pinged) news.pinged(false);
  TellEndings(&news);
  for (CallHandler* handler : late) handler->OnDone(too_late);
}

}  // namespace hotline::upstream
