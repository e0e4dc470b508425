// A protocol without a socket: bytes in, bytes and events out.
//
// A Codec is the client's side of one connection. Whoever owns it feeds it what
// the peer sent and writes what it puts out; so it is tested and fuzzed with
// plain strings. HTTP/1.1 has one stream at a time; the interface is made for
// protocols with many.
//
// Not thread-safe: the connection's lock protects it. Events are told from
// inside Feed and FeedEof; a handler must not call the codec from there, but
// for Cancel.
#ifndef HOTLINE_UPSTREAM_CODEC_H_
#define HOTLINE_UPSTREAM_CODEC_H_

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
};

class Codec {
 public:
  virtual ~Codec() = default;

  // Appends a request to the output. REQUIRES: CanSubmit().
  virtual StreamId Submit(const Request& request) = 0;

  // Whether another request may be submitted now. False for ever once the
  // connection has to close.
  virtual bool CanSubmit() const = 0;

  // Takes bytes from the peer. False: the connection must be closed (every
  // stream has been told by then), see error().
  virtual bool Feed(std::string_view bytes) = 0;

  // The peer will send no more. Ends a body that is delimited by it; fails the
  // other streams. The connection must be closed.
  virtual void FeedEof() = 0;

  // Gives a stream up: no more events for it. On HTTP/1.1 the connection must
  // be closed.
  virtual void Cancel(StreamId stream) = 0;

  // Moves what is to be written next to the end of `out`.
  virtual void TakeOutput(std::string* out) = 0;

  // Told as bytes are accepted by the socket, before Feed is given what was
  // read after that: verdicts go by it, and what comes before the request's
  // first byte was written is no answer to it.
  virtual void OnWritten(size_t bytes) = 0;

  // Why Feed returned false; bytes that nobody had asked for (with no stream
  // open) are told apart from a broken answer.
  struct Error {
    bool unsolicited = false;
    std::string message;
  };
  virtual const Error& error() const = 0;
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_CODEC_H_
