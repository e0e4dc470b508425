// A server that speaks HTTP/2 over TLS, as a script for a ScriptedPeer. What it
// does with a request is a function of the test's.
#ifndef HOTLINE_TESTS_UPSTREAM_CODEC_HTTP2_SERVER_H_
#define HOTLINE_TESTS_UPSTREAM_CODEC_HTTP2_SERVER_H_

#include <functional>
#include <string>
#include <utility>

#include "tests/fakes/scripted_peer.h"
#include "tests/upstream/codec/http2_driver.h"

namespace hotline::upstream {

// A request has come whole.
using Http2Serve = std::function<void(Http2Peer& peer, StreamId id,
                                      const Http2Peer::Asked& request)>;

// Until the client goes, or breaks the protocol. `tell`, where there is one,
// sees the peer after each input.
inline testing::ScriptedPeer::Script ServeHttp2(
    Http2Peer::Options options, Http2Serve serve,
    std::function<void(Http2Peer&)> tell = nullptr) {
  return [=](testing::PeerConnection& connection) {
    Http2Peer peer(options);
    peer.on_end = [&](StreamId id) { serve(peer, id, peer.requests[id]); };
    connection.Write(peer.TakeOutput());
    for (;;) {
      const std::string input = connection.ReadSome();
      if (input.empty() || !peer.Feed(input)) return;
      if (tell) tell(peer);
      if (!connection.Write(peer.TakeOutput())) return;
    }
  };
}

// Answers 200 with the path and the body it was sent.
inline void Echo(Http2Peer& peer, StreamId id,
                 const Http2Peer::Asked& request) {
  peer.Answer(id, {{":status", "200"}}, request.Get(":path") + request.body);
}

}  // namespace hotline::upstream

#endif  // HOTLINE_TESTS_UPSTREAM_CODEC_HTTP2_SERVER_H_
