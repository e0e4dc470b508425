// Who may do what: the configuration's policy, compiled. Pure.
//
// A rule names identities, and what they may do: which RPCs, to which targets,
// and how much of it. A caller that some rule names may do what any of those
// rules allows; a caller that no rule names gets the default.
#ifndef HOTLINE_SERVER_POLICY_H_
#define HOTLINE_SERVER_POLICY_H_

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "server/execute_metrics.h"

namespace hotline::server {

// Of one caller, over all that it does. 0: no limit.
struct Quota {
  int max_leases = 0;   // Held, or waited for by Acquire.
  int max_waiters = 0;  // Calls in line for a connection.
  int requests_per_second = 0;

  friend bool operator==(const Quota&, const Quota&) = default;
};

struct PolicyRule {
  // Each the whole name of an identity, "*" in it for any characters.
  // "anonymous" is who has none, and the only word for it.
  std::vector<std::string> identities;
  // Targets; in the host "*" stands for any characters, as a port for any, as a
  // scheme for any. Empty: all. What a call sets in the place of the target's
  // host (an SNI, an address) must be one of them as well, unless the next two
  // have it.
  std::vector<std::string> targets;
  // Server names, "*" in them for any characters.
  std::vector<std::string> snis;
  // CIDRs and addresses.
  std::vector<std::string> remote_ips;
  // Names of RPCs. Empty: all.
  std::vector<std::string> rpcs;
  Quota quota;
  bool all_leases = false;  // Sees everybody's in Stats.

  friend bool operator==(const PolicyRule&, const PolicyRule&) = default;
};

struct PolicyRules {
  bool allow_by_default = true;
  std::vector<PolicyRule> rules;

  friend bool operator==(const PolicyRules&, const PolicyRules&) = default;
};

// What is wrong with a rule's words; empty when nothing is.
std::string CheckIdentityPattern(const std::string& text);
std::string CheckTargetPattern(const std::string& text);
std::string CheckSniPattern(const std::string& text);
std::string CheckRpcName(const std::string& text);

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

#endif  // HOTLINE_SERVER_POLICY_H_
