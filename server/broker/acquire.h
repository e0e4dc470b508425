// Acquire, as a call: a slot that the caller keeps, as a lease.
#ifndef HOTLINE_SERVER_BROKER_ACQUIRE_H_
#define HOTLINE_SERVER_BROKER_ACQUIRE_H_

#include <memory>
#include <string>

#include "server/broker/pooled_call.h"

namespace hotline::server {

class AcquireCall final : public PooledCall {
 public:
  // The request, the response and the completion must live until completion.
  AcquireCall(BrokerParts* parts, const v1::AcquireRequest* request,
              v1::AcquireResponse* response, CallContext context,
              Completion* completion);

 private:
  // PooledCall:
  ErrorPtr Prepare(Instant now) override;
  void OnSlot(pool::SlotLease slot, Instant now) override;

  // Sets the lease's holder. It counts against the caller's quota of leases, if
  // there is one.
  ErrorPtr MakeHolder();

  const v1::AcquireRequest& request_;
  v1::AcquireResponse* const response_;
  std::string request_id_;  // The caller's, made unique among all callers.
};

// Makes a caller's request id unique among all callers. `client_id`: what the
// caller says it is, in its field `field`. An error: nothing tells it apart.
ErrorPtr ScopeRequestId(const std::string& id, const std::string& client_id,
                        const char* field, const CallContext& context,
                        std::string* out);

// The holder that a request names; null if it names none and there is no trace.
std::shared_ptr<const pool::Holder> HolderOf(const v1::Holder& holder,
                                             const std::string& traceparent);

// Validates a request and translates it for the pool. `out` may refer to
// `request`.
ErrorPtr PrepareAcquire(const v1::AcquireRequest& request,
                        const BrokerSettings& settings,
                        const CallContext& context, Instant now,
                        pool::HostPoolKey* key, pool::AcquireRequest* out);

// Fills the answer for a lease that was granted, but for its wait.
void FillAcquired(const pool::SlotLease& slot, Instant expires,
                  const upstream::Upstream& upstream, Instant arrival,
                  Instant now, v1::AcquireResponse* out);

void FillLease(const LeaseId& id, Instant expires, Instant now, v1::Lease* out);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_ACQUIRE_H_
