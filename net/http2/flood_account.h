// Bounds the work that an HTTP/2 peer can cause with frames of no use.
#ifndef HOTLINE_NET_HTTP2_FLOOD_ACCOUNT_H_
#define HOTLINE_NET_HTTP2_FLOOD_ACCOUNT_H_

#include <cstddef>
#include <cstdint>

#include "net/http2/frame_reader.h"

namespace hotline::net {

// Every received frame costs one from an account that starts full. Useful
// traffic earns credit, up to the same limit: our own requests or answers, the
// parts of the peer's, acknowledgements that we asked for. So a peer is free to
// do what the protocol is for, and has `max_useless_frames` for everything
// else: SETTINGS, PING, PRIORITY, empty DATA, frames for streams that are over,
// frames of unknown type, windows that are opened by more than was sent.
//
// The same limit applies to replies that the peer provokes (acknowledgements,
// resets) and does not read.
//
//   if (const char* flood = account.Charge(frame, stray)) Close(flood);
//   ...                                          // Process the frame.
//   if (const char* flood = account.Check()) Close(flood);
//
// For either role. Not thread-safe.
class Http2FloodAccount {
 public:
  struct Limits {
    int max_useless_frames = 1000;
    // CONTINUATION frames of one head.
    int max_continuations = 12;
    // DATA that may arrive after our resets, in bytes.
    int64_t max_stray_bytes = 16 << 20;
  };
  explicit Http2FloodAccount(const Limits& limits)
      : limits_(limits), credit_(limits.max_useless_frames) {}

  // A frame's header has arrived. `stray`: DATA for a stream that is over;
  // free as far as AllowStray covers it. Returns what is wrong, or null.
  const char* Charge(const FrameHead& frame, bool stray);

  // Adds credit for `frames` frames.
  void Earn(int frames);

  // We have sent DATA. It pays for the WINDOW_UPDATEs that make up for it, in
  // however small increments they come.
  void OnDataSent(size_t bytes) {
    connection_debt_ += bytes;
    streams_debt_ += bytes;
  }
  // A WINDOW_UPDATE has arrived; `stream` 0: the connection's.
  void OnWindowUpdate(int32_t stream, uint32_t increment);

  // We have reset a stream on which `bytes` may still be under way.
  void AllowStray(int64_t bytes);

  // A frame that answers one of the peer's was put into the output.
  void OnReply() { ++unwritten_replies_; }
  // So many bytes of the output were `written`, of those `produced` by now.
  void OnWritten(uint64_t written, uint64_t produced);

  // Returns which limit is exceeded, or null. To be called between frames.
  const char* Check() const;

 private:
  const Limits limits_;
  int credit_;
  int continuations_ = 0;  // Of the head that is being received.
  // Bytes sent that no WINDOW_UPDATE has made up for: of the connection's
  // window, and of all streams' windows.
  uint64_t connection_debt_ = 0;
  uint64_t streams_debt_ = 0;
  int64_t stray_allowance_ = 0;
  int unwritten_replies_ = 0;
  uint64_t replies_mark_ = 0;  // Once this is written, so are the replies.
};

}  // namespace hotline::net

#endif  // HOTLINE_NET_HTTP2_FLOOD_ACCOUNT_H_
