// The data plane's listeners: gRPC over HTTP/2 for callers, on the loops that
// the upstream's connections live on.
//
//   auto front = Front::Start(options, parts, upstream.loops());
//   ...
//   (*front)->SetServing(false);
//   (*front)->Stop(grace);
//
// The door's thread accepts; each connection is given to the loop that has the
// fewest, and stays there with all its calls.
//
// Thread safety: everything but Start and Stop may be called from any thread.
#ifndef HOTLINE_SERVER_FRONT_FRONT_H_
#define HOTLINE_SERVER_FRONT_FRONT_H_

#include <condition_variable>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "base/time.h"
#include "net/loop.h"
#include "server/broker/broker.h"
#include "server/broker/call_metrics.h"
#include "server/broker/identity.h"
#include "server/front/certificates.h"
#include "server/front/front_door.h"
#include "server/front/front_loop.h"
#include "server/front/health.h"
#include "server/front/options.h"
#include "server/front/reflection.h"
#include "server/front/server_call.h"

namespace hotline::server {

class Front {
 public:
  // What it is made of; must outlive it.
  struct Parts {
    Broker* broker = nullptr;
    RpcMetrics* metrics = nullptr;
    IdentityTable* identities = nullptr;  // Null: no caller has one.
    // Of `options.tls`; null without.
    const Certificates* certificates = nullptr;
    // Services besides the broker's, health and reflection. Null: none.
    CallFactory further_services = nullptr;
    // Listening sockets to use instead of new ones.
    InheritedSockets* inherited = nullptr;
  };

  // Listens on every address or on none, and serves. The loops must run until
  // Stop has returned, and have ended before this is destroyed.
  //
  // Errors: UNAVAILABLE naming the address that cannot be bound.
  static absl::StatusOr<std::unique_ptr<Front>> Start(
      const FrontOptions& options, const Parts& parts,
      const std::vector<net::Loop*>& loops);

  // Stops without waiting for calls.
  ~Front();

  // Whether any caller at all can have an identity.
  static bool HasIdentities(const FrontOptions& options);

  // Where it listens, free ports filled in.
  const std::vector<std::string>& addresses() const {
    return door_->addresses();
  }

  // See FrontDoor.
  const std::vector<ListeningSocket>& sockets() const {
    return door_->sockets();
  }
  void SetOwnsFiles(bool owns) { door_->SetOwnsFiles(owns); }

  FrontDoorCounts connections() const { return door_->counts(); }

  // What grpc.health.v1 says of "" and of the services.
  void SetServing(bool serving);
  // What it says of another service.
  void SetHealth(std::string_view service, bool serving);

  // Takes no more connections, and tells callers to make no more calls on
  // those that they have. Calls that they make until they know are accepted.
  // Callers that hold leases which they acquired by unary calls are told when
  // the leases have ended, after `leases` at the latest. Idempotent.
  void StartDrain(Duration leases = Duration(0));
  // No connection is open, and no call runs.
  bool idle() const;

  // StartDrain; waits until the calls under way have been answered, `grace` at
  // most; then cuts off what is left. Idempotent.
  void Stop(Duration grace);

 private:
  Front(const FrontOptions& options, const Parts& parts,
        std::unique_ptr<FrontDoor> door);

  void Deliver(int fd, const Visitor& visitor);
  void NotifyWatchers();
  // False: it took longer, or for `goodbye` only connections without calls have
  // been left.
  bool AwaitIdle(Duration most, Duration goodbye);
  // Waits for what was posted to the loops before they were known to be idle.
  void CloseLoops();

  const std::unique_ptr<FrontDoor> door_;
  HealthTable health_;
  const Reflection reflection_;
  const FrontParts parts_;
  std::vector<std::unique_ptr<FrontLoop>> loops_;
  bool draining_ = false;
  bool stopped_ = false;

  Mutex drained_mu_;
  std::condition_variable drained_;  // Calls or connections of a loop.
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_FRONT_FRONT_H_
