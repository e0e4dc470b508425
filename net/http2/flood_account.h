// Bounds the work that an HTTP/2 peer can cause with useless frames.
#ifndef HOTLINE_NET_HTTP2_FLOOD_ACCOUNT_H_
#define HOTLINE_NET_HTTP2_FLOOD_ACCOUNT_H_

#include <cstddef>
#include <cstdint>

#include "base/time.h"
#include "net/http2/frame_reader.h"

namespace hotline::net {

// A token bucket that useful work also fills. Not thread-safe.
class TokenBucket {
 public:
  // Full at first. `per_second`: how much time alone adds; 0: nothing.
  explicit TokenBucket(int64_t capacity, int64_t per_second = 0)
      : balance_(capacity), capacity_(capacity), per_second_(per_second) {}

  void Refill(Instant now);
  void Earn(int64_t amount);
  // False: the bucket is overdrawn.
  bool Pay(int64_t amount) {
    balance_ -= amount;
    return !overdrawn();
  }
  bool overdrawn() const { return balance_ < 0; }

 private:
  int64_t balance_;
  const int64_t capacity_;
  const int64_t per_second_;
  Instant refilled_{};
};

// The account that a peer pays for its frames from. It starts full. A useless
// frame costs credit; useful traffic earns it back, up to the limit: requests
// and answers in either direction, acknowledgements that we asked for, time. So
// a peer may use the protocol freely for its purpose, and has
// `max_useless_frames` for everything else: SETTINGS, PING, PRIORITY, empty
// DATA, frames for closed streams, frames of unknown type, windows that are
// opened by more than was sent.
//
// For either role; each decides which frames are useful, and when they pay:
//
//   // The client charges every frame when its header arrives, and earns the
//   // useful ones back.
//   if (!stray || !account.CoverStray(frame.length)) account.Charge(1);
//   if (const char* flood = account.CountContinuation(frame)) Close(flood);
//   ...                                          // Process the frame.
//   if (const char* flood = account.Check()) Close(flood);
//
//   // The server charges only useless frames, when they are complete.
//   account.Refill(now);
//   if (!useful) account.Charge(price);
//   if (const char* flood = account.Check()) Close(flood);
//
// Not thread-safe.
class FloodAccount {
 public:
  struct Limits {
    int max_useless_frames = 1000;
    // Credit that time alone adds.
    int useless_frames_per_second = 0;
    // CONTINUATION frames of one head.
    int max_continuations = 12;
    // DATA that may arrive after our resets, in bytes.
    int64_t max_stray_bytes = 16 << 20;
  };
  explicit FloodAccount(const Limits& limits)
      : limits_(limits),
        credit_(limits.max_useless_frames, limits.useless_frames_per_second) {}

  void Refill(Instant now) { credit_.Refill(now); }
  void Earn(int64_t frames) { credit_.Earn(frames); }
  void Charge(int64_t frames) { credit_.Pay(frames); }

  // To be called for every frame's header. Returns the limit that is exceeded,
  // or null.
  const char* CountContinuation(const FrameHead& frame);

  // DATA of `bytes` has arrived for a closed stream. True: it is covered by
  // AllowStray, and free.
  bool CoverStray(size_t bytes);
  // We have reset a stream on which `bytes` may still be under way.
  void AllowStray(int64_t bytes);

  // We have sent DATA. It pays for the WINDOW_UPDATEs that acknowledge it, in
  // however small increments they come.
  void OnDataSent(size_t bytes) {
    connection_debt_ += bytes;
    streams_debt_ += bytes;
  }
  // A WINDOW_UPDATE has arrived; `stream` 0: the connection's. True: the DATA
  // that was sent pays for it.
  bool OnWindowUpdate(int32_t stream, uint32_t increment);

  // A reply that the peer provoked (an acknowledgement, a reset) was put into
  // the output. `max_useless_frames` limits those that the peer does not read.
  void OnReply() { ++unwritten_replies_; }
  // `written` bytes of the output were written, out of `produced` in all.
  void OnWritten(uint64_t written, uint64_t produced);

  // Returns the limit that is exceeded, or null. To be called between frames.
  const char* Check() const;

 private:
  const Limits limits_;
  TokenBucket credit_;
  int continuations_ = 0;  // Of the head that is being received.
  // Bytes sent that no WINDOW_UPDATE has acknowledged: of the connection's
  // window, and of all streams' windows.
  uint64_t connection_debt_ = 0;
  uint64_t streams_debt_ = 0;
  int64_t stray_allowance_ = 0;
  int unwritten_replies_ = 0;
  uint64_t replies_mark_ = 0;  // Once this is written, so are the replies.
};

}  // namespace hotline::net

#endif  // HOTLINE_NET_HTTP2_FLOOD_ACCOUNT_H_
