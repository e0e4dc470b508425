// hotline.v1.Admin: what operators ask of a running broker, and change.
//
// The pool, the upstream and the broker do the work; the process itself
// (configuration, health, log level) is behind AdminHooks. Each method checks
// the input, asks the policy, acts, and writes a line to the log if it changed
// something.
//
// Thread safety: gRPC's threads call it. No method waits for a loop of the data
// plane, and none holds a lock of it for longer than one event.
#ifndef HOTLINE_SERVER_ADMIN_SERVICE_H_
#define HOTLINE_SERVER_ADMIN_SERVICE_H_

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "hotline/v1/admin.grpc.pb.h"
#include "pool/pool.h"
#include "server/admin/watch_events.h"
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
  // Of what operators have set, in words: what the hooks know.
  std::vector<std::string> overrides;
};

// The process. Called from any thread.
struct AdminHooks {
  std::function<ConfigOrigin()> config;
  // Reads the file again. May take as long as that does. INVALID_ARGUMENT: its
  // faults. UNAVAILABLE: the process is shutting down.
  std::function<absl::Status()> reload;
  std::function<bool()> draining;
  // Broker::drained has changed.
  std::function<void()> drain_changed;
  // Until `duration` has passed; zero: until the next reload. `target`: for the
  // lines that name it; empty: for the others. Returns the level before;
  // nothing: too many targets have a level.
  std::function<std::optional<LogLevel>(
      LogLevel level, const std::string& target, Duration duration)>
      set_log_level;
  // Checks a configuration as a start with it would. INVALID_ARGUMENT: its
  // faults.
  std::function<absl::StatusOr<Settings>(const std::string& yaml,
                                         const std::string& name)>
      check;
  // Replaces the configuration in force; `name`: where it came from. Errors:
  // those of `reload`.
  std::function<absl::Status(std::shared_ptr<const Settings> settings,
                             const std::string& name)>
      use;
};

class AdminService final
    : public v1::Admin::WithCallbackMethod_WatchEvents<v1::Admin::Service> {
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
  grpc::Status BlockAddress(grpc::ServerContext* context,
                            const v1::BlockAddressRequest* request,
                            v1::BlockAddressResponse* response) override;
  grpc::Status UnblockAddress(grpc::ServerContext* context,
                              const v1::UnblockAddressRequest* request,
                              v1::UnblockAddressResponse* response) override;
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
  grpc::Status UpdateConfig(grpc::ServerContext* context,
                            const v1::UpdateConfigRequest* request,
                            v1::UpdateConfigResponse* response) override;
  EventReactor* WatchEvents(grpc::CallbackServerContext* context,
                            const v1::WatchEventsRequest* request) override;

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
  // The same with an address, of `target` or, if that is empty, of every one.
  ErrorPtr BeginOnAddress(const grpc::ServerContext& context,
                          const char* method, const std::string& address,
                          const std::string& target, Operation* out,
                          upstream::AddressBlock* block);
  // For Drain and Undrain of any kind; `block` is for addresses.
  template <typename Request>
  ErrorPtr BeginDrain(const grpc::ServerContext& context, const char* method,
                      const Request& request, Operation* op,
                      upstream::AddressBlock* block);
  // Writes the audit's line. Null error: it succeeded, and is an event.
  grpc::Status End(const Operation& operation, const ErrorPtr& error);
  // What SetAdmission RPCs share; `leases` may be null.
  ErrorPtr SetAdmission(const Operation& operation, pool::Admission admission,
                        std::string* before, int* leases);
  // `leases` may be null.
  void SetBrokerDrained(const Operation& operation, bool drained,
                        std::string* before, int* leases);
  ErrorPtr Block(const upstream::AddressBlock& block, Operation* operation,
                 int* connections);
  ErrorPtr Unblock(const upstream::AddressBlock& block, Instant now);
  // What operators have set that no configuration says.
  std::vector<std::string> Overrides(const ConfigOrigin& origin,
                                     Instant now) const;
  void FillUpdate(const Settings& now, const Settings& after,
                  const Settings& started, Instant at,
                  v1::UpdateConfigResponse* out) const;
  void ExplainTarget(const Operation& operation, v1::ExplainResponse* out);
  // For the policy. Empty: there is none.
  std::string TargetOfConnection(pool::ConnId id) const;
  std::string TargetOfLease(uint64_t number) const;

  const Parts parts_;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_ADMIN_SERVICE_H_
