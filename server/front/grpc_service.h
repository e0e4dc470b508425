// The Broker over gRPC: reactors so thin that they only translate.
#ifndef HOTLINE_SERVER_FRONT_GRPC_SERVICE_H_
#define HOTLINE_SERVER_FRONT_GRPC_SERVICE_H_

#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"
#include "hotline/v1/broker.grpc.pb.h"
#include "server/broker/broker.h"
#include "server/broker/call_metrics.h"

namespace hotline::server {

// Thread-safe. What it is made of must outlive it and all calls.
class BrokerService final : public v1::Broker::CallbackService {
 public:
  // `identities` null: no caller has one.
  BrokerService(Broker* broker, RpcMetrics* metrics, IdentityTable* identities);

  grpc::ServerUnaryReactor* Acquire(grpc::CallbackServerContext* context,
                                    const v1::AcquireRequest* request,
                                    v1::AcquireResponse* response) override;
  grpc::ServerUnaryReactor* Release(grpc::CallbackServerContext* context,
                                    const v1::ReleaseRequest* request,
                                    v1::ReleaseResponse* response) override;
  grpc::ServerUnaryReactor* Renew(grpc::CallbackServerContext* context,
                                  const v1::RenewRequest* request,
                                  v1::RenewResponse* response) override;
  grpc::ServerUnaryReactor* Execute(grpc::CallbackServerContext* context,
                                    const v1::ExecuteRequest* request,
                                    v1::ExecuteResponse* response) override;
  grpc::ServerBidiReactor<v1::ExecuteStreamRequest, v1::ExecuteStreamResponse>*
  ExecuteStream(grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* Stats(grpc::CallbackServerContext* context,
                                  const v1::StatsRequest* request,
                                  v1::StatsResponse* response) override;
  grpc::ServerBidiReactor<v1::TunnelRequest, v1::TunnelResponse>* Tunnel(
      grpc::CallbackServerContext* context) override;
  grpc::ServerBidiReactor<v1::SessionRequest, v1::SessionResponse>* Session(
      grpc::CallbackServerContext* context) override;

 private:
  CallContext ContextOf(const grpc::CallbackServerContext& context);
  // Of the connection that a call came on; on a Unix socket of its user.
  AnswerMemory::CallerPtr AnswersOf(const std::string& peer,
                                    const IdentityPtr& identity);

  Broker* const broker_;
  RpcMetrics* const metrics_;
  IdentityTable* const identities_;

  Mutex callers_mu_;
  absl::flat_hash_map<std::string, std::weak_ptr<AnswerMemory::Caller>> callers_
      ABSL_GUARDED_BY(callers_mu_);
  size_t sweep_at_ ABSL_GUARDED_BY(callers_mu_) = 1024;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_FRONT_GRPC_SERVICE_H_
