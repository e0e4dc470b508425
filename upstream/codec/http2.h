// HTTP/2 as a Codec: many streams on one connection.
//
// The protocol's machine is nghttp2's; this adds what a client of strangers
// needs. Whatever the peer sends, memory and work stay bounded: every frame has
// to be of use, or is paid for out of a small account (max_useless_frames).
// What the peer may make the codec answer (acknowledgements, resets) is counted
// until it is written.
//
// Requests are put on the wire in the order they are submitted, and as much of
// their bodies as the peer's windows and max_output_bytes take at once; only
// the rest is copied. Streams that wait for windows share them evenly.
//
// Verdicts go by what OnWritten said: a stream whose first byte is still in the
// output was not sent, whatever happened to the connection.
//
// What is wrong with one stream (a malformed answer, a limit on headers) resets
// that stream; what is wrong with the framing, a pushed stream, or a flood ends
// the connection with GOAWAY, which TakeOutput still gives then. The stream
// whose frame it was fails with kProtocol, the others with kReset, as if the
// peer had closed the connection: their answers were not at fault.
//
// Interim answers (1xx) may be as many as fit in max_header_bytes. A status
// from 600 to 999 is data like any other.
#ifndef HOTLINE_UPSTREAM_CODEC_HTTP2_H_
#define HOTLINE_UPSTREAM_CODEC_HTTP2_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "upstream/codec/codec.h"

namespace hotline::upstream {

struct Http2Limits {
  // Open at once, however many the peer allows.
  int max_streams = 256;

  // Of one answer's heads, the interim ones included, by the protocol's own
  // count: name + value + 32 bytes a field. The same again for its trailers.
  int64_t max_header_bytes = 65536;
  // Of one head, or of the trailers.
  int max_headers = 1000;

  // What the peer may send before it is consumed. A stream begins with the
  // first, which most answers fit in, and gets the second when there is memory
  // for more (Codec::Widen): at 50 ms round trip 1 MiB is 20 MiB/s. The window
  // of the connection opens as data arrives, so streams whose data nobody
  // consumes do not stop the others.
  int32_t first_window_bytes = Codec::kFirstWindow;
  int32_t stream_window_bytes = Codec::kFullWindow;
  int32_t connection_window_bytes = 16 << 20;

  // What one TakeOutput gives, about: bodies wait at this point, heads and the
  // protocol's own frames do not.
  size_t max_output_bytes = 256 << 10;
  // Given out and not written: past it CanSubmit says no, until OnWritten.
  size_t max_unwritten_bytes = 1 << 20;

  // Frames in excess of what our own requests explain and of answers' parts:
  // SETTINGS, PING, PRIORITY, empty DATA, updates of windows by more than was
  // sent, frames for streams that are over, frames of unknown type. Also of
  // answers to those that the peer does not read.
  int max_useless_frames = 1000;
  // Entries of one SETTINGS frame.
  int max_settings = 32;
};

// Events of the connection as a whole; from inside Feed.
class Http2Events {
 public:
  virtual ~Http2Events() = default;

  // The peer's settings have come: requests may be submitted.
  virtual void OnReady(int /*max_streams*/) {}
  // MaxStreams() has changed, maybe to 0 or to fewer than are open. Open
  // streams go on.
  virtual void OnConcurrency(int /*max_streams*/) {}
  // The peer takes no new streams. Those up to `last` go on; the others end
  // with kRefusedByPeer right after this. May come again, with a lower `last`.
  virtual void OnGoAway(StreamId /*last*/, std::string /*why*/) {}
  virtual void OnPingAck() {}
};

// Both kinds of events must outlive the codec. `scheme` ("https", "http") is
// that of all requests. CanSubmit returns false until OnReady.
//
// Frames of a stream that arrive before its request's first byte was written
// (OnWritten) are an error.
std::unique_ptr<Codec> MakeHttp2Codec(CodecEvents* events,
                                      Http2Events* connection_events,
                                      std::string_view scheme,
                                      const Http2Limits& limits = {});

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_CODEC_HTTP2_H_
