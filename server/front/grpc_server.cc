#include "server/front/grpc_server.h"

#include <malloc.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "base/log.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/resource_quota.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "server/front/caller.h"
#include "server/front/certificates.h"
#include "server/front/reset_watch.h"

namespace hotline::server {
namespace {

constexpr char kBroker[] = "hotline.v1.Broker";

// More than our own cap on bodies, so that it is our typed error that answers.
constexpr int kMaxReceived = 8 << 20;

void SetLimits(const GrpcServerOptions& options, grpc::ServerBuilder* builder) {
  builder->SetMaxReceiveMessageSize(kMaxReceived);
  if (options.max_buffer_bytes > 0) {
    builder->SetResourceQuota(grpc::ResourceQuota("hotline").Resize(
        static_cast<size_t>(options.max_buffer_bytes)));
  }
  builder->AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS,
                              kMostConcurrentStreams);
  // What has been read is worked off whatever happens: a burst of calls that
  // are reset is not to be read all at once.
  builder->AddChannelArgument("grpc.experimental.tcp_max_read_chunk_size",
                              64 << 10);
  builder->AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, 16 << 10);
  // What a caller may send of one stream before we read it. gRPC would find it
  // out by itself, and hold tens of MiB for a fast caller of a slow upstream.
  builder->AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 1 << 20);
  builder->AddChannelArgument(
      "grpc.server_handshake_timeout_ms",
      static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(
                           options.handshake_timeout)
                           .count()));
  // Dead callers are noticed, instead of after two hours.
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  // Callers may do the same.
  builder->AddChannelArgument(
      GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5'000);
}

using Acceptor = grpc::experimental::ExternalConnectionAcceptor;

std::unique_ptr<Acceptor> AddAcceptor(
    grpc::ServerBuilder* builder,
    std::shared_ptr<grpc::ServerCredentials> credentials) {
  return builder->experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
      std::move(credentials));
}

}  // namespace

// What gRPC takes accepted connections by: one for each way of knowing who it
// is.
class GrpcServer::Acceptors {
 public:
  Acceptors(const FrontDoor& door, const Certificates* certificates,
            ResetWatch* watch, grpc::ServerBuilder* builder)
      : watch_(watch),
        plain_(AddAcceptor(builder, grpc::InsecureServerCredentials())) {
    if (certificates != nullptr) {
      tls_ = AddAcceptor(builder, certificates->credentials());
    }
    if (door.has(Listener::Kind::kUnix)) uids_.emplace(builder);
  }

  void Deliver(int fd, const Visitor& visitor) {
    Acceptor* const acceptor = AcceptorFor(visitor);
    if (acceptor == nullptr) {
      static LogLimiter limiter(std::chrono::seconds(10));
      HOTLINE_LOG_LIMITED(limiter, kWarning,
                          "refused a caller: too many different uids",
                          {{"peer", visitor.peer}});
      shutdown(fd, SHUT_RDWR);
      close(fd);
      return;
    }
    Acceptor::NewConnectionParameters connection;
    connection.fd = fd;
    acceptor->HandleNewConnection(&connection);
    if (visitor.kind == Listener::Kind::kUnix) {
      watch_->OnUnixDelivered(visitor.id, MonotonicNow());
    }
  }

 private:
  Acceptor* AcceptorFor(const Visitor& visitor) {
    switch (visitor.kind) {
      case Listener::Kind::kUnix:
        return uids_->AcceptorOf(visitor.uid);
      case Listener::Kind::kReachable:
        return tls_ != nullptr ? tls_.get() : plain_.get();
      case Listener::Kind::kLoopback:
        break;
    }
    return plain_.get();
  }

  ResetWatch* const watch_;
  const std::unique_ptr<Acceptor> plain_;
  std::unique_ptr<Acceptor> tls_;
  std::optional<UidAcceptors> uids_;
};

GrpcServer::GrpcServer() = default;

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(
    const GrpcServerOptions& options, const Certificates* certificates,
    grpc::Service* service) {
  auto server = std::unique_ptr<GrpcServer>(new GrpcServer());
  auto door = FrontDoor::Bind(options.door);
  if (!door.ok()) return door.status();
  server->door_ = *std::move(door);

  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  SetLimits(options, &builder);
  builder.RegisterService(service);
  server->watch_ = std::make_unique<ResetWatch>(options.max_resets_per_second);
  server->acceptors_ = std::make_unique<Acceptors>(
      *server->door_, certificates, server->watch_.get(), &builder);
  server->server_ = builder.BuildAndStart();
  if (server->server_ == nullptr) {
    return absl::UnavailableError("cannot start the gRPC server");
  }
  server->SetServing(true);
  server->door_->Open(
      [acceptors = server->acceptors_.get()](int fd, const Visitor& visitor) {
        acceptors->Deliver(fd, visitor);
      },
      [server = server.get()] { return server->CutOffResetters(); });
  return server;
}

bool GrpcServer::CutOffResetters() {
  const Instant now = MonotonicNow();
  if (now >= trim_at_) {
    malloc_trim(0);
    trim_at_ = kNever;
  }
  for (const ResetWatch::Connection& over : watch_->Look(now)) {
    const bool done = door_->CutOff(over.id, over.peer);
    const bool is_unix = over.peer.empty();
    if (!done && !(is_unix && over.id == 0)) continue;  // It is on its way out.
    // What its calls took is free by then, and would stay the allocator's.
    trim_at_ = now + std::chrono::seconds(1);
    static LogLimiter limiter(std::chrono::seconds(1));
    HOTLINE_LOG_LIMITED(limiter, kWarning, "a caller resets calls too fast",
                        {{"peer", is_unix ? "unix" : over.peer},
                         {"cut_off", done},
                         {"suppressed", limiter.TakeSuppressed()}});
  }
  return trim_at_ != kNever;
}

bool GrpcServer::HasIdentities(const GrpcServerOptions& options) {
  if (!options.tls.cert_file.empty()) return true;
  const auto& addresses = options.door.addresses;
  return std::any_of(
      addresses.begin(), addresses.end(),
      [](const std::string& address) { return address.starts_with("unix:"); });
}

GrpcServer::~GrpcServer() {
  Stop(Duration(0));
  // Its thread delivers to the acceptors, and asks the door itself.
  if (door_ != nullptr) door_->Stop();
  door_ = nullptr;
}

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
  door_->Close();
  server_->Shutdown(std::chrono::system_clock::now() + grace);
  server_->Wait();
  server_ = nullptr;
}

}  // namespace hotline::server
