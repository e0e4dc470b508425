// Acquire, as a call.
#ifndef HOTLINE_SERVER_BROKER_ACQUIRE_H_
#define HOTLINE_SERVER_BROKER_ACQUIRE_H_

#include "server/broker/call.h"

namespace hotline::server {

class AcquireCall final : public PooledCall {
 public:
  AcquireCall(Broker* broker, const v1::AcquireRequest* request,
              v1::AcquireResponse* response, CallContext context,
              Completion* completion);

 private:
  RpcMethod rpc() const override { return RpcMethod::kAcquire; }
  ErrorPtr Prepare(Instant now) override;
  // Sets what names the request in the pool, if the caller named it.
  ErrorPtr MakeRequestId();
  // What will be known of the lease's holder; null when there is nothing. Holds
  // one of the caller's leases, where those are counted.
  ErrorPtr MakeHolder();
  void OnSlot(const pool::Grant& grant) override;
  void OnCompleting(const ErrorPtr& error) override;

  const v1::AcquireRequest& request_;
  v1::AcquireResponse* const response_;
  std::string request_id_;  // With whose it is before it.
};

// Who `holder`, which may be empty, says that it is; the caller's trace where
// it names none. Null: nobody.
std::shared_ptr<const pool::Holder> HolderOf(const v1::Holder& holder,
                                             const std::string& traceparent);

// Checks a request and says it in the pool's words. `key` and `out` refer to it
// where they can.
ErrorPtr PrepareAcquire(const v1::AcquireRequest& request,
                        const BrokerSettings& settings,
                        const CallContext& context, Instant now,
                        pool::HostPoolKey* key, pool::AcquireRequest* out);

// The answer to who has been granted a connection, but for its wait.
void FillAcquired(const pool::Grant& grant, const upstream::Upstream& upstream,
                  Instant arrival, Instant now, v1::AcquireResponse* out);

// What a lease's end looks like on the wire.
void FillLease(const LeaseId& id, Instant expires, Instant now, v1::Lease* out);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_ACQUIRE_H_
