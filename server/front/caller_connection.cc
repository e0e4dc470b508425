#include "server/front/caller_connection.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "base/log.h"
#include "server/front/front_loop.h"
#include "server/front/grpc_wire.h"
#include "server/front/server_call.h"

namespace hotline::server {
namespace {

constexpr Duration kLinger = std::chrono::seconds(1);
// Of one connection's messages that have come in part, beyond the windows.
constexpr size_t kMaxAssembled = 16 << 20;
// Acquires whose answers may still be on their way.
constexpr size_t kMaxAcquired = 256;
// Kept by a connection; larger buffers are the loop's.
constexpr size_t kSmallBuffer = 1024;

Refusal RefusalOf(net::SessionEnd end) {
  switch (end) {
    case net::SessionEnd::kFlood:
      return Refusal::kResets;
    case net::SessionEnd::kHttp1:
      return Refusal::kHttp1;
    case net::SessionEnd::kTls:
      return Refusal::kPlainPort;
    case net::SessionEnd::kTimeout:
      return Refusal::kSilent;
    default:
      return Refusal::kProtocol;
  }
}

std::string NameIn(const net::TlsPeerNames& names) {
  return NameOfCertificate({names.uris.begin(), names.uris.end()},
                           {names.dns_names.begin(), names.dns_names.end()},
                           names.common_name);
}

ServerCall* CallOf(net::ServerStream* stream) {
  return static_cast<ServerCall*>(stream->user);
}

}  // namespace

CallerConnection::CallerConnection(FrontLoop* home, int fd, Visitor visitor,
                                   std::unique_ptr<net::TlsServerEngine> tls,
                                   Instant now)
    : home_(home),
      fd_(fd),
      visitor_(std::move(visitor)),
      tls_(std::move(tls)),
      answers_(std::make_shared<AnswerMemory::Caller>()),
      state_(tls_ == nullptr ? State::kOpen : State::kHandshake),
      now_(now),
      assembly_(kMaxAssembled) {
  session_.emplace(static_cast<net::ServerEvents*>(this), &home->memory(),
                   &home->parts().http2, now);
  IdentityTable* const identities = home->parts().identities;
  if (identities != nullptr && visitor_.kind == Listener::Kind::kUnix) {
    identity_ = identities->Get(visitor_.peer);
  }
}

CallerConnection::~CallerConnection() {
  if (state_ != State::kClosed) close(fd_);
}

bool CallerConnection::Open() {
  std::shared_ptr<net::SocketWatch::Watcher> self(shared_from_this(), this);
  watch_ = home_->loop().sockets().Add(fd_, std::move(self));
  if (watch_ == 0) {
    home_->parts().door->Count(Refusal::kDescriptors);
    Close();
    return false;
  }
  ArmTimer();
  return true;
}

bool CallerConnection::HoldsLeases(Instant now) const {
  Broker* const broker = home_->parts().broker;
  return std::any_of(acquired_.begin(), acquired_.end(),
                     [&](const Acquired& acquired) {
                       return broker->IsHeld(acquired.lease, now);
                     });
}

void CallerConnection::StartDrain(Instant now) {
  if (!session_.has_value()) return;
  session_->StartDrain(now);
  Touch();
  ArmTimer();
}

void CallerConnection::CutOff() {
  const auto keep = shared_from_this();
  now_ = MonotonicNow();
  bool answers = has_output();
  if (session_.has_value()) {
    for (net::ServerStream* const stream : session_->ListOpen()) {
      answers = true;
      if (ServerCall* const call = CallOf(stream)) call->OnCutOff();
    }
    // Answers first: GOAWAY overtakes their bodies.
    do {
      Flush(now_);
    } while (dirty_ && !blocked_ && state_ == State::kOpen);
  }
  if (session_.has_value()) {
    session_->Close(0, "the server stops");
    end_noticed_ = true;
    Flush(now_);
  }
  // A reset, because of bytes that have not been read, could overtake answers.
  if (state_ != State::kLingering || !answers) Close();
}

// Input.

void CallerConnection::OnSocketReady(bool readable, bool writable) {
  const auto keep = shared_from_this();
  now_ = MonotonicNow();
  if (writable) {
    blocked_ = false;
    Touch();
  }
  if (readable) Read();
}

void CallerConnection::Read() {
  // It is told again.
  if (home_->turn_is_full()) return;
  if (state_ == State::kHandshake && !home_->TakeHandshake()) return;
  const ssize_t size =
      recv(fd_, home_->scratch(), net::Loop::kScratchBytes, MSG_DONTWAIT);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (size <= 0) return Close();
  if (state_ == State::kLingering || tls_failed_) return;
  const std::string_view bytes(home_->scratch(), static_cast<size_t>(size));
  if (tls_ != nullptr) {
    Decrypt(bytes);
  } else {
    session_->Receive(bytes, now_);
  }
  AfterInput();
}

void CallerConnection::Decrypt(std::string_view ciphertext) {
  tls_->Feed(ciphertext);
  if (state_ == State::kHandshake && !ContinueHandshake()) return;
  for (;;) {
    size_t size = 0;
    switch (tls_->Read(home_->plain_scratch(), net::Loop::kScratchBytes, &size,
                       &wire_)) {
      case net::TlsResult::kOk:
        if (!session_->Receive({home_->plain_scratch(), size}, now_)) return;
        break;
      case net::TlsResult::kWantInput:
        return;
      case net::TlsResult::kClosed:
        peer_closed_ = true;
        return;
      default:
        return OnTlsFailed();
    }
  }
}

bool CallerConnection::ContinueHandshake() {
  switch (tls_->Handshake(&wire_)) {
    case net::TlsResult::kOk:
      break;
    case net::TlsResult::kWantInput:
      return false;
    default:
      OnTlsFailed();
      return false;
  }
  state_ = State::kOpen;
  IdentityTable* const identities = home_->parts().identities;
  const std::string name = NameIn(tls_->TakePeerNames());
  if (identities != nullptr && !name.empty()) identity_ = identities->Get(name);
  return true;
}

void CallerConnection::OnTlsFailed() {
  tls_failed_ = true;
  const net::TlsFailure failure = tls_->failure();
  Refuse(server::RefusalOf(failure == net::TlsFailure::kNone
                               ? net::TlsFailure::kOther
                               : failure),
         tls_->error());
  linger_until_ = SaturatingAdd(now_, kLinger);
}

void CallerConnection::AfterInput() {
  if (peer_closed_) return Close();
  for (ServerCall* const call : incomplete_) {
    call->listed = false;
    if (!call->request_complete()) call->ArmDeadline();
  }
  incomplete_.clear();
  NoticeEnd();
  if (has_output() || tls_failed_ || end_noticed_) Touch();
  if (linger_until_ != kNever) ArmTimer();
}

// Output.

void CallerConnection::Touch() {
  if (dirty_ || blocked_ || state_ == State::kClosed) return;
  dirty_ = true;
  home_->MarkDirty(shared_from_this());
}

bool CallerConnection::has_output() const {
  if (wire_sent_ < wire_.size()) return true;
  return state_ == State::kOpen && session_->WantsWrite();
}

std::string_view CallerConnection::NextOutput() {
  if (tls_ == nullptr) {
    return state_ == State::kOpen ? session_->Output() : std::string_view();
  }
  if (wire_.empty() && state_ == State::kOpen && !tls_failed_) {
    const std::string_view plain = session_->Output();
    if (!plain.empty()) {
      home_->TakeBuffer(&wire_);
      if (!tls_->Write(plain, &wire_)) OnTlsFailed();
      wire_plain_ = plain.size();
    }
  }
  return std::string_view(wire_).substr(wire_sent_);
}

void CallerConnection::OnSent(size_t bytes) {
  if (tls_ == nullptr) return session_->OnWritten(bytes);
  wire_sent_ += bytes;
  if (wire_sent_ < wire_.size()) return;
  wire_.clear();
  wire_sent_ = 0;
  if (wire_.capacity() > kSmallBuffer) home_->GiveBuffer(&wire_);
  session_->OnWritten(std::exchange(wire_plain_, 0));
}

void CallerConnection::Flush(Instant now) {
  dirty_ = false;
  now_ = now;
  if (blocked_ || state_ == State::kLingering || state_ == State::kClosed) {
    return;
  }
  const std::string_view out = NextOutput();
  const bool any = !out.empty();
  if (any) {
    const ssize_t sent =
        send(fd_, out.data(), out.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) return Close();
    const size_t done = sent < 0 ? 0 : static_cast<size_t>(sent);
    blocked_ = done < out.size();
    OnSent(done);
  }
  if (!UpdateInterest()) return Close();
  NoticeEnd();
  if (blocked_) return;
  // More than one write's worth has its turn in the next one.
  if (any && has_output() && !tls_failed_) return Touch();
  if (tls_failed_ || session_->finished()) Linger();
}

bool CallerConnection::UpdateInterest() {
  if (wants_write_ == blocked_) return true;
  wants_write_ = blocked_;
  return home_->loop().sockets().SetInterest(watch_, /*read=*/true,
                                             /*write=*/blocked_);
}

// The end.

void CallerConnection::NoticeEnd() {
  if (end_noticed_ || !session_.has_value()) return;
  const net::SessionEnd end = session_->end();
  if (end == net::SessionEnd::kNone) return;
  end_noticed_ = true;
  linger_until_ = SaturatingAdd(now_, kLinger);
  ArmTimer();
  if (end == net::SessionEnd::kDone || end == net::SessionEnd::kClosed) return;
  // A caller that was there for long has lost its network, or its process.
  if (end == net::SessionEnd::kTimeout && session_->ready()) return;
  Refuse(RefusalOf(end), session_->end_text());
}

void CallerConnection::Refuse(Refusal why, std::string_view text) {
  home_->parts().door->Count(why);
  static LogLimiter limiter(std::chrono::seconds(1));
  HOTLINE_LOG_LIMITED(limiter, kWarning, "a caller's connection was refused",
                      {{"peer", visitor_.peer},
                       {"reason", kRefusals[static_cast<size_t>(why)]},
                       {"error", text},
                       {"suppressed", limiter.TakeSuppressed()}});
}

void CallerConnection::Linger() {
  if (tls_ != nullptr && !tls_failed_ && state_ == State::kOpen) {
    tls_->Shutdown(&wire_);
    (void)!send(fd_, wire_.data(), wire_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  }
  DropSession();
  state_ = State::kLingering;
  shutdown(fd_, SHUT_WR);
  std::string().swap(wire_);
  wire_sent_ = 0;
  linger_until_ = std::min(linger_until_, SaturatingAdd(now_, kLinger));
  ArmTimer();
}

void CallerConnection::Close() {
  if (state_ == State::kClosed) return;
  const auto keep = shared_from_this();
  state_ = State::kClosed;
  home_->loop().Cancel(timer_);
  if (watch_ != 0) home_->loop().sockets().Remove(watch_);
  close(fd_);
  DropSession();
  home_->OnConnectionClosed(this);
}

void CallerConnection::DropSession() {
  if (!session_.has_value()) return;
  session_->Close(0, {});
  // Its calls are told while it is still there: they may use it.
  session_->Output();
  session_.reset();
}

// Time.

void CallerConnection::ArmTimer() {
  if (state_ == State::kClosed) return;
  Instant next = linger_until_;
  if (session_.has_value()) next = std::min(next, session_->NextTimer());
  // One that is due before looks again: most are put off before they are due.
  if (next >= armed_) return;
  home_->loop().Cancel(timer_);
  armed_ = next;
  timer_ = home_->loop().RunAt(next, [weak = weak_from_this(), next] {
    const auto self = weak.lock();
    // Another may have been set when this one was about to run.
    if (self != nullptr && self->armed_ == next) self->OnTimer(MonotonicNow());
  });
}

void CallerConnection::OnTimer(Instant now) {
  if (state_ == State::kClosed) return;
  armed_ = kNever;
  now_ = now;
  if (now >= linger_until_) return Close();
  if (session_.has_value()) {
    session_->OnTimer(now);
    NoticeEnd();
    const bool over = session_->end() != net::SessionEnd::kNone;
    if (over && state_ == State::kHandshake) return Close();
    if (over || has_output()) Touch();
  }
  ArmTimer();
}

// Calls.

void CallerConnection::OnRequestHeaders(net::ServerStream* stream,
                                        const net::RequestHead& head,
                                        bool end) {
  CallOrigin origin;
  origin.connection = this;
  origin.stream = stream;
  origin.fields = head.fields;
  origin.now = now_;
  GrpcRefusal refusal = ParseGrpcRequest(head, &origin.request);
  ServerCall* const call = refusal ? nullptr : NewServerCall(origin);
  if (call == nullptr) {
    if (!refusal) {
      refusal = GrpcRefusal::Status(
          absl::StatusCode::kUnimplemented,
          "no such method: " + std::string(head.path.substr(0, 100)));
    }
    return Refuse(stream, refusal, end);
  }
  stream->user = call;
  if (end) {
    call->OnEnd();
  } else {
    call->listed = true;
    incomplete_.push_back(call);
  }
}

void CallerConnection::Refuse(net::ServerStream* stream,
                              const GrpcRefusal& refusal, bool end) {
  if (refusal.code() != absl::StatusCode::kOk) {
    return session_->SubmitHeaders(stream, refusal.fields(), /*end=*/true);
  }
  // Not gRPC. An HTTP client is answered when its request is complete, so that
  // what follows is still held to HTTP/2's rules.
  if (!end) {
    not_grpc_[stream->id()] = refusal.http_status();
  } else {
    AnswerHttp(stream, refusal.http_status());
  }
}

void CallerConnection::AnswerHttp(net::ServerStream* stream, int status) {
  constexpr std::string_view kText = "This port serves gRPC only.\n";
  const std::string code = std::to_string(status);
  session_->Respond(stream, {{":status", code}, {"content-type", "text/plain"}},
                    kText.size(),
                    [kText](char* to) { kText.copy(to, kText.size()); }, {});
}

void CallerConnection::OnData(net::ServerStream* stream,
                              std::string_view bytes) {
  if (ServerCall* const call = CallOf(stream)) {
    call->OnData(bytes);
  } else {
    session_->Consume(stream, bytes.size());
  }
}

void CallerConnection::OnEnd(net::ServerStream* stream) {
  ServerCall* const call = CallOf(stream);
  if (call == nullptr) {
    if (const auto found = not_grpc_.extract(stream->id())) {
      AnswerHttp(stream, found.mapped());
    }
    return;
  }
  Unlist(call);
  call->OnEnd();
}

void CallerConnection::OnSendable(net::ServerStream* stream) {
  if (ServerCall* const call = CallOf(stream)) call->OnSendable();
}

void CallerConnection::OnClosed(net::ServerStream* stream, net::StreamEnd end,
                                uint32_t /*code*/) {
  ServerCall* const call = CallOf(stream);
  if (call == nullptr) {
    not_grpc_.erase(stream->id());
    return;
  }
  stream->user = nullptr;
  Unlist(call);
  call->OnClosed(end);
}

void CallerConnection::Unlist(ServerCall* call) {
  if (!std::exchange(call->listed, false)) return;
  // Most often the last one.
  const auto found = std::find(incomplete_.rbegin(), incomplete_.rend(), call);
  std::swap(*found, incomplete_.back());
  incomplete_.pop_back();
}

void CallerConnection::OnLateReset(int32_t stream_id, uint32_t /*code*/) {
  for (Acquired& acquired : acquired_) {
    if (acquired.stream_id != stream_id) continue;
    acquired.stream_id = 0;
    home_->parts().broker->ReleaseIfUnused(acquired.lease, now_);
    return;
  }
}

void CallerConnection::NoteAcquired(int32_t stream_id, const LeaseId& lease) {
  if (acquired_.size() < kMaxAcquired) {
    acquired_.push_back({stream_id, lease});
    return;
  }
  acquired_[next_acquired_] = {stream_id, lease};
  next_acquired_ = (next_acquired_ + 1) % kMaxAcquired;
}

void CallerConnection::Consume(net::ServerStream* stream, size_t bytes) {
  session_->Consume(stream, bytes);
  Touch();
}

}  // namespace hotline::server
