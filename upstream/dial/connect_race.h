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

// Attempts begin in the order given, the next one when the one before has
// failed or has been under way for `stagger`; each has `attempt_timeout`. The
// first whose TCP connection stands wins; the others are closed. What becomes
// of each is told to the keeper: failures as such, losers as given up.
//
// On one loop only.
class ConnectRace {
 public:
  struct Options {
    std::string target;  // For the keeper.
    std::vector<IpAddress> order;
    uint16_t port = 0;
    Duration stagger{0};
    Duration attempt_timeout{0};
    Instant deadline = kNever;
    // The local address; nothing: the system's choice. Of another family than
    // an address, that one is left out.
    std::optional<IpAddress> source;
    // Asked right before each connect(). Empty: allowed; else why not.
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
    std::vector<Failure> failures;  // In the order in which they happened.
    // What was not tried: where to go on if the winner is no good after all.
    std::vector<IpAddress> rest;
  };
  using Done = absl::AnyInvocable<void(Result)>;

  // `keeper` may be null: nobody is told. `done` is told once, maybe from
  // inside Begin; never after Cancel.
  static std::shared_ptr<ConnectRace> Make(net::Loop* loop,
                                           AddressKeeper* keeper,
                                           Options options, Done done);
  virtual ~ConnectRace() = default;

  // Once. The race keeps itself alive until it is over.
  virtual void Begin() = 0;
  // Gives up at once.
  virtual void Cancel() = 0;
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_DIAL_CONNECT_RACE_H_
