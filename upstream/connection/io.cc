// A connection's bytes, in and out.
#include <errno.h>
#include <sys/socket.h>

#include <utility>

#include "net/sockets.h"
#include "upstream/codec/raw_codec.h"
#include "upstream/connection/connection.h"

namespace hotline::upstream {
namespace {

// Of one event; then other connections have their turn.
constexpr int kReadsPerEvent = 16;

constexpr char kPeerClosed[] = "the upstream closed the connection";

}  // namespace

// Input.

void Connection::OnSocketReady(bool readable, bool writable) {
  if (readable) OnReadable();
  if (writable) OnWritable();
}

void Connection::UpdateWatch() {
  if (socket_closed_) return;
  bool read;
  bool write;
  {
    MutexLock lock(&mu_);
    read = !read_paused_ && !read_ended_;
    write = write_armed_;
  }
  if (loop_->sockets().SetInterest(watch_, read, write)) return;
  const std::string why = "its socket cannot be watched: " +
                          std::string(net::SocketErrorText(errno));
  {
    MutexLock lock(&mu_);
    if (state_ != State::kOpen) return;
    LoseLocked(why);
    CloseLocked(pool::CloseReason::kError);
  }
  FinishClose();
}

bool Connection::WantsReadLocked() const {
  // A starved stream of many stops by its window.
  return codec_->WantsRead() && (traits_.multiplexed || !calls_.starved());
}

void Connection::OnReadable() {
  char* const buffer = loop_->scratch();
  const Instant now = MonotonicNow();
  for (int i = 0; i < kReadsPerEvent; ++i) {
    if (socket_closed_) return;
    const ssize_t size = recv(fd_, buffer, net::Loop::kScratchBytes, 0);
    const int error = size < 0 ? errno : 0;
    if (error == EINTR) continue;
    News news;
    bool open = false;
    bool paused = false;
    {
      MutexLock lock(&mu_);
      calls_.set_now(now);
      if (size > 0) {
        TakeInputLocked({buffer, static_cast<size_t>(size)});
      } else {
        TakeNoInputLocked(error);
      }
      open = TakeNewsLocked(&news);
      read_paused_ = !WantsReadLocked();
      paused = read_paused_ || read_ended_;
    }
    if (!open) return FinishClose();
    Deliver(&news);
    if (paused) return UpdateWatch();
    // After a short read nothing is left: more will be another event.
    if (size < static_cast<ssize_t>(net::Loop::kScratchBytes)) return;
  }
}

void Connection::TakeNoInputLocked(int error) {
  if (error == 0) {
    // Anybody can send a FIN; under TLS the peer has to announce the end.
    const bool clean = !wire_.encrypted() && !wire_.broken();
    TakeEndLocked(clean, wire_.broken() ? wire_.broken_why() : kPeerClosed);
  } else if (error != EAGAIN && error != EWOULDBLOCK) {
    TakeEndLocked(false, net::SocketErrorText(error));
  } else if (wire_.broken()) {
    TakeEndLocked(false, wire_.broken_why());
  }
}

void Connection::TakeInputLocked(std::string_view bytes) {
  wire_.Feed(bytes);
  net::TlsResult result = net::TlsResult::kOk;
  while (state_ == State::kOpen && result == net::TlsResult::kOk) {
    std::string_view plain;
    result =
        wire_.Read(loop_->plain_scratch(), net::Loop::kScratchBytes, &plain);
    if (result == net::TlsResult::kOk) TakePlainLocked(plain);
  }
  if (result == net::TlsResult::kClosed) {
    TakeEndLocked(!wire_.broken(), kPeerClosed);
  } else if (result != net::TlsResult::kOk &&
             result != net::TlsResult::kWantInput) {
    tls_failed_ = true;
    tls_refused_ = wire_.refused();
    TakeEndLocked(false, "TLS: " + wire_.tls_error());
    // It did not close an idle connection: it had never accepted it.
    if (tls_refused_) close_reason_ = pool::CloseReason::kError;
  }
  // TLS's own messages: key updates, alerts. Where streams share the
  // connection, they are written with what follows.
  if (!traits_.multiplexed && wire_.has_ciphertext() && !write_armed_ &&
      FlushLocked() == net::Wire::Result::kBlocked) {
    write_armed_ = true;
    loop_->Post([self = shared_from_this()] { self->UpdateWatch(); });
  }
}

void Connection::TakePlainLocked(std::string_view plain) {
  liveness_.OnReceived(calls_.now());
  calls_.OnWireRead(plain.size());
  bool more = codec_->Feed(plain);
  std::string surplus;
  if (const StreamId stream = more ? codec_->TakeUpgrade(&surplus) : 0) {
    codec_ = MakeUpgradedCodec(&calls_, stream);
    calls_.SetCodec(codec_.get());
    more = codec_->Feed(surplus);
  }
  if (!more) {
    NotePeerEndsLocked(codec_->error().message);
    // Before its first answer a peer may say why it is about to close (usually
    // 408). Later, unsolicited bytes mean that it has lost track of its
    // answers.
    CloseLocked(!codec_->error().unsolicited ? pool::CloseReason::kError
                : probation_.answered()      ? pool::CloseReason::kUnsolicited
                                             : pool::CloseReason::kPeerClosed);
  } else if (!traits_.multiplexed && calls_.has_ended() &&
             !codec_->CanSubmit()) {
    CloseLocked(pool::CloseReason::kPeerClosed);
  }
}

void Connection::TakeEndLocked(bool clean, std::string why) {
  bool failed = calls_.busy();
  NotePeerEndsLocked(why);
  if (clean) {
    codec_->FeedEof();
    if (codec_->OutlivesEof()) {
      read_ended_ = true;
      return;
    }
    failed = failed && calls_.has_failed();
  } else {
    LoseLocked(why);
  }
  CloseLocked(failed ? pool::CloseReason::kError
                     : pool::CloseReason::kPeerClosed);
}

// Output.

void Connection::OnWritable() {
  FollowUp todo;
  {
    MutexLock lock(&mu_);
    if (state_ != State::kOpen) return;
    write_armed_ = loop_flushes_ = false;
    todo = TryFlushLocked();
  }
  if (todo.news) FinishEvent();
  if (!todo.blocked) UpdateWatch();
  if (todo.broken) OnBroken();
}

void Connection::OnBroken() {
  {
    MutexLock lock(&mu_);
    if (read_paused_) return;  // The next read will notice.
  }
  OnReadable();
}

void Connection::FlushOnLoop() {
  FollowUp todo;
  {
    MutexLock lock(&mu_);
    loop_flushes_ = false;
    if (state_ != State::kOpen || wire_.broken()) return;
    if (wire_.empty() && !codec_->WantsWrite() && !codec_->WantsEnd()) return;
    todo = TryFlushLocked();
  }
  PostFollowUp(todo);
}

Connection::FollowUp Connection::TryFlushLocked() {
  FollowUp todo;
  if (write_armed_ || loop_flushes_) return todo;
  const net::Wire::Result result = FlushLocked();
  todo.blocked = write_armed_ = result == net::Wire::Result::kBlocked;
  todo.broken = result == net::Wire::Result::kBroken;
  todo.news = calls_.has_news();
  return todo;
}

void Connection::PostFollowUp(const FollowUp& todo) {
  if (todo.blocked || todo.watch) {
    loop_->Post([self = shared_from_this()] { self->UpdateWatch(); });
  }
  if (todo.broken) {
    loop_->Post([self = shared_from_this()] { self->OnBroken(); });
  }
  if (todo.news) {
    loop_->Post([self = shared_from_this()] { self->FinishEvent(); });
  }
}

net::Wire::Result Connection::FlushLocked() {
  using Result = net::Wire::Result;
  Result result = Result::kDone;
  size_t written = 0;
  if (!wire_.empty()) result = FlushWireLocked(&written);
  while (result == Result::kDone && codec_->WantsWrite()) {
    // Others wait for the lock; the loop continues at its next turn.
    if (written >= net::Wire::kTurnBytes) return Result::kBlocked;
    codec_->TakeOutput(wire_.plain());
    if (wire_.empty()) break;
    result = FlushWireLocked(&written);
  }
  if (result == Result::kDone && codec_->WantsEnd()) result = EndOutputLocked();
  return result;
}

net::Wire::Result Connection::FlushWireLocked(size_t* total) {
  size_t written = 0;
  const net::Wire::Result result = wire_.Flush(&written);
  *total += written;
  if (written > 0) {
    codec_->OnWritten(written);
    if (!traits_.multiplexed) calls_.OnWireWritten(written);
  }
  return result;
}

net::Wire::Result Connection::EndOutputLocked() {
  const net::Wire::Result result = wire_.EndOutput();
  // A tunnel that our side ends first owes no answer.
  if (!read_ended_) probation_.OnServed();
  codec_->OnEndWritten();
  if (calls_.has_ended()) CloseLocked(pool::CloseReason::kPeerClosed);
  return result;
}

}  // namespace hotline::upstream
