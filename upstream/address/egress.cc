#include "upstream/address/egress.h"

#include <algorithm>
#include <initializer_list>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/http_chars.h"

namespace hotline::upstream {
namespace {

std::vector<IpRange> Ranges(std::initializer_list<const char*> texts) {
  std::vector<IpRange> ranges;
  for (const char* text : texts) ranges.push_back(*IpRange::Parse(text));
  return ranges;
}

bool Contains(const std::vector<IpRange>& ranges, const IpAddress& address) {
  return std::any_of(ranges.begin(), ranges.end(), [&](const IpRange& range) {
    return range.Contains(address);
  });
}

// Denied regardless of configuration. A cloud's metadata service gives a
// machine its credentials, and would give them to any caller who can make it
// send a request there.
struct AlwaysDenied {
  const char* what;
  const char* rule;
};
constexpr AlwaysDenied kAlwaysDenied[] = {
    // AWS, Azure, Google Cloud, Oracle Cloud, DigitalOcean, OpenStack and most
    // others have their metadata service here, by IPv6 in fe80::/10.
    {"169.254.0.0/16", "always denied: link-local, with most clouds' metadata"},
    {"fe80::/10", "always denied: link-local"},
    {"fd00:ec2::254", "always denied: AWS (instance metadata)"},
    {"fd00:ec2::23", "always denied: AWS (EKS Pod Identity)"},
    {"168.63.129.16", "always denied: Azure (WireServer)"},
    {"fd20:ce::254", "always denied: Google Cloud (metadata)"},
    {"192.0.0.192", "always denied: Oracle Cloud (metadata)"},
    {"fd00:c1::a9fe:a9fe", "always denied: Oracle Cloud (metadata)"},
    {"100.100.100.200", "always denied: Alibaba Cloud (metadata)"},
    {"fd00:42::42", "always denied: Scaleway (metadata)"},
    {"224.0.0.0/4", "always denied: multicast"},
    {"ff00::/8", "always denied: multicast"},
    {"255.255.255.255", "always denied: broadcast"},
};

// Host names of metadata services, for proxies that resolve names.
constexpr AlwaysDenied kAlwaysDeniedNames[] = {
    {"instance-data.ec2.internal", "always denied: AWS (instance metadata)"},
    {"metadata.google.internal", "always denied: Google Cloud (metadata)"},
    {"metadata.goog", "always denied: Google Cloud (metadata)"},
    {"api.metadata.cloud.ibm.com", "always denied: IBM Cloud (metadata)"},
    {"metadata.tencentyun.com", "always denied: Tencent Cloud (metadata)"},
};

// The row that denies the address, or null.
const AlwaysDenied* FindAlwaysDenied(const IpAddress& address) {
  static const auto* const ranges = [] {
    auto* const parsed = new std::vector<IpRange>;
    for (const AlwaysDenied& row : kAlwaysDenied) {
      parsed->push_back(*IpRange::Parse(row.what));
    }
    return parsed;
  }();
  for (size_t i = 0; i < ranges->size(); ++i) {
    if ((*ranges)[i].Contains(address)) return &kAlwaysDenied[i];
  }
  return nullptr;
}

bool IsNotPublic(const IpAddress& address) {
  static const auto* const ranges = new std::vector<IpRange>(Ranges({
      "0.0.0.0/8",       // This host, this network.
      "10.0.0.0/8",      // Private.
      "100.64.0.0/10",   // Shared by carriers (CGNAT).
      "127.0.0.0/8",     // Loopback.
      "172.16.0.0/12",   // Private.
      "192.0.0.0/24",    // Protocol assignments.
      "192.168.0.0/16",  // Private.
      "198.18.0.0/15",   // Benchmarks.
      "240.0.0.0/4",     // Reserved.
      "::/128",          // Unspecified: connects to this host.
      "::1/128",         // Loopback.
      "2001::/32",       // Teredo.
      "fc00::/7",        // Unique local.
      "fec0::/10",       // Site-local.
  }));
  return Contains(*ranges, address);
}

IpAddress V4At(const IpAddress& address, int at, uint8_t mask = 0) {
  const auto& bytes = address.bytes;
  return IpAddress::V4(bytes[at] ^ mask, bytes[at + 1] ^ mask,
                       bytes[at + 2] ^ mask, bytes[at + 3] ^ mask);
}

// The IPv4 addresses that a gateway may extract from an IPv6 one.
std::vector<IpAddress> Inside(const IpAddress& address) {
  static const auto* const at_end = new std::vector<IpRange>(Ranges({
      "64:ff9b::/96",     // NAT64.
      "64:ff9b:1::/48",   // Local-use NAT64, in its usual /96 form.
      "::ffff:0:0:0/96",  // Translated.
      "::/96",            // Compatible.
  }));
  static const IpRange local_nat64 = *IpRange::Parse("64:ff9b:1::/48");
  static const IpRange six_to_four = *IpRange::Parse("2002::/16");
  static const IpRange teredo = *IpRange::Parse("2001::/32");
  static const IpRange unspecified_or_loopback = *IpRange::Parse("::/127");
  std::vector<IpAddress> found;
  if (unspecified_or_loopback.Contains(address)) return found;
  if (Contains(*at_end, address)) found.push_back(V4At(address, 12));
  const auto& b = address.bytes;
  if (local_nat64.Contains(address)) {
    // RFC 6052 with prefixes of 48, 56 and 64 bits: around the byte that must
    // be zero.
    found.push_back(IpAddress::V4(b[6], b[7], b[9], b[10]));
    found.push_back(IpAddress::V4(b[7], b[9], b[10], b[11]));
    found.push_back(IpAddress::V4(b[9], b[10], b[11], b[12]));
  }
  // ISATAP: ::[02]00:5efe:a.b.c.d below any prefix.
  if (address.v6 && (b[8] & ~2) == 0 && b[9] == 0 && b[10] == 0x5e &&
      b[11] == 0xfe) {
    found.push_back(V4At(address, 12));
  }
  if (six_to_four.Contains(address)) found.push_back(V4At(address, 2));
  if (teredo.Contains(address)) {
    found.push_back(V4At(address, 4));         // The server.
    found.push_back(V4At(address, 12, 0xff));  // The client, inverted.
  }
  return found;
}

bool IsHostName(std::string_view name) {
  if (name.empty() || name.size() > 253 || name.front() == '.' ||
      name.back() == '.' || name.find("..") != std::string_view::npos) {
    return false;
  }
  return std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isalnum(c) || c == '-' || c == '.' || c == '_';
  });
}

// "300.0.0.1" and "10.1" are invalid addresses, not names.
bool LooksLikeAddress(std::string_view name) {
  return name.find_first_not_of("0123456789.") == std::string_view::npos;
}

// Lower case, without the trailing dot.
std::string Canonical(std::string_view host) {
  std::string name = LowerCase(host);
  if (name.ends_with('.')) name.pop_back();
  return name;
}

}  // namespace

absl::Status EgressPolicy::RuleSet::Add(const std::string& rule) {
  if (const auto range = IpRange::Parse(rule)) {
    ranges.push_back(range->Unmapped());
    return absl::OkStatus();
  }
  const bool below = rule.starts_with("*.");
  const std::string name = LowerCase(below ? rule.substr(2) : rule);
  if (!IsHostName(name) || LooksLikeAddress(name)) {
    return absl::InvalidArgumentError(
        absl::StrCat("egress rule \"", rule.c_str(),
                     "\" is neither an address, a CIDR, a host name nor "
                     "\"*.\" and a host name"));
  }
  if (below) {
    suffixes.push_back("." + name);
  } else {
    hosts.push_back(name);
  }
  return absl::OkStatus();
}

bool EgressPolicy::RuleSet::HasHost(std::string_view lower_host) const {
  for (const std::string& host : hosts) {
    if (host == lower_host) return true;
  }
  for (const std::string& suffix : suffixes) {
    if (lower_host.size() > suffix.size() && lower_host.ends_with(suffix)) {
      return true;
    }
  }
  return false;
}

bool EgressPolicy::RuleSet::HasAddress(const IpAddress& address) const {
  return Contains(ranges, address);
}

absl::StatusOr<EgressPolicy> EgressPolicy::Create(const EgressRules& rules) {
  EgressPolicy policy;
  policy.default_public_ = rules.default_public;
  for (const std::string& rule : rules.allow) {
    if (absl::Status s = policy.allow_.Add(rule); !s.ok()) return s;
  }
  for (const std::string& rule : rules.deny) {
    if (absl::Status s = policy.deny_.Add(rule); !s.ok()) return s;
  }
  return policy;
}

EgressPolicy::Decision EgressPolicy::Check(std::string_view host,
                                           const IpAddress& address) const {
  return Decide(host, address, /*vouched=*/true);
}

EgressPolicy::Decision EgressPolicy::CheckChosen(
    std::string_view host, const IpAddress& address) const {
  return Decide(host, address, /*vouched=*/false);
}

bool EgressPolicy::DeniesName(std::string_view name) const {
  return deny_.HasHost(Canonical(name));
}

EgressPolicy::Decision EgressPolicy::Decide(std::string_view host,
                                            const IpAddress& raw,
                                            bool vouched) const {
  const IpAddress address = raw.Unmapped();
  std::vector<IpAddress> seen = Inside(address);
  seen.push_back(address);
  const auto any = [&](auto&& matches) {
    return std::any_of(seen.begin(), seen.end(), matches);
  };
  for (const IpAddress& each : seen) {
    if (const auto* row = FindAlwaysDenied(each)) return {false, row->rule};
  }
  const std::string name = Canonical(host);
  if (deny_.HasHost(name) ||
      any([&](const IpAddress& a) { return deny_.HasAddress(a); })) {
    return {false, "egress.deny"};
  }
  if ((vouched && allow_.HasHost(name)) || allow_.HasAddress(address)) {
    return {true, "egress.allow"};
  }
  if (!default_public_) return {false, "egress.default: none"};
  if (any(IsNotPublic)) return {false, "egress.default: public"};
  return {true, "egress.default: public"};
}

EgressPolicy::Decision EgressPolicy::CheckBehindProxy(
    std::string_view host, const std::optional<IpAddress>& chosen) const {
  if (chosen) return CheckChosen(host, *chosen);
  if (const auto address = IpAddress::Parse(host)) return Check(host, *address);
  const std::string name = Canonical(host);
  for (const AlwaysDenied& row : kAlwaysDeniedNames) {
    if (name == row.what) return {false, row.rule};
  }
  if (deny_.HasHost(name)) return {false, "egress.deny"};
  if (allow_.HasHost(name)) return {true, "egress.allow"};
  if (!default_public_) return {false, "egress.default: none"};
  // localhost needs no DNS: it is the proxy's own host.
  if (name == "localhost" || name.ends_with(".localhost")) {
    return {false, "egress.default: public"};
  }
  return {true, "egress.default: public"};
}

}  // namespace hotline::upstream
