#include "net/wire.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "net/sockets.h"

namespace hotline::net {
namespace {

// Encrypted in one go: a large body is not held in memory twice.
constexpr size_t kEncryptBytes = 64 << 10;
// The largest buffer that is kept for the thread's next flush.
constexpr size_t kKeptBytes = 128 << 10;

// Ciphertext is nearly always sent at once, so the buffer belongs to the thread
// and not to the connection.
thread_local std::string spare_wire;

}  // namespace

void Wire::Feed(std::string_view bytes) {
  engine_ == nullptr ? void(input_ = bytes) : engine_->Feed(bytes);
}

TlsResult Wire::Read(char* buffer, size_t capacity, std::string_view* plain) {
  if (engine_ == nullptr) {
    *plain = std::exchange(input_, {});
    return plain->empty() ? TlsResult::kWantInput : TlsResult::kOk;
  }
  size_t size = 0;
  const TlsResult result = engine_->Read(buffer, capacity, &size, &wire_);
  *plain = {buffer, size};
  return result;
}

Wire::Pending Wire::Peek() const {
  char byte;
  const ssize_t size = recv(fd_, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  if (size > 0) return Pending::kBytes;
  const bool none = size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
  return none ? Pending::kNothing : Pending::kEnd;
}

Wire::Result Wire::Flush(size_t* written) {
  *written = 0;
  if (broken_) return Result::kBroken;
  Result result = Result::kDone;
  size_t left = kTurnBytes;
  if (engine_ == nullptr) {
    const size_t before = plain_used_;
    result = Send(plain_, &plain_used_, &left);
    *written = plain_used_ - before;
  } else {
    result = FlushEncrypted(written, &left);
  }
  if (result != Result::kBlocked) Release();
  return result;
}

Wire::Result Wire::FlushEncrypted(size_t* written, size_t* left) {
  do {
    const Result result = Send(wire_, &wire_sent_, left);
    if (wire_sent_ > 0 && wire_reported_ < wire_plain_) {
      const size_t share = result == Result::kDone
                               ? wire_plain_
                               : std::min(wire_sent_, wire_plain_ - 1);
      *written += share - std::min(share, wire_reported_);
      wire_reported_ = std::max(share, wire_reported_);
    }
    if (result != Result::kDone) return result;
  } while (EncryptNext());
  return broken_ ? Result::kBroken : Result::kDone;
}

bool Wire::EncryptNext() {
  wire_.clear();
  wire_sent_ = wire_plain_ = wire_reported_ = 0;
  const size_t size = std::min(waiting(), kEncryptBytes);
  if (size == 0) return false;
  if (wire_.capacity() < spare_wire.capacity()) wire_.swap(spare_wire);
  const std::string_view next(plain_.data() + plain_used_, size);
  if (!engine_->Write(next, &wire_)) {
    Break("TLS: " + engine_->error());
    return false;
  }
  plain_used_ += size;
  wire_plain_ = size;
  return true;
}

Wire::Result Wire::Send(std::string_view bytes, size_t* sent, size_t* left) {
  while (*sent < bytes.size()) {
    if (*left == 0) return Result::kBlocked;
    const ssize_t size =
        send(fd_, bytes.data() + *sent, std::min(*left, bytes.size() - *sent),
             MSG_NOSIGNAL | MSG_DONTWAIT);
    if (size >= 0) {
      *sent += static_cast<size_t>(size);
      *left -= static_cast<size_t>(size);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return Result::kBlocked;
    } else if (errno != EINTR) {
      Break(SocketErrorText(errno));
      return Result::kBroken;
    }
  }
  return Result::kDone;
}

Wire::Result Wire::EndOutput() {
  if (engine_ == nullptr) {
    shutdown(fd_, SHUT_WR);
    return Result::kDone;
  }
  // No FIN: TLS may have to answer the peer yet.
  engine_->Shutdown(&wire_);
  size_t written = 0;
  return Flush(&written);
}

void Wire::Finish() {
  if (engine_ != nullptr && !broken_ && wire_.empty()) {
    engine_->Shutdown(&wire_);
    size_t sent = 0;
    size_t left = kTurnBytes;
    Send(wire_, &sent, &left);
  }
  Release();
}

void Wire::Reset() {
  ResetOnClose(fd_);
  Release();
}

void Wire::Close() {
  if (fd_ >= 0) close(std::exchange(fd_, -1));
}

void Wire::Break(std::string why) {
  broken_ = true;
  broken_why_ = std::move(why);
}

void Wire::Release() {
  std::string().swap(plain_);
  wire_.clear();
  if (wire_.capacity() <= kKeptBytes &&
      wire_.capacity() > spare_wire.capacity()) {
    spare_wire.swap(wire_);
  }
  std::string().swap(wire_);
  plain_used_ = wire_sent_ = wire_plain_ = wire_reported_ = 0;
}

}  // namespace hotline::net
