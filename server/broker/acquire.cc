#include "server/broker/acquire.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "server/broker/proto_time.h"
#include "server/broker/validate.h"

namespace hotline::server {
namespace {

pool::Reuse FromProto(v1::Reuse reuse) {
  switch (reuse) {
    case v1::REUSE_REQUIRE_WARM:
      return pool::Reuse::kRequireWarm;
    case v1::REUSE_FORCE_NEW:
      return pool::Reuse::kForceNew;
    default:
      return pool::Reuse::kPrefer;
  }
}

// Who asks, and in which session.
std::shared_ptr<const pool::Holder> HolderIn(const v1::AcquireRequest& request,
                                             const CallContext& context) {
  if (context.holder == nullptr) {
    return HolderOf(request.holder(), context.traceparent);
  }
  if (!request.has_holder()) return context.holder;
  pool::Holder holder = *context.holder;
  if (const auto own = HolderOf(request.holder(), context.traceparent)) {
    holder = *own;
    holder.session = context.holder->session;
  }
  return std::make_shared<const pool::Holder>(std::move(holder));
}

// A holder that counts as one of its identity's leases, for as long as the pool
// keeps it: as long as the lease lives, or is waited for. So long its identity
// lives too, and whoever acquired the lease is still known as its owner.
struct CountedHolder {
  pool::Holder holder;
  QuotaToken lease;
};

}  // namespace

std::shared_ptr<const pool::Holder> HolderOf(const v1::Holder& holder,
                                             const std::string& traceparent) {
  const bool named = !holder.client_id().empty() || !holder.purpose().empty() ||
                     !holder.trace().empty();
  if (!named && traceparent.empty()) return nullptr;
  auto out = std::make_shared<pool::Holder>();
  out->client_id = holder.client_id();
  out->purpose = holder.purpose();
  out->trace = holder.trace();
  if (out->trace.empty()) out->trace = traceparent.substr(0, 128);
  return out;
}

void FillLease(const LeaseId& id, Instant expires, Instant now,
               v1::Lease* out) {
  out->set_lease_id(EncodeLeaseId(id));
  if (expires == kNever) return;
  FillTimestamp(std::chrono::system_clock::now() + (expires - now),
                out->mutable_expire_time());
}

AcquireCall::AcquireCall(Broker* broker, const v1::AcquireRequest* request,
                         v1::AcquireResponse* response, CallContext context,
                         Completion* completion)
    : PooledCall(broker, std::move(context), completion),
      request_(*request),
      response_(response) {}

ErrorPtr PrepareAcquire(const v1::AcquireRequest& request,
                        const BrokerSettings& settings,
                        const CallContext& context, Instant now,
                        pool::HostPoolKey* key, pool::AcquireRequest* out) {
  ParsedTarget target;
  if (auto bad = ValidateAcquire(request, &target)) return FromInput(*bad);
  if (auto bad = ValidateTlsProfile(request.options(), settings.tls_profiles)) {
    return FromInput(*bad);
  }
  key->target = std::move(target.canonical);
  key->options = server::FromProto(request.options());
  if (request.has_validate()) {
    key->options.validate = server::FromProto(request.validate());
  }
  key->mode = request.mode() == v1::MODE_EXCLUSIVE ? pool::Mode::kExclusive
                                                   : pool::Mode::kShared;
  out->reuse = FromProto(request.reuse());
  out->lease_ttl = request.has_lease_ttl()
                       ? std::min(server::FromProto(request.lease_ttl()),
                                  settings.max_lease_ttl)
                       : settings.lease_ttl;
  if (request.has_max_wait()) {
    const Duration most = server::FromProto(request.max_wait());
    out->may_wait = most.count() > 0;
    out->deadline = SaturatingAdd(now, most);
  }
  out->holder = HolderIn(request, context);
  out->request_id = request.request_id();
  return nullptr;
}

void FillAcquired(const pool::Grant& grant, const upstream::Upstream& upstream,
                  Instant arrival, Instant now, v1::AcquireResponse* out) {
  FillLease(grant.lease, grant.expires, now, out->mutable_lease());
  FillConnection(upstream, grant.conn, grant.handle, grant.uses,
                 grant.ready_since, now, out->mutable_connection());
  FillDuration(now - arrival, out->mutable_timings()->mutable_total());
}

ErrorPtr AcquireCall::Prepare(Instant now) {
  if (ErrorPtr error = PrepareAcquire(request_, *settings_, context_, now,
                                      &key_, &acquire_)) {
    return error;
  }
  if (ErrorPtr refused = Authorize()) return refused;
  if (ErrorPtr refused = MakeHolder()) return refused;
  if (ErrorPtr refused = MakeRequestId()) return refused;
  max_attempts_ = settings_->max_attempts;
  Seek(now);
  return nullptr;
}

// The same word of two callers means two things.
ErrorPtr AcquireCall::MakeRequestId() {
  const std::string& word = request_.request_id();
  if (word.empty()) return nullptr;
  const std::string& client = request_.holder().client_id();
  if (context_.identity != nullptr) {
    request_id_ = absl::StrCat(context_.identity->name, "\n", word);
  } else if (!client.empty()) {
    request_id_ = absl::StrCat("\n", client.size(), "\n", client, word);
  } else if (context_.holder != nullptr) {
    // Its leases end with the session: no other one has a use for them.
    request_id_ = absl::StrCat("\n\n", context_.holder->session, "\n", word);
  } else {
    return FromInput({"BAD_OPTION", "holder.client_id",
                      "required with request_id where callers have no "
                      "identity: nothing else tells them apart"});
  }
  acquire_.request_id = request_id_;
  return nullptr;
}

ErrorPtr AcquireCall::MakeHolder() {
  if (context_.identity == nullptr && quota_.max_leases == 0) return nullptr;
  auto counted = std::make_shared<CountedHolder>();
  Gatekeeper& gatekeeper = broker_->gatekeeper_;
  const IdentityPtr& who = gatekeeper.Accountable(context_.identity);
  if (!counted->lease.Take(who, &who->leases, quota_.max_leases)) {
    return gatekeeper.OverQuota(rpc(), context_.identity, key_.target,
                                "max_leases", quota_.max_leases,
                                std::chrono::seconds(1));
  }
  if (acquire_.holder != nullptr) counted->holder = *acquire_.holder;
  acquire_.holder =
      std::shared_ptr<const pool::Holder>(counted, &counted->holder);
  return nullptr;
}

void AcquireCall::OnSlot(const pool::Grant& grant) {
  FillAcquired(grant, *broker_->upstream_, context_.arrival, MonotonicNow(),
               response_);
  if (grant.wait.limit != pool::WaitLimit::kNone) {
    v1::Timings* timings = response_->mutable_timings();
    FillDuration(waited_, timings->mutable_wait());
    FillDialTimings(grant.dial, timings);
    FillWait(grant.wait, response_->mutable_wait());
  }
  Complete(nullptr);
}

// The pool has its own, if there is a lease.
void AcquireCall::OnCompleting(const ErrorPtr&) { acquire_.holder = nullptr; }

}  // namespace hotline::server
