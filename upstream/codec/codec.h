// A protocol without a socket: bytes in, bytes and events out.
//
// A Codec is the client's side of one connection. Whoever owns it feeds it what
// the peer sent and writes what it puts out; so it is tested and fuzzed with
// plain strings. HTTP/1.1 has one stream at a time, HTTP/2 many.
//
// Bodies: Submit takes a request whole, and what is answered counts as consumed
// once OnBody returns. OpenStream begins one whose body follows piece by piece
// (Send, OnSendable) and whose answer is taken at the caller's pace (Consume).
//
// Not thread-safe: the connection's lock protects it. Events are told from
// inside Feed and FeedEof, OnSendable from inside TakeOutput too; a handler
// must not call the codec from there, but for Cancel, Send and Consume.
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

  // The final answer's head; interim (1xx) ones are passed over.
  virtual void OnHead(StreamId stream, int status,
                      std::vector<Header> headers) = 0;
  // A piece of the body, decoded. The view lives during the call only.
  virtual void OnBody(StreamId stream, std::string_view piece) = 0;
  virtual void OnTrailers(StreamId stream, std::vector<Header> trailers) = 0;
  // The answer is whole. The stream is over.
  virtual void OnComplete(StreamId stream) = 0;
  // The stream is over without an answer, or with half of one.
  virtual void OnStreamError(StreamId stream, CallError error, Verdict verdict,
                             std::string message) = 0;

  // After Send returned more than 0 (once, however often it did): all that it
  // was given is on its way, it is the time for more.
  virtual void OnSendable(StreamId /*stream*/) {}

  // Of the connection as a whole; HTTP/1.1 tells none of these.
  //
  // The peer's settings have come: requests may be submitted.
  virtual void OnReady(int /*max_streams*/) {}
  // MaxStreams() has changed; to 0 maybe, or to less than are open. These go
  // on.
  virtual void OnConcurrency(int /*max_streams*/) {}
  // The peer takes no new streams; those up to `last` go on, the others end
  // with kRefusedByPeer right after this. May come again, with a lower `last`.
  virtual void OnGoAway(StreamId /*last*/, std::string /*why*/) {}
  virtual void OnPingAck() {}
};

class Codec {
 public:
  virtual ~Codec() = default;

  // Appends a request to the output. REQUIRES: CanSubmit().
  virtual StreamId Submit(const Request& request) = 0;

  // Begins a request whose body follows, unless `end` says that there is none;
  // `head.body` does not count. With a Content-Length among the headers
  // HTTP/1.1 sends the body as it is, else in chunks; a body of another length
  // than was said there is a mistake of the caller (nothing is sent past it).
  // REQUIRES: CanSubmit().
  virtual StreamId OpenStream(const Request& head, bool end) = 0;

  // The next piece of an opened stream's body; `end`: the last one. Returns how
  // many bytes of the body are held back by now, because the peer or the socket
  // takes no more. With more than 0 the caller should wait for OnSendable: what
  // it sends before that is kept in memory. Nothing happens (0) when the stream
  // is over or its body has ended.
  virtual size_t Send(StreamId stream, std::string_view piece, bool end) = 0;

  // So many bytes that OnBody gave are out of the way: the peer may send more.
  // For streams that were begun with OpenStream or have a Request::room.
  virtual void Consume(StreamId stream, size_t bytes) = 0;

  // So much of the answer may come before it is consumed. A stream with a
  // Request::room begins with kFirstWindow; others need not be asked for.
  static constexpr size_t kFirstWindow = 64 << 10;
  static constexpr size_t kFullWindow = 1 << 20;
  virtual void Widen(StreamId /*stream*/, size_t /*window*/) {}

  // Whether another request may be submitted now. False for ever once the
  // connection has to close.
  virtual bool CanSubmit() const = 0;

  // How many streams may be open at once; see OnReady and OnConcurrency.
  virtual int MaxStreams() const { return 1; }
  // Streams whose end has not been told; cancelled ones are not counted.
  virtual size_t open_streams() const = 0;
  // How far an open stream got: its verdict if it ended now.
  virtual Verdict VerdictOf(StreamId stream) const = 0;

  // Asks the peer for a sign of life, told by OnPingAck; one at a time, further
  // calls meanwhile do nothing. Nothing at all on HTTP/1.1.
  virtual void Ping() {}

  // Takes bytes from the peer. False: the connection must be closed (every
  // stream has been told by then), see error().
  virtual bool Feed(std::string_view bytes) = 0;

  // The peer will send no more. Ends a body that is delimited by it; fails the
  // other streams. The connection must be closed, unless OutlivesEof.
  virtual void FeedEof() = 0;
  // A stream goes on that only sends. OnTrailers has said that nothing comes.
  virtual bool OutlivesEof() const { return false; }

  // Gives a stream up: no more events for it. On HTTP/1.1 the connection must
  // be closed.
  virtual void Cancel(StreamId stream) = 0;

  // False: too much has come that nobody consumed; read no more until Consume
  // was called. HTTP/2 says always yes: there the peer itself has to stop.
  virtual bool WantsRead() const { return true; }

  // Moves what is to be written next to the end of `out`. That may not be all:
  // to be called again while WantsWrite(), but only after what was taken before
  // is written, because it is this that slows senders down. After Feed returned
  // false there may be a last word to the peer.
  virtual void TakeOutput(std::string* out) = 0;
  // Whether TakeOutput has something to give. To be asked after every other
  // call.
  virtual bool WantsWrite() const = 0;

  // Everything that will ever be sent was taken: once it is written, the peer
  // is to be told that nothing follows, and the codec that it was
  // (OnEndWritten, which may tell the stream's end).
  virtual bool WantsEnd() const { return false; }
  virtual void OnEndWritten() {}

  // After Feed: the peer agreed to change the protocol, as the request asked it
  // to (Request::upgrade); OnHead has told so, with 101. What is here goes on
  // with MakeUpgradedCodec and is of no use any more. `*rest`: what came behind
  // the answer.
  virtual bool TakeUpgrade(std::string* /*rest*/) { return false; }

  // Told as bytes are accepted by the socket, before Feed is given what was
  // read after that: verdicts go by it, and what comes before the request's
  // first byte was written is no answer to it.
  virtual void OnWritten(size_t bytes) = 0;

  // Why Feed returned false; bytes that nobody had asked for (before a request
  // was written, or after its answer) are told apart from a broken answer.
  struct Error {
    bool unsolicited = false;
    std::string message;
    std::string evidence;  // The first of the unsolicited bytes, 16 at most.
  };
  virtual const Error& error() const = 0;
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_CODEC_CODEC_H_
