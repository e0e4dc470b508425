// Connects to the first of several addresses that answers (RFC 8305).
#ifndef HOTLINE_UPSTREAM_DIAL_CONNECT_RACE_H_
#define HOTLINE_UPSTREAM_DIAL_CONNECT_RACE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "base/ip_address.h"
#include "base/time.h"
#include "net/loop.h"
#include "upstream/address/keeper.h"

namespace hotline::net {
struct SocketIo;
}

namespace hotline::upstream {

// Attempts start in the given order, each one when its predecessor has failed
// or has been running for `stagger`; each may take `attempt_timeout`. The first
// established TCP connection wins, and the other attempts are closed. The
// keeper learns the outcome of every attempt: a failure, the win, or abandoned.
//
// Confined to one loop.
class ConnectRace {
 public:
  struct Options {
    std::string target;  // For the keeper.
    std::vector<IpAddress> order;
    uint16_t port = 0;
    Duration stagger{0};
    Duration attempt_timeout{0};
    Instant deadline = kNever;
    // The local address; none: the system chooses. Remote addresses of the
    // other family fail without an attempt.
    std::optional<IpAddress> source;
    // Called right before each connect(). Empty: allowed; else the reason.
    std::function<std::string(const IpAddress&)> forbidden;
  };
  struct Winner {
    std::unique_ptr<net::SocketIo> io;
    AddressTicket ticket;
    IpAddress address;
    Duration length{0};
  };
  struct Failure {
    IpAddress address;
    bool denied = false;  // By `forbidden`.
    std::string why;
  };
  struct Result {
    std::optional<Winner> winner;
    std::vector<Failure> failures;  // Oldest first.
    // Addresses not tried to the end, in order: the next candidates if the
    // winner turns out to be unusable.
    std::vector<IpAddress> untried;
  };
  using Done = absl::AnyInvocable<void(Result)>;

  // `keeper` may be null. `done` is called once, possibly from inside Begin,
  // and never after Cancel.
  static std::shared_ptr<ConnectRace> Make(net::Loop* loop,
                                           AddressKeeper* keeper,
                                           Options options, Done done);
  virtual ~ConnectRace() = default;

  // Starts the first attempt; to be called once. The race keeps itself alive
  // until it is over.
  virtual void Begin() = 0;
  // Closes all attempts at once.
  virtual void Cancel() = 0;
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_DIAL_CONNECT_RACE_H_
