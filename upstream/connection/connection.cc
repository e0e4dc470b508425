#include "upstream/connection/connection.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pool/transport.h"
#include "upstream/codec/http1.h"
#include "upstream/codec/http2.h"
#include "upstream/codec/raw_codec.h"

namespace hotline::upstream {
namespace {

// Streams of one connection, whatever the peer allows; the pool has a limit of
// its own.
constexpr int kMostStreams = 1000;

std::unique_ptr<Codec> MakeCodec(CodecEvents* events,
                                 Http2Events* connection_events,
                                 const Connection::Options& options) {
  switch (options.protocol) {
    case Connection::Protocol::kRaw:
      return MakeRawCodec(events);
    case Connection::Protocol::kHttp1:
      return MakeHttp1Codec(events,
                            {.max_header_bytes = options.max_header_bytes});
    case Connection::Protocol::kHttp2:
      break;
  }
  Http2Limits limits;
  limits.max_streams = kMostStreams;
  limits.max_header_bytes = options.max_header_bytes;
  return MakeHttp2Codec(events, connection_events, "https", limits);
}

}  // namespace

Connection::Connection(net::Loop* loop, int fd,
                       std::unique_ptr<net::TlsEngine> engine, Options options)
    : loop_(loop),
      options_(std::move(options)),
      fd_(fd),
      probation_(MonotonicNow()),
      wire_(fd, std::move(engine)),
      calls_(&probation_),
      liveness_(options_.protocol == Protocol::kHttp2 ? options_.ping_after
                                                      : Liveness::kForever,
                options_.ping_timeout) {
  codec_ = MakeCodec(&calls_, this, options_);
  traits_ = codec_->traits();
  calls_.SetCodec(codec_.get());
}

// The beginning.

bool Connection::Open(std::string_view early,
                      absl::AnyInvocable<void()> changed) {
  watch_ = loop_->sockets().Add(fd_, std::shared_ptr<net::SocketWatch::Watcher>(
                                         shared_from_this(), this));
  if (watch_ == 0) return false;
  {
    MutexLock lock(&mu_);
    calls_.set_now(MonotonicNow());
    if (!codec_->IsReady()) changed_ = std::move(changed);
  }
  FlushOnLoop();
  if (early.empty()) return true;
  {
    MutexLock lock(&mu_);
    TakePlainLocked(early);
  }
  FinishEvent();
  return true;
}

bool Connection::IsReady(std::string* problem) {
  MutexLock lock(&mu_);
  if (state_ == State::kOpen) return codec_->IsReady();
  *problem = why_.empty() ? "the connection was closed" : why_;
  return false;
}

std::optional<int> Connection::Announce(ConnectionOwner* owner,
                                        pool::ConnId id) {
  MutexLock lock(&mu_);
  if (state_ != State::kOpen || going_away_) return std::nullopt;
  owner_ = owner;
  id_ = id;
  probation_.Begin(MonotonicNow());
  return codec_->MaxStreams();
}

void Connection::OnReady(int max_streams) {
  if (max_streams > 0) changes_.changed = std::move(changed_);
}

void Connection::OnConcurrency(int max_streams) {
  changes_.max_streams = max_streams;
  if (changed_) changes_.changed = std::move(changed_);
}

void Connection::OnGoAway(StreamId /*last*/, std::string why) {
  if (std::exchange(going_away_, true)) return;
  changes_.going_away = true;
  NotePeerEndsLocked("the upstream takes no more requests: " + why);
}

void Connection::OnPingAck() {
  probation_.OnServed();
  probation_.OnAnswered();
  changes_.pinged = liveness_.EndProbe();
}

// Queries.

bool Connection::IsSilent() {
  MutexLock lock(&mu_);
  if (state_ != State::kOpen) return false;
  switch (wire_.Peek()) {
    case net::Wire::Pending::kNothing:
      return true;
    case net::Wire::Pending::kBytes:
      // Under TLS it may be a session ticket; the loop will find out.
      return wire_.encrypted() || traits_.opaque;
    case net::Wire::Pending::kEnd:
      break;
  }
  return false;
}

bool Connection::answered() {
  MutexLock lock(&mu_);
  return probation_.answered();
}

bool Connection::broke_early() {
  MutexLock lock(&mu_);
  return probation_.broke();
}

std::optional<pool::DialError> Connection::TakeEarlyEnd() {
  MutexLock lock(&mu_);
  if (!probation_.TakeEndedEarly()) return std::nullopt;
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

std::string Connection::Evidence() {
  MutexLock lock(&mu_);
  return codec_->error().evidence;
}

// Deadlines. One RunAt serves many calls: it is set for the earliest deadline,
// and set again if it finds calls that are not due yet.

Instant Connection::ToArmLocked(Instant due) {
  if (due >= deadline_armed_) return kNever;
  return deadline_armed_ = due;
}

void Connection::ArmDeadline(Instant when) {
  net::Loop::Deadline armed = loop_->RunAt(when, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->OnDeadline();
  });
  {
    MutexLock lock(&mu_);
    // Else an earlier one was armed meanwhile, or this one has run.
    if (state_ == State::kOpen && deadline_armed_ == when) {
      std::swap(armed, deadline_);
    }
  }
  loop_->Cancel(armed);
}

void Connection::OnDeadline() {
  Instant arm = kNever;
  const Instant now = MonotonicNow();
  {
    MutexLock lock(&mu_);
    if (deadline_armed_ <= now) deadline_armed_ = kNever;
    if (state_ != State::kOpen) return;
    calls_.set_now(now);
    if (calls_.Expire() > 0 && !traits_.multiplexed) {
      CloseLocked(pool::CloseReason::kDeadline);
    } else {
      CheckLivenessLocked();
    }
    if (state_ == State::kOpen) {
      arm = ToArmLocked(std::min(calls_.Due(), liveness_.Due(calls_.busy())));
    }
  }
  if (arm != kNever) ArmDeadline(arm);
  FinishEvent();
}

void Connection::CheckLivenessLocked() {
  constexpr char kSilent[] =
      "the upstream gave no sign of life, nor answered a PING";
  switch (liveness_.Check(calls_.busy(), calls_.now())) {
    case Liveness::Action::kNone:
      return;
    case Liveness::Action::kPing:
      return codec_->Ping();
    case Liveness::Action::kFailProbe:
      CloseLocked(pool::CloseReason::kProbeFailed);
      return LoseLocked("the upstream did not answer a PING");
    case Liveness::Action::kGiveUp:
      NotePeerEndsLocked(kSilent);
      CloseLocked(pool::CloseReason::kError);
      return LoseLocked(kSilent);
  }
}

void Connection::Ping(Instant deadline, Liveness::Answer answer) {
  loop_->Post([self = shared_from_this(), deadline,
               answer = std::move(answer)]() mutable {
    Instant arm = kNever;
    {
      MutexLock lock(&self->mu_);
      if (self->state_ == State::kOpen &&
          self->liveness_.Probe(deadline, answer)) {
        self->codec_->Ping();
        arm = self->ToArmLocked(deadline);
      }
    }
    if (answer) return answer(false);
    if (arm != kNever) self->ArmDeadline(arm);
    self->FlushOnLoop();
  });
}

// News.

bool Connection::TakeNewsLocked(News* news) {
  if (state_ != State::kOpen) return false;
  news->calls = calls_.TakeNews();
  news->answered = probation_.TakeAnswered();
  news->errors = calls_.TakeErrors();
  // Of a validation's answer, the owner hears with its first call's.
  if (owner_ != nullptr) news->keep_alive = calls_.TakeKeepAlive();
  if (!traits_.multiplexed) return true;
  news->changes = std::exchange(changes_, {});
  // After Deliver, which may bring new calls, from here and elsewhere.
  loop_flushes_ = true;
  return true;
}

void Connection::FinishEvent() {
  News news;
  bool open;
  {
    MutexLock lock(&mu_);
    open = TakeNewsLocked(&news);
  }
  open ? Deliver(&news) : FinishClose();
}

void Connection::Deliver(News* news) {
  News::Changes& changes = news->changes;
  // Before the calls: the end of one gives the connection back, and a caller
  // whose call was refused must not be lent it again.
  if (owner_ != nullptr) {
    if (news->answered) owner_->OnAnswered(*this);
    if (news->keep_alive > Duration(0)) {
      owner_->OnKeepAlive(*this, news->keep_alive);
    }
    if (changes.going_away) owner_->OnGoAway(*this);
    if (changes.max_streams) owner_->OnConcurrency(*this, *changes.max_streams);
    if (news->errors > 0) owner_->OnErrors(*this, news->errors);
  }
  if (changes.changed) changes.changed();
  if (changes.pinged) changes.pinged(true);
  news->calls.Deliver(facts());
  if (traits_.multiplexed) FlushOnLoop();
}

// The end.

void Connection::NotePeerEndsLocked(std::string why) {
  probation_.OnPeerEnds(calls_.busy(), MonotonicNow());
  why_ = std::move(why);
}

void Connection::LoseLocked(const std::string& why) {
  calls_.LoseAll(why, tls_refused_);
  why_ = why;
}

void Connection::Close(pool::CloseReason reason) {
  loop_->Post([self = shared_from_this(), reason] { self->CloseNow(reason); });
}

void Connection::CloseNow(pool::CloseReason reason) {
  {
    MutexLock lock(&mu_);
    if (state_ != State::kOpen) return;
    calls_.set_now(MonotonicNow());
    calls_.EndAll(CallError::kCancelled, "the connection was closed");
    CloseLocked(reason);
  }
  FinishClose();
}

void Connection::CloseLocked(pool::CloseReason reason) {
  if (state_ != State::kOpen) return;
  state_ = State::kClosing;
  close_reason_ = reason;
}

void Connection::FinishClose() {
  pool::CloseReason reason;
  net::Loop::Deadline deadline;
  bool answered = false;
  {
    MutexLock lock(&mu_);
    if (state_ != State::kClosing) return;
    reason = close_reason_;
    deadline = std::exchange(deadline_, {});
    answered = probation_.TakeAnswered();
    // On HTTP/2: which streams are given up, and why.
    if (wire_.empty()) FlushLocked();
    calls_.cut_off() ? wire_.Reset() : wire_.Finish();
  }
  loop_->Cancel(deadline);
  // The watch's reference may be the last one.
  const std::shared_ptr<Connection> keep = shared_from_this();
  loop_->sockets().Remove(watch_);
  socket_closed_ = true;
  {
    MutexLock lock(&mu_);
    wire_.Close();
  }
  if (owner_ != nullptr) {
    if (answered) owner_->OnAnswered(*this);
    owner_->OnConnectionClosed(*this, reason);
  }
  DeliverLast();
}

void Connection::DeliverLast() {
  CallNews calls;
  News::Changes changes;
  Liveness::Answer probe;
  std::vector<CallHandler*> late;
  CallResult too_late =
      NeverSent(CallError::kConnectionGone, "the connection was closed");
  {
    MutexLock lock(&mu_);
    state_ = State::kClosed;
    if (tls_refused_) too_late = NeverSent(CallError::kTlsRefused, why_);
    changes = std::exchange(changes_, {});
    if (changed_) changes.changed = std::move(changed_);
    probe = liveness_.EndProbe();
    calls = calls_.TakeNews();
    late.swap(late_);
  }
  if (changes.changed) changes.changed();
  if (changes.pinged) changes.pinged(false);
  if (probe) probe(false);
  calls.Deliver(facts());
  for (CallHandler* handler : late) handler->OnDone(too_late);
}

}  // namespace hotline::upstream
