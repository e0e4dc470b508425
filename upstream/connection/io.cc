// A connection's bytes, in and out.
#include <errno.h>
#include <sys/socket.h>

#include <utility>

#include "net/sockets.h"
#include "upstream/codec/raw_codec.h"
#include "upstream/connection/connection.h"

namespace hotline::upstream {
namespace {

// Of one event; then others have their turn.
constexpr int kReadsPerEvent = 16;

}  // namespace

// Input, on the loop.

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
    LoseAllLocked(why);
    CloseLocked(pool::CloseReason::kError);
  }
  FinishClose();
}

void Connection::OnReadable() {
  char* const buffer = loop_->scratch();
  now_ = MonotonicNow();
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
      if (size > 0) {
        TakeInputLocked({buffer, static_cast<size_t>(size)});
      } else if (size == 0) {
        // Under TLS the peer has to say so itself; anybody can send a FIN.
        TakeEndLocked(engine_ == nullptr && !sender_.broken(),
                      sender_.broken() ? sender_.broken_why()
                                       : "the upstream closed the connection");
      } else if (error != EAGAIN && error != EWOULDBLOCK) {
        TakeEndLocked(false, net::SocketErrorText(error));
      } else if (sender_.broken()) {
        TakeEndLocked(false, sender_.broken_why());
      }
      open = TakeNewsLocked(&news);
      read_paused_ = !WantsReadLocked();
      paused = read_paused_ || read_ended_;
    }
    if (!open) return FinishClose();
    Tell(&news);
    if (paused) return UpdateWatch();
    // A short read means that nothing is left: what comes next is an event.
    if (size < static_cast<ssize_t>(net::Loop::kScratchBytes)) return;
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
    const net::TlsResult result =
        engine_->Read(buffer, net::Loop::kScratchBytes, &size, sender_.wire());
    if (result == net::TlsResult::kOk) {
      TakePlainLocked({buffer, size});
      continue;
    }
    if (result == net::TlsResult::kClosed) {
      TakeEndLocked(!sender_.broken(), "the upstream closed the connection");
    } else if (result != net::TlsResult::kWantInput) {
      tls_failed_ = true;
      tls_refused_ = engine_->refused();
      TakeEndLocked(false, "TLS: " + engine_->error());
      // It did not close an idle connection: it had never accepted it.
      if (tls_refused_) close_reason_ = pool::CloseReason::kError;
    }
    break;
  }
  // The protocol's own answers: key updates, alerts. On HTTP/2 they go with
  // what follows.
  if (http2_ == nullptr && !sender_.wire()->empty() && !write_armed_ &&
      FlushLocked() == net::Sender::Result::kBlocked) {
    write_armed_ = true;
    loop_->Post([self = shared_from_this()] { self->UpdateWatch(); });
  }
}

void Connection::TakePlainLocked(std::string_view plain) {
  if (http2_ == nullptr) return TakeHttp1Locked(plain);
  http2_->heard = now_;
  http2_->asked = kNever;
  if (codec_->Feed(plain)) return;
  NoteBreakLocked(codec_->error().message);
  CloseLocked(pool::CloseReason::kError);
}

void Connection::TakeHttp1Locked(std::string_view plain) {
  const bool called = first_.stream != 0 && !first_.ended;
  if (options_.raw) {
    if (called && !plain.empty()) {
      served_ = true;
      NoteAnswerLocked();
    }
  } else if (called && first_.result.bytes_written > 0) {
    served_ = true;
    first_.result.bytes_read += plain.size();
    if (first_.first_byte == Instant{}) first_.first_byte = now_;
  }
  bool more = codec_->Feed(plain);
  std::string rest;
  if (more && codec_->TakeUpgrade(&rest)) {
    codec_ = MakeUpgradedCodec(this, first_.stream);
    tunnel_ = true;
    more = codec_->Feed(rest);
  }
  if (!more) {
    NoteBreakLocked(codec_->error().message);
    // Before anything was asked of it a peer may say why it is about to close
    // (408 as a rule). Who does so later has lost count of its answers.
    CloseLocked(!codec_->error().unsolicited ? pool::CloseReason::kError
                : answered_                  ? pool::CloseReason::kUnsolicited
                                             : pool::CloseReason::kPeerClosed);
  } else if (first_.ended && !codec_->CanSubmit()) {
    CloseLocked(pool::CloseReason::kPeerClosed);
  }
}

void Connection::TakeEndLocked(bool clean, std::string why) {
  bool failed = HasCallsLocked();
  NoteBreakLocked(why);
  if (http2_ == nullptr && clean) {
    codec_->FeedEof();
    if (codec_->OutlivesEof()) {
      read_ended_ = true;
      return;
    }
    failed = failed && first_.result.error != CallError::kNone;
  } else {
    LoseAllLocked(why);
  }
  CloseLocked(failed ? pool::CloseReason::kError
                     : pool::CloseReason::kPeerClosed);
}

// Output.

void Connection::OnWritable() {
  net::Sender::Result flush;
  bool news;
  {
    MutexLock lock(&mu_);
    if (state_ != State::kOpen) return;
    flush = FlushLocked();
    write_armed_ = flush == net::Sender::Result::kBlocked;
    news = !stream_news_.empty() || first_.ended;
  }
  if (news) Settle();
  if (flush != net::Sender::Result::kBlocked) UpdateWatch();
  if (flush == net::Sender::Result::kBroken) OnBroken();
}

void Connection::OnBroken() {
  {
    MutexLock lock(&mu_);
    if (read_paused_) return;  // Whoever reads on will find out.
  }
  OnReadable();
}

void Connection::FlushOnLoop() {
  Rest rest;
  {
    MutexLock lock(&mu_);
    loop_flushes_ = false;
    if (state_ != State::kOpen || sender_.broken()) return;
    if (sender_.empty() && !codec_->WantsWrite() && !codec_->WantsEnd()) return;
    rest = TryFlushLocked();
  }
  LeaveToLoop(rest);
}

Connection::Rest Connection::TryFlushLocked() {
  Rest rest;
  if (write_armed_ || loop_flushes_) return rest;
  const net::Sender::Result flush = FlushLocked();
  rest.blocked = write_armed_ = flush == net::Sender::Result::kBlocked;
  rest.broken = flush == net::Sender::Result::kBroken;
  rest.news = !stream_news_.empty() || first_.ended;
  return rest;
}

void Connection::LeaveToLoop(const Rest& rest) {
  if (rest.blocked) {
    loop_->Post([self = shared_from_this()] { self->UpdateWatch(); });
  }
  if (rest.broken) {
    loop_->Post([self = shared_from_this()] { self->OnBroken(); });
  }
  if (rest.news) loop_->Post([self = shared_from_this()] { self->Settle(); });
}

net::Sender::Result Connection::FlushLocked() {
  net::Sender::Result result = net::Sender::Result::kDone;
  size_t written = 0;
  if (!sender_.empty()) result = FlushTakenLocked(&written);
  while (result == net::Sender::Result::kDone && codec_->WantsWrite()) {
    // Others wait for the lock; the loop goes on when it comes round again.
    if (written >= net::Sender::kTurnBytes)
      return net::Sender::Result::kBlocked;
    codec_->TakeOutput(sender_.plain());
    if (sender_.empty()) break;
    result = FlushTakenLocked(&written);
  }
  if (result == net::Sender::Result::kDone && codec_->WantsEnd()) {
    result = EndOutputLocked();
  }
  return result;
}

net::Sender::Result Connection::EndOutputLocked() {
  net::Sender::Result result = net::Sender::Result::kDone;
  if (engine_ == nullptr) {
    shutdown(fd_, SHUT_WR);
  } else {
    // No FIN: TLS may have to answer something yet.
    engine_->Shutdown(sender_.wire());
    size_t written = 0;
    result = FlushTakenLocked(&written);
  }
  // Of a tunnel whose end it is: what the peer has not said it need not say.
  if (!read_ended_) served_ = true;
  codec_->OnEndWritten();
  if (first_.ended) CloseLocked(pool::CloseReason::kPeerClosed);
  return result;
}

net::Sender::Result Connection::FlushTakenLocked(size_t* total) {
  size_t written = 0;
  const net::Sender::Result result = sender_.Flush(&written);
  *total += written;
  if (written > 0) {
    codec_->OnWritten(written);
    if (http2_ == nullptr) first_.result.bytes_written += written;
  }
  return result;
}

}  // namespace hotline::upstream
