// A connection's bytes, in and out.
#include <errno.h>
#include <sys/socket.h>

#include <utility>

#include "upstream/connection.h"
#include "upstream/raw_codec.h"
#include "upstream/sockets.h"

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
  loop_->sockets().SetInterest(watch_, read, write);
}

void Connection::OnReadable() {
  char* const buffer = loop_->scratch();
  now_ = MonotonicNow();
  for (int i = 0; i < kReadsPerEvent; ++i) {
    if (socket_closed_) return;
    const ssize_t size = recv(fd_, buffer, Loop::kScratchBytes, 0);
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
        TakeEndLocked(false, SocketErrorText(error));
      } else if (sender_.broken()) {
        TakeEndLocked(false, sender_.broken_why());
      }
      open = TakeNewsLocked(&news);
      read_paused_ = !codec_->WantsRead();
      paused = read_paused_ || read_ended_;
    }
    if (!open) return FinishClose();
    Tell(&news);
    if (paused) return UpdateWatch();
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
      FlushLocked() == Sender::Result::kBlocked) {
    write_armed_ = true;
    loop_->Post([self = shared_from_this()] { self->UpdateWatch(); });
  }
}

void Connection::TakePlainLocked(std::string_view plain) {
  if (http2_ == nullptr) return TakeHttp1Locked(plain);
  http2_->heard = now_;
  http2_->asked = kNever;
  if (codec_->Feed(plain)) return;
  NoteBreakLocked();
  why_ = codec_->error().message;
  CloseLocked(pool::CloseReason::kError);
}

void Connection::TakeHttp1Locked(std::string_view plain) {
  if (!options_.raw && first_.stream != 0 && !first_.ended &&
      first_.result.bytes_written > 0) {
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
    NoteBreakLocked();
    CloseLocked(codec_->error().unsolicited ? pool::CloseReason::kUnsolicited
                                            : pool::CloseReason::kError);
  } else if (first_.ended && !codec_->CanSubmit()) {
    CloseLocked(pool::CloseReason::kPeerClosed);
  }
}

void Connection::TakeEndLocked(bool clean, std::string why) {
  bool failed = HasCallsLocked();
  NoteBreakLocked();
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
  Sender::Result flush;
  bool news;
  {
    MutexLock lock(&mu_);
    if (state_ != State::kOpen) return;
    flush = FlushLocked();
    write_armed_ = flush == Sender::Result::kBlocked;
    news = !stream_news_.empty() || first_.ended;
  }
  if (news) Settle();
  if (flush != Sender::Result::kBlocked) UpdateWatch();
  if (flush == Sender::Result::kBroken) OnBroken();
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
  const Sender::Result flush = FlushLocked();
  rest.blocked = write_armed_ = flush == Sender::Result::kBlocked;
  rest.broken = flush == Sender::Result::kBroken;
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

Sender::Result Connection::FlushLocked() {
  Sender::Result result = Sender::Result::kDone;
  if (!sender_.empty()) result = FlushTakenLocked();
  while (result == Sender::Result::kDone && codec_->WantsWrite()) {
    codec_->TakeOutput(sender_.plain());
    if (sender_.empty()) break;
    result = FlushTakenLocked();
  }
  if (result == Sender::Result::kDone && codec_->WantsEnd()) {
    result = EndOutputLocked();
  }
  return result;
}

Sender::Result Connection::EndOutputLocked() {
  Sender::Result result = Sender::Result::kDone;
  if (engine_ == nullptr) {
    shutdown(fd_, SHUT_WR);
  } else {
    // No FIN: TLS may have to answer something yet.
    engine_->Shutdown(sender_.wire());
    result = FlushTakenLocked();
  }
  codec_->OnEndWritten();
  if (first_.ended) CloseLocked(pool::CloseReason::kPeerClosed);
  return result;
}

Sender::Result Connection::FlushTakenLocked() {
  size_t written = 0;
  const Sender::Result result = sender_.Flush(&written);
  if (written > 0) {
    codec_->OnWritten(written);
    if (http2_ == nullptr) first_.result.bytes_written += written;
  }
  return result;
}

}  // namespace hotline::upstream
