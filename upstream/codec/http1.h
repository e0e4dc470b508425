// HTTP/1.1 (and answers in HTTP/1.0) as a Codec: one stream at a time, no
// pipelining.
//
// A connection is used again only when there is no doubt about where the answer
// ended. Two rules follow.
//   Refused with kProtocol: both Content-Length and Transfer-Encoding,
//   differing lengths, any transfer coding but a single "chunked", bare LF,
//   folded lines, white space before a colon, control characters, a switch of
//   protocols, lines, heads, trailers or chunk extensions past their limits.
//   Answered, and then closed (CanSubmit() turns false before OnComplete): what
//   asks for it or is HTTP/1.0 without keep-alive, a body that ends with the
//   connection, an answer that came before the request was all written, a
//   repeated Content-Length, a 204 or an interim answer that announces a body,
//   bytes after the answer.
// Interim answers (1xx) may be as many as fit in the limit on heads. A status
// from 600 to 999 is data like any other; HTTP/1.2 to 1.9 are read as HTTP/1.1.
#ifndef HOTLINE_UPSTREAM_CODEC_HTTP1_H_
#define HOTLINE_UPSTREAM_CODEC_HTTP1_H_

#include <cstdint>
#include <memory>

#include "upstream/codec/codec.h"

namespace hotline::upstream {

struct Http1Limits {
  // Bytes of an answer's heads, the interim ones included; the same again for
  // its trailers, and for all of its chunk extensions together.
  int64_t max_header_bytes = 65536;
  // Of a streamed answer's body: from there on WantsRead says no.
  int64_t max_unconsumed_bytes = 1 << 20;
};

// `events` must outlive the codec.
//
// Feed goes by OnWritten: bytes that arrive before any byte of the request was
// written answer nothing. They end the call as kNotSent (kConnectionGone) and
// count as unsolicited. So OnWritten has to be called before Feed is given what
// was read after that write.
std::unique_ptr<Codec> MakeHttp1Codec(CodecEvents* events,
                                      const Http1Limits& limits = {});

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_CODEC_HTTP1_H_
