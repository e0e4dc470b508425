// A request on a connection: what Execute and ExecuteStream have in common. It
// runs on a lease, or on a slot of the pool for just this call; its attempts
// have verdicts, and the contract says what becomes of them.
#ifndef HOTLINE_SERVER_BROKER_REQUEST_H_
#define HOTLINE_SERVER_BROKER_REQUEST_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "server/broker/call.h"
#include "server/broker/http_head.h"
#include "server/broker/proto_time.h"
#include "server/broker/validate.h"

namespace hotline::server {

// The error of a call that ended with kTlsRefused.
ErrorPtr RefusedByTls(const std::string& target,
                      const upstream::CallResult& result);

// An attempt is begun by Run and ends with EndAttempt, and then Succeed or Fail
// of the class that made it.
class RequestCall : public PooledCall,
                    protected upstream::AnswerRoom,
                    private AnswerWaiter {
 protected:
  using HeaderViews = absl::InlinedVector<upstream::HeaderView, 16>;

  // What the call runs on right now.
  struct Slot {
    LeaseId lease;
    pool::ConnId conn = 0;
    pool::Handle handle = 0;
    uint64_t uses = 0;
    Instant ready_since{};
  };

  RequestCall(Broker* broker, CallContext context, Completion* completion);

  // Takes over what `head` says beside the request: deadline, retries, the kind
  // of connection. url_ is parsed by then.
  template <typename Head>
  void TakeTerms(const Head& head, Instant now);

  // Gets what the call runs on, `lease_id`'s connection or a slot of the pool,
  // and leads to Run.
  ErrorPtr Begin(const std::string& lease_id, Instant now);

  // The request that `head` describes, without its body. The views live as long
  // as `head`, `headers` and this call.
  template <typename Head>
  upstream::Request RequestOf(const Head& head, HeaderViews* headers);

  // Makes an attempt on slot_.
  virtual void Run(Instant now) = 0;
  // Whether the request is still at hand, and nobody has seen an answer.
  virtual bool CanRepeat() { return true; }

  void OnSlot(const pool::Grant& grant) final;
  void EndRunning() override { CancelAttempt(); }
  void OnLeaseGone(const LeaseId& lease) final;
  ErrorPtr Judge(ErrorPtr error) override;
  void OnCompleting(const ErrorPtr& error) final;

  // Around a call of the upstream, so that others can end it: its number,
  // before it is begun, and its name, once that is known.
  uint64_t BeginAttempt();
  void NameAttempt(uint64_t run, upstream::CallId call);
  void EndAttempt();
  void CancelAttempt();

  // The answer's head has come: its address may ask for a rest. Before the
  // connection is given back, or it would be lent again.
  void NoteAnswer(int status, const std::vector<upstream::Header>& headers,
                  Instant now);
  // Before the answer goes out: the caller's next call should find the
  // connection free.
  void GiveBack(Instant now);
  // REQUIRES: the connection has not been given back.
  void FillReceiptConnection(Instant now, v1::Receipt* receipt) const;
  void FillReceipt(const upstream::CallResult& result, Instant now,
                   v1::Receipt* receipt) const;
  // The attempt failed: again, or for good.
  void Fail(upstream::CallResult result, Instant now);

  // Replaces the timer that ends with the call.
  void SetTimer(upstream::Upstream::Timer timer);

  // upstream::AnswerRoom, for a whole answer; a streamed one has its own.
  bool Grow(upstream::CallId call, size_t have, size_t want) override;

  ParsedUrl url_;
  Slot slot_;
  AnswerMemory::Hold answer_;  // Until the caller has the answer.

 private:
  // AnswerWaiter:
  void OnRoom() final;
  void OnNoRoom() final;

  // OVERLOADED when the caller leaves too much unread.
  ErrorPtr RefuseUnread(Instant now) const;
  ErrorPtr StartOnLease(const std::string& lease_id, Instant now);
  bool MayRetry(const upstream::CallResult& result, Instant now);
  ErrorPtr ErrorOf(const upstream::CallResult& result) const;

  std::optional<LeaseId> lease_;  // The caller's.
  bool idempotent_ = false;
  std::shared_ptr<RetryBudget> budget_;

  pool::DialTimings dial_;  // Of a connection made for this call.
  int free_retries_ = 0;    // Made because nothing had been processed.
  upstream::Verdict worst_ = upstream::Verdict::kNotSent;
  bool any_failed_ = false;
  std::vector<upstream::Verdict> failed_;

  // The one whose answer waits for room. Written before it does.
  pool::Handle starved_handle_ = 0;
  upstream::CallId starved_call_ = 0;

  // The running call's name, for CancelAttempt: 0 before it is known.
  Mutex run_mu_;
  upstream::CallId call_ ABSL_GUARDED_BY(run_mu_) = 0;
  pool::Handle call_handle_ ABSL_GUARDED_BY(run_mu_) = 0;
  std::optional<LeaseId> call_lease_ ABSL_GUARDED_BY(run_mu_);  // lease_.
  bool lease_gone_ ABSL_GUARDED_BY(run_mu_) = false;
  uint64_t run_ ABSL_GUARDED_BY(run_mu_) = 0;  // Which attempt it is.
  upstream::Upstream::Timer timer_ ABSL_GUARDED_BY(run_mu_);
};

// Moves an answer's headers or trailers into a message.
void MoveHeaders(std::vector<upstream::Header>* from,
                 google::protobuf::RepeatedPtrField<v1::Header>* to);

// Whether a method may be processed twice without harm.
bool IsIdempotent(std::string_view method);

template <typename Head>
void RequestCall::TakeTerms(const Head& head, Instant now) {
  key_.target = url_.target.canonical;
  key_.options = FromProto(head.options());
  if (head.has_timeout()) {
    deadline_ =
        std::min(deadline_, SaturatingAdd(now, FromProto(head.timeout())));
  }
  max_attempts_ = head.retry().max_attempts() > 0 ? head.retry().max_attempts()
                                                  : settings_->max_attempts;
  idempotent_ = head.retry().idempotent() || head.method().empty() ||
                IsIdempotent(head.method());
}

template <typename Head>
upstream::Request RequestCall::RequestOf(const Head& head,
                                         HeaderViews* headers) {
  constexpr std::string_view kTraceparent = "traceparent";
  headers->reserve(head.headers_size() + 2);
  bool traced =
      !settings_->forward_traceparent || !IsTraceparent(context_.traceparent);
  for (const v1::Header& header : head.headers()) {
    headers->push_back({header.name(), header.value()});
    traced = traced || EqualsIgnoringCase(header.name(), kTraceparent);
  }
  // The caller's own header, where there is one, is what it wants to be sent.
  if (!traced) headers->push_back({kTraceparent, context_.traceparent});
  upstream::Request request;
  if (!head.method().empty()) request.method = head.method();
  request.authority = url_.authority;
  request.path = url_.path;
  request.headers = *headers;
  request.deadline = deadline_;
  request.room = this;
  return request;
}

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_REQUEST_H_
