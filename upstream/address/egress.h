// Which addresses may be connected to. Asked about the resolved address, right
// before connect(), so that no name can lead where it must not.
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

// The rules, in this order; the first that knows the address decides:
//   1. Always denied, whatever the configuration says: link-local, the clouds'
//      metadata services, multicast, broadcast (the table is in egress.cc).
//   2. EgressRules::deny: names and addresses.
//   3. EgressRules::allow: addresses; and names, for what they resolve to.
//   4. The default: `public` denies what is not a public address (loopback,
//      private, shared, unique local, reserved…), `none` denies everything.
// An IPv4 address inside an IPv6 one (mapped, NAT64, 6to4, ISATAP, Teredo…) is
// looked at by 1, 2 and 4 as well, and what is mapped counts as IPv4
// altogether.
//
// A name that is allowed vouches for the addresses that DNS gives for it, and
// for no other: an address that the caller chose itself has to be allowed as
// one. A name that is denied is denied whatever the address.
//
// Immutable; thread-safe.
class EgressPolicy {
 public:
  // A rule is an address, a CIDR, a host name, or "*." and a host name for all
  // names below it. INVALID_ARGUMENT names the one that is none of these.
  static absl::StatusOr<EgressPolicy> Create(const EgressRules& rules);

  struct Decision {
    bool allowed = false;
    std::string_view rule;  // What decided, for people; static.
  };
  // `host` is what the caller asked for, `address` what it resolved to.
  Decision Check(std::string_view host, const IpAddress& address) const;

  // `address` is the caller's own choice for `host`.
  Decision CheckChosen(std::string_view host, const IpAddress& address) const;

  // Of what a proxy is asked to connect to: `chosen`, if the caller chose an
  // address, else `host`. An address is looked at like any other. A name's
  // addresses are the proxy's to find: here only the rules for names count, and
  // the default where none matches.
  Decision CheckBehindProxy(std::string_view host,
                            const std::optional<IpAddress>& chosen = {}) const;

  // Whether a rule denies the name; for a server's name that is not the host.
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

  // `vouched`: the address comes with the name.
  Decision Decide(std::string_view host, const IpAddress& address,
                  bool vouched) const;

  RuleSet allow_;
  RuleSet deny_;
  bool default_public_ = true;
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_ADDRESS_EGRESS_H_
