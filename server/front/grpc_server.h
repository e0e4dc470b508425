// The gRPC listeners: addresses, limits, health and reflection.
#ifndef HOTLINE_SERVER_FRONT_GRPC_SERVER_H_
#define HOTLINE_SERVER_FRONT_GRPC_SERVER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/time.h"
#include "server/front/front_door.h"
#include "server/front/options.h"

namespace grpc {
class Server;
class Service;
}  // namespace grpc

namespace hotline::server {

class Certificates;
class ResetWatch;

class GrpcServer {
 public:
  // Listens on every address or on none. `certificates` are those of
  // `options.tls`, null without; they and `service` must outlive the server.
  //
  // Errors: UNAVAILABLE naming the address that cannot be bound.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(
      const GrpcServerOptions& options, const Certificates* certificates,
      grpc::Service* service);

  // Stops without waiting.
  ~GrpcServer();

  // Whether any caller at all can have an identity.
  static bool HasIdentities(const GrpcServerOptions& options);

  // Where it listens, free ports filled in.
  const std::vector<std::string>& addresses() const {
    return door_->addresses();
  }

  FrontDoorCounts connections() const { return door_->counts(); }

  // What grpc.health.v1 says of "" and of the services.
  void SetServing(bool serving);
  // What it says of another service.
  void SetHealth(const std::string& service, bool serving);

  // Takes no more calls and waits until those under way have been answered,
  // `grace` at most; then cuts them off. Idempotent.
  void Stop(Duration grace);

 private:
  class Acceptors;
  // False: there is nothing left to do when there is no connection.
  bool CutOffResetters();

  GrpcServer();

  std::unique_ptr<FrontDoor> door_;
  std::unique_ptr<ResetWatch> watch_;
  Instant trim_at_ = kNever;  // The door's thread's own.
  std::unique_ptr<Acceptors> acceptors_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_FRONT_GRPC_SERVER_H_
