// What is told of calls that have ended: to an access log, or as spans of
// traces.
//
// Recorded are the calls that need an upstream: Acquire, Execute, ExecuteStream
// and Tunnel, also as items of a Session.
//
// Thread safety: a CallObserver is called from any thread, and must not block.
#ifndef HOTLINE_SERVER_BROKER_CALL_RECORD_H_
#define HOTLINE_SERVER_BROKER_CALL_RECORD_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "base/time.h"
#include "pool/types.h"
#include "server/broker/error.h"
#include "server/broker/rpc.h"

namespace hotline::server {

// A call that has ended. The views live as long as OnCallEnd. Contains no
// header, query or body.
struct CallRecord {
  RpcMethod rpc = RpcMethod::kAcquire;
  // Canonical. Empty: the request was refused before its target was known.
  std::string_view target;
  // Of the HTTP request; empty: there was none.
  std::string_view method;
  std::string_view path;  // Without the query.
  int status = 0;         // The upstream's; 0: no answer.
  // Null: success.
  const Error* error = nullptr;

  std::string_view identity;  // Empty: the caller has none.
  uint64_t session = 0;       // The Session that it was an item of; 0: none.
  // W3C Trace Context: the caller's, and that of the call's own span (from
  // BeginSpan). Empty: none.
  std::string_view traceparent;
  std::string_view span;

  int attempts = 1;
  pool::ConnId connection = 0;  // Of the last attempt; 0: none.
  bool reused = false;          // The connection had been used before.
  uint64_t sent = 0;            // Bytes, to the upstream.
  uint64_t received = 0;

  Instant begun{};
  Instant ended{};
  Duration waited{0};      // For slots, in total.
  Duration dial{0};        // Of the connection, if it was made for this call.
  Duration first_byte{0};  // From the request to the answer's first byte.
};

class CallObserver {
 public:
  virtual ~CallObserver() = default;

  // A call begins. Returns the `traceparent` of its span, which is also sent to
  // the upstream where it is forwarded; empty: the call gets no span.
  // `traceparent`: the caller's; one that is not valid counts as none.
  virtual std::string BeginSpan(std::string_view traceparent) const = 0;

  // Called once for every call that was started.
  virtual void OnCallEnd(const CallRecord& record) const = 0;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_CALL_RECORD_H_
