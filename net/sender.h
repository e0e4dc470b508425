// The way out of a connection: what is to be sent, encrypted where that is
// asked for, as far as the socket takes it.
#ifndef HOTLINE_NET_SENDER_H_
#define HOTLINE_NET_SENDER_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "net/tls/tls.h"

namespace hotline::net {

// Not thread-safe: the connection's lock protects it. Owns no buffer while
// nothing waits to be sent.
class Sender {
 public:
  enum class Result {
    kDone,     // Everything has been taken by the kernel.
    kBlocked,  // The socket takes no more for now, or its turn is over.
    kBroken,   // It never will again; see broken_why().
  };

  // `engine` may be null; both must outlive the sender, or its last use.
  Sender(int fd, TlsEngine* engine) : fd_(fd), engine_(engine) {}

  // Where the codec puts plain text, and the engine what it has to say of its
  // own. Append only.
  std::string* plain() { return &plain_; }
  std::string* wire() { return &wire_; }

  // Plain text that waits.
  size_t waiting() const { return plain_.size() - plain_used_; }
  // Nothing waits.
  bool empty() const { return waiting() == 0 && wire_.size() == wire_sent_; }

  // Sends what it can without blocking, about kTurnBytes at most: a socket may
  // take more for as long as it is given more, and meanwhile the connection's
  // other users wait for its lock. `*written`: how much plain text was taken by
  // the kernel just now. Of a TLS record half taken nobody knows what arrives;
  // some of it counts, never all.
  Result Flush(size_t* written);
  static constexpr size_t kTurnBytes = 256 << 10;

  // Sends the notice of the end, where there is one and nothing is in its way,
  // and forgets the rest.
  void Finish();

  bool broken() const { return broken_; }
  const std::string& broken_why() const { return broken_why_; }

 private:
  // `left`: bytes of this turn; less after it.
  Result Send(std::string_view bytes, size_t* sent, size_t* left);
  Result FlushEncrypted(size_t* written, size_t* left);
  bool EncryptNext();
  void Release();
  void Break(std::string why);

  const int fd_;
  TlsEngine* const engine_;
  // Plain text from plain_used_ on; before it is what was sent, or with TLS,
  // what wire_ stands for.
  std::string plain_;
  size_t plain_used_ = 0;
  // Ciphertext from wire_sent_ on.
  std::string wire_;
  size_t wire_sent_ = 0;
  size_t wire_plain_ = 0;  // The plain text in it.
  size_t wire_noted_ = 0;  // Of that, told as written.
  bool broken_ = false;
  std::string broken_why_;
};

}  // namespace hotline::net

#endif  // HOTLINE_NET_SENDER_H_
