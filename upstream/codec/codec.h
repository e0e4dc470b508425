// A protocol without a socket: bytes in, bytes and events out.
//
// A Codec is the client's side of one connection. Its owner feeds it the bytes
// that the peer sent and writes the bytes that it puts out, so it can be tested
// and fuzzed with plain strings. HTTP/1.1 and tunnels have one stream at a
// time, HTTP/2 many:
//
//   auto codec = MakeHttp1Codec(&events);
//   const StreamId stream = codec->Submit(request);
//   std::string out;
//   codec->TakeOutput(&out);                    // Write it, and then:
//   codec->OnWritten(out.size());
//   codec->Feed("HTTP/1.1 200 OK\r\n...");      // events.OnHead(stream, ...)
//
// Bodies: Submit takes a request with its whole body, and OnBody's bytes count
// as consumed when it returns. OpenStream begins a request whose body follows
// in pieces (Send, OnSendable) and whose answer is taken at the caller's pace
// (Consume).
//
// Thread safety: none; the connection's lock protects it.
//
// Invariants:
//   1. A stream ends with exactly one of OnComplete, OnStreamError and Cancel;
//      after that there are no more events for it.
//   2. Events come from inside Feed, FeedEof and OnEndWritten, OnSendable from
//      inside TakeOutput as well. A handler may call Cancel, Send and Consume
//      from there, and nothing else.
//   3. After Feed has returned false every stream has ended.
#ifndef HOTLINE_UPSTREAM_CODEC_CODEC_H_
#define HOTLINE_UPSTREAM_CODEC_CODEC_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "upstream/types.h"

namespace hotline::upstream {

// Tells streams of one connection apart; never 0, never reused.
using StreamId = uint32_t;

class CodecEvents {
 public:
  virtual ~CodecEvents() = default;

  // The final answer's head; interim (1xx) ones are skipped.
  virtual void OnHead(StreamId stream, int status,
                      std::vector<Header> headers) = 0;
  // A piece of the body, decoded. The view is valid during the call only.
  virtual void OnBody(StreamId stream, std::string_view piece) = 0;
  virtual void OnTrailers(StreamId stream, std::vector<Header> trailers) = 0;
  // The answer is complete. The stream is over.
  virtual void OnComplete(StreamId stream) = 0;
  // The stream is over without a complete answer.
  virtual void OnStreamError(StreamId stream, CallError error, Verdict verdict,
                             std::string message) = 0;

  // Once after Send returned more than 0: everything that was given to Send has
  // left, and the stream takes more.
  virtual void OnSendable(StreamId /*stream*/) {}
};

class Codec {
 public:
  virtual ~Codec() = default;

  // How the protocol uses its connection.
  struct Traits {
    // Streams share the connection: one may end, in whatever way, without
    // affecting the others or the connection. Otherwise there is one stream at
    // a time, and the connection must be closed after Cancel or OnStreamError.
    bool multiplexed = false;
    // Bytes of an unknown protocol: a request's head is not sent, the peer may
    // speak first, and any of its bytes is an answer.
    bool opaque = false;
    // The stream lasts as long as the connection and has no messages. Cut off,
    // it must not look complete.
    bool tunnel = false;
  };
  virtual Traits traits() const = 0;

  // Whether the peer is known to take requests. False at first on HTTP/2.
  virtual bool IsReady() const { return true; }

  // Appends a request to the output. REQUIRES: CanSubmit().
  virtual StreamId Submit(const Request& request) = 0;

  // Begins a request whose body follows by Send; `end`: it has none.
  // `head.body` is ignored. On HTTP/1.1 a body with a Content-Length header is
  // sent as it is, others in chunks. A body of another length than announced is
  // the caller's mistake; nothing is sent past that length. REQUIRES:
  // CanSubmit().
  virtual StreamId OpenStream(const Request& head, bool end) = 0;

  // The next piece of an opened stream's body; `end`: the last one. Returns how
  // many bytes of the body are held back because the peer or the socket takes
  // no more. If more than 0, the caller should wait for OnSendable: what it
  // sends before that is kept in memory. Does nothing (0) when the stream is
  // over or its body has ended.
  virtual size_t Send(StreamId stream, std::string_view piece, bool end) = 0;

  // Acknowledges that `bytes` of OnBody's were consumed: the peer may send
  // more. For streams of OpenStream, and those with a Request::room.
  virtual void Consume(StreamId stream, size_t bytes) = 0;

  // Sets how much of the answer may arrive before it is consumed. A stream with
  // a Request::room begins with kFirstWindow; the window of others opens by
  // itself.
  static constexpr size_t kFirstWindow = 64 << 10;
  static constexpr size_t kFullWindow = 1 << 20;
  virtual void Widen(StreamId /*stream*/, size_t /*window*/) {}

  // Whether another request may be submitted now. False for good once the
  // connection has to close.
  virtual bool CanSubmit() const = 0;

  // How many streams may be open at once. On HTTP/2 it changes; see
  // Http2Events.
  virtual int MaxStreams() const { return 1; }
  // Streams that have not ended.
  virtual size_t open_streams() const = 0;
  // The verdict of an open stream if it ended now.
  virtual Verdict VerdictOf(StreamId stream) const = 0;

  // Sends a PING (see Http2Events::OnPingAck), unless one is unanswered. HTTP/2
  // only; does nothing elsewhere.
  virtual void Ping() {}

  // Takes bytes from the peer. False: the connection must be closed; see
  // error().
  virtual bool Feed(std::string_view bytes) = 0;

  // The peer will send no more. Completes a body that ends with the connection
  // and fails other streams. The connection must be closed, unless OutlivesEof.
  virtual void FeedEof() = 0;
  // The stream goes on, sending only. OnTrailers has reported the answer's end.
  virtual bool OutlivesEof() const { return false; }

  // Ends a stream without an event.
  virtual void Cancel(StreamId stream) = 0;

  // False: the limit on unconsumed bytes is reached; read no more until Consume
  // was called. Always true on HTTP/2, where flow control stops the peer.
  virtual bool WantsRead() const { return true; }

  // Appends to `out` what is to be written next. Call it again while
  // WantsWrite(), but only after that was written: this is the back-pressure
  // that senders feel. After Feed has returned false there may be a last
  // message for the peer.
  virtual void TakeOutput(std::string* out) = 0;
  // Whether TakeOutput has anything. May change with every call to the codec.
  virtual bool WantsWrite() const = 0;

  // All output was taken, and nothing will follow: once it is written, end the
  // connection's output and call OnEndWritten, which may complete the stream.
  virtual bool WantsEnd() const { return false; }
  virtual void OnEndWritten() {}

  // After Feed: the stream whose peer has agreed to change the protocol, as
  // Request::upgrade asked; OnHead has reported 101. It continues in
  // MakeUpgradedCodec's codec, to be fed `*surplus` first, and this one is of
  // no further use. 0: none.
  virtual StreamId TakeUpgrade(std::string* /*surplus*/) { return 0; }

  // The socket has accepted `bytes`. REQUIRES: called before Feed is given what
  // was received after that write. Verdicts depend on it; and bytes that arrive
  // before a request's first byte was written do not answer it.
  virtual void OnWritten(size_t bytes) = 0;

  // Why Feed returned false.
  struct Error {
    // Bytes arrived that answer no request: before it was written, or after its
    // answer.
    bool unsolicited = false;
    std::string message;
    std::string evidence;  // The first unsolicited bytes, at most 16.
  };
  virtual const Error& error() const = 0;
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_CODEC_CODEC_H_
