// What operators take out of service and put back (targets, addresses, the
// broker), the levels of the log, and the configuration.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/log.h"
#include "base/text.h"
#include "server/admin/errors.h"
#include "server/admin/explain_facts.h"
#include "server/admin/forecast.h"
#include "server/admin/service.h"
#include "server/broker/proto_time.h"

namespace hotline::server {
namespace {

using upstream::AddressBlock;

constexpr Duration kLongest = std::chrono::hours(24);

std::string NameOf(const IpRange& range) {
  const std::string first = range.First().ToString();
  return range.prefix == range.base.bits()
             ? first
             : absl::StrCat(first, "/", range.prefix);
}

std::string Describe(const AddressBlock& block, Instant now) {
  return absl::StrCat(
      NameOf(block.range),
      block.kind == AddressBlock::Kind::kBlocked ? " is blocked for "
                                                 : " is drained for ",
      block.target.empty() ? "every target" : block.target,
      block.until == kNever
          ? ""
          : absl::StrCat(", for another ", InWords(block.until - now)));
}

std::string_view Before(bool drained) { return drained ? "drained" : "open"; }

// A duration of a request: zero if it has none.
template <typename Request>
ErrorPtr TakeDuration(const Request& request, Duration* out) {
  if (!request.has_duration()) return nullptr;
  if (auto bad = ValidateTtl(request.duration())) {
    return BadOption("duration", bad->message);
  }
  *out = FromProto(request.duration());
  if (*out <= kLongest) return nullptr;
  return BadOption("duration", "must be at most 24h");
}

}  // namespace

// --- Addresses ---

ErrorPtr AdminService::BeginOnAddress(const grpc::ServerContext& context,
                                      const char* method,
                                      const std::string& address,
                                      const std::string& target, Operation* out,
                                      AddressBlock* block) {
  const auto range = IpRange::Parse(address);
  if (!range.has_value()) {
    return BadOption("address",
                     "must be an IP address such as 192.0.2.1, or a range such "
                     "as 192.0.2.0/24");
  }
  block->range = range->Unmapped();
  ErrorPtr error = target.empty() ? Begin(context, method, "", out)
                                  : BeginOn(context, method, target, out);
  block->target = out->target;
  out->detail = NameOf(block->range);
  return error;
}

ErrorPtr AdminService::Block(const AddressBlock& block, Operation* op,
                             int* connections) {
  const auto open = parts_.upstream->Block(block, op->now);
  if (!open.has_value()) {
    return MakeError(
        "TOO_MANY_BLOCKS",
        absl::StrCat("there are ", upstream::AddressBlocks::kMost, " already"));
  }
  const bool at_once = block.kind == AddressBlock::Kind::kBlocked;
  for (const pool::ConnId conn : *open) {
    parts_.pool->Evict(conn, at_once, op->now);
  }
  *connections = static_cast<int>(open->size());
  absl::StrAppend(&op->detail, ", ", CountOf(*connections, "connection"));
  return nullptr;
}

ErrorPtr AdminService::Unblock(const AddressBlock& block, Instant now) {
  if (parts_.upstream->Unblock(block, now)) return nullptr;
  return MakeError(
      "NOT_BLOCKED",
      absl::StrCat(
          NameOf(block.range), " is not ",
          block.kind == AddressBlock::Kind::kBlocked ? "blocked" : "drained",
          " for ", block.target.empty() ? "every target" : block.target));
}

grpc::Status AdminService::BlockAddress(grpc::ServerContext* context,
                                        const v1::BlockAddressRequest* request,
                                        v1::BlockAddressResponse* response) {
  Operation op;
  AddressBlock block;
  Duration duration(0);
  if (auto error = BeginOnAddress(*context, "BlockAddress", request->address(),
                                  request->target(), &op, &block)) {
    return ToGrpc(error);
  }
  if (auto error = TakeDuration(*request, &duration)) return ToGrpc(error);
  if (duration > Duration(0)) {
    block.until = op.now + duration;
    absl::StrAppend(&op.detail, " for ", InWords(duration));
  }
  int connections = 0;
  const ErrorPtr error = Block(block, &op, &connections);
  response->set_connections(connections);
  return End(op, error);
}

grpc::Status AdminService::UnblockAddress(
    grpc::ServerContext* context, const v1::UnblockAddressRequest* request,
    v1::UnblockAddressResponse*) {
  Operation op;
  AddressBlock block;
  if (auto error =
          BeginOnAddress(*context, "UnblockAddress", request->address(),
                         request->target(), &op, &block)) {
    return ToGrpc(error);
  }
  return End(op, Unblock(block, op.now));
}

// --- Drain, Undrain ---

template <typename Request>
ErrorPtr AdminService::BeginDrain(const grpc::ServerContext& context,
                                  const char* method, const Request& request,
                                  Operation* op, AddressBlock* block) {
  if (request.broker()) {
    if (!request.target().empty() || !request.address().empty()) {
      return BadOption("broker", "cannot be given with a target or an address");
    }
    op->detail = "the broker";
    return Begin(context, method, "", op);
  }
  if (request.address().empty()) {
    return BeginOn(context, method, request.target(), op);
  }
  block->kind = AddressBlock::Kind::kDrained;
  return BeginOnAddress(context, method, request.address(), request.target(),
                        op, block);
}

void AdminService::SetBrokerDrained(const Operation& op, bool drained,
                                    std::string* before, int* leases) {
  *before = std::string(Before(parts_.broker->SetDrained(drained)));
  parts_.hooks.drain_changed();
  if (leases == nullptr) return;
  for (const pool::TargetRow& row :
       parts_.pool->TakeSnapshot({}, op.now).targets) {
    *leases += row.leases;
  }
}

grpc::Status AdminService::Drain(grpc::ServerContext* context,
                                 const v1::DrainRequest* request,
                                 v1::DrainResponse* response) {
  Operation op;
  AddressBlock block;
  if (auto error = BeginDrain(*context, "Drain", *request, &op, &block)) {
    return ToGrpc(error);
  }
  ErrorPtr error;
  int leases = 0;
  int connections = 0;
  if (request->broker()) {
    SetBrokerDrained(op, true, response->mutable_before(), &leases);
  } else if (!request->address().empty()) {
    error = Block(block, &op, &connections);
  } else {
    error = SetAdmission(op, pool::Admission::kDrained,
                         response->mutable_before(), &leases);
  }
  response->set_leases(leases);
  response->set_connections(connections);
  return End(op, error);
}

grpc::Status AdminService::Undrain(grpc::ServerContext* context,
                                   const v1::UndrainRequest* request,
                                   v1::UndrainResponse* response) {
  Operation op;
  AddressBlock block;
  if (auto error = BeginDrain(*context, "Undrain", *request, &op, &block)) {
    return ToGrpc(error);
  }
  if (request->broker()) {
    SetBrokerDrained(op, false, response->mutable_before(), nullptr);
    return End(op, nullptr);
  }
  if (!request->address().empty()) return End(op, Unblock(block, op.now));
  return End(op, SetAdmission(op, pool::Admission::kOpen,
                              response->mutable_before(), nullptr));
}

std::vector<std::string> AdminService::Overrides(const ConfigOrigin& origin,
                                                 Instant now) const {
  std::vector<std::string> all = origin.overrides;
  if (parts_.broker->drained()) all.push_back("the broker is drained");
  for (const AddressBlock& block : parts_.upstream->Blocks(now)) {
    all.push_back(Describe(block, now));
  }
  for (const pool::TargetRow& row :
       parts_.pool->TakeSnapshot({}, now).targets) {
    if (row.admission == pool::Admission::kOpen) continue;
    all.push_back(
        absl::StrCat(row.target, " is ", std::string(ToString(row.admission))));
  }
  return all;
}

// --- The log ---

grpc::Status AdminService::SetLogLevel(grpc::ServerContext* context,
                                       const v1::SetLogLevelRequest* request,
                                       v1::SetLogLevelResponse* response) {
  Operation op;
  if (auto error =
          request->target().empty()
              ? Begin(*context, "SetLogLevel", "", &op)
              : BeginOn(*context, "SetLogLevel", request->target(), &op)) {
    return ToGrpc(error);
  }
  const auto level = ParseLogLevel(request->level());
  if (!level.has_value()) {
    return ToGrpc(BadOption("level", "must be debug, info, warning or error"));
  }
  Duration duration(0);
  if (auto error = TakeDuration(*request, &duration)) return ToGrpc(error);
  op.detail = duration > Duration(0)
                  ? absl::StrCat(request->level(), " for ", InWords(duration))
                  : request->level();
  const auto before = parts_.hooks.set_log_level(*level, op.target, duration);
  if (!before.has_value()) {
    return ToGrpc(BadOption(
        "target", "too many targets have a log level of their own already"));
  }
  response->set_before(std::string(ToString(*before)));
  return End(op, nullptr);
}

// --- The configuration ---

void AdminService::FillUpdate(const Settings& now, const Settings& after,
                              const Settings& started, Instant at,
                              v1::UpdateConfigResponse* out) const {
  for (const std::string& warning : after.warnings) {
    out->add_warnings(ToUtf8(warning));
  }
  for (ConfigChange& change : DiffConfigs(now, after)) {
    v1::ConfigChange* const row = out->add_changes();
    row->set_key(ToUtf8(change.key));
    row->set_before(ToUtf8(change.before));
    row->set_after(ToUtf8(change.after));
    row->set_needs_restart(change.needs_restart);
  }
  for (std::string& key : WaitingForStart(started, after)) {
    out->add_waiting_for_restart(std::move(key));
  }
  pool::SnapshotRequest wanted;
  wanted.connections = true;
  wanted.leases = true;
  const pool::Snapshot snapshot = parts_.pool->TakeSnapshot(wanted, at);
  Forecast({.before = now,
            .after = after,
            .snapshot = snapshot,
            .calls = parts_.broker->overload().calls(),
            .owner_name =
                [this](uint64_t owner) {
                  return parts_.identities->NameOfOwner(owner);
                },
            .addresses =
                [this](const std::string& target) {
                  return parts_.upstream->Addresses(target);
                }},
           out);
}

grpc::Status AdminService::UpdateConfig(grpc::ServerContext* context,
                                        const v1::UpdateConfigRequest* request,
                                        v1::UpdateConfigResponse* response) {
  Operation op;
  if (auto error = Begin(*context, "UpdateConfig", "", &op)) {
    return ToGrpc(error);
  }
  const std::string name =
      request->name().empty() ? "update" : Printable(request->name());
  auto parsed = parts_.hooks.check(request->yaml(), name);
  if (!parsed.ok()) {
    if (!request->validate_only()) return End(op, NotUsed(parsed.status()));
    for (absl::string_view fault :
         absl::StrSplit(parsed.status().message(), '\n')) {
      response->add_faults(ToUtf8(std::string(fault)));
    }
    return grpc::Status::OK;
  }
  const auto after = std::make_shared<const Settings>(*std::move(parsed));
  const ConfigOrigin origin = parts_.hooks.config();
  FillUpdate(*origin.now, *after, *origin.started, op.now, response);
  if (request->validate_only()) return grpc::Status::OK;
  op.detail =
      absl::StrCat(name, ", ", CountOf(response->changes_size(), "change"));
  if (absl::Status status = parts_.hooks.use(after, name); !status.ok()) {
    response->Clear();
    return End(op, NotUsed(status));
  }
  return End(op, nullptr);
}

}  // namespace hotline::server
