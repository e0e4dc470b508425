// Makes connections: resolves the host, chooses among the addresses that egress
// allows, connects to the first that answers, opens a proxy's tunnel,
// negotiates TLS and ALPN, awaits HTTP/2's SETTINGS, validates. All within one
// deadline.
//
//   auto dial = Dial::Make(loop, keeper, settings, {.target = "https://a:443"},
//                          [](DialResult result) { ... });
//   dial->Begin();                                  // On the loop.
//
// Thread safety: a dial belongs to its loop.
//
// Invariants:
//   1. `done` is called exactly once, also after Abort.
//   2. Every ticket is reported to the keeper as closed, unless it is returned
//      with the connection.
//   3. Egress is checked on the resolved address, right before connect().
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

// Shared by all dials; immutable, replaced as a whole on reload.
struct DialSettings {
  Duration connect_timeout{0};
  Duration tcp_timeout{0};
  Duration tls_timeout{0};
  Duration stagger{0};  // Between attempts to one host's addresses.
  int64_t max_header_bytes = 0;
  Duration ping_after{0};
  Duration ping_timeout{0};
  std::vector<IpAddress> sources;  // Local addresses, chosen at random.
  EgressPolicy egress;
  std::shared_ptr<const TlsProfiles> tls;
};

struct DialResult {
  std::shared_ptr<Connection> connection;  // Open; null: see `error`.
  AddressTicket ticket;                    // For the keeper.
  pool::DialError error;
  pool::DialTimings timings;
  // Completed TLS handshakes, of all addresses tried.
  int full_handshakes = 0;
  int resumed_handshakes = 0;
};

// A dial in progress. Confined to one loop.
class Dial {
 public:
  using Done = absl::AnyInvocable<void(DialResult)>;

  struct Spec {
    std::string target;
    std::string sni;   // Empty: the target's host.
    std::string alpn;  // The only acceptable protocol; empty: the profile's.
    std::string tls_profile = "default";
    std::string tls_scope;  // TLS sessions are shared within a scope.
    std::string proxy;      // "http://host:port"; empty: none.
    // Replaces resolution; behind a proxy, the destination of its tunnel.
    std::optional<IpAddress> remote;
    // The local address; none: one of DialSettings::sources, if any.
    std::optional<IpAddress> source;
    uint64_t random = 0;  // Any 64 bits.
    Check validate;
    bool callers_check =
        false;  // `validate` is a caller's, not the operator's.
    // The host pool, for the keeper's own tests.
    std::shared_ptr<const pool::HostPoolKey> key;
    // A test of this address (of the target or its proxy): no ticket.
    std::optional<IpAddress> test;
  };

  // `done` is called once, on the loop, possibly from inside Begin or Abort.
  static std::shared_ptr<Dial> Make(
      net::Loop* loop, AddressKeeper* keeper,
      std::shared_ptr<const DialSettings> settings, Spec spec, Done done);

  virtual ~Dial() = default;

  // To be called once, on the loop. The dial keeps itself alive until done.
  virtual void Begin() = 0;
  // Makes the dial fail soon. On the loop.
  virtual void Abort() = 0;
};

// Whether an answer satisfies a check.
bool Passes(const Check& check, const CallResult& result);

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_DIAL_DIAL_H_
