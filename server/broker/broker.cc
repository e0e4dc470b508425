#include "server/broker/broker.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/recycling.h"
#include "base/text.h"
#include "server/broker/acquire.h"
#include "server/broker/call_record.h"
#include "server/broker/event_watch.h"
#include "server/broker/execute.h"
#include "server/broker/parts.h"
#include "server/broker/proto_time.h"
#include "server/broker/stats_view.h"
#include "server/broker/stream.h"
#include "server/broker/tunnel.h"
#include "server/broker/validate.h"

namespace hotline::server {
namespace {

// Unique in the process.
uint64_t NextSettingsVersion() {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

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
      MakeError("TARGET_UNKNOWN",
                absl::StrCat(target,
                             " is not configured, and nothing was asked of it "
                             "(or it was forgotten)"));
  error->metadata.emplace_back("target", target);
  return error;
}

// What the upstream knows of the targets that are shown.
void AddDesyncs(const upstream::Upstream& upstream,
                v1::StatsResponse* response) {
  absl::flat_hash_map<std::string, upstream::Upstream::Counters> known;
  for (auto& [target, counters] : upstream.TargetCounters()) {
    known.emplace(target, std::move(counters));
  }
  for (v1::TargetStats& row : *response->mutable_targets()) {
    const auto found = known.find(row.target());
    if (found == known.end()) continue;
    row.mutable_desync()->set_count(found->second.unsolicited_bytes);
    row.mutable_desync()->set_evidence(found->second.evidence);
  }
}

// The leases that the caller may see.
EventView ViewOf(const BrokerSettings& settings, const CallContext& context) {
  const Policy* const policy = settings.policy.get();
  return {.all_leases = policy != nullptr &&
                        policy->SeesAllLeases(NameOf(context.identity)),
          .owner = context.owner()};
}

// Removes the others. They still count in totals.
void HideLeases(const EventView& view, pool::Snapshot* snapshot) {
  std::erase_if(snapshot->leases, [&](const pool::LeaseRow& row) {
    return !view.all_leases && row.owner != view.owner;
  });
}

// Tells of an Acquire that was served without making a call.
void Report(const CallObserver& observer, const CallContext& context,
            std::string_view target, const pool::Grant& grant) {
  const std::string span = observer.BeginSpan(context.traceparent);
  CallRecord record;
  record.rpc = RpcMethod::kAcquire;
  record.target = target;
  record.identity = NameOf(context.identity);
  record.session = context.holder == nullptr ? 0 : context.holder->session;
  record.traceparent = context.traceparent;
  record.span = span;
  record.connection = grant.conn;
  record.reused = grant.reused;
  record.begun = context.arrival;
  record.ended = MonotonicNow();
  observer.OnCallEnd(record);
}

// Translates a StatsRequest for the pool.
ErrorPtr PrepareStats(const v1::StatsRequest& request,
                      pool::SnapshotRequest* out) {
  if (auto bad = ValidateStats(request)) return FromInput(*bad);
  if (!request.target().empty()) {
    ParsedTarget target;
    if (auto bad = ParseTarget(request.target(), &target)) {
      return FromInput(*bad);
    }
    out->target = target.canonical;
  }
  out->connections = request.view() == v1::STATS_VIEW_CONNECTIONS;
  out->leases = request.view() == v1::STATS_VIEW_LEASES;
  return nullptr;
}

}  // namespace

Broker::Broker(const BrokerSettings& settings, uint32_t instance,
               pool::Pool* pool, upstream::Upstream* upstream,
               CallMetrics* metrics, EventLog* events)
    : instance_(instance),
      start_time_(std::chrono::system_clock::now()),
      parts_(std::make_unique<BrokerParts>(settings, pool, upstream, metrics,
                                           events)),
      settings_(std::make_shared<const BrokerSettings>(settings)),
      settings_version_(NextSettingsVersion()) {}

Broker::~Broker() = default;

// Calls.

std::shared_ptr<Call> Broker::NewAcquire(const v1::AcquireRequest* request,
                                         v1::AcquireResponse* response,
                                         CallContext context,
                                         Completion* completion) {
  return std::allocate_shared<AcquireCall>(
      RecyclingAllocator<AcquireCall>(), parts_.get(), request, response,
      WithSettings(std::move(context)), completion);
}

std::shared_ptr<Call> Broker::NewExecute(const v1::ExecuteRequest* request,
                                         ExecuteAnswer* answer,
                                         CallContext context,
                                         Completion* completion) {
  return std::allocate_shared<ExecuteCall>(
      RecyclingAllocator<ExecuteCall>(), parts_.get(), request, answer,
      WithSettings(std::move(context)), completion);
}

TunnelParts Broker::NewTunnel(v1::TunnelOpen open, CallContext context,
                              TunnelCaller* caller, Completion* completion) {
  auto tunnel = std::make_shared<TunnelCall>(parts_.get(), std::move(open),
                                             WithSettings(std::move(context)),
                                             caller, completion);
  Tunnel* const ends = tunnel.get();
  return {std::move(tunnel), ends};
}

std::shared_ptr<StreamedCall> Broker::NewExecuteStream(
    v1::ExecuteStreamResponse* last, CallContext context, StreamPeer* peer) {
  return std::make_shared<StreamCall>(parts_.get(), last,
                                      WithSettings(std::move(context)), peer);
}

// Answered at once.

ErrorPtr Broker::Release(const v1::ReleaseRequest& request,
                         v1::ReleaseResponse* response,
                         const CallContext& context, LeaseId* lease) {
  const Instant now = context.arrival;
  ParsedTarget target;
  if (auto bad = ValidateRelease(request, &target)) return FromInput(*bad);
  if (auto denied =
          Authorize(*SettingsOf(context), RpcMethod::kRelease, context, "")) {
    return denied;
  }
  const pool::Outcome outcome = FromProto(request.outcome());
  pool::CallTag running = 0;
  pool::LeaseStatus status;
  if (request.request_id().empty()) {
    const auto presented = PresentedLease(request.lease_id(), context);
    if (!presented.has_value()) return BadLeaseId();
    *lease = *presented;
    status = parts_->pool->Release(*lease, outcome, now, &running);
  } else {
    std::string id;
    if (auto bad = ScopeRequestId(request.request_id(), request.client_id(),
                                  "client_id", context, &id)) {
      return bad;
    }
    status = ReleaseNamed(target.canonical, id, outcome, now, lease, &running);
  }
  switch (status) {
    case pool::LeaseStatus::kOk:
      // The pool does not close a connection that others use, too.
      if (outcome != pool::Outcome::kOk) EndCallOn(*lease, running);
      return nullptr;
    case pool::LeaseStatus::kEnded:
      response->set_already_released(true);
      return nullptr;
    default:
      return parts_->LeaseError(status, RpcMethod::kRelease, context);
  }
}

pool::LeaseStatus Broker::ReleaseNamed(const std::string& target,
                                       const std::string& id,
                                       pool::Outcome outcome, Instant now,
                                       LeaseId* lease, pool::CallTag* running) {
  const auto status =
      parts_->pool->ReleaseNamed(target, id, outcome, now, lease, running);
  if (status != pool::LeaseStatus::kEnded) return status;
  // It may be between two places in line, or have got its lease since.
  bool ended = false;
  const auto calls = parts_->named_waits.Find(target, id);
  for (const auto& call : calls) ended = call->Supersede() || ended;
  if (ended) return pool::LeaseStatus::kOk;
  if (calls.empty()) return status;
  return parts_->pool->ReleaseNamed(target, id, outcome, now, lease, running);
}

ErrorPtr Broker::Renew(const v1::RenewRequest& request,
                       v1::RenewResponse* response,
                       const CallContext& context) {
  const Instant now = context.arrival;
  const auto settings = SettingsOf(context);
  if (request.has_lease_ttl()) {
    if (auto bad = ValidateTtl(request.lease_ttl())) return FromInput(*bad);
  }
  if (auto denied = Authorize(*settings, RpcMethod::kRenew, context, "")) {
    return denied;
  }
  const auto lease = PresentedLease(request.lease_id(), context);
  if (!lease.has_value()) return BadLeaseId();
  const Duration ttl = request.has_lease_ttl()
                           ? std::min(server::FromProto(request.lease_ttl()),
                                      settings->max_lease_ttl)
                           : settings->lease_ttl;
  const pool::RenewResult result = parts_->pool->Renew(*lease, ttl, now);
  if (result.status != pool::LeaseStatus::kOk) {
    return parts_->LeaseError(result.status, RpcMethod::kRenew, context);
  }
  FillLease(*lease, result.expires, now, response->mutable_lease());
  return nullptr;
}

ErrorPtr Broker::Stats(const v1::StatsRequest& request,
                       v1::StatsResponse* response,
                       const CallContext& context) {
  const Instant now = context.arrival;
  const auto settings = SettingsOf(context);
  pool::SnapshotRequest wanted;
  if (auto error = PrepareStats(request, &wanted)) return error;
  if (auto denied =
          Authorize(*settings, RpcMethod::kStats, context, wanted.target)) {
    return denied;
  }
  response->mutable_totals()->set_sessions(
      static_cast<int64_t>(registry().sessions()));
  response->set_instance(InstanceName(instance_));
  FillTimestamp(start_time_, response->mutable_start_time());
  pool::Snapshot snapshot = parts_->pool->TakeSnapshot(wanted, now);
  if (!wanted.target.empty() && snapshot.targets.empty() &&
      !settings->targets.contains(wanted.target)) {
    return UnknownTarget(wanted.target);
  }
  const EventView view = ViewOf(*settings, context);
  HideLeases(view, &snapshot);
  ErrorPtr error = FillStats(request, wanted.target, snapshot,
                             parts_->metrics->Read(), response);
  parts_->metrics->MakeRoom(now);
  if (error != nullptr) return error;
  if (response->targets_size() > 0) AddDesyncs(*parts_->upstream, response);
  for (v1::TargetStats& target : *response->mutable_targets()) {
    for (const auto& row : parts_->upstream->Addresses(target.target())) {
      FillAddress(row, now, target.add_addresses());
    }
    if (wanted.target.empty()) continue;
    for (const EventPtr& event : parts_->events->Recent(wanted.target)) {
      FillEvent(*event, view, target.add_recent_events());
    }
  }
  return nullptr;
}

// Events.

ErrorPtr Broker::WatchEvents(const v1::WatchEventsRequest& request,
                             const CallContext& context,
                             std::unique_ptr<EventWatch>* watch) {
  CallContext caller;
  caller.identity = context.identity;
  *watch = std::make_unique<EventWatch>(
      this, InstanceName(instance_),
      [this, caller](const BrokerSettings& settings, const std::string& target,
                     Instant now, EventView* view) mutable {
        caller.arrival = now;
        *view = ViewOf(settings, caller);
        return Authorize(settings, RpcMethod::kWatchEvents, caller, target);
      });
  return (*watch)->Open(request, context.arrival);
}

ErrorPtr Broker::WatchEventsAsOperator(const v1::WatchEventsRequest& request,
                                       const IdentityPtr& who, Instant now,
                                       std::unique_ptr<EventWatch>* watch) {
  *watch = std::make_unique<EventWatch>(
      this, InstanceName(instance_),
      [this, who](const BrokerSettings&, const std::string& target, Instant at,
                  EventView* view) {
        view->all_leases = true;
        return AuthorizeAdmin(who, target, at);
      });
  return (*watch)->Open(request, now);
}

EventLog& Broker::events() const { return *parts_->events; }

bool Broker::aborted() const { return parts_->aborted; }

// Sessions.

bool Broker::AcquireIdle(const v1::AcquireRequest& request,
                         const CallContext& context,
                         v1::AcquireResponse* response, LeaseId* lease) {
  pool::HostPoolKey key;
  pool::AcquireRequest acquire;
  const Instant now = context.arrival;
  const auto settings = SettingsOf(context);
  if (PrepareAcquire(request, *settings, context, now, &key, &acquire) !=
      nullptr) {
    return false;
  }
  // Policies, quotas and request ids are left to AcquireCall.
  if (!acquire.request_id.empty() || settings->policy != nullptr) return false;
  if (drained()) return false;
  acquire.key = &key;
  acquire.owner = context.owner();
  acquire.loop = context.loop;
  acquire.secret = UnguessableBits();
  pool::AcquireResult result;
  if (!parts_->pool->AcquireIdle(acquire, now, &result)) return false;
  pool::SlotLease slot(parts_->pool, result.grant, pool::Outcome::kOk,
                       &MonotonicNow);
  FillAcquired(slot, result.grant.expires, *parts_->upstream, now,
               MonotonicNow(), response);
  *lease = slot.Detach();
  parts_->gatekeeper.NoteCall(context.identity);
  if (settings->observer != nullptr) {
    Report(*settings->observer, context, key.target, result.grant);
  }
  return true;
}

void Broker::Reclaim(const std::vector<LeaseId>& leases, Instant now) {
  for (const LeaseId& lease : leases) {
    pool::CallTag running = 0;
    parts_->pool->Reclaim(lease, now, &running);
    EndCallOn(lease, running);
  }
}

void Broker::EndCallOn(const LeaseId& lease, pool::CallTag running) {
  if (running == 0) return;
  if (const auto call = registry().Find(running)) call->OnLeaseGone(lease);
}

void Broker::ReleaseIfUnused(const LeaseId& lease, Instant now) {
  parts_->pool->ReleaseIfUnused(lease, now);
}

bool Broker::IsHeld(const LeaseId& lease, Instant now) {
  return parts_->pool->StatusOf(lease, now) == pool::LeaseStatus::kOk;
}

uint64_t Broker::AddSession(OpenSession* session) {
  return parts_->registry.AddSession(session);
}

void Broker::RemoveSession(OpenSession* session) {
  parts_->registry.RemoveSession(session);
}

ErrorPtr Broker::AuthorizeSession(const CallContext& context) {
  return Authorize(*SettingsOf(context), RpcMethod::kSession, context, "");
}

ErrorPtr Broker::Authorize(const BrokerSettings& settings, RpcMethod rpc,
                           const CallContext& context,
                           std::string_view target) {
  if (settings.policy == nullptr) return nullptr;
  Quota unused;
  return parts_->gatekeeper.Check(*settings.policy, rpc, context.identity,
                                  target, context.arrival, &unused);
}

// Operators.

ErrorPtr Broker::AuthorizeAdmin(const IdentityPtr& who, std::string_view target,
                                Instant now) {
  CallContext context;
  context.arrival = now;
  context.identity = who;
  return Authorize(*settings(), RpcMethod::kAdmin, context, target);
}

ErrorPtr Broker::EndLease(uint64_t row_id, Instant now, bool* call_ended) {
  LeaseId lease;
  pool::CallTag running = 0;
  if (parts_->pool->EndLease(row_id, now, &lease, &running) !=
      pool::LeaseStatus::kOk) {
    return FromLeaseStatus(pool::LeaseStatus::kUnknown);
  }
  *call_ended = running != 0;
  EndCallOn(lease, running);
  return nullptr;
}

bool Broker::SetDrained(bool drained) {
  return parts_->drained.exchange(drained);
}
bool Broker::drained() const { return parts_->drained; }

// The process.

void Broker::Reconfigure(const BrokerSettings& settings) {
  parts_->overload.Reconfigure(settings.overload);
  parts_->answers.SetLimit(settings.max_answer_bytes);
  auto fresh = std::make_shared<const BrokerSettings>(settings);
  MutexLock lock(&settings_mu_);
  settings_ = std::move(fresh);
  settings_version_ = NextSettingsVersion();
}

std::shared_ptr<const BrokerSettings> Broker::settings() const {
  // Every call asks for them, and they seldom change.
  struct Copy {
    uint64_t version = 0;
    std::shared_ptr<const BrokerSettings> settings;
  };
  thread_local Copy copy;
  if (copy.version != settings_version_) {
    MutexLock lock(&settings_mu_);
    copy = {settings_version_, settings_};
  }
  return copy.settings;
}

std::shared_ptr<const BrokerSettings> Broker::SettingsOf(
    const CallContext& context) const {
  return context.settings != nullptr ? context.settings : settings();
}

CallContext Broker::WithSettings(CallContext context) const {
  if (context.settings == nullptr) context.settings = settings();
  return context;
}

void Broker::StartDrain(Instant now) {
  parts_->pool->Shutdown(now);
  for (const auto& session : parts_->registry.Drain()) session->OnDrain();
}

void Broker::HandOver() {
  for (const auto& session : parts_->registry.Drain()) session->OnDrain();
}

void Broker::LeaveSessions() {
  for (const auto& session : parts_->registry.Drain()) session->OnLeave();
}

bool Broker::Drained(Instant now) const {
  if (!registry().empty()) return false;
  for (const pool::TargetRow& row :
       parts_->pool->TakeSnapshot({}, now).targets) {
    if (row.leases > 0) return false;
  }
  return true;
}

void Broker::AbortCalls() {
  // Before the registry is read: a call registers before it checks this.
  parts_->aborted = true;
  for (const std::shared_ptr<Call>& call : registry().All()) call->Abort();
  for (const auto& session : parts_->registry.Drain()) session->OnAbort();
}

const Gatekeeper& Broker::gatekeeper() const { return parts_->gatekeeper; }
const Overload& Broker::overload() const { return parts_->overload; }
const Registry& Broker::registry() const { return parts_->registry; }
const AnswerMemory& Broker::answers() const { return parts_->answers; }
AnswerMemory& Broker::answers() { return parts_->answers; }

}  // namespace hotline::server
