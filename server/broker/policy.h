// Who may do what: the configuration's policy, compiled. Pure.
//
// A rule names identities, and what they may do: which RPCs, to which targets,
// and how much of it. A caller that some rule names may do what any of those
// rules allows; a caller that no rule names gets the default.
#ifndef HOTLINE_SERVER_BROKER_POLICY_H_
#define HOTLINE_SERVER_BROKER_POLICY_H_

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "server/broker/options.h"
#include "server/broker/rpc.h"

namespace hotline::server {

// Where a call would go. Views.
struct Destination {
  Destination() = default;
  template <std::convertible_to<std::string_view> Text>
  Destination(const Text& where) : target(where) {}
  Destination(std::string_view where, std::string_view server_name,
              std::string_view address)
      : target(where), sni(server_name), remote_ip(address) {}

  std::string_view target;     // Canonical; empty where an RPC has none.
  std::string_view sni;        // Empty: the target's host.
  std::string_view remote_ip;  // A numeric address; empty: the host's.
};

struct Decision {
  bool allowed = false;
  Quota quota;
};

// Immutable, so thread-safe.
class Policy {
 public:
  // REQUIRES: the words pass the checks above.
  explicit Policy(const PolicyRules& rules);

  // `identity` empty: the caller has none. A dot at the end of the target's
  // host makes no difference. Of several rules that allow it the first one's
  // quota holds; none is made up of two.
  //
  // Renew goes with Acquire. Release is for everybody who may do anything: what
  // was borrowed can be given back.
  Decision Decide(std::string_view identity, RpcMethod rpc,
                  const Destination& where) const;

  bool SeesAllLeases(std::string_view identity) const;

 private:
  struct Rule {
    std::vector<std::string> identities;
    std::vector<std::string> targets;  // "scheme://host:port" with "*"s.
    std::vector<std::string> snis;     // Lower case.
    std::vector<std::string> remote_ips;
    uint64_t rpcs = 0;  // Bits by RpcMethod.
    Quota quota;
    bool all_leases = false;

    bool Names(std::string_view identity) const;
    bool Allows(RpcMethod rpc, const Destination& to) const;
    bool HasTarget(std::string_view target) const;
    bool HasSni(const Destination& to) const;
    bool HasAddress(const Destination& to) const;
  };

  const bool allow_by_default_;
  std::vector<Rule> rules_;
};

// Whether `text` is `pattern` with each "*" replaced by something.
bool MatchesPattern(std::string_view pattern, std::string_view text);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_POLICY_H_
