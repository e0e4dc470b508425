// Requests, answers and verdicts: what callers of upstream/ see.
#ifndef HOTLINE_UPSTREAM_TYPES_H_
#define HOTLINE_UPSTREAM_TYPES_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"

namespace hotline::upstream {

// Tells calls on one connection apart. 0 names none.
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

// Meters the memory that an answer's body takes; see Request::room. Asked on
// the loop under the connection's lock: must not block, nor call upstream/
// back.
class AnswerRoom {
 public:
  virtual ~AnswerRoom() = default;
  // `have` bytes of the body are in memory; may it be `want`? False for a whole
  // answer: not yet, and the upstream is read no further (on HTTP/2 this stream
  // is) until Upstream::ResumeAnswer or CancelCall. False for a streamed one:
  // not yet, and less of it is buffered at a time.
  virtual bool Grow(CallId call, size_t have, size_t want) = 0;
};

// One HTTP request. What has control characters, or is otherwise no HTTP, is
// not sent: kBadRequest. The views need to live during StartCall only.
struct Request {
  std::string_view method = "GET";
  std::string_view authority;  // For Host: "example.com" or "example.com:8443".
  std::string_view path = "/";  // Origin form, with the query.
  std::span<const HeaderView> headers = {};
  // On HTTP/1.1, in OpenStream: the protocol to change to, "websocket". A final
  // answer other than 101 is one like any other.
  std::string_view upgrade = {};
  std::string_view body = {};
  // Of the answer's body. Past it the call ends: with kResponseTooLarge, or,
  // with `truncate`, as a success with Response::truncated.
  int64_t max_response_bytes = 3 << 20;
  bool truncate = false;
  // Asked before more than about 128 KiB of the answer's body is taken in; must
  // live until OnDone. Null: the limit above is the only one.
  AnswerRoom* room = nullptr;
  // Absolute; the call ends with kTimeout.
  Instant deadline = kNever;
};

struct Response {
  int status = 0;
  std::vector<Header> headers;
  std::string body;
  std::vector<Header> trailers;
  bool truncated = false;
};

// How far a call got: what decides whether it may be made again.
enum class Verdict : uint8_t {
  kComplete,         // The whole answer is there.
  kNotSent,          // No byte of the request left.
  kRefusedByPeer,    // The peer says that it did not look at it.
  kPartial,          // Some bytes of the request left.
  kSentUnknown,      // All of it left, nothing came back.
  kResponseStarted,  // The answer broke off.
};
std::string_view ToString(Verdict verdict);

enum class CallError : uint8_t {
  kNone,
  kConnectionGone,    // Closed before the request was written.
  kReset,             // Closed or reset by the peer before the answer's end.
  kTlsRefused,        // The peer refused the TLS handshake after our end of it.
  kTimeout,           // Request::deadline.
  kCancelled,         // CancelCall, or the pool closed the connection.
  kProtocol,          // The answer is not HTTP, or breaks a limit on headers.
  kResponseTooLarge,  // Request::max_response_bytes.
  kNoRoom,            // CancelCall, because Request::room has none.
  kBadRequest,        // Not to be written as HTTP (FaultOf); nothing was sent.
};

struct CallResult {
  CallError error = CallError::kNone;
  Verdict verdict = Verdict::kComplete;
  std::string message;  // For people; empty on success.
  Response response;    // Complete on success only.
  uint64_t bytes_written = 0;
  uint64_t bytes_read = 0;
  // From the request's first byte to the answer's first byte, and from there to
  // its last. Zero: did not happen.
  Duration first_byte{0};
  Duration transfer{0};
};

// Told once how a call ended; on a loop's thread, or from inside StartCall. No
// lock is held. Must not block. By then the connection is fit for the next
// call, or the pool has been told that it is closed.
class CallHandler {
 public:
  virtual ~CallHandler() = default;
  virtual void OnDone(CallResult result) = 0;
};

// Told of a streamed call, piece by piece; see Upstream::OpenStream. In this
// order, on a loop's thread, one at a time, no lock held: OnHead once, OnBody,
// OnTrailers, and OnDone, the last of all (maybe from inside OpenStream).
// OnSendable comes at any time in between. None may block; all may call
// SendBody, Consume and CancelCall.
class StreamHandler : public CallHandler {
 public:
  // The final answer's head; interim (1xx) ones are passed over.
  virtual void OnHead(int status, std::vector<Header> headers) = 0;
  // The next piece of the body, decoded. Counts against what may come until it
  // has been given to Consume.
  virtual void OnBody(std::string piece) = 0;
  // The body's end, if trailers follow it, or if the request goes on after it.
  virtual void OnTrailers(std::vector<Header> trailers) = 0;
  // After SendBody returned more than 0: it is the time for more. May come
  // before that SendBody has returned.
  virtual void OnSendable() = 0;
  // OnDone: `result.response` is empty, everything of it has been told.

  // The call's name. Set before the handler is told anything, so that it can
  // be used from inside of what is told.
  CallId call() const { return call_.load(std::memory_order_relaxed); }

 private:
  friend class CallTable;
  std::atomic<CallId> call_{0};
};

// What there is to know of an open connection.
struct ConnectionFacts {
  std::string protocol;        // "http/1.1", "h2".
  std::string remote_address;  // "192.0.2.1:443", "[2001:db8::1]:443".
  std::string local_address;
  std::string tls_version;  // "TLSv1.3"; empty without TLS, as what follows.
  std::string tls_cipher;
  std::string tls_profile;
  bool tls_resumed = false;  // The handshake resumed an earlier session.
  // Of the upstream's certificate, in seconds since 1970; 0: without TLS.
  int64_t certificate_not_after = 0;
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_TYPES_H_
