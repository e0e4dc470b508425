// One request and its answer, as ServerSession and its user know it.
#ifndef HOTLINE_NET_HTTP2_SERVER_STREAM_H_
#define HOTLINE_NET_HTTP2_SERVER_STREAM_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/time.h"

namespace hotline::net {

enum class StreamEnd : uint8_t {
  kComplete,    // The whole answer was handed to the output.
  kPeerReset,   // The peer reset it before that.
  kReset,       // We did: Reset was called, or the peer broke a rule.
  kConnection,  // The connection ended before that.
};

// A handle: valid from OnRequestHeaders to OnClosed, and owned by the session.
class ServerStream {
 public:
  ServerStream() = default;
  ServerStream(const ServerStream&) = delete;
  ServerStream& operator=(const ServerStream&) = delete;

  int32_t id() const { return id_; }
  // Nothing that is submitted has an effect any more; OnClosed follows.
  bool closed() const { return closed_; }
  // Bytes of the answer's body that wait for a window or for the socket.
  size_t waiting_bytes() const { return body_.size() - body_used_; }

  void* user = nullptr;  // The user's.

 private:
  friend class ServerSession;
  friend class ServerMemory;
  using OwnedFields = std::vector<std::pair<std::string, std::string>>;

  // Neighbours in the session's list of open streams; `next_` also links the
  // closed ones that OnClosed was not called for yet.
  ServerStream* previous_ = nullptr;
  ServerStream* next_ = nullptr;
  int32_t id_ = 0;
  uint32_t end_code_ = 0;
  StreamEnd end_ = StreamEnd::kComplete;

  bool announced_ = false;      // OnRequestHeaders was called.
  bool head_over_ = false;      // What comes next are trailers.
  bool peer_ended_ = false;     // Its END_STREAM has come.
  bool peer_reset_ = false;     // Its RST_STREAM has come.
  bool answering_ = false;      // SubmitHeaders was called.
  bool trailers_due_ = false;   // They follow what waits.
  bool answered_ = false;       // Our END_STREAM is in the output.
  bool deferred_ = false;       // nghttp2 waits for resume_data.
  bool owes_sendable_ = false;  // OnSendable follows once nothing waits.
  bool closed_ = false;
  uint8_t free_updates_ = 2;  // Of its window, that need not be paid for.

  Instant opened_{};
  int64_t content_length_ = -1;  // -1: not given.
  int64_t received_ = 0;
  size_t unconsumed_ = 0;

  std::string body_;  // What waits, from body_used_.
  size_t body_used_ = 0;
  std::unique_ptr<OwnedFields> trailers_;  // When they have to wait.
};

}  // namespace hotline::net

#endif  // HOTLINE_NET_HTTP2_SERVER_STREAM_H_
