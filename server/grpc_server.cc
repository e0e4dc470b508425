#include "server/grpc_server.h"

#include <sys/stat.h>
#include <sys/un.h>

#include <chrono>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"

namespace hotline::server {
namespace {

constexpr char kBroker[] = "hotline.v1.Broker";
constexpr char kUnix[] = "unix://";

// More than our own cap on bodies, so that it is our typed error that answers.
constexpr int kMaxReceived = 8 << 20;

void SetLimits(grpc::ServerBuilder* builder) {
  builder->SetMaxReceiveMessageSize(kMaxReceived);
  // A second process on our port is a mistake to be told, not a way to share.
  builder->AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder->AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, 1024);
  builder->AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, 16 << 10);
  // What a caller may send of one stream before we read it. gRPC would find it
  // out by itself, and hold tens of MiB for a fast caller of a slow upstream.
  builder->AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 1 << 20);
  builder->AddChannelArgument("grpc.server_handshake_timeout_ms", 3000);
  // Dead callers are noticed, instead of after two hours.
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  // Callers may do the same.
  builder->AddChannelArgument(
      GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5'000);
}

// The address as it was bound: with the port that was free.
std::string Bound(const std::string& address, int port) {
  if (absl::StartsWith(address, kUnix)) return address;
  return absl::StrCat(address.substr(0, address.rfind(':')), ":", port);
}

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(
    const std::vector<std::string>& addresses, grpc::Service* service) {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();

  grpc::ServerBuilder builder;
  SetLimits(&builder);
  std::vector<int> ports(addresses.size(), 0);
  for (size_t i = 0; i < addresses.size(); ++i) {
    const bool is_unix = absl::StartsWith(addresses[i], kUnix);
    if (is_unix && addresses[i].size() - sizeof(kUnix) + 1 >=
                       sizeof(sockaddr_un{}.sun_path)) {
      return absl::UnavailableError(
          absl::StrCat("cannot listen on ", addresses[i],
                       ": a socket's path has at most 107 bytes"));
    }
    builder.AddListeningPort(addresses[i], grpc::InsecureServerCredentials(),
                             &ports[i]);
  }
  builder.RegisterService(service);

  auto server = std::unique_ptr<GrpcServer>(new GrpcServer());
  // Sockets are born with mode 0660: there is no moment at which others get in.
  const mode_t umask_before = umask(0117);
  server->server_ = builder.BuildAndStart();
  umask(umask_before);
  for (size_t i = 0; i < addresses.size(); ++i) {
    if (ports[i] == 0) {
      return absl::UnavailableError(absl::StrCat(
          "cannot listen on ", addresses[i], ": in use, or not allowed"));
    }
    server->addresses_.push_back(Bound(addresses[i], ports[i]));
  }
  if (server->server_ == nullptr) {
    return absl::UnavailableError("cannot start the gRPC server");
  }
  server->SetServing(true);
  return server;
}

GrpcServer::~GrpcServer() { Stop(Duration(0)); }

void GrpcServer::SetServing(bool serving) {
  if (server_ == nullptr) return;
  auto* health = server_->GetHealthCheckService();
  if (health == nullptr) return;
  health->SetServingStatus("", serving);
  health->SetServingStatus(kBroker, serving);
}

void GrpcServer::SetHealth(const std::string& service, bool serving) {
  if (server_ == nullptr) return;
  auto* health = server_->GetHealthCheckService();
  if (health != nullptr) health->SetServingStatus(service, serving);
}

void GrpcServer::Stop(Duration grace) {
  if (server_ == nullptr) return;
  server_->Shutdown(std::chrono::system_clock::now() + grace);
  server_->Wait();
  server_ = nullptr;
}

}  // namespace hotline::server
