#include "server/admin/service.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/log.h"
#include "base/text.h"
#include "base/url.h"
#include "base/version.h"
#include "server/admin/callers.h"
#include "server/admin/errors.h"
#include "server/admin/explain.h"
#include "server/broker/proto_time.h"

namespace hotline::server {
namespace {

constexpr int kMostWarm = 1000;
constexpr Duration kLongestWarmWait = std::chrono::seconds(60);

}  // namespace

ErrorPtr AdminService::Begin(const grpc::ServerContext& context,
                             const char* method, const std::string& target,
                             Operation* out) {
  out->method = method;
  out->target = target;
  out->who = IdentityOf(*context.auth_context(), parts_.identities);
  out->peer = context.peer();
  out->now = MonotonicNow();
  return parts_.broker->AuthorizeAdmin(out->who, out->target, out->now);
}

ErrorPtr AdminService::BeginOn(const grpc::ServerContext& context,
                               const char* method, const std::string& text,
                               Operation* out) {
  ParsedTarget target;
  if (auto bad = ParseTarget(text, &target)) {
    ParsedUrl url;
    if (ParseUrl(text, &url)) return FromInput(*bad);
    target = std::move(url.target);
  }
  return Begin(context, method, target.canonical, out);
}

grpc::Status AdminService::End(const Operation& operation,
                               const ErrorPtr& error) {
  // Whatever the log's level is.
  WriteLog(LogLevel::kInfo, "admin",
           {{"method", operation.method},
            {"target", operation.target},
            {"detail", operation.detail},
            {"identity", NameOf(operation.who)},
            {"peer", operation.peer},
            {"result", error == nullptr ? "ok" : error->reason}});
  if (error == nullptr) {
    parts_.broker->events().Add(
        {.kind = v1::EVENT_KIND_OPERATOR,
         .target = operation.target,
         .reason = operation.method,
         .text = operation.detail,
         .identity = std::string(NameOf(operation.who))},
        MonotonicNow());
  }
  return ToGrpc(error);
}

// --- Events ---

EventReactor* AdminService::WatchEvents(grpc::CallbackServerContext* context,
                                        const v1::WatchEventsRequest* request) {
  std::unique_ptr<EventWatch> watch;
  const ErrorPtr error = parts_.broker->WatchEventsAsOperator(
      *request, IdentityOf(*context->auth_context(), parts_.identities),
      MonotonicNow(), &watch);
  if (error != nullptr) return NewFailedReactor(ToGrpc(error));
  return NewEventReactor(context, std::move(watch));
}

// --- Explain ---

grpc::Status AdminService::Explain(grpc::ServerContext* context,
                                   const v1::ExplainRequest* request,
                                   v1::ExplainResponse* response) {
  Operation op;
  if (auto error = BeginOn(*context, "Explain", request->target(), &op)) {
    return ToGrpc(error);
  }
  ExplainTarget(op, response);
  return grpc::Status::OK;
}

void AdminService::ExplainTarget(const Operation& op,
                                 v1::ExplainResponse* out) {
  pool::SnapshotRequest wanted;
  wanted.leases = true;
  wanted.target = op.target;
  const pool::Snapshot snapshot = parts_.pool->TakeSnapshot(wanted, op.now);
  const std::shared_ptr<const Settings> settings = parts_.hooks.config().now;
  ExplainInput input{.target = op.target,
                     .settings = *settings,
                     .snapshot = snapshot,
                     .addresses = parts_.upstream->Addresses(op.target),
                     .stray_bytes = "",
                     .events = parts_.broker->events().Recent(op.target),
                     .loop_lag = parts_.upstream->LoopLag(),
                     .broker_drained = parts_.broker->drained(),
                     .now = op.now,
                     .time = std::chrono::system_clock::now()};
  for (const auto& [target, counters] : parts_.upstream->TargetCounters()) {
    if (target == op.target) input.stray_bytes = counters.evidence;
  }
  server::Explain(input, out);
}

// --- Admission ---

ErrorPtr AdminService::SetAdmission(const Operation& op,
                                    pool::Admission admission,
                                    std::string* before, int* leases) {
  const auto was = parts_.pool->SetAdmission(op.target, admission, op.now);
  if (!was.has_value()) {
    return parts_.hooks.draining()
               ? ShuttingDown()
               : MakeError("TOO_MANY_TARGETS",
                           "no room for another target: see pool.max_targets");
  }
  *before = std::string(ToString(*was));
  if (leases == nullptr) return nullptr;
  pool::SnapshotRequest wanted;
  wanted.target = op.target;
  for (const pool::TargetRow& row :
       parts_.pool->TakeSnapshot(wanted, op.now).targets) {
    *leases = row.leases;
  }
  return nullptr;
}

grpc::Status AdminService::Pause(grpc::ServerContext* context,
                                 const v1::PauseRequest* request,
                                 v1::PauseResponse* response) {
  Operation op;
  if (auto error = BeginOn(*context, "Pause", request->target(), &op)) {
    return ToGrpc(error);
  }
  int leases = 0;
  const ErrorPtr error = SetAdmission(op, pool::Admission::kPaused,
                                      response->mutable_before(), &leases);
  response->set_leases(leases);
  return End(op, error);
}

grpc::Status AdminService::Resume(grpc::ServerContext* context,
                                  const v1::ResumeRequest* request,
                                  v1::ResumeResponse* response) {
  Operation op;
  if (auto error = BeginOn(*context, "Resume", request->target(), &op)) {
    return ToGrpc(error);
  }
  return End(op, SetAdmission(op, pool::Admission::kOpen,
                              response->mutable_before(), nullptr));
}

// --- Connections ---

std::string AdminService::TargetOfConnection(pool::ConnId id) const {
  pool::SnapshotRequest wanted;
  wanted.targets = false;
  wanted.connections = true;
  for (const pool::ConnectionRow& row :
       parts_.pool->TakeSnapshot(wanted, MonotonicNow()).connections) {
    if (row.id == id) return row.key.target;
  }
  return "";
}

std::string AdminService::TargetOfLease(uint64_t number) const {
  pool::SnapshotRequest wanted;
  wanted.targets = false;
  wanted.leases = true;
  for (const pool::LeaseRow& row :
       parts_.pool->TakeSnapshot(wanted, MonotonicNow()).leases) {
    if (row.id == number) return row.target;
  }
  return "";
}

grpc::Status AdminService::Reconnect(grpc::ServerContext* context,
                                     const v1::ReconnectRequest* request,
                                     v1::ReconnectResponse* response) {
  Operation op;
  if (auto error = BeginOn(*context, "Reconnect", request->target(), &op)) {
    return ToGrpc(error);
  }
  const auto open = parts_.pool->Reconnect(op.target, op.now);
  if (!open.has_value()) return End(op, UnknownTarget(op.target));
  response->set_connections(*open);
  op.detail = absl::StrCat(*open, " connections");
  return End(op, nullptr);
}

grpc::Status AdminService::Warm(grpc::ServerContext* context,
                                const v1::WarmRequest* request,
                                v1::WarmResponse* response) {
  Operation op;
  if (auto error = BeginOn(*context, "Warm", request->target(), &op)) {
    return ToGrpc(error);
  }
  const int wanted = request->connections();
  if (wanted < 0 || wanted > kMostWarm) {
    return ToGrpc(BadOption("connections",
                            absl::StrCat("must be from 0 to ", kMostWarm)));
  }
  const Duration wait = FromProto(request->wait());
  if (wait < Duration(0) || wait > kLongestWarmWait) {
    return ToGrpc(BadOption("wait", "must be from 0 s to 60 s"));
  }
  op.detail = absl::StrCat(wanted, " connections");
  const Instant end = op.now + wait;
  Instant now = op.now;
  int missing = WarmUp(op.target, wanted, now);
  while (missing > 0 && now < end && !context->IsCancelled()) {
    // Nothing tells this thread of the pool's connections.
    absl::SleepFor(absl::Milliseconds(10));
    now = MonotonicNow();
    missing = WarmUp(op.target, wanted, now);
  }
  response->set_missing(missing);
  return End(op, nullptr);
}

int AdminService::WarmUp(const std::string& target, int wanted, Instant now) {
  if (wanted == 0) {
    parts_.pool->Warm(target, now);
    return parts_.pool->WarmDeficit(target);
  }
  pool::HostPoolKey key;
  key.target = target;
  key.mode = parts_.hooks.config().now->PoolFor(target).default_mode;
  return parts_.pool->Prewarm(key, wanted, wanted, now).missing;
}

grpc::Status AdminService::EvictConnection(
    grpc::ServerContext* context, const v1::EvictConnectionRequest* request,
    v1::EvictConnectionResponse*) {
  Operation op;
  const std::string target = TargetOfConnection(request->connection_id());
  if (auto error = Begin(*context, "EvictConnection", target, &op)) {
    return ToGrpc(error);
  }
  op.detail = absl::StrCat("connection ", request->connection_id(),
                           request->at_once() ? " at once" : "");
  if (parts_.pool->Evict(request->connection_id(), request->at_once(),
                         op.now)) {
    return End(op, nullptr);
  }
  return End(op,
             MakeError("CONNECTION_UNKNOWN", "no open connection has this id"));
}

grpc::Status AdminService::EndLease(grpc::ServerContext* context,
                                    const v1::EndLeaseRequest* request,
                                    v1::EndLeaseResponse* response) {
  Operation op;
  const std::string target = TargetOfLease(request->lease_number());
  if (auto error = Begin(*context, "EndLease", target, &op)) {
    return ToGrpc(error);
  }
  op.detail = absl::StrCat("lease number ", request->lease_number());
  bool call_ended = false;
  const ErrorPtr error =
      parts_.broker->EndLease(request->lease_number(), op.now, &call_ended);
  response->set_call_ended(call_ended);
  return End(op, error);
}

grpc::Status AdminService::ResetBreaker(grpc::ServerContext* context,
                                        const v1::ResetBreakerRequest* request,
                                        v1::ResetBreakerResponse*) {
  Operation op;
  if (auto error = BeginOn(*context, "ResetBreaker", request->target(), &op)) {
    return ToGrpc(error);
  }
  return End(op, parts_.pool->ForgiveDials(op.target, op.now)
                     ? nullptr
                     : UnknownTarget(op.target));
}

// --- The process ---

grpc::Status AdminService::GetConfig(grpc::ServerContext* context,
                                     const v1::GetConfigRequest*,
                                     v1::GetConfigResponse* response) {
  Operation op;
  if (auto error = Begin(*context, "GetConfig", "", &op)) return ToGrpc(error);
  const ConfigOrigin origin = parts_.hooks.config();
  response->set_effective_yaml(origin.now->effective_yaml);
  response->set_started_yaml(origin.started->effective_yaml);
  for (std::string& key : WaitingForStart(*origin.started, *origin.now)) {
    response->add_waiting_for_restart(std::move(key));
  }
  response->set_file(ToUtf8(origin.file));
  FillTimestamp(origin.loaded, response->mutable_loaded());
  response->set_last_error(ToUtf8(origin.last_error));
  response->set_version(kVersion);
  for (const std::string& text : Overrides(origin, op.now)) {
    response->add_overrides(ToUtf8(text));
  }
  return grpc::Status::OK;
}

grpc::Status AdminService::Reload(grpc::ServerContext* context,
                                  const v1::ReloadRequest*,
                                  v1::ReloadResponse* response) {
  Operation op;
  if (auto error = Begin(*context, "Reload", "", &op)) return ToGrpc(error);
  const absl::Status status = parts_.hooks.reload();
  if (!status.ok()) return End(op, NotUsed(status));
  const ConfigOrigin origin = parts_.hooks.config();
  for (const std::string& warning : origin.now->warnings) {
    response->add_warnings(ToUtf8(warning));
  }
  for (std::string& key : WaitingForStart(*origin.started, *origin.now)) {
    response->add_waiting_for_restart(std::move(key));
  }
  return End(op, nullptr);
}

}  // namespace hotline::server
