#include "server/broker/acquire.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "server/broker/connection_options.h"
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

// With the session that the call belongs to.
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

// A holder that counts as one of its identity's leases for as long as the pool
// keeps it: while the lease is waited for or lives. It also keeps the identity
// alive, so that its owner number remains valid.
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

AcquireCall::AcquireCall(BrokerParts* parts, const v1::AcquireRequest* request,
                         v1::AcquireResponse* response, CallContext context,
                         Completion* completion)
    : PooledCall(parts, RpcMethod::kAcquire, /*request_bytes=*/0,
                 std::move(context), completion),
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

void FillAcquired(const pool::SlotLease& slot, Instant expires,
                  const upstream::Upstream& upstream, Instant arrival,
                  Instant now, v1::AcquireResponse* out) {
  FillLease(slot.lease(), expires, now, out->mutable_lease());
  const auto facts = upstream.Describe(slot.conn());
  FillConnection(facts.get(), slot, now, out->mutable_connection());
  FillDuration(now - arrival, out->mutable_timings()->mutable_total());
}

ErrorPtr AcquireCall::Prepare(Instant now) {
  if (ErrorPtr error = PrepareAcquire(request_, terms_.settings, terms_.context,
                                      now, &terms_.key, &terms_.acquire)) {
    return error;
  }
  if (ErrorPtr refused = Authorize()) return refused;
  if (ErrorPtr refused = MakeHolder()) return refused;
  if (!request_.request_id().empty()) {
    if (ErrorPtr refused =
            ScopeRequestId(request_.request_id(), request_.holder().client_id(),
                           "holder.client_id", terms_.context, &request_id_)) {
      return refused;
    }
    terms_.acquire.request_id = request_id_;
    // The pool replaces one that has a place in line by this.
    for (const auto& earlier :
         parts_->named_waits.Find(terms_.key.target, request_id_)) {
      earlier->Supersede(/*backing_off=*/true);
    }
  }
  terms_.max_attempts = terms_.settings.max_attempts;
  Seek(now);
  return nullptr;
}

// Two callers may use the same request id for different requests.
ErrorPtr ScopeRequestId(const std::string& id, const std::string& client_id,
                        const char* field, const CallContext& context,
                        std::string* out) {
  if (context.identity != nullptr) {
    *out = absl::StrCat(context.identity->name, "\n", id);
  } else if (!client_id.empty()) {
    *out = absl::StrCat("\n", client_id.size(), "\n", client_id, id);
  } else if (context.holder != nullptr) {
    // Its leases end with the session, so no other session can use them.
    *out = absl::StrCat("\n\n", context.holder->session, "\n", id);
  } else {
    return FromInput({"BAD_OPTION", field,
                      "required with request_id where callers have no "
                      "identity: nothing else tells them apart"});
  }
  return nullptr;
}

ErrorPtr AcquireCall::MakeHolder() {
  const int max_leases = terms_.quota.max_leases;
  const IdentityPtr& identity = terms_.context.identity;
  if (identity == nullptr && max_leases == 0) return nullptr;
  auto counted = std::make_shared<CountedHolder>();
  Gatekeeper& gatekeeper = parts_->gatekeeper;
  const IdentityPtr& who = gatekeeper.Accountable(identity);
  if (!counted->lease.Take(who, &who->leases, max_leases)) {
    return gatekeeper.OverQuota(rpc(), identity, terms_.key.target,
                                "max_leases", max_leases,
                                std::chrono::seconds(1));
  }
  pool::AcquireRequest& acquire = terms_.acquire;
  if (acquire.holder != nullptr) counted->holder = *acquire.holder;
  acquire.holder =
      std::shared_ptr<const pool::Holder>(counted, &counted->holder);
  return nullptr;
}

void AcquireCall::OnSlot(pool::SlotLease slot, Instant) {
  FillAcquired(slot, terms_.expires, *parts_->upstream, terms_.context.arrival,
               MonotonicNow(), response_);
  FillWaited(terms_, response_);
  slot.Detach();
  Complete(nullptr);
}

}  // namespace hotline::server
