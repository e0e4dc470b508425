#include "server/broker.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/lease_id.h"
#include "base/log.h"
#include "server/broker_acquire.h"
#include "server/broker_execute.h"
#include "server/broker_registry.h"
#include "server/broker_tunnel.h"
#include "server/cool_down.h"
#include "server/proto_time.h"
#include "server/stats_view.h"
#include "server/validate.h"
#include "upstream/ip_address.h"

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

// Of "192.0.2.1:443" or "[2001:db8::1]:443".
std::optional<upstream::IpAddress> AddressOf(std::string_view with_port) {
  const size_t colon = with_port.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  std::string_view host = with_port.substr(0, colon);
  if (host.size() > 2 && host.front() == '[') {
    host = host.substr(1, host.size() - 2);
  }
  return upstream::IpAddress::Parse(host);
}

ErrorPtr BadLeaseId() {
  return FromInput(
      {"BAD_LEASE_ID", "lease_id", "not a lease id: 44 hexadecimal digits"});
}

}  // namespace

Instant WithMargin(Instant deadline, Instant now) {
  const Duration left = deadline - now;
  const Duration margin = std::clamp<Duration>(
      left / 20, std::chrono::milliseconds(2), std::chrono::milliseconds(50));
  return deadline - margin;
}

Broker::Broker(const BrokerSettings& settings, uint32_t instance,
               pool::Pool* pool, upstream::Upstream* upstream,
               ExecuteMetrics* metrics)
    : instance_(instance),
      start_time_(std::chrono::system_clock::now()),
      pool_(pool),
      upstream_(upstream),
      metrics_(metrics),
      registry_(std::make_unique<Registry>()),
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

ErrorPtr Broker::Release(const v1::ReleaseRequest& request,
                         v1::ReleaseResponse* response, Instant now) {
  if (auto bad = ValidateOutcome(request.outcome())) return FromInput(*bad);
  const auto lease = DecodeLeaseId(request.lease_id());
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
      return FromLeaseStatus(status);
  }
}

ErrorPtr Broker::Renew(const v1::RenewRequest& request,
                       v1::RenewResponse* response, Instant now) {
  if (request.has_lease_ttl()) {
    if (auto bad = ValidateTtl(request.lease_ttl())) return FromInput(*bad);
  }
  const auto lease = DecodeLeaseId(request.lease_id());
  if (!lease.has_value()) return BadLeaseId();
  const auto settings = this->settings();
  const Duration ttl = request.has_lease_ttl()
                           ? std::min(server::FromProto(request.lease_ttl()),
                                      settings->max_lease_ttl)
                           : settings->lease_ttl;
  const pool::RenewResult result = pool_->Renew(*lease, ttl, now);
  if (result.status != pool::LeaseStatus::kOk) {
    return FromLeaseStatus(result.status);
  }
  FillLease(*lease, result.expires, now, response->mutable_lease());
  return nullptr;
}

ErrorPtr Broker::Stats(const v1::StatsRequest& request,
                       v1::StatsResponse* response, Instant now) {
  pool::SnapshotRequest wanted;
  if (auto bad = ValidateStats(request)) return FromInput(*bad);
  if (!request.target().empty()) {
    ParsedTarget target;
    if (auto bad = ParseTarget(request.target(), &target)) {
      return FromInput(*bad);
    }
    wanted.target = target.canonical;
  }
  wanted.connections = request.view() == v1::STATS_VIEW_CONNECTIONS;
  wanted.leases = request.view() == v1::STATS_VIEW_LEASES;
  response->set_instance(InstanceName(instance_));
  FillTimestamp(start_time_, response->mutable_start_time());
  ErrorPtr error =
      FillStats(request, wanted.target, pool_->TakeSnapshot(wanted, now),
                metrics_->Read(), now, response);
  if (error == nullptr && response->targets_size() > 0) AddDesyncs(response);
  return error;
}

void Broker::CoolDown(const CoolDownSettings& settings,
                      const std::string& target, pool::Handle handle,
                      const upstream::Response& answer, Instant now) {
  const auto length = CoolFor(settings, answer.status, answer.headers,
                              std::chrono::system_clock::now());
  if (!length.has_value()) return;
  const auto facts = upstream_->Describe(handle);
  if (facts == nullptr) return;  // It closed with its answer.
  const auto address = AddressOf(facts->remote_address);
  if (!address.has_value()) return;
  const bool left =
      upstream_->Cool(target, *address, now + *length,
                      absl::StrCat("answered ", answer.status), now);
  HOTLINE_LOG(kInfo,
              left ? "an address cools down"
                   : "the last address in service asked for a rest",
              {{"target", target},
               {"address", facts->remote_address},
               {"status", answer.status},
               {"for", *length}});
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

void Broker::Reconfigure(const BrokerSettings& settings) {
  auto fresh = std::make_shared<const BrokerSettings>(settings);
  MutexLock lock(&settings_mu_);
  settings_ = std::move(fresh);
}

void Broker::StartDrain(Instant now) { pool_->Shutdown(now); }

bool Broker::Drained(Instant now) const {
  if (!registry_->empty()) return false;
  for (const pool::TargetRow& row : pool_->TakeSnapshot({}, now).targets) {
    if (row.leases > 0) return false;
  }
  return true;
}

void Broker::AbortCalls() {
  for (const std::shared_ptr<Call>& call : registry_->All()) call->Abort();
}

std::shared_ptr<const BrokerSettings> Broker::settings() const {
  MutexLock lock(&settings_mu_);
  return settings_;
}

std::shared_ptr<RetryBudget> Broker::BudgetOf(const std::string& target) {
  return registry_->BudgetOf(target);
}

}  // namespace hotline::server
