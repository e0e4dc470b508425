// One connected socket: its descriptor, its TLS engine if it has one, and the
// bytes waiting to be written.
//
// Users pass plain text; the wire encrypts it if there is a TLS engine. Nothing
// blocks, and nothing is read or written unless the owner asks for it:
//
//   wire.Feed({buffer, size});               // Received from wire.fd().
//   std::string_view plain;
//   while (wire.Read(scratch, capacity, &plain) == TlsResult::kOk) Use(plain);
//
//   wire.plain()->append(request);
//   size_t written = 0;
//   if (wire.Flush(&written) == Wire::Result::kBlocked) AwaitWritable();
//
// Thread safety: none; the connection's lock protects it. One thread may
// receive from fd() without that lock.
//
// Invariants:
//   1. An idle wire owns no buffer.
//   2. Bytes are written in the order in which they were appended.
//   3. Once broken it stays broken, and writes nothing more.
#ifndef HOTLINE_NET_WIRE_H_
#define HOTLINE_NET_WIRE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "net/tls/tls.h"

namespace hotline::net {

class Wire {
 public:
  enum class Result : uint8_t {
    kDone,     // The kernel has taken everything.
    kBlocked,  // The socket is full, or this turn's share is used up.
    kBroken,   // Writing failed for good; see broken_why().
  };
  // Input that the kernel holds.
  enum class Pending : uint8_t { kNothing, kBytes, kEnd };

  // Owns `fd`, a connected non-blocking socket. `engine` has finished its
  // handshake; null: no TLS.
  Wire(int fd, std::unique_ptr<TlsEngine> engine)
      : fd_(fd), engine_(std::move(engine)) {}
  ~Wire() { Close(); }
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;

  int fd() const { return fd_; }
  bool encrypted() const { return engine_ != nullptr; }

  // --- Input ---

  // Passes received bytes. They must stay in place until Read has returned
  // something other than kOk.
  void Feed(std::string_view bytes);

  // The next piece of plain text, in `buffer` or in the bytes fed. kWantInput:
  // all of them were consumed; kClosed and kFailed: no more will come.
  TlsResult Read(char* buffer, size_t capacity, std::string_view* plain);

  // After kFailed: see TlsEngine.
  bool refused() const { return engine_ != nullptr && engine_->refused(); }
  const std::string& tls_error() const { return engine_->error(); }

  // Checks for input without reading it. A failed socket has kEnd pending.
  Pending Peek() const;

  // --- Output ---

  // Append plain text to be written here.
  std::string* plain() { return &plain_; }

  bool empty() const { return waiting() == 0 && !has_ciphertext(); }
  // Ciphertext waits: a part of a record, or TLS's own messages.
  bool has_ciphertext() const { return wire_.size() > wire_sent_; }

  // Writes without blocking, kTurnBytes at most: a fast socket could otherwise
  // keep the caller here while other users wait for the connection's lock.
  // `*written`: the plain text that the kernel has accepted in this call; of a
  // TLS record written in part, a part, never all of it.
  Result Flush(size_t* written);
  static constexpr size_t kTurnBytes = 256 << 10;

  // Ends the output; input goes on. REQUIRES: empty().
  Result EndOutput();

  // Prepares Close: sends close_notify, if that is possible at once, and drops
  // unsent bytes.
  void Finish();
  // Instead of Finish: the peer will see a reset.
  void Reset();
  void Close();

  bool broken() const { return broken_; }
  const std::string& broken_why() const { return broken_why_; }

 private:
  size_t waiting() const { return plain_.size() - plain_used_; }
  // `*left`: bytes of this turn; reduced by what was sent.
  Result Send(std::string_view bytes, size_t* sent, size_t* left);
  Result FlushEncrypted(size_t* written, size_t* left);
  bool EncryptNext();
  void Release();
  void Break(std::string why);

  int fd_;  // -1: closed.
  const std::unique_ptr<TlsEngine> engine_;
  std::string_view input_;  // Without TLS: fed and not read.
  // Plain text from plain_used_ on; what precedes it was sent or, with TLS, is
  // in wire_.
  std::string plain_;
  size_t plain_used_ = 0;
  // Ciphertext from wire_sent_ on.
  std::string wire_;
  size_t wire_sent_ = 0;
  size_t wire_plain_ = 0;     // Plain text in it.
  size_t wire_reported_ = 0;  // Of that, reported as written.
  bool broken_ = false;
  std::string broken_why_;
};

}  // namespace hotline::net

#endif  // HOTLINE_NET_WIRE_H_
