// Makes connections: resolve, choose addresses that may be connected to, TCP to
// the first that answers, perhaps a proxy's tunnel, TLS, ALPN, HTTP/2's
// settings, validate. Everything within one deadline.
#ifndef HOTLINE_UPSTREAM_DIAL_DIAL_H_
#define HOTLINE_UPSTREAM_DIAL_DIAL_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "base/ip_address.h"
#include "net/loop.h"
#include "pool/types.h"
#include "upstream/address/egress.h"
#include "upstream/address/keeper.h"
#include "upstream/connection/connection.h"
#include "upstream/dial/target_parts.h"
#include "upstream/dial/tls_profiles.h"
#include "upstream/types.h"

namespace hotline::upstream {

// What all dials share; replaced as a whole.
struct DialSettings {
  Duration connect_timeout{0};
  Duration tcp_timeout{0};
  Duration tls_timeout{0};
  Duration stagger{0};  // Between attempts at one host's addresses.
  int64_t max_header_bytes = 0;
  Duration ping_after{0};
  Duration ping_timeout{0};
  std::vector<IpAddress> sources;  // Local addresses, taken in turn.
  EgressPolicy egress;
  std::shared_ptr<const TlsProfiles> tls;
};

struct DialResult {
  std::shared_ptr<Connection> connection;  // Open; null: see `error`.
  AddressTicket ticket;                    // Where the connection counts.
  pool::DialError error;
  pool::DialTimings timings;
  // TLS handshakes that were finished; maybe one for each address.
  int full_handshakes = 0;
  int resumed_handshakes = 0;
};

// A dial under way. On one loop only.
class Dial {
 public:
  using Done = absl::AnyInvocable<void(DialResult)>;

  struct Spec {
    std::string target;
    std::string sni;   // Empty: the target's host.
    std::string alpn;  // What alone will do; empty: what the profile offers.
    std::string tls_profile = "default";
    std::string tls_scope;  // Sessions are shared within it.
    std::string proxy;      // "http://host:port"; empty: none.
    // Where to, instead of what DNS says; behind a proxy, where it is to go.
    std::optional<IpAddress> remote;
    // The local end; nothing: one of DialSettings::sources, if there are any.
    std::optional<IpAddress> source;
    uint64_t random = 0;  // Any 64 bits.
    Check validate;
    bool callers_check = false;  // A caller asked for it, not the operator.
    // Whose connection it is, for the keeper's own tests.
    std::shared_ptr<const pool::HostPoolKey> key;
    // Made to test one address, a proxy's maybe: it counts nowhere.
    std::optional<IpAddress> test;
  };

  // `done` is told once, on the loop, maybe from inside Begin or Abort.
  static std::shared_ptr<Dial> Make(
      net::Loop* loop, AddressKeeper* keeper,
      std::shared_ptr<const DialSettings> settings, Spec spec, Done done);

  virtual ~Dial() = default;

  // Once, on the loop. The dial keeps itself alive until it is done.
  virtual void Begin() = 0;
  // Ends it soon, as a failure. On the loop.
  virtual void Abort() = 0;
};

// Whether an answer satisfies a check.
bool Passes(const Check& check, const CallResult& result);

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_DIAL_DIAL_H_
