// hotline.v1.Admin: what operators ask of a running broker, and change.
//
// The pool, the upstream and the broker do the work; the process itself
// (reload, log level) is behind AdminHooks. Each method checks the input, asks
// the policy, acts, and writes a line to the log if it changed something.
//
// Thread safety: gRPC's threads call it. No method waits for a loop of the data
// plane, and none holds a lock of it for longer than one event.
#ifndef HOTLINE_SERVER_ADMIN_SERVICE_H_
#define HOTLINE_SERVER_ADMIN_SERVICE_H_

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "hotline/v1/admin.grpc.pb.h"
#include "pool/pool.h"
#include "server/broker/broker.h"
#include "server/broker/identity.h"
#include "server/config/config.h"
#include "upstream/upstream.h"

namespace hotline::server {

// How the configuration in force came about.
struct ConfigOrigin {
  std::string file;  // Empty: none.
  std::chrono::system_clock::time_point loaded;
  std::string last_error;  // Of the latest reload; empty: it was used.
  std::shared_ptr<const Settings> started;
  std::shared_ptr<const Settings> now;
};

// The process. Called from any thread.
struct AdminHooks {
  std::function<ConfigOrigin()> config;
  // Reads the file again. May take as long as that does. INVALID_ARGUMENT: its
  // faults. UNAVAILABLE: the process is shutting down.
  std::function<absl::Status()> reload;
  std::function<bool()> draining;
  // Until `duration` has passed; zero: until the next reload.
  std::function<void(LogLevel level, Duration duration)> set_log_level;
};

class AdminService final : public v1::Admin::Service {
 public:
  // All must outlive the service.
  struct Parts {
    pool::Pool* pool = nullptr;
    upstream::Upstream* upstream = nullptr;
    Broker* broker = nullptr;
    IdentityTable* identities = nullptr;
    AdminHooks hooks;
  };

  explicit AdminService(Parts parts) : parts_(std::move(parts)) {}

  grpc::Status Explain(grpc::ServerContext* context,
                       const v1::ExplainRequest* request,
                       v1::ExplainResponse* response) override;
  grpc::Status Drain(grpc::ServerContext* context,
                     const v1::DrainRequest* request,
                     v1::DrainResponse* response) override;
  grpc::Status Undrain(grpc::ServerContext* context,
                       const v1::UndrainRequest* request,
                       v1::UndrainResponse* response) override;
  grpc::Status Pause(grpc::ServerContext* context,
                     const v1::PauseRequest* request,
                     v1::PauseResponse* response) override;
  grpc::Status Resume(grpc::ServerContext* context,
                      const v1::ResumeRequest* request,
                      v1::ResumeResponse* response) override;
  grpc::Status Reconnect(grpc::ServerContext* context,
                         const v1::ReconnectRequest* request,
                         v1::ReconnectResponse* response) override;
  grpc::Status Warm(grpc::ServerContext* context,
                    const v1::WarmRequest* request,
                    v1::WarmResponse* response) override;
  grpc::Status EvictConnection(grpc::ServerContext* context,
                               const v1::EvictConnectionRequest* request,
                               v1::EvictConnectionResponse* response) override;
  grpc::Status EndLease(grpc::ServerContext* context,
                        const v1::EndLeaseRequest* request,
                        v1::EndLeaseResponse* response) override;
  grpc::Status ResetBreaker(grpc::ServerContext* context,
                            const v1::ResetBreakerRequest* request,
                            v1::ResetBreakerResponse* response) override;
  grpc::Status SetLogLevel(grpc::ServerContext* context,
                           const v1::SetLogLevelRequest* request,
                           v1::SetLogLevelResponse* response) override;
  grpc::Status GetConfig(grpc::ServerContext* context,
                         const v1::GetConfigRequest* request,
                         v1::GetConfigResponse* response) override;
  grpc::Status Reload(grpc::ServerContext* context,
                      const v1::ReloadRequest* request,
                      v1::ReloadResponse* response) override;

 private:
  // One call: who makes it, and what it is about.
  struct Operation {
    const char* method;
    std::string target;  // Canonical; empty: the whole broker.
    IdentityPtr who;
    std::string peer;
    Instant now;
    std::string detail;  // For the audit.
  };

  // Begins dials; returns how many connections are missing to `wanted`, or to
  // the warm floor if it is 0.
  int WarmUp(const std::string& target, int wanted, Instant now);

  // Identifies the caller and asks the policy. `target` empty: none.
  ErrorPtr Begin(const grpc::ServerContext& context, const char* method,
                 const std::string& target, Operation* out);
  // The same with a target or URL, as the caller wrote it.
  ErrorPtr BeginOn(const grpc::ServerContext& context, const char* method,
                   const std::string& text, Operation* out);
  // Writes the audit's line. Null error: it succeeded.
  static grpc::Status End(const Operation& operation, const ErrorPtr& error);
  // What SetAdmission RPCs share; `leases` may be null.
  ErrorPtr SetAdmission(const Operation& operation, pool::Admission admission,
                        std::string* before, int* leases);
  void ExplainTarget(const Operation& operation, v1::ExplainResponse* out);
  // For the policy. Empty: there is none.
  std::string TargetOfConnection(pool::ConnId id) const;
  std::string TargetOfLease(uint64_t number) const;

  const Parts parts_;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_ADMIN_SERVICE_H_
