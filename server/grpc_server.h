// The gRPC listeners: addresses, limits, health and reflection.
#ifndef HOTLINE_SERVER_GRPC_SERVER_H_
#define HOTLINE_SERVER_GRPC_SERVER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/time.h"

namespace grpc {
class Server;
class Service;
}  // namespace grpc

namespace hotline::server {

class GrpcServer {
 public:
  // Listens on every address ("127.0.0.1:0", "[::1]:50051", "unix:///path",
  // the socket with mode 0660) or on none. `service` must outlive the server.
  //
  // Errors: UNAVAILABLE naming the address that cannot be bound.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(
      const std::vector<std::string>& addresses, grpc::Service* service);

  // Stops without waiting.
  ~GrpcServer();

  // Where it listens, free ports filled in.
  const std::vector<std::string>& addresses() const { return addresses_; }

  // What grpc.health.v1 says of "" and of the services.
  void SetServing(bool serving);
  // What it says of another service.
  void SetHealth(const std::string& service, bool serving);

  // Takes no more calls and waits until those under way have been answered,
  // `grace` at most; then cuts them off. Idempotent.
  void Stop(Duration grace);

 private:
  GrpcServer() = default;

  std::vector<std::string> addresses_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_GRPC_SERVER_H_
