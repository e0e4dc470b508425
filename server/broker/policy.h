// The configured policy, compiled: who may do what. Pure.
//
//   Policy policy(rules);
//   Decision decision = policy.Decide("uid:1000", RpcMethod::kExecute,
//                                     "https://example.com:443");
//
// A rule names identities and what they may do: which RPCs, on which targets,
// within which quota. A caller that some rules name may do what any of them
// allows; a caller that no rule names gets the default.
//
// Thread safety: a Policy is immutable, so thread-safe.
//
// Invariants:
//   1. Release is allowed to every caller: what was borrowed can be given back.
//   2. Renew is allowed where Acquire is.
//   3. hotline.v1.Admin is allowed only by a rule that lists it.
//   4. A quota is that of one rule, the first that allows the call; quotas are
//      never combined.
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

// Where a call would lead. Views.
struct Destination {
  Destination() = default;
  template <std::convertible_to<std::string_view> Text>
  Destination(const Text& where) : target(where) {}
  Destination(std::string_view where, std::string_view server_name,
              std::string_view address)
      : target(where), sni(server_name), remote_ip(address) {}

  std::string_view target;     // Canonical; empty for RPCs without one.
  std::string_view sni;        // Empty: the target's host.
  std::string_view remote_ip;  // A numeric address; empty: the host's.
};

struct Decision {
  bool allowed = false;
  Quota quota;
};

class Policy {
 public:
  // REQUIRES: the rules pass the Check functions of options.h.
  explicit Policy(const PolicyRules& rules);

  // `identity` empty: the caller has none. A dot at the end of the target's
  // host makes no difference.
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

// Whether `text` matches `pattern`, in which "*" stands for any characters.
bool MatchesPattern(std::string_view pattern, std::string_view text);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_POLICY_H_
