// Egress policy: the addresses that may be connected to. The resolved address
// is checked right before connect(), so that DNS cannot lead around the policy.
#ifndef HOTLINE_UPSTREAM_ADDRESS_EGRESS_H_
#define HOTLINE_UPSTREAM_ADDRESS_EGRESS_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/ip_address.h"
#include "upstream/options.h"

namespace hotline::upstream {

// Rules, in this order; the first one that matches decides:
//   1. Always denied, regardless of configuration: link-local, cloud metadata
//      services, multicast, broadcast (the table is in egress.cc).
//   2. EgressRules::deny: names and addresses.
//   3. EgressRules::allow: addresses; and names, for the addresses they resolve
//      to.
//   4. The default: `public` denies what is not a public address (loopback,
//      private, shared, unique local, reserved…), `none` denies everything.
// Rules 1, 2 and 4 also apply to an IPv4 address embedded in an IPv6 one
// (mapped, NAT64, 6to4, ISATAP, Teredo…); a mapped address counts as IPv4
// altogether.
//
// An allowed name covers the addresses that DNS returns for it and no others:
// an address that the caller chose must be allowed by itself. A denied name is
// denied with any address.
//
// Immutable; thread-safe.
class EgressPolicy {
 public:
  // A rule is an address, a CIDR, a host name, or "*." and a host name for all
  // names below it. INVALID_ARGUMENT names the first invalid rule.
  static absl::StatusOr<EgressPolicy> Create(const EgressRules& rules);

  struct Decision {
    bool allowed = false;
    std::string_view rule;  // The rule that decided, for messages; static.
  };
  // `host`: the target's; `address`: resolved from it.
  Decision Check(std::string_view host, const IpAddress& address) const;

  // `address` is the caller's own choice for `host`.
  Decision CheckChosen(std::string_view host, const IpAddress& address) const;

  // For a destination behind a proxy: `chosen` if the caller chose an address,
  // else `host`. An address is checked like any other. A name is resolved by
  // the proxy, so only the rules for names apply, then the default.
  Decision CheckBehindProxy(std::string_view host,
                            const std::optional<IpAddress>& chosen = {}) const;

  // Whether a rule denies the name. For a TLS server name other than the host.
  bool DeniesName(std::string_view name) const;

 private:
  struct RuleSet {
    std::vector<IpRange> ranges;
    std::vector<std::string> hosts;     // Lower case.
    std::vector<std::string> suffixes;  // ".example.com".

    absl::Status Add(const std::string& rule);
    bool HasHost(std::string_view lower_host) const;
    bool HasAddress(const IpAddress& address) const;
  };

  // `vouched`: an allowed name covers the address.
  Decision Decide(std::string_view host, const IpAddress& address,
                  bool vouched) const;

  RuleSet allow_;
  RuleSet deny_;
  bool default_public_ = true;
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_ADDRESS_EGRESS_H_
