// The class behind MakeHttp2Codec. http2.cc has what its owner calls,
// http2_input.cc what looks at frames before nghttp2, http2_events.cc what
// nghttp2 tells.
#ifndef HOTLINE_UPSTREAM_CODEC_HTTP2_CODEC_H_
#define HOTLINE_UPSTREAM_CODEC_HTTP2_CODEC_H_

#include <nghttp2/nghttp2.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "net/http2/flood_account.h"
#include "net/http2/frame_reader.h"
#include "net/http2/memory.h"
#include "upstream/codec/codec.h"
#include "upstream/codec/http2.h"
#include "upstream/codec/http2_stream.h"

namespace hotline::upstream {

// How it works.
//   - A stream lives in `streams_` until its end is told or it is cancelled;
//     nghttp2 knows it a little longer. From an id to the stream it goes by
//     nghttp2's own table, whose entry is cleared when ours ends.
//   - Pump() moves frames from nghttp2 to output_. nghttp2 gives the protocol's
//     own frames first, then heads, then bodies; bodies stop at
//     max_output_bytes. It is never called from inside nghttp2's callbacks.
//   - A broken connection is noted in problem_; Feed then says goodbye and
//     fails the streams.
class Http2Codec final : public Codec {
 public:
  Http2Codec(CodecEvents* events, Http2Events* connection_events,
             std::string_view scheme, const Http2Limits& limits);
  ~Http2Codec() override;

  Traits traits() const override { return {.multiplexed = true}; }
  bool IsReady() const override { return ready_ && max_streams_ > 0; }
  StreamId Submit(const Request& request) override;
  StreamId OpenStream(const Request& head, bool end) override;
  size_t Send(StreamId id, std::string_view piece, bool end) override;
  void Consume(StreamId id, size_t bytes) override;
  void Widen(StreamId id, size_t window) override;
  bool CanSubmit() const override;
  int MaxStreams() const override { return max_streams_; }
  size_t open_streams() const override { return streams_.size(); }
  Verdict VerdictOf(StreamId id) const override;
  void Ping() override;
  bool Feed(std::string_view bytes) override;
  void FeedEof() override;
  void Cancel(StreamId id) override;
  void TakeOutput(std::string* out) override;
  bool WantsWrite() const override;
  void OnWritten(size_t bytes) override;
  const Error& error() const override { return error_; }

 private:
  friend struct Http2Callbacks;

  // What nghttp2 tells; by its rules each returns 0 or one of its errors.
  int OnBeginHead(const nghttp2_frame& frame);
  int OnField(const nghttp2_frame& frame, std::string_view name,
              std::string_view value);
  int OnFrame(const nghttp2_frame& frame);
  int OnData(StreamId id, std::string_view piece);
  int OnFrameSent(const nghttp2_frame& frame);
  int OnStreamClosed(StreamId id, uint32_t code);
  ssize_t ReadBody(StreamId id, size_t most, uint32_t* flags);
  int SendBody(StreamId id, const uint8_t* frame_head, size_t size);

  void OnHeadWhole(Http2Stream* stream, bool last);
  int OnPeerReset(Http2Stream* stream, uint32_t code);
  void OnSettings();
  // A PING that acknowledges one.
  void OnPong(const nghttp2_ping& frame);
  void OnGoAwayFrame(const nghttp2_goaway& frame);

  // The stream, until its end is reported; else null.
  Http2Stream* Find(StreamId id) const;
  // Puts the head in fields_ into the output. `with_body`: DATA will follow.
  Http2Stream* Open(const Request& request, bool with_body, bool metered);
  void Pump();
  bool PumpFrame();
  void ReportSendable();

  // How many of `bytes` belong to one frame; pays for it.
  size_t Measure(std::string_view bytes);
  // A frame has begun, of which nghttp2 knows nothing yet.
  void OnFrameBegun(const net::FrameHead& frame);
  // HEADERS or DATA for a stream that is not open.
  void OnStray(StreamId id);
  void OnWindowUpdate(StreamId id, uint32_t increment);
  // Gives nghttp2 the bytes of one frame, `held` of whose header came before.
  void Receive(size_t held, std::string_view bytes);

  // Takes the stream off the list; it is not found any more.
  std::unique_ptr<Http2Stream> Remove(Http2Stream* stream);
  void Complete(Http2Stream* stream);
  void Reset(Http2Stream* stream, uint32_t code);
  // Tells the end, and resets the stream with `code` unless that is NO_ERROR.
  void Fail(Http2Stream* stream, CallError error, Verdict verdict,
            std::string message, uint32_t code);
  void FailMalformed(Http2Stream* stream, std::string_view problem,
                     uint32_t code = NGHTTP2_PROTOCOL_ERROR);
  int Break(std::string problem, uint32_t code);
  // The same for what an account has found: null is nothing.
  void BreakFlood(const char* problem);
  // Says goodbye, if that is still possible, and fails all streams: `culprit`
  // with kProtocol, the others as if the peer had closed the connection.
  void Close(std::string message, StreamId culprit);

  CodecEvents* const events_;
  Http2Events* const connection_events_;
  const std::string scheme_;
  const Http2Limits limits_;
  net::Http2Memory memory_;
  nghttp2_session* session_ = nullptr;

  std::vector<std::unique_ptr<Http2Stream>> streams_;
  std::vector<nghttp2_nv> fields_;  // Of the request being submitted.
  int max_streams_ = 0;
  bool ready_ = false;
  bool going_away_ = false;
  bool closed_ = false;
  bool feeding_ = false;  // Inside nghttp2, maybe.
  std::string problem_;   // Why the connection must be closed.
  uint32_t problem_code_ = 0;
  Error error_;

  // Output.
  std::string output_;
  uint64_t produced_ = 0;           // Bytes that were ever put in output_.
  uint64_t written_ = 0;            // Of those.
  std::vector<StreamId> sendable_;  // To be reported.
  uint64_t pings_ = 0;
  bool ping_open_ = false;
  bool idling_ = false;  // What was written last is not for a stream.

  // Input.
  net::FrameReader frames_;
  net::FloodAccount account_;
  std::string first_bytes_;    // Until there are enough to know HTTP/1.
  bool block_open_ = false;    // CONTINUATION has to follow.
  bool in_block_ = false;      // It should have been CONTINUATION.
  bool skipping_ = false;      // The frame is not for nghttp2.
  bool data_came_ = false;     // In the DATA frame that is being received.
  StreamId newest_reset_ = 0;  // Of the streams that we have reset.
};

// CONTINUATION frames of one head: as many as the largest that is allowed
// needs, and some.
inline int MaxContinuations(const Http2Limits& limits) {
  constexpr int64_t kFrameBytes = 16384;
  return static_cast<int>(limits.max_header_bytes / kFrameBytes) + 8;
}

// A client's session that calls `codec` back.
nghttp2_session* NewHttp2Session(Http2Codec* codec, const Http2Limits& limits,
                                 net::Http2Memory* memory);

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_CODEC_HTTP2_CODEC_H_
