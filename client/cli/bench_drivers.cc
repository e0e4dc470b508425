#include "client/cli/bench_drivers.h"

#include <grpc/support/time.h>
#include <grpcpp/client_context.h>

#include <condition_variable>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "client/broker_session.h"
#include "client/channel.h"
#include "client/status.h"

namespace hotline::client {
namespace {

using Done = std::function<void(absl::Status)>;

absl::Status Judge(const v1::ExecuteResponse& answer) {
  if (answer.status() < 400) return absl::OkStatus();
  return LocalError(absl::StatusCode::kUnknown,
                    absl::StrCat("HTTP_", answer.status()),
                    "the upstream's status", /*written=*/true);
}

class Unary final : public BenchDriver {
 public:
  Unary(const std::shared_ptr<grpc::Channel>& channel, BenchCallOptions options)
      : options_(std::move(options)), stub_(v1::Broker::NewStub(channel)) {}

  // Cancels the running calls, and waits for their end.
  ~Unary() override {
    MutexLock lock(&mu_);
    for (auto& [key, call] : running_) call->context.TryCancel();
    while (!running_.empty()) lock.Wait(&changed_);
  }

  void Start(Done done) override {
    if (options_.what == BenchWhat::kAcquire) return Acquire(std::move(done));
    auto call = NewCall<v1::ExecuteRequest, v1::ExecuteResponse>();
    call->request.set_url(options_.url);
    auto* async = stub_->async();
    async->Execute(
        &call->context, &call->request, &call->response,
        [this, call, done = std::move(done)](const grpc::Status& status) {
          done(status.ok() ? Judge(call->response) : From(status));
          End(call);
        });
  }

 private:
  struct AnyCall {
    virtual ~AnyCall() = default;
    grpc::ClientContext context;
  };

  template <typename Request, typename Response>
  struct Call : AnyCall {
    Request request;
    Response response;
  };

  // Lives until End().
  template <typename Request, typename Response>
  Call<Request, Response>* NewCall() {
    auto owned = std::make_unique<Call<Request, Response>>();
    auto* call = owned.get();
    call->context.set_deadline(gpr_time_add(
        gpr_now(GPR_CLOCK_MONOTONIC),
        gpr_time_from_nanos(options_.timeout.count(), GPR_TIMESPAN)));
    MutexLock lock(&mu_);
    running_.emplace(call, std::move(owned));
    return call;
  }

  // Frees the call before it wakes the destructor. Otherwise this thread, one
  // of gRPC's, could drop the last reference to the channel.
  void End(AnyCall* call) {
    MutexLock lock(&mu_);
    running_.erase(call);
    if (running_.empty()) changed_.notify_all();
  }

  static absl::Status From(const grpc::Status& status) {
    return MakeStatus(status.error_code(), status.error_message(),
                      status.error_details());
  }

  void Acquire(Done done) {
    auto call = NewCall<v1::AcquireRequest, v1::AcquireResponse>();
    call->request.set_target(options_.url);
    stub_->async()->Acquire(
        &call->context, &call->request, &call->response,
        [this, call, done = std::move(done)](const grpc::Status& status) {
          if (status.ok()) {
            Release(call->response.lease().lease_id(), done);
          } else {
            done(From(status));
          }
          End(call);
        });
  }

  void Release(const std::string& lease_id, Done done) {
    auto call = NewCall<v1::ReleaseRequest, v1::ReleaseResponse>();
    call->request.set_lease_id(lease_id);
    stub_->async()->Release(
        &call->context, &call->request, &call->response,
        [this, call, done = std::move(done)](const grpc::Status& status) {
          done(From(status));
          End(call);
        });
  }

  const BenchCallOptions options_;
  const std::unique_ptr<v1::Broker::Stub> stub_;
  Mutex mu_;
  std::condition_variable changed_;
  absl::flat_hash_map<AnyCall*, std::unique_ptr<AnyCall>> running_
      ABSL_GUARDED_BY(mu_);
};

class InSession final : public BenchDriver {
 public:
  InSession(std::unique_ptr<BrokerSession> session, BenchCallOptions options)
      : options_(std::move(options)), session_(std::move(session)) {}

  void Start(Done done) override {
    auto item = std::make_unique<v1::SessionItem>();
    if (options_.what == BenchWhat::kAcquire) {
      item->mutable_acquire()->set_target(options_.url);
    } else {
      item->mutable_execute()->set_url(options_.url);
    }
    session_->Call(std::move(item), {.timeout = options_.timeout},
                   [this, done = std::move(done)](
                       absl::Status status, v1::SessionResult* result) mutable {
                     if (!status.ok()) return done(std::move(status));
                     if (result->has_execute()) {
                       return done(Judge(result->execute()));
                     }
                     Release(result->acquire().lease().lease_id(),
                             std::move(done));
                   });
  }

 private:
  void Release(const std::string& lease_id, Done done) {
    auto item = std::make_unique<v1::SessionItem>();
    item->mutable_release()->set_lease_id(lease_id);
    session_->Call(
        std::move(item), {.timeout = options_.timeout},
        [done = std::move(done)](absl::Status status, v1::SessionResult*) {
          done(std::move(status));
        });
  }

  const BenchCallOptions options_;
  const std::unique_ptr<BrokerSession> session_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<BenchDriver>> UnaryDriver(
    const BrokerClientOptions& client, const BenchCallOptions& options) {
  if (absl::Status status = CheckOptions(client); !status.ok()) return status;
  auto channel = MakeChannel(client);
  if (!channel.ok()) return channel.status();
  // As a client's first call does. A failure shows in the calls.
  (*channel)->WaitForConnected(InFuture(client.connect_wait));
  return std::unique_ptr<BenchDriver>(new Unary(*channel, options));
}

absl::StatusOr<std::unique_ptr<BenchDriver>> SessionDriver(
    const BrokerClientOptions& client, const BenchCallOptions& options) {
  BrokerSessionOptions session_options;
  session_options.client = client;
  session_options.max_in_flight = options.max_in_flight;
  auto session = BrokerSession::Create(std::move(session_options));
  if (!session.ok()) return session.status();
  return std::unique_ptr<BenchDriver>(
      new InSession(*std::move(session), options));
}

}  // namespace hotline::client
