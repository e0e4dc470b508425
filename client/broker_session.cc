#include "client/broker_session.h"

#include <condition_variable>
#include <exception>
#include <optional>
#include <utility>

#include "base/mutex.h"
#include "client/channel.h"
#include "client/proto_time.h"
#include "client/session_core.h"

namespace hotline::client {
namespace {

// An answer that a thread waits for. (The call ends at its deadline.)
template <typename T>
class Awaited {
 public:
  void Set(absl::StatusOr<T> answer) {
    MutexLock lock(&mu_);
    answer_ = std::move(answer);
    set_.notify_one();
  }
  absl::StatusOr<T> Wait() {
    MutexLock lock(&mu_);
    while (!answer_.has_value()) lock.Wait(&set_);
    return *std::move(answer_);
  }

 private:
  Mutex mu_;
  std::condition_variable set_;
  std::optional<absl::StatusOr<T>> answer_ ABSL_GUARDED_BY(mu_);
};

// Sends one item for a lease and waits for its result, moved out by `take`.
template <typename T, typename Take>
absl::StatusOr<T> CallAndWait(SessionCore& core,
                              std::unique_ptr<v1::SessionItem> item,
                              const CallOptions& options, uint64_t stream,
                              Take take) {
  Awaited<T> awaited;
  core.Call(std::move(item), options, stream,
            [&](absl::Status status, v1::SessionResult* result) {
              if (!status.ok()) return awaited.Set(std::move(status));
              awaited.Set(take(result));
            });
  return awaited.Wait();
}

absl::Status GivenBack() {
  return absl::FailedPreconditionError("the lease was given back");
}

std::unique_ptr<v1::SessionItem> ReleaseItem(std::string lease_id,
                                             v1::Outcome outcome) {
  auto item = std::make_unique<v1::SessionItem>();
  item->mutable_release()->set_lease_id(std::move(lease_id));
  item->mutable_release()->set_outcome(outcome);
  return item;
}

}  // namespace

// --- Leases ---

SessionLease::SessionLease(std::shared_ptr<SessionCore> core, uint64_t stream,
                           v1::AcquireResponse answer)
    : core_(std::move(core)),
      stream_(stream),
      answer_(std::move(answer)),
      exceptions_at_birth_(std::uncaught_exceptions()) {}

SessionLease::SessionLease(SessionLease&& other) noexcept
    : core_(std::move(other.core_)),
      stream_(other.stream_),
      answer_(std::move(other.answer_)),
      exceptions_at_birth_(other.exceptions_at_birth_) {
  other.answer_.Clear();
}

SessionLease& SessionLease::operator=(SessionLease&& other) noexcept {
  if (this == &other) return *this;
  GiveBack();
  core_ = std::move(other.core_);
  stream_ = other.stream_;
  answer_ = std::move(other.answer_);
  exceptions_at_birth_ = other.exceptions_at_birth_;
  other.answer_.Clear();
  return *this;
}

SessionLease::~SessionLease() { GiveBack(); }

void SessionLease::GiveBack() noexcept {
  if (core_ == nullptr) return;
  const bool unwinding = std::uncaught_exceptions() > exceptions_at_birth_;
  const auto core = std::move(core_);
  core_ = nullptr;
  // Errors are dropped; the lease ends with its session.
  core->Call(
      ReleaseItem(std::move(*answer_.mutable_lease()->mutable_lease_id()),
                  unwinding ? v1::OUTCOME_DISCARD : v1::OUTCOME_OK),
      {.timeout = core->options().client.release_timeout}, stream_,
      [](absl::Status, v1::SessionResult*) {});
}

bool SessionLease::lost() const {
  return core_ != nullptr && core_->open_stream() != stream_;
}

absl::StatusOr<v1::ExecuteResponse> SessionLease::Execute(
    v1::ExecuteRequest request, CallOptions options) const {
  if (core_ == nullptr) return GivenBack();
  request.set_lease_id(id());
  auto item = std::make_unique<v1::SessionItem>();
  *item->mutable_execute() = std::move(request);
  return CallAndWait<v1::ExecuteResponse>(
      *core_, std::move(item), options, stream_,
      [](v1::SessionResult* r) { return std::move(*r->mutable_execute()); });
}

absl::Status SessionLease::Renew(Duration ttl, CallOptions options) {
  if (core_ == nullptr) return GivenBack();
  auto item = std::make_unique<v1::SessionItem>();
  item->mutable_renew()->set_lease_id(id());
  *item->mutable_renew()->mutable_lease_ttl() = ToProto(ttl);
  auto renewed = CallAndWait<v1::RenewResponse>(
      *core_, std::move(item), options, stream_,
      [](v1::SessionResult* r) { return std::move(*r->mutable_renew()); });
  if (!renewed.ok()) return renewed.status();
  *answer_.mutable_lease()->mutable_expire_time() =
      renewed->lease().expire_time();
  return absl::OkStatus();
}

absl::Status SessionLease::Release(v1::Outcome outcome, CallOptions options) {
  if (core_ == nullptr) return GivenBack();
  const auto core = std::move(core_);
  core_ = nullptr;
  std::string id = std::move(*answer_.mutable_lease()->mutable_lease_id());
  answer_.mutable_lease()->clear_lease_id();
  return CallAndWait<v1::ReleaseResponse>(
             *core, ReleaseItem(std::move(id), outcome), options, stream_,
             [](v1::SessionResult* r) { return r->release(); })
      .status();
}

// --- The session ---

absl::StatusOr<std::unique_ptr<BrokerSession>> BrokerSession::Create(
    BrokerSessionOptions options) {
  if (absl::Status status = CheckOptions(options.client); !status.ok()) {
    return status;
  }
  if (options.max_in_flight < 1 || options.max_in_flight > 65536) {
    return absl::InvalidArgumentError("max_in_flight is not from 1 to 65536");
  }
  if (options.max_queued < 1) {
    return absl::InvalidArgumentError("max_queued is not positive");
  }
  auto channel = MakeChannel(options.client);
  if (!channel.ok()) return channel.status();
  return std::unique_ptr<BrokerSession>(new BrokerSession(
      std::make_shared<SessionCore>(std::move(options), *channel)));
}

BrokerSession::BrokerSession(std::shared_ptr<SessionCore> core)
    : core_(std::move(core)) {}

BrokerSession::~BrokerSession() { core_->Close(); }

void BrokerSession::Call(std::unique_ptr<v1::SessionItem> item,
                         CallOptions options, ItemDone done) {
  core_->Call(std::move(item), options, /*stream=*/0, std::move(done));
}

void BrokerSession::AcquireAsync(v1::AcquireRequest request,
                                 CallOptions options, Done<SessionLease> done) {
  auto item = std::make_unique<v1::SessionItem>();
  *item->mutable_acquire() = std::move(request);
  if (!options.traceparent.empty() &&
      item->acquire().holder().trace().empty()) {
    item->mutable_acquire()->mutable_holder()->set_trace(options.traceparent);
  }
  Call(std::move(item), options,
       [core = core_, done = std::move(done)](
           absl::Status status, v1::SessionResult* result) mutable {
         if (!status.ok()) return done(std::move(status));
         // Results are delivered before the end of their stream.
         done(SessionLease(core, core->open_stream(),
                           std::move(*result->mutable_acquire())));
       });
}

void BrokerSession::ExecuteAsync(v1::ExecuteRequest request,
                                 CallOptions options,
                                 Done<v1::ExecuteResponse> done) {
  auto item = std::make_unique<v1::SessionItem>();
  *item->mutable_execute() = std::move(request);
  Call(std::move(item), options,
       [done = std::move(done)](absl::Status status,
                                v1::SessionResult* result) mutable {
         if (!status.ok()) return done(std::move(status));
         done(std::move(*result->mutable_execute()));
       });
}

absl::StatusOr<SessionLease> BrokerSession::Acquire(v1::AcquireRequest request,
                                                    CallOptions options) {
  Awaited<SessionLease> awaited;
  AcquireAsync(std::move(request), std::move(options),
               [&awaited](absl::StatusOr<SessionLease> lease) {
                 awaited.Set(std::move(lease));
               });
  return awaited.Wait();
}

absl::StatusOr<v1::ExecuteResponse> BrokerSession::Execute(
    v1::ExecuteRequest request, CallOptions options) {
  Awaited<v1::ExecuteResponse> awaited;
  ExecuteAsync(std::move(request), std::move(options),
               [&awaited](absl::StatusOr<v1::ExecuteResponse> answer) {
                 awaited.Set(std::move(answer));
               });
  return awaited.Wait();
}

}  // namespace hotline::client
