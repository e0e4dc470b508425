#include "server/admin/admin.h"

#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "grpcpp/ext/channelz_service_plugin.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/resource_quota.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "server/admin/callers.h"
#include "server/front/options.h"

namespace hotline::server {
namespace {

constexpr char kBroker[] = "hotline.v1.Broker";
constexpr char kAdmin[] = "hotline.v1.Admin";
constexpr char kRole[] = "admin";  // Of its socket.

// What the listener may take, whatever its callers do.
void SetLimits(grpc::ServerBuilder* builder) {
  constexpr int kMaxThreads = 16;
  constexpr size_t kMaxBufferBytes = 32 << 20;
  builder->SetResourceQuota(grpc::ResourceQuota("admin")
                                .SetMaxThreads(kMaxThreads)
                                .Resize(kMaxBufferBytes));
  // Reflection and channelz occupy a thread for each call; health does not.
  using Option = grpc::ServerBuilder::SyncServerOption;
  builder->SetSyncServerOption(Option::NUM_CQS, 1);
  builder->SetSyncServerOption(Option::MAX_POLLERS, 1);
  builder->SetMaxReceiveMessageSize(1 << 20);
  builder->AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, 100);
  builder->AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, 16 << 10);
  builder->AddChannelArgument("grpc.server_handshake_timeout_ms", 3'000);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
}

}  // namespace

Admin::Admin(int max_connections, std::unique_ptr<FrontDoor> door)
    : max_connections_(static_cast<size_t>(max_connections)),
      door_(std::move(door)) {}

absl::StatusOr<std::unique_ptr<Admin>> Admin::Start(
    const AdminOptions& options, grpc::Service* service,
    InheritedSockets* inherited) {
  FrontDoorOptions at_door;
  at_door.addresses = {options.address};
  at_door.allowed_uids = options.allowed_uids;
  at_door.allowed_gids = options.allowed_gids;
  auto door = FrontDoor::Bind(std::move(at_door), {inherited, kRole});
  if (!door.ok()) {
    return absl::UnavailableError(absl::StrCat(
        "listen.admin: ", door.status().message(),
        " (set listen.admin to another address, or to \"\" for none)"));
  }
  std::unique_ptr<Admin> admin(
      new Admin(options.max_connections, *std::move(door)));

  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::channelz::experimental::InitChannelzService();
  grpc::ServerBuilder builder;
  SetLimits(&builder);
  if (service != nullptr) builder.RegisterService(service);
  if (options.address.starts_with("unix:")) {
    admin->uids_ = std::make_unique<UidAcceptors>(&builder);
  } else {
    admin->plain_ = builder.experimental().AddExternalConnectionAcceptor(
        grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
        grpc::InsecureServerCredentials());
  }
  admin->server_ = builder.BuildAndStart();
  if (admin->server_ == nullptr) {
    return absl::UnavailableError("listen.admin: cannot start gRPC's server");
  }
  admin->SetServing(false);
  // Not only while the Broker serves: an operator may watch a drain.
  if (service != nullptr) admin->SetHealth(kAdmin, true);
  admin->door_->Open([admin = admin.get()](int fd, const Visitor& visitor) {
    admin->Deliver(fd, visitor);
  });
  return admin;
}

Admin::~Admin() { Stop(Duration(0)); }

void Admin::Deliver(int fd, const Visitor& visitor) {
  // The door would have to be told when it is closed; HasRoom counts instead.
  door_->Leave(visitor);
  struct stat info;
  UidAcceptors::Acceptor* const acceptor = AcceptorFor(visitor);
  if (acceptor == nullptr || !HasRoom() || fstat(fd, &info) != 0) {
    static LogLimiter limiter(std::chrono::seconds(10));
    HOTLINE_LOG_LIMITED(limiter, kWarning,
                        acceptor == nullptr
                            ? "listen.admin: too many different users"
                            : "listen.admin: too many connections",
                        {{"peer", visitor.peer},
                         {"max", max_connections_},
                         {"suppressed", limiter.TakeSuppressed()}});
    close(fd);
    return;
  }
  handed_.push_back({.fd = fd, .device = info.st_dev, .inode = info.st_ino});
  grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters
      connection;
  connection.fd = fd;
  acceptor->HandleNewConnection(&connection);
}

grpc::experimental::ExternalConnectionAcceptor* Admin::AcceptorFor(
    const Visitor& visitor) {
  return uids_ == nullptr ? plain_.get() : uids_->AcceptorOf(visitor.uid);
}

bool Admin::HasRoom() {
  if (handed_.size() < max_connections_) return true;
  std::erase_if(handed_, [](const Handed& handed) {
    struct stat now;
    return fstat(handed.fd, &now) != 0 || now.st_dev != handed.device ||
           now.st_ino != handed.inode;
  });
  return handed_.size() < max_connections_;
}

void Admin::SetServing(bool serving) {
  SetHealth("", serving);
  SetHealth(kBroker, serving);
}

void Admin::SetHealth(const std::string& service, bool serving) {
  server_->GetHealthCheckService()->SetServingStatus(service, serving);
}

void Admin::Stop(Duration grace) {
  if (std::exchange(stopped_, true)) return;
  // No connection is on its way to gRPC after this.
  door_->Stop();
  if (server_ == nullptr) return;
  server_->Shutdown(std::chrono::system_clock::now() + grace);
  server_->Wait();
}

}  // namespace hotline::server
