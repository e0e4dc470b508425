// Bytes as they are, as a Codec: what tcp:// and tls:// targets speak, and what
// an HTTP/1.1 connection speaks after an Upgrade. A connection has one stream
// in its life, the tunnel; OpenStream begins it.
//
// OnHead (101, no headers) says that the tunnel is open, then OnBody what the
// peer sends. Either side may end first: OnTrailers (with none) says that the
// peer has, and the stream goes on; after the end of both, OnComplete.
//
// Servers that speak first are welcome: what comes before the stream is kept,
// up to a limit, from which on WantsRead says no.
#ifndef HOTLINE_UPSTREAM_CODEC_RAW_CODEC_H_
#define HOTLINE_UPSTREAM_CODEC_RAW_CODEC_H_

#include <cstddef>
#include <memory>

#include "upstream/codec/codec.h"

namespace hotline::upstream {

struct RawLimits {
  // Received, and not consumed or asked for: past it nothing more is read.
  size_t max_unconsumed_bytes = 256 << 10;
};

// `events` must outlive the codec. Feed may be called with no bytes: it tells
// what there is to tell. What Submit begins only listens.
std::unique_ptr<Codec> MakeRawCodec(CodecEvents* events,
                                    const RawLimits& limits = {});

// The same, with the stream begun under another protocol's name for it, and its
// head told: what follows an Upgrade.
std::unique_ptr<Codec> MakeUpgradedCodec(CodecEvents* events, StreamId stream,
                                         const RawLimits& limits = {});

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_CODEC_RAW_CODEC_H_
