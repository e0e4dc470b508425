// The control plane's listener: gRPC's library on threads of its own, so that
// an operator is answered while the data plane's loops are busy or stuck.
// Serves hotline.v1.Admin, grpc.health.v1, server reflection and channelz.
//
//   auto admin = Admin::Start(options, &service);
//   (*admin)->SetServing(true);
//   ...
//   (*admin)->Stop(grace);
//
// Plain text: loopback or a Unix socket only, whose users are identified. A
// FrontDoor accepts the connections, because gRPC's own listener stops
// accepting once descriptors have run out (ADR 13).
//
// Thread safety: everything but Start and Stop may be called from any thread.
#ifndef HOTLINE_SERVER_ADMIN_ADMIN_H_
#define HOTLINE_SERVER_ADMIN_ADMIN_H_

#include <sys/types.h>

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/time.h"
#include "server/admin/options.h"
#include "server/front/front_door.h"

namespace grpc {
class Server;
class Service;
namespace experimental {
class ExternalConnectionAcceptor;
}  // namespace experimental
}  // namespace grpc

namespace hotline::server {

class UidAcceptors;

class Admin {
 public:
  // Serves, and is not yet SERVING. `service`: hotline.v1.Admin's; must outlive
  // the admin; null: none. `inherited`: listening sockets to use instead of a
  // new one. REQUIRES: an address.
  //
  // Errors: UNAVAILABLE if the address cannot be bound, naming listen.admin.
  static absl::StatusOr<std::unique_ptr<Admin>> Start(
      const AdminOptions& options, grpc::Service* service = nullptr,
      InheritedSockets* inherited = nullptr);

  ~Admin();
  Admin(const Admin&) = delete;
  Admin& operator=(const Admin&) = delete;

  // Where it listens, a free port filled in.
  const std::string& address() const { return door_->addresses().front(); }

  // See FrontDoor.
  const std::vector<ListeningSocket>& sockets() const {
    return door_->sockets();
  }
  void SetOwnsFiles(bool owns) { door_->SetOwnsFiles(owns); }
  // Takes no more connections; those that are open stay.
  void CloseDoor() { door_->Stop(); }

  // What grpc.health.v1 says of "" and of the Broker, as the front says it.
  void SetServing(bool serving);
  // What it says of another service.
  void SetHealth(const std::string& service, bool serving);

  // Takes no more connections, and waits until calls have ended, `grace` at
  // most; then cuts them off. Idempotent.
  void Stop(Duration grace);

 private:
  // A socket that was given to gRPC, which does not report when it closes it.
  // If the descriptor has another inode, it was closed and reused.
  struct Handed {
    int fd = -1;
    dev_t device = 0;
    ino_t inode = 0;
  };

  Admin(int max_connections, std::unique_ptr<FrontDoor> door);

  // Of the door's thread.
  void Deliver(int fd, const Visitor& visitor);
  // Null: the visitor's user is one too many.
  grpc::experimental::ExternalConnectionAcceptor* AcceptorFor(
      const Visitor& visitor);
  bool HasRoom();

  const size_t max_connections_;
  const std::unique_ptr<FrontDoor> door_;
  // One of the two.
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> plain_;
  std::unique_ptr<UidAcceptors> uids_;
  std::unique_ptr<grpc::Server> server_;
  std::vector<Handed> handed_;  // Of the door's thread.
  bool stopped_ = false;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_ADMIN_ADMIN_H_
