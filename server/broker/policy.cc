#include "server/broker/policy.h"

#include <algorithm>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/socket_address.h"
#include "base/url.h"

namespace hotline::server {
namespace {

constexpr char kAnonymous[] = "anonymous";
constexpr size_t kMostPattern = 2048;
static_assert(kRuledMethods.size() <= 64);

uint64_t BitOf(RpcMethod rpc) { return uint64_t{1} << static_cast<int>(rpc); }

std::optional<RpcMethod> RpcNamed(std::string_view name) {
  const auto found =
      std::find(kRuledMethods.begin(), kRuledMethods.end(), name);
  if (found == kRuledMethods.end()) return std::nullopt;
  return static_cast<RpcMethod>(found - kRuledMethods.begin());
}

// The parts of a pattern "scheme://host:port", in the form of canonical
// targets.
struct TargetPattern {
  std::string scheme;
  std::string host;
  std::string port;
};

std::string DefaultPort(const std::string& scheme) {
  if (scheme == "https") return "443";
  if (scheme == "http") return "80";
  return "";
}

bool IsPort(std::string_view text) {
  if (text == "*") return true;
  return !text.empty() && text.size() <= 5 &&
         std::all_of(text.begin(), text.end(), absl::ascii_isdigit);
}

// Parts that are missing or malformed are empty.
TargetPattern Split(const std::string& text) {
  TargetPattern out;
  const size_t scheme = text.find("://");
  if (scheme == std::string::npos) return out;
  out.scheme = absl::AsciiStrToLower(text.substr(0, scheme));
  const std::string rest = absl::AsciiStrToLower(text.substr(scheme + 3));
  // The colons within "[::1]" belong to the host.
  const size_t host_end =
      rest.find(':', rest.find(']') == std::string::npos ? 0 : rest.find(']'));
  out.host = WithoutRootDot(rest.substr(0, host_end));
  out.port = host_end == std::string::npos ? DefaultPort(out.scheme)
                                           : rest.substr(host_end + 1);
  return out;
}

// "scheme://host:port" with another host.
std::string WithHost(std::string_view target, std::string_view host) {
  std::string out(target.substr(0, target.find("://") + 3));
  const bool brackets = host.find(':') != std::string_view::npos;
  if (brackets) out.push_back('[');
  out.append(host);
  if (brackets) out.push_back(']');
  return out.append(target.substr(target.rfind(':')));
}

}  // namespace

bool MatchesPattern(std::string_view pattern, std::string_view text) {
  // Where to resume after a mismatch: behind the last star, which then stands
  // for one more character.
  size_t p = 0;
  size_t t = 0;
  size_t star = std::string_view::npos;
  size_t resume = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = t;
    } else if (p < pattern.size() && pattern[p] == text[t]) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

std::string CheckIdentityPattern(const std::string& text) {
  if (text.size() > kMostPattern) return "is too long";
  if (text == "*" || text == kAnonymous) return "";
  for (const char* prefix : {"spiffe://", "dns:", "cn:", "uid:"}) {
    if (text.starts_with(prefix)) return "";
  }
  return "must be \"spiffe://…\", \"dns:…\", \"cn:…\", \"uid:…\", \"*\" or "
         "\"anonymous\"";
}

std::string CheckTargetPattern(const std::string& text) {
  constexpr char kForm[] =
      "must be a target such as \"https://*.example.com\" or "
      "\"https://10.0.0.1:8443\", \"*\" as a port for any";
  if (text.size() > kMostPattern) return "is too long";
  const TargetPattern parts = Split(text);
  const bool scheme = parts.scheme == "*" || parts.scheme == "https" ||
                      parts.scheme == "http" || parts.scheme == "tls" ||
                      parts.scheme == "tcp";
  if (!scheme || parts.host.empty() || !IsPort(parts.port)) return kForm;
  return parts.host.find_first_of("/?#@ ") == std::string::npos ? "" : kForm;
}

std::string CheckSniPattern(const std::string& text) {
  if (text.size() > 253) return "is too long";
  const bool fine = std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isalnum(c) || c == '-' || c == '_' || c == '.' ||
           c == '*';
  });
  return fine && !text.empty()
             ? ""
             : "must be a DNS name, \"*\" in it for any characters";
}

std::string CheckRpcName(const std::string& text) {
  if (RpcNamed(text).has_value()) return "";
  std::vector<std::string> names(kRuledMethods.begin(), kRuledMethods.end());
  return absl::StrCat("must be one of ", absl::StrJoin(names, ", "));
}

std::shared_ptr<const Policy> CompilePolicy(const PolicyRules& rules) {
  if (rules.allow_by_default && rules.rules.empty()) return nullptr;
  return std::make_shared<const Policy>(rules);
}

Policy::Policy(const PolicyRules& rules)
    : allow_by_default_(rules.allow_by_default) {
  for (const PolicyRule& in : rules.rules) {
    Rule& out = rules_.emplace_back();
    out.identities = in.identities;
    for (const std::string& text : in.targets) {
      const TargetPattern parts = Split(text);
      out.targets.push_back(
          absl::StrCat(parts.scheme, "://", parts.host, ":", parts.port));
    }
    for (const std::string& text : in.snis) {
      out.snis.push_back(absl::AsciiStrToLower(text));
    }
    out.remote_ips = in.remote_ips;
    for (const std::string& name : in.rpcs) {
      if (const auto rpc = RpcNamed(name)) out.rpcs |= BitOf(*rpc);
    }
    if (in.rpcs.empty()) out.rpcs = ~BitOf(RpcMethod::kAdmin);
    if ((out.rpcs & BitOf(RpcMethod::kAcquire)) != 0) {
      out.rpcs |= BitOf(RpcMethod::kRenew);
    }
    out.quota = in.quota;
    out.all_leases = in.all_leases;
  }
}

bool Policy::Rule::Names(std::string_view identity) const {
  return std::any_of(
      identities.begin(), identities.end(), [&](const std::string& pattern) {
        if (identity.empty()) return pattern == kAnonymous;
        return pattern != kAnonymous && MatchesPattern(pattern, identity);
      });
}

bool Policy::Rule::Allows(RpcMethod rpc, const Destination& to) const {
  if (rpc == RpcMethod::kRelease) return true;
  if ((rpcs & BitOf(rpc)) == 0) return false;
  if (targets.empty()) return true;
  if (to.target.empty()) {
    // These two then concern every target.
    return rpc != RpcMethod::kAdmin && rpc != RpcMethod::kWatchEvents;
  }
  return HasTarget(to.target) && (to.sni.empty() || HasSni(to)) &&
         (to.remote_ip.empty() || HasAddress(to));
}

bool Policy::Rule::HasTarget(std::string_view target) const {
  return std::any_of(targets.begin(), targets.end(),
                     [&](const std::string& pattern) {
                       return MatchesPattern(pattern, target);
                     });
}

bool Policy::Rule::HasSni(const Destination& to) const {
  const std::string sni =
      absl::AsciiStrToLower(absl::string_view(to.sni.data(), to.sni.size()));
  return HasTarget(WithHost(to.target, sni)) ||
         std::any_of(snis.begin(), snis.end(), [&](const std::string& pattern) {
           return MatchesPattern(pattern, sni);
         });
}

bool Policy::Rule::HasAddress(const Destination& to) const {
  const std::string address = CanonicalAddress(std::string(to.remote_ip));
  return HasTarget(WithHost(to.target, address)) ||
         std::any_of(remote_ips.begin(), remote_ips.end(),
                     [&](const std::string& range) {
                       return RangeHolds(range, address);
                     });
}

Decision Policy::Decide(std::string_view identity, RpcMethod rpc,
                        const Destination& where) const {
  // Rules hold for both spellings of a host.
  Destination to = where;
  std::string rootless;
  if (to.target.find(".:") != std::string_view::npos) {
    to.target = rootless = WithoutRootDot(to.target);
  }
  bool named = false;
  for (const Rule& rule : rules_) {
    if (!rule.Names(identity)) continue;
    named = true;
    if (rule.Allows(rpc, to)) return {true, rule.quota};
  }
  return {!named && allow_by_default_ && rpc != RpcMethod::kAdmin, {}};
}

bool Policy::SeesAllLeases(std::string_view identity) const {
  return std::any_of(rules_.begin(), rules_.end(), [&](const Rule& rule) {
    return rule.all_leases && rule.Names(identity);
  });
}

}  // namespace hotline::server
