// HTTP/2 (RFC 9113) in the server's role, for one connection: bytes in, bytes
// out. No socket, no clock, no lock, no thread: time is an argument, and the
// connection moves the bytes.
//
//   ServerMemory memory;                       // One for each loop.
//   ServerSession session(&events, &memory, &options, now);
//   // Readable:
//   session.Receive(bytes, now);               // Calls events.
//   // At the end of the turn, if the socket takes bytes:
//   const std::string_view out = session.Output();
//   session.OnWritten(send(fd, out.data(), out.size(), 0));
//   if (session.finished()) Close();
//   // At session.NextTimer():
//   session.OnTimer(now);
//
// The user answers with SubmitHeaders, SubmitData and SubmitTrailers, or with
// Respond, from inside an event or later. Data that fits is framed directly
// into the output; Output returns all frames of a turn, for one write.
//
// Memory and work are bounded, whatever the peer sends. Each frame is useful or
// is charged to an account (max_useless_frames; see FloodAccount), which
// answers and time refill; resets of unanswered calls have a bucket of their
// own. A peer that overdraws one gets GOAWAY with ENHANCE_YOUR_CALM.
//
// Thread safety: none; all sessions with the same ServerMemory belong to one
// thread.
//
// Invariants:
// 1. OnRequestHeaders is followed by exactly one OnClosed, after which the
//    stream is not used. Only well-formed requests are announced.
// 2. Events are called from Receive, Output, OnTimer and the destructor only:
//    neither recursively from calls made by an event, nor inside nghttp2.
// 3. nghttp2 produces output only after all earlier output has been written, so
//    unwritten data is bounded by flow control.
// 4. Only Consume gives the peer credit for a stream's body. The connection
// gets
//    credit at once while less than max_unconsumed_bytes are unconsumed, so
//    that one slow stream does not stop the others.
// 5. After a connection error no input is read; GOAWAY is still in the output.
#ifndef HOTLINE_NET_HTTP2_SERVER_SESSION_H_
#define HOTLINE_NET_HTTP2_SERVER_SESSION_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "base/time.h"
#include "net/http2/flood_account.h"
#include "net/http2/frame_reader.h"
#include "net/http2/output_buffer.h"
#include "net/http2/request_head.h"
#include "net/http2/server_stream.h"

struct nghttp2_session;
struct nghttp2_session_callbacks;

namespace hotline::net {

class ServerMemory;

struct ServerOptions {
  uint32_t max_concurrent_streams = 1024;
  // The bytes that a peer may send of one body, and of all bodies, before they
  // are consumed. With a round trip of 50 ms, 1 MiB allows 20 MiB/s.
  int32_t stream_window_bytes = 1 << 20;
  int32_t connection_window_bytes = 4 << 20;
  // Together with the connection's window: the limit on unconsumed bytes.
  size_t max_unconsumed_bytes = 16 << 20;

  // See RequestHeadReader. A larger head is announced as too_large.
  RequestHeadReader::Limits header_limits;
  // Of one head, after its first frame.
  int max_continuations = 8;
  // HPACK's dynamic tables, ours and the peer's.
  uint32_t header_table_bytes = 4096;
  // Entries of one SETTINGS frame.
  size_t max_settings = 32;

  // The approximate limit on one Output; bodies wait beyond it.
  size_t max_output_bytes = 64 << 10;

  // From the start to the peer's SETTINGS.
  Duration handshake_timeout = std::chrono::seconds(3);
  // A peer that is silent for the interval is sent a PING and must send any
  // byte before the timeout. 0: never.
  Duration keepalive_interval = std::chrono::seconds(30);
  Duration keepalive_timeout = std::chrono::seconds(10);

  // gRPC's rule: a PING sooner than this after the previous one is a strike;
  // more strikes than allowed, without an answer in between, end the
  // connection.
  Duration min_ping_interval = std::chrono::seconds(5);
  int max_ping_strikes = 2;

  int max_useless_frames = 1000;
  int useless_frames_per_second = 100;
  // Resets by the peer, or caused by it, in excess of answered calls. Bursts
  // may exceed it by half a second's worth.
  int max_resets_per_second = 1000;
  // Resets of calls that were open for this long are free.
  Duration free_reset_age = std::chrono::milliseconds(500);
};

// Why a session has ended.
enum class SessionEnd : uint8_t {
  kNone,       // It has not.
  kDone,       // GOAWAY was exchanged and the last stream has ended.
  kPeerError,  // The peer violated the protocol.
  kFlood,      // The peer overdrew an account, or pinged too often.
  kTimeout,    // No SETTINGS, or no keep-alive answer, in time.
  kHttp1,      // The peer speaks HTTP/1, and was answered in it.
  kTls,        // The peer speaks TLS.
  kClosed,     // Close was called.
};

class ServerEvents {
 public:
  virtual ~ServerEvents() = default;

  // A request has begun. `end`: it has no body.
  virtual void OnRequestHeaders(ServerStream* stream, const RequestHead& head,
                                bool end) = 0;
  // More of the body, never empty; the bytes are valid during the call.
  // Consume must follow, now or later.
  virtual void OnData(ServerStream* stream, std::string_view bytes) = 0;
  // The request is complete; not called if OnRequestHeaders had `end`.
  virtual void OnEnd(ServerStream* stream) = 0;
  // All data was sent, after SubmitData returned more than 0.
  virtual void OnSendable(ServerStream* stream) = 0;
  // The stream has ended. `code`: the HTTP/2 error code of a reset or
  // connection error.
  virtual void OnClosed(ServerStream* stream, StreamEnd end, uint32_t code) = 0;
  // The peer has reset a stream for which OnClosed was called, or which is
  // unknown: it may not have seen the answer.
  virtual void OnLateReset(int32_t /*stream_id*/, uint32_t /*code*/) {}
};

class ServerSession {
 public:
  // All three must outlive the session.
  ServerSession(ServerEvents* events, ServerMemory* memory,
                const ServerOptions* options, Instant now);
  // Calls OnClosed for open streams.
  ~ServerSession();
  ServerSession(const ServerSession&) = delete;
  ServerSession& operator=(const ServerSession&) = delete;

  // Input. False: the session has ended, and nothing more is read.
  bool Receive(std::string_view bytes, Instant now);
  // Acknowledges that `bytes` of the body were consumed.
  void Consume(ServerStream* stream, size_t bytes);

  // Output: the bytes to write, and then how many of them were written. Output
  // must not be called while the socket is not writable.
  std::string_view Output();
  void OnWritten(size_t bytes);
  // Whether Output would return anything, or end the session.
  bool WantsWrite() const;

  // Answers. Names are in lower case. No effect on a closed stream.
  // `end`: neither data nor trailers follow.
  void SubmitHeaders(ServerStream* stream, absl::Span<const HeaderField> fields,
                     bool end);
  // More of the body: `head`, then `body`. Returns how many bytes wait; more
  // than 0: OnSendable follows, and more should not be submitted before it.
  // REQUIRES: SubmitHeaders without `end`; no SubmitTrailers.
  size_t SubmitData(ServerStream* stream, std::string_view head,
                    std::string_view body = {});
  // The same with `fill`, as Respond has it.
  size_t SubmitData(ServerStream* stream, size_t size,
                    absl::FunctionRef<void(char*)> fill);
  // Ends the answer after the waiting data.
  void SubmitTrailers(ServerStream* stream,
                      absl::Span<const HeaderField> fields);
  // All three at once. `fill` writes the body, `size` bytes, into the place
  // given: the output itself, when it fits.
  void Respond(ServerStream* stream, absl::Span<const HeaderField> headers,
               size_t size, absl::FunctionRef<void(char*)> fill,
               absl::Span<const HeaderField> trailers);
  // Ends the stream at once; OnClosed follows, from Receive or Output.
  void Reset(ServerStream* stream, uint32_t code);

  // Drain in two steps: GOAWAY with the highest id and a PING; when that is
  // acknowledged (or keepalive_timeout has passed), GOAWAY with the last id.
  // Calls that were accepted go on; finished() once they have ended.
  void StartDrain(Instant now);
  // Ends it now, with GOAWAY.
  void Close(uint32_t code, std::string_view why);

  // When OnTimer is due; it may be called early.
  Instant NextTimer() const;
  void OnTimer(Instant now);

  // All streams have ended and all output is written: close the connection.
  bool finished() const;
  SessionEnd end() const { return end_; }
  // Of kPeerError and kFlood, for a log: printable, short.
  const std::string& end_text() const { return end_text_; }
  size_t open_streams() const { return open_streams_; }
  // Valid until the next event.
  std::vector<ServerStream*> ListOpen() const;
  // The peer's SETTINGS have arrived.
  bool ready() const { return ready_; }

 private:
  friend struct ServerCallbacks;
  // Calls nghttp2 with the buffer that all sessions share.
  struct Allocator {
    ServerMemory* memory;
    bool has_frame = false;
    void* table = nullptr;
  };
  // The event of a frame, recorded inside nghttp2 and delivered outside.
  struct Pending {
    ServerStream* stream = nullptr;
    std::string_view data;
    bool head = false;
    bool end = false;
    int32_t late_reset = 0;
    uint32_t late_code = 0;
  };
  // A body that is being submitted, while its bytes are still the caller's.
  struct Borrowed {
    ServerStream* stream = nullptr;
    std::string_view head;
    std::string_view body;
    const absl::FunctionRef<void(char*)>* fill = nullptr;
    size_t fill_size = 0;
    absl::Span<const HeaderField> trailers;

    size_t size() const { return head.size() + body.size() + fill_size; }
  };

  void StartNghttp2();

  // What nghttp2 reports; each returns 0 or one of nghttp2's errors.
  int OnBeginBlock(int32_t id, bool request);
  int OnField(int32_t id, std::string_view name, std::string_view value);
  int OnBlockEnd(int32_t id, bool last);
  int OnChunk(int32_t id, std::string_view piece);
  void OnDataEnd(int32_t id, bool last);
  void OnPeerReset(int32_t id, uint32_t code);
  void OnPingAck(const uint8_t* payload);
  void OnHeadersSent(int32_t id, bool last);
  void OnResetSent(int32_t id);
  void OnGoAwaySent(uint32_t code, std::string_view text);
  int OnStreamGone(int32_t id, uint32_t code);
  ptrdiff_t ReadBody(ServerStream* stream, size_t most, uint32_t* flags);
  int SendBody(ServerStream* stream, const uint8_t* frame_head, size_t size);

  ServerStream* Find(int32_t id) const;

  // Input.
  void HandOn(std::string_view bytes);  // To nghttp2.
  bool ReadPreface(std::string_view bytes);
  // `first`: the first byte of what came in its place.
  void RefusePreface(char first);
  // How many of `bytes` belong to one frame.
  size_t Measure(std::string_view bytes);
  void OnFrameBegun(const FrameHead& frame);
  void OnFrameEnd(const FrameHead& frame);
  void OnPing();
  // True: the update of this stream's window is one that each stream has free.
  bool TakeFreeUpdate(int32_t id, uint32_t increment);
  void PayForReset(const ServerStream& stream);
  void Malformed(ServerStream* stream);
  void GiveReaderBack();
  void ReportPending();
  // Calls OnSendable and OnClosed; whether there was any.
  bool Deliver();

  // Output.
  bool blocked() const { return handed_ > 0; }
  void Pump();
  bool PumpFrame();
  void FinishDrain();
  // Also frees memory while the session is idle.
  void PingSilentPeer();
  void SubmitFields(ServerStream* stream, absl::Span<const HeaderField> fields,
                    bool trailers, bool with_body);
  void SubmitDueTrailers(ServerStream* stream);
  // Copies the rest of `borrowed_` into its stream.
  void KeepBorrowed();
  size_t SendBorrowed(const Borrowed& borrowed);

  // Streams.
  void Unlink(ServerStream* stream);
  void CloseStream(ServerStream* stream, StreamEnd end, uint32_t code);
  void ResetStream(ServerStream* stream, uint32_t code);
  void ReleaseUnconsumed(size_t bytes);

  // Records why the session must end; Settle ends it. The first one counts.
  void Fault(SessionEnd end, uint32_t code, const char* why);
  void Settle();
  void End(SessionEnd end, uint32_t code, std::string_view text);

  ServerEvents* const events_;
  ServerMemory* const memory_;
  const ServerOptions* const options_;
  Allocator allocator_;
  nghttp2_session* session_ = nullptr;

  ServerStream* first_open_ = nullptr;
  ServerStream* first_closed_ = nullptr;
  ServerStream* last_closed_ = nullptr;
  std::vector<ServerStream*> sendable_;
  size_t open_streams_ = 0;

  // Input.
  FrameReader frames_;
  std::unique_ptr<RequestHeadReader> head_;  // Of the block under way.
  Pending pending_;
  ServerStream* block_stream_ = nullptr;  // Whose it is.
  uint8_t preface_seen_ = 0;              // Bytes of it that have come.
  bool ready_ = false;
  bool block_open_ = false;  // CONTINUATION has to follow.
  bool useful_ = false;      // The frame that is being received.
  bool drop_frame_ = false;  // It is not for nghttp2.
  bool settings_seen_ = false;
  int32_t newest_stream_ = 0;  // Of all HEADERS.
  size_t unconsumed_ = 0;      // Of all streams.
  size_t withheld_ = 0;        // Of those, without credit for the connection.
  FloodAccount account_;
  TokenBucket resets_;

  // Output.
  OutputBuffer output_;
  size_t handed_ = 0;  // Given by Output and not written.
  Borrowed borrowed_;
  int goaways_sent_ = 0;

  // Time.
  const Instant started_;
  Instant now_;
  Instant last_received_;
  Instant ping_sent_ = kNever;   // kNever: none is open.
  Instant drain_sent_ = kNever;  // The same, of the drain's PING.
  Instant next_free_ping_{};
  Instant lenient_until_{};  // Frames may have crossed our resets.
  bool reset_sent_ = false;  // lenient_until_ is to be set.
  bool answered_since_ping_ = false;
  int8_t ping_strikes_ = 0;
  uint32_t ping_number_ = 0;
  bool ping_unacknowledged_ = false;
  bool draining_ = false;
  bool drain_due_ = false;  // Its last GOAWAY is to be sent.

  SessionEnd end_ = SessionEnd::kNone;
  SessionEnd fault_ = SessionEnd::kNone;
  uint32_t fault_code_ = 0;
  const char* fault_text_ = nullptr;
  std::string end_text_;
};

}  // namespace hotline::net

#endif  // HOTLINE_NET_HTTP2_SERVER_SESSION_H_
