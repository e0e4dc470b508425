#include "server/broker_acquire.h"

#include <algorithm>

#include "server/proto_time.h"
#include "server/validate.h"

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

ErrorPtr AcquireCall::Prepare(Instant now) {
  ParsedTarget target;
  if (auto bad = ValidateAcquire(request_, &target)) return FromInput(*bad);
  key_.target = std::move(target.canonical);
  key_.options.sni = request_.options().sni();
  key_.options.pool_group = request_.options().pool_group();
  key_.options.alpn = request_.options().alpn();
  key_.options.remote_ip = request_.options().remote_ip();
  key_.options.source_ip = request_.options().source_ip();
  key_.mode = request_.mode() == v1::MODE_EXCLUSIVE ? pool::Mode::kExclusive
                                                    : pool::Mode::kShared;
  acquire_.reuse = FromProto(request_.reuse());
  acquire_.lease_ttl = request_.has_lease_ttl()
                           ? std::min(server::FromProto(request_.lease_ttl()),
                                      settings_->max_lease_ttl)
                           : settings_->lease_ttl;
  if (request_.has_max_wait()) {
    const Duration most = server::FromProto(request_.max_wait());
    acquire_.may_wait = most.count() > 0;
    acquire_.deadline = SaturatingAdd(now, most);
  }
  acquire_.holder = HolderOf(request_.holder(), context_.traceparent);
  acquire_.request_id = request_.request_id();
  max_attempts_ = settings_->max_attempts;
  Seek(now);
  return nullptr;
}

void AcquireCall::OnSlot(const pool::Grant& grant) {
  const Instant now = MonotonicNow();
  FillLease(grant.lease, grant.expires, now, response_->mutable_lease());
  FillConnection(*broker_->upstream_, grant.conn, grant.handle, grant.uses,
                 grant.ready_since, now, response_->mutable_connection());
  v1::Timings* timings = response_->mutable_timings();
  FillDuration(now - context_.arrival, timings->mutable_total());
  if (grant.wait.limit != pool::WaitLimit::kNone) {
    FillDuration(waited_, timings->mutable_wait());
    FillDialTimings(grant.dial, timings);
    FillWait(grant.wait, response_->mutable_wait());
  }
  Complete(nullptr);
}

void AcquireCall::OnCompleting(const ErrorPtr&) {}

}  // namespace hotline::server
