#include "server/broker/broker.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/lease_id.h"
#include "base/log.h"
#include "base/text.h"
#include "server/broker/acquire.h"
#include "server/broker/cool_down.h"
#include "server/broker/execute.h"
#include "server/broker/proto_time.h"
#include "server/broker/registry.h"
#include "server/broker/stats_view.h"
#include "server/broker/stream.h"
#include "server/broker/tunnel.h"
#include "server/broker/validate.h"

namespace hotline::server {
namespace {

pool::Outcome FromProto(v1::Outcome outcome) {
  switch (outcome) {
    case v1::OUTCOME_BROKEN:
      return pool::Outcome::kBroken;
    case v1::OUTCOME_DISCARD:
      return pool::Outcome::kDiscard;
    default:
      return pool::Outcome::kOk;
  }
}

void FillAddress(const upstream::AddressRow& row, Instant now,
                 v1::AddressStats* out) {
  out->set_address(row.address.ToString());
  out->set_state(std::string(upstream::ToString(row.state)));
  out->set_why(Printable(row.why));
  if (row.until != kNever) {
    FillTimestamp(
        std::chrono::system_clock::now() +
            std::chrono::duration_cast<std::chrono::system_clock::duration>(
                row.until - now),
        out->mutable_until());
  }
  if (row.dial_time > Duration(0)) {
    FillDuration(row.dial_time, out->mutable_dial_time());
  }
  out->set_connections(row.connections);
  out->set_dialing(row.dialing);
  out->set_dials(row.dials);
  out->set_failures(row.failures);
  out->set_failures_in_row(row.failures_in_row);
}

ErrorPtr UnknownTarget(const std::string& target) {
  ErrorPtr error =
      MakeError(absl::StatusCode::kNotFound, "TARGET_UNKNOWN",
                absl::StrCat(target,
                             " is not configured, and nothing was asked of it "
                             "(or it was forgotten)"));
  error->metadata.emplace_back("target", target);
  return error;
}

ErrorPtr BadLeaseId() {
  return FromInput(
      {"BAD_LEASE_ID", "lease_id", "not a lease id: 44 hexadecimal digits"});
}

}  // namespace

std::optional<LeaseId> PresentedLease(const std::string& text,
                                      const CallContext& context) {
  std::optional<LeaseId> lease = DecodeLeaseId(text);
  if (lease.has_value()) lease->owner = context.owner();
  return lease;
}

Instant WithMargin(Instant deadline, Instant now) {
  const Duration left = deadline - now;
  const Duration margin = std::clamp<Duration>(
      left / 20, std::chrono::milliseconds(2), std::chrono::milliseconds(50));
  return deadline - margin;
}

Broker::Broker(const BrokerSettings& settings, uint32_t instance,
               pool::Pool* pool, upstream::Upstream* upstream,
               CallMetrics* metrics)
    : instance_(instance),
      start_time_(std::chrono::system_clock::now()),
      pool_(pool),
      upstream_(upstream),
      metrics_(metrics),
      registry_(std::make_unique<Registry>()),
      overload_(settings.overload, ResidentBytes),
      answers_(settings.max_answer_bytes,
               [upstream](Instant when, absl::AnyInvocable<void()> work) {
                 upstream->RunAt(when, std::move(work));
               }),
      settings_(std::make_shared<const BrokerSettings>(settings)) {}

Broker::~Broker() = default;

std::shared_ptr<Call> Broker::NewAcquire(const v1::AcquireRequest* request,
                                         v1::AcquireResponse* response,
                                         CallContext context,
                                         Completion* completion) {
  return std::make_shared<AcquireCall>(this, request, response,
                                       std::move(context), completion);
}

std::shared_ptr<Call> Broker::NewExecute(const v1::ExecuteRequest* request,
                                         v1::ExecuteResponse* response,
                                         CallContext context,
                                         Completion* completion) {
  return std::make_shared<ExecuteCall>(this, request, response,
                                       std::move(context), completion);
}

TunnelParts Broker::NewTunnel(v1::TunnelOpen open, CallContext context,
                              TunnelCaller* caller, Completion* completion) {
  auto tunnel = std::make_shared<TunnelCall>(
      this, std::move(open), std::move(context), caller, completion);
  Tunnel* const ends = tunnel.get();
  return {std::move(tunnel), ends};
}

bool Broker::AcquireIdle(const v1::AcquireRequest& request,
                         const BrokerSettings& settings,
                         const CallContext& context,
                         v1::AcquireResponse* response, LeaseId* lease) {
  pool::HostPoolKey key;
  pool::AcquireRequest acquire;
  const Instant now = context.arrival;
  if (PrepareAcquire(request, settings, context, now, &key, &acquire) !=
      nullptr) {
    return false;
  }
  // Whether it may be, and how much of it, is a call's to find out.
  if (!acquire.request_id.empty() || settings.policy != nullptr) return false;
  acquire.key = &key;
  acquire.owner = context.owner();
  acquire.secret = UnguessableBits();
  pool::AcquireResult result;
  if (!pool_->AcquireIdle(acquire, now, &result)) return false;
  *lease = result.grant.lease;
  FillAcquired(result.grant, *upstream_, now, MonotonicNow(), response);
  return true;
}

std::shared_ptr<StreamedCall> Broker::NewExecuteStream(
    v1::ExecuteStreamResponse* last, CallContext context, StreamPeer* peer) {
  return std::make_shared<StreamCall>(this, last, std::move(context), peer);
}

ErrorPtr Broker::Release(const v1::ReleaseRequest& request,
                         v1::ReleaseResponse* response,
                         const CallContext& context) {
  const Instant now = context.arrival;
  if (auto bad = ValidateOutcome(request.outcome())) return FromInput(*bad);
  if (auto denied = Authorize(RpcMethod::kRelease, context, "")) return denied;
  const auto lease = PresentedLease(request.lease_id(), context);
  if (!lease.has_value()) return BadLeaseId();
  const pool::LeaseStatus status =
      pool_->Release(*lease, FromProto(request.outcome()), now);
  switch (status) {
    case pool::LeaseStatus::kOk:
      // The pool does not close a connection that others use, too.
      if (FromProto(request.outcome()) != pool::Outcome::kOk) {
        for (const auto& call : registry_->All()) call->OnLeaseGone(*lease);
      }
      return nullptr;
    case pool::LeaseStatus::kEnded:
      response->set_already_released(true);
      return nullptr;
    default:
      return LeaseError(status, RpcMethod::kRelease, context);
  }
}

ErrorPtr Broker::Renew(const v1::RenewRequest& request,
                       v1::RenewResponse* response,
                       const CallContext& context) {
  const Instant now = context.arrival;
  if (request.has_lease_ttl()) {
    if (auto bad = ValidateTtl(request.lease_ttl())) return FromInput(*bad);
  }
  if (auto denied = Authorize(RpcMethod::kRenew, context, "")) return denied;
  const auto lease = PresentedLease(request.lease_id(), context);
  if (!lease.has_value()) return BadLeaseId();
  const auto settings = this->settings();
  const Duration ttl = request.has_lease_ttl()
                           ? std::min(server::FromProto(request.lease_ttl()),
                                      settings->max_lease_ttl)
                           : settings->lease_ttl;
  const pool::RenewResult result = pool_->Renew(*lease, ttl, now);
  if (result.status != pool::LeaseStatus::kOk) {
    return LeaseError(result.status, RpcMethod::kRenew, context);
  }
  FillLease(*lease, result.expires, now, response->mutable_lease());
  return nullptr;
}

ErrorPtr Broker::Stats(const v1::StatsRequest& request,
                       v1::StatsResponse* response,
                       const CallContext& context) {
  const Instant now = context.arrival;
  pool::SnapshotRequest wanted;
  if (auto bad = ValidateStats(request)) return FromInput(*bad);
  if (!request.target().empty()) {
    ParsedTarget target;
    if (auto bad = ParseTarget(request.target(), &target)) {
      return FromInput(*bad);
    }
    wanted.target = target.canonical;
  }
  if (auto denied = Authorize(RpcMethod::kStats, context, wanted.target)) {
    return denied;
  }
  wanted.connections = request.view() == v1::STATS_VIEW_CONNECTIONS;
  wanted.leases = request.view() == v1::STATS_VIEW_LEASES;
  response->mutable_totals()->set_sessions(
      static_cast<int64_t>(registry_->sessions()));
  response->set_instance(InstanceName(instance_));
  FillTimestamp(start_time_, response->mutable_start_time());
  pool::Snapshot snapshot = pool_->TakeSnapshot(wanted, now);
  const auto settings = this->settings();
  if (!wanted.target.empty() && snapshot.targets.empty() &&
      !settings->targets.contains(wanted.target)) {
    return UnknownTarget(wanted.target);
  }
  // Counted they are for everybody; looked at, by their owner alone.
  const Policy* const policy = settings->policy.get();
  const bool all =
      policy != nullptr && policy->SeesAllLeases(NameOf(context.identity));
  std::erase_if(snapshot.leases, [&](const pool::LeaseRow& row) {
    return !all && row.owner != context.owner();
  });
  ErrorPtr error =
      FillStats(request, wanted.target, snapshot, metrics_->Read(), response);
  metrics_->MakeRoom(now);
  if (error != nullptr) return error;
  if (response->targets_size() > 0) AddDesyncs(response);
  for (v1::TargetStats& target : *response->mutable_targets()) {
    for (const auto& row : upstream_->Addresses(target.target())) {
      FillAddress(row, now, target.add_addresses());
    }
  }
  return nullptr;
}

void Broker::CoolDown(const CoolDownSettings& settings,
                      const std::string& target, pool::Handle handle,
                      int status, const std::vector<upstream::Header>& headers,
                      Instant now) {
  const auto length =
      CoolFor(settings, status, headers, std::chrono::system_clock::now());
  if (!length.has_value()) return;
  const auto address = upstream_->AddressOf(handle);
  // It closed with its answer, or its address is no choice of ours.
  if (!address.has_value()) return;
  if (upstream_->Cool(target, *address, now + *length,
                      absl::StrCat("answered ", status), now)) {
    return;
  }
  static LogLimiter limiter(std::chrono::seconds(10));
  HOTLINE_LOG_LIMITED(limiter, kInfo,
                      "the last address in service asked for a rest",
                      {{"target", target},
                       {"address", address->ToString()},
                       {"status", status},
                       {"for", *length},
                       {"suppressed", limiter.TakeSuppressed()}});
}

// What the upstream knows of the targets that are shown.
void Broker::AddDesyncs(v1::StatsResponse* response) const {
  absl::flat_hash_map<std::string, upstream::Upstream::Counters> known;
  for (auto& [target, counters] : upstream_->TargetCounters()) {
    known.emplace(target, std::move(counters));
  }
  for (v1::TargetStats& row : *response->mutable_targets()) {
    const auto found = known.find(row.target());
    if (found == known.end()) continue;
    row.mutable_desync()->set_count(found->second.unsolicited_bytes);
    row.mutable_desync()->set_evidence(found->second.evidence);
  }
}

void Broker::Reclaim(const std::vector<LeaseId>& leases, Instant now) {
  std::vector<LeaseId> busy_ones;
  for (const LeaseId& lease : leases) {
    bool busy = false;
    pool_->Reclaim(lease, now, &busy);
    if (busy) busy_ones.push_back(lease);
  }
  if (busy_ones.empty()) return;
  for (const auto& call : registry_->All()) {
    for (const LeaseId& lease : busy_ones) call->OnLeaseGone(lease);
  }
}

bool Broker::IsHeld(const LeaseId& lease, Instant now) {
  return pool_->Look(lease, now) == pool::LeaseStatus::kOk;
}

uint64_t Broker::AddSession(OpenSession* session) {
  return registry_->AddSession(session);
}

void Broker::RemoveSession(OpenSession* session) {
  registry_->RemoveSession(session);
}

ErrorPtr Broker::Authorize(RpcMethod rpc, const CallContext& context,
                           std::string_view target) {
  const auto settings = this->settings();
  if (settings->policy == nullptr) return nullptr;
  Quota unused;
  return gatekeeper_.Check(*settings->policy, rpc, context.identity, target,
                           context.arrival, &unused);
}

ErrorPtr Broker::LeaseError(pool::LeaseStatus status, RpcMethod rpc,
                            const CallContext& context) {
  if (status == pool::LeaseStatus::kOk) return nullptr;
  ErrorPtr error = FromLeaseStatus(status);
  gatekeeper_.Note(rpc, context.identity, *error);
  return error;
}

void Broker::Reconfigure(const BrokerSettings& settings) {
  overload_.Reconfigure(settings.overload);
  answers_.SetLimit(settings.max_answer_bytes);
  auto fresh = std::make_shared<const BrokerSettings>(settings);
  MutexLock lock(&settings_mu_);
  settings_ = std::move(fresh);
}

void Broker::StartDrain(Instant now) {
  pool_->Shutdown(now);
  for (const auto& session : registry_->Drain()) session->OnDrain();
}

bool Broker::Drained(Instant now) const {
  if (!registry_->empty()) return false;
  for (const pool::TargetRow& row : pool_->TakeSnapshot({}, now).targets) {
    if (row.leases > 0) return false;
  }
  return true;
}

void Broker::AbortCalls() {
  // Before the look: a call is registered before it looks at this.
  aborted_ = true;
  for (const std::shared_ptr<Call>& call : registry_->All()) call->Abort();
  for (const auto& session : registry_->Drain()) session->OnAbort();
}

std::shared_ptr<const BrokerSettings> Broker::settings() const {
  MutexLock lock(&settings_mu_);
  return settings_;
}

std::shared_ptr<RetryBudget> Broker::BudgetOf(const std::string& target) {
  return registry_->BudgetOf(target);
}

}  // namespace hotline::server
