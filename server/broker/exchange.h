// The HTTP request of an Execute or ExecuteStream and what becomes of it: the
// slot or lease that it runs on, the attempts that it is given, the receipt.
//
// An Exchange is a member of its call. The call validates its message, hands
// over the terms (TakeTerms, Begin), makes an upstream call of each slot that
// it gets (Take, RequestOf), and reports how that ended (End, then Fail, or
// GiveBack and FillReceipt).
//
// When a failed attempt is repeated:
//   - not on a lease: its connection is gone;
//   - if the upstream did not process it, up to kMaxFreeRetries times, which
//     count neither as attempts nor against the budget;
//   - else if it is idempotent, attempts are left, and the target's retry
//     budget allows it. At once if an idle connection had died, which says
//     nothing about the upstream; otherwise after a back-off.
// UNAVAILABLE promises that nothing was processed, so the worst attempt decides
// the error, not the last one.
//
// Thread safety: as the call's (PooledCall); attempt().Cancel may be called
// from any thread.
#ifndef HOTLINE_SERVER_BROKER_EXCHANGE_H_
#define HOTLINE_SERVER_BROKER_EXCHANGE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "base/url.h"
#include "server/broker/answer_memory.h"
#include "server/broker/attempt.h"
#include "server/broker/connection_options.h"
#include "server/broker/http_head.h"
#include "server/broker/pooled_call.h"
#include "server/broker/proto_time.h"
#include "server/broker/target_table.h"

namespace hotline::server {

// Whether a method may be processed twice without harm.
bool IsIdempotent(std::string_view method);

class Exchange {
 public:
  using HeaderViews = absl::InlinedVector<upstream::HeaderView, 16>;

  Exchange(PooledCall* call, BrokerParts* parts);

  // Filled by the call when it validates its message, before TakeTerms.
  ParsedUrl* url() { return &url_; }
  // Takes over what `head` says beside the request: deadline, retries, the kind
  // of connection.
  template <typename Head>
  void TakeTerms(const Head& head, Instant now);

  // Gets what the call runs on, the connection of `lease_id` or, if that is
  // empty, a slot of the pool; leads to the call's OnSlot.
  ErrorPtr Begin(const std::string& lease_id, Instant now);

  // Begins an attempt on `slot`. Not null: the call must not run any more; the
  // slot was given back.
  ErrorPtr Take(pool::SlotLease slot, Instant now);
  Attempt& attempt() { return attempt_; }

  // The request that `head` describes, without its body. The views live as long
  // as `head`, `headers` and this.
  template <typename Head>
  upstream::Request RequestOf(const Head& head, HeaderViews* headers) const;

  // Parts of bodies are exchanged with the upstream, before End.
  void NoteSent(size_t bytes);
  void NoteReceived(size_t bytes);
  // The answer's status, of a streamed call; others report it by End.
  void NoteStatus(int status) {
    parts_.metrics->RecordStatus(running_, status);
  }
  // The attempt has ended: counts what was exchanged.
  void End(upstream::CallResult result);

  // The head of the answer has arrived: its address may have to cool down.
  // Before GiveBack, or the connection would be lent again.
  void NoteAnswer(int status, const std::vector<upstream::Header>& headers,
                  Instant now);
  void GiveBack(Instant now);
  void FillReceipt(Instant now, v1::Receipt* receipt) const;

  // The attempt failed (attempt().result()): seeks a slot for another one, or
  // completes the call. `may_repeat`: the whole request is still at hand, and
  // the caller has seen nothing of an answer.
  void Fail(bool may_repeat, Instant now);

  // The error to complete with, given that attempts before may have been
  // processed.
  ErrorPtr Judge(ErrorPtr error) const;
  // Fills the part of the request (`method`: empty means GET) and its answer.
  void Describe(std::string_view method, CallRecord* record) const;
  // Counts the call in the metrics, once. `error`: null for success.
  void Record(const ErrorPtr& error);

  // The memory of the answer, until the caller has it.
  AnswerMemory::Hold& answer() { return answer_; }

 private:
  // OVERLOADED if the caller leaves too much unread.
  ErrorPtr RefuseUnread(Instant now) const;
  bool MayRetry(Instant now);
  // `stale`: the connection had been used before, and is gone.
  void Retry(bool stale, Instant now);
  ErrorPtr ErrorOfResult() const;

  PooledCall& call_;
  CallTerms& terms_;
  BrokerParts& parts_;

  ParsedUrl url_;
  int status_ = 0;  // Of the last attempt's answer; 0: none.
  TargetRef target_;
  CallMetrics::Running running_;
  // Counted so far, of the attempt.
  uint64_t counted_sent_ = 0;
  uint64_t counted_received_ = 0;
  bool idempotent_ = false;
  Attempt attempt_;
  AnswerMemory::Hold answer_;

  int free_retries_ = 0;  // Of attempts that were not processed.
  std::vector<upstream::Verdict> failed_;  // In order.
};

// Moves an answer's headers or trailers into a message.
void MoveHeaders(std::vector<upstream::Header>* from,
                 google::protobuf::RepeatedPtrField<v1::Header>* to);

template <typename Head>
void Exchange::TakeTerms(const Head& head, Instant now) {
  terms_.key.target = std::move(url_.target.canonical);
  terms_.key.options = FromProto(head.options());
  if (head.has_timeout()) {
    terms_.deadline = std::min(terms_.deadline,
                               SaturatingAdd(now, FromProto(head.timeout())));
  }
  terms_.max_attempts = head.retry().max_attempts() > 0
                            ? head.retry().max_attempts()
                            : terms_.settings.max_attempts;
  idempotent_ = head.retry().idempotent() || head.method().empty() ||
                IsIdempotent(head.method());
}

template <typename Head>
upstream::Request Exchange::RequestOf(const Head& head,
                                      HeaderViews* headers) const {
  constexpr std::string_view kTraceparent = "traceparent";
  const std::string& trace =
      terms_.span.empty() ? terms_.context.traceparent : terms_.span;
  headers->reserve(head.headers_size() + 2);
  bool traced = !terms_.settings.forward_traceparent || !IsTraceparent(trace);
  for (const v1::Header& header : head.headers()) {
    headers->push_back({header.name(), header.value()});
    traced = traced || EqualsIgnoringCase(header.name(), kTraceparent);
  }
  // A header of the caller's own takes precedence.
  if (!traced) headers->push_back({kTraceparent, trace});
  upstream::Request request;
  if (!head.method().empty()) request.method = head.method();
  request.authority = url_.authority;
  request.path = url_.path;
  request.headers = *headers;
  request.deadline = terms_.deadline;
  return request;
}

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_EXCHANGE_H_
