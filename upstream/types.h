// The vocabulary of upstream/: requests, answers, verdicts, and the interfaces
// that receive them. Plain values and callbacks only.
//
//   class Handler : public CallHandler {
//     void OnDone(CallResult result) override { ... }
//   };
//   upstream->StartCall(conn, {.authority = "a.example"}, &handler);
#ifndef HOTLINE_UPSTREAM_TYPES_H_
#define HOTLINE_UPSTREAM_TYPES_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/histogram.h"
#include "base/time.h"

namespace hotline::upstream {

// How DNS answered; hosts files and the cache do not count.
struct DnsCounters {
  uint64_t ok = 0;
  uint64_t no_address = 0;  // No such name, or one without addresses.
  uint64_t failed = 0;      // No answer, or a server failure.
  Histogram seconds;        // From the query to that.
};

// Identifies a call on its connection. 0: none.
using CallId = uint64_t;

struct HeaderView {
  std::string_view name;
  std::string_view value;
};

struct Header {
  std::string name;  // Lower case.
  std::string value;

  friend bool operator==(const Header&, const Header&) = default;
};

// Meters the memory of an answer's body; see Request::room. Called on the loop
// under the connection's lock: must neither block nor call upstream/.
class AnswerRoom {
 public:
  virtual ~AnswerRoom() = default;
  // Whether the `have` bytes of the body in memory may grow to `want`. False
  // for a whole answer: not yet; the connection (on HTTP/2 the stream) is not
  // read until Upstream::ResumeAnswer or CancelCall. False for a streamed
  // answer: less of it is buffered at a time.
  virtual bool Grow(CallId call, size_t have, size_t want) = 0;
};

// One HTTP request. A request that is not valid HTTP, for example one with
// control characters, is not sent (kBadRequest). The views must be valid during
// StartCall only.
struct Request {
  std::string_view method = "GET";
  std::string_view authority;  // For Host: "example.com" or "example.com:8443".
  std::string_view path = "/";  // Origin form, with the query.
  std::span<const HeaderView> headers = {};
  // On HTTP/1.1, for OpenStream: the protocol to upgrade to, "websocket". A
  // final answer other than 101 is treated as usual.
  std::string_view upgrade = {};
  std::string_view body = {};
  // The limit on the answer's body. Past it the call ends with
  // kResponseTooLarge or, with `truncate`, as a success with
  // Response::truncated.
  int64_t max_response_bytes = 3 << 20;
  bool truncate = false;
  // Called before more than about 128 KiB of the answer's body is held; must
  // live until OnDone. Null: only the limit above applies.
  AnswerRoom* room = nullptr;
  // Absolute. Past it the call ends with kTimeout.
  Instant deadline = kNever;
};

struct Response {
  int status = 0;
  std::vector<Header> headers;
  std::string body;
  std::vector<Header> trailers;
  bool truncated = false;
};

// How far a call got, which decides whether it may be retried.
enum class Verdict : uint8_t {
  kComplete,         // The whole answer was received.
  kNotSent,          // No byte of the request was sent.
  kRefusedByPeer,    // The peer states that it did not process the request.
  kPartial,          // A part of the request was sent.
  kSentUnknown,      // All of it was sent; no answer was received.
  kResponseStarted,  // The answer was received in part.
};
std::string_view ToString(Verdict verdict);

enum class CallError : uint8_t {
  kNone,
  kConnectionGone,    // Closed before the request was written.
  kReset,             // Closed or reset by the peer before the answer's end.
  kTlsRefused,        // The peer refused the TLS handshake after ours finished.
  kTimeout,           // Request::deadline.
  kCancelled,         // CancelCall, or the pool closed the connection.
  kProtocol,          // The answer is not HTTP or exceeds a limit on headers.
  kResponseTooLarge,  // Request::max_response_bytes.
  kNoRoom,            // CancelCall, because Request::room has no room.
  kBadRequest,        // Not valid HTTP (FaultOf); nothing was sent.
};

// Facts of an open connection.
struct ConnectionFacts {
  std::string protocol;        // "http/1.1", "h2".
  std::string remote_address;  // "192.0.2.1:443", "[2001:db8::1]:443".
  std::string local_address;
  std::string tls_version;  // "TLSv1.3"; like the rest empty without TLS.
  std::string tls_cipher;
  std::string tls_profile;
  bool tls_resumed = false;  // The handshake resumed an earlier session.
  // Expiry of the upstream's certificate, in seconds since 1970; 0: no TLS.
  int64_t certificate_not_after = 0;
};

struct CallResult {
  CallError error = CallError::kNone;
  Verdict verdict = Verdict::kComplete;
  std::string message;  // For logs and errors; empty on success.
  Response response;    // Complete only on success.
  uint64_t bytes_written = 0;
  uint64_t bytes_read = 0;
  // From the request's first byte to the answer's first, and from there to its
  // last. 0: did not happen.
  Duration first_byte{0};
  Duration transfer{0};
  // Of the connection. Null: the request was not written.
  std::shared_ptr<const ConnectionFacts> facts;
};

// Receives the result of a call: called once, on a loop's thread or from inside
// StartCall, without any lock. Must not block. By then the connection can take
// the next call, or the pool knows that it is closed.
class CallHandler {
 public:
  virtual ~CallHandler() = default;
  virtual void OnDone(CallResult result) = 0;
};

// Receives a streamed answer piece by piece; see Upstream::OpenStream. Called
// on a loop's thread, one at a time and without any lock, in this order: OnHead
// once, OnBody, OnTrailers, and finally OnDone (possibly from inside
// OpenStream); OnSendable at any time in between. None may block; all may call
// SendBody, Consume and CancelCall.
class StreamHandler : public CallHandler {
 public:
  // The final answer's head; interim (1xx) ones are skipped.
  virtual void OnHead(int status, std::vector<Header> headers) = 0;
  // The next piece of the body, decoded. It counts towards the flow-control
  // window until Consume acknowledges it.
  virtual void OnBody(std::string piece) = 0;
  // The end of the body, if trailers follow or the request continues after it.
  virtual void OnTrailers(std::vector<Header> trailers) = 0;
  // After SendBody returned more than 0: the stream takes more. May be called
  // before that SendBody returns.
  virtual void OnSendable() = 0;
  // OnDone: `result.response` is empty; it was delivered in pieces.

  // The call's id. Set before the first callback, which may use it.
  CallId call() const { return call_.load(std::memory_order_relaxed); }

 private:
  friend class CallTable;
  std::atomic<CallId> call_{0};
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_TYPES_H_
