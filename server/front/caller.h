// From gRPC's view of a connection to who calls. Part of the gRPC front.
#ifndef HOTLINE_SERVER_FRONT_CALLER_H_
#define HOTLINE_SERVER_FRONT_CALLER_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"
#include "grpcpp/security/auth_context.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server_builder.h"
#include "server/broker/identity.h"

namespace hotline::server {

// Who is at the other end of a call's connection: what its certificate says,
// or, on a Unix socket, its uid. Null: nobody in particular.
IdentityPtr IdentityOf(const grpc::AuthContext& context, IdentityTable* table);

// Unix sockets tell gRPC nothing of who calls. So each uid gets an acceptor of
// its own, for the life of the server: whatever comes through it is that
// uid's, however late it is looked at.
//
// Thread-compatible: AcceptorOf is for the front door's thread.
class UidAcceptors {
 public:
  // Different uids that can call in one server's life; others are refused.
  static constexpr int kMost = 64;

  // Adds the acceptors. They are usable once the server has been built.
  explicit UidAcceptors(grpc::ServerBuilder* builder);
  ~UidAcceptors();

  // Null: there are too many different ones.
  grpc::experimental::ExternalConnectionAcceptor* AcceptorOf(uint32_t uid);

 private:
  class Marker;
  struct Lane {
    std::shared_ptr<Marker> marker;
    std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor;
  };

  std::array<Lane, kMost> lanes_;
  absl::flat_hash_map<uint32_t, int> lane_of_;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_FRONT_CALLER_H_
