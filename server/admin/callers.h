// Who calls the control plane over a Unix socket.
#ifndef HOTLINE_SERVER_ADMIN_CALLERS_H_
#define HOTLINE_SERVER_ADMIN_CALLERS_H_

#include <array>
#include <cstdint>
#include <memory>

#include "absl/container/flat_hash_map.h"
#include "grpcpp/security/auth_context.h"
#include "grpcpp/server_builder.h"
#include "server/broker/identity.h"

namespace hotline::server {

// The user at the other end of a call's connection. Null: it has no identity,
// because the connection is no Unix socket's.
IdentityPtr IdentityOf(const grpc::AuthContext& context, IdentityTable* table);

// gRPC does not report the peer of a Unix socket. So each uid gets an acceptor
// of its own, for the life of the server: a connection that came through it is
// that user's, however late its calls are looked at (ADR 9).
//
// Thread safety: AcceptorOf is for one thread.
class UidAcceptors {
 public:
  using Acceptor = grpc::experimental::ExternalConnectionAcceptor;
  // The different users that can connect in one server's life.
  static constexpr int kMost = 16;

  // Adds the acceptors, which are usable once the server has been built.
  explicit UidAcceptors(grpc::ServerBuilder* builder);
  ~UidAcceptors();
  UidAcceptors(const UidAcceptors&) = delete;
  UidAcceptors& operator=(const UidAcceptors&) = delete;

  // Null: there are too many different ones.
  Acceptor* AcceptorOf(uint32_t uid);

 private:
  class Marker;
  struct Lane {
    std::shared_ptr<Marker> marker;
    std::unique_ptr<Acceptor> acceptor;
  };

  std::array<Lane, kMost> lanes_;
  absl::flat_hash_map<uint32_t, int> lane_of_;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_ADMIN_CALLERS_H_
