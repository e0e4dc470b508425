#include "server/config/upstream.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/ip_address.h"
#include "base/socket_address.h"
#include "base/url.h"
#include "server/broker/proto_time.h"
#include "server/config/values.h"

namespace hotline::server {
namespace {

// These say what is wrong with an entry of a list, "" if nothing is.
std::string CheckDnsServer(const std::string& text) {
  const auto server = ParseSocketAddress(text, 53);
  if (server && server->port != 0) return "";
  return "must be a numeric address, with a port or without";
}

std::string CheckSourceAddress(const std::string& text) {
  return IpAddress::Parse(text) ? "" : "must be a numeric address";
}

std::string CheckEgressRule(const std::string& text) {
  if (IpRange::Parse(text)) return "";
  if (text.find('/') != std::string::npos) {
    return "not a CIDR such as 10.0.0.0/8";
  }
  const std::string name = text.starts_with("*.") ? text.substr(2) : text;
  // A name whose last label is a number is a mistyped address.
  if (IsDnsName(name) &&
      name.find_first_not_of("0123456789", name.rfind('.') + 1) != name.npos) {
    return "";
  }
  return "not a CIDR (10.0.0.0/8), an address, or a host pattern "
         "(*.example.com)";
}

void ResolveAddresses(const v1::Upstream& in, const ConfigReport& report,
                      upstream::Options* out) {
  out->addresses = {.eject_after = in.eject_after(),
                    .eject_base = FromProto(in.eject_base()),
                    .eject_max = FromProto(in.eject_max()),
                    .grace = FromProto(in.address_grace())};
  if (out->addresses.eject_max < out->addresses.eject_base) {
    report.Fault("upstream.eject_max",
                 absl::StrCat("must not be shorter than upstream.eject_base (",
                              FormatDuration(out->addresses.eject_base), ")"),
                 {"upstream.eject_base"});
  }
  out->attempt_stagger = FromProto(in.attempt_stagger());
  out->source_addresses = ToVector(in.source_addresses());
  constexpr int kMostSources = 256;
  if (in.source_addresses_size() > kMostSources) {
    report.Fault("upstream.source_addresses",
                 absl::StrCat("must be at most ", kMostSources, ", not ",
                              in.source_addresses_size()));
  }
  report.CheckEach("upstream.source_addresses", out->source_addresses,
                   CheckSourceAddress);
}

}  // namespace

void ResolveUpstream(const v1::Config& config, int cores,
                     const ConfigReport& report, upstream::Options* out) {
  const v1::Upstream& in = config.upstream();
  out->loops = in.loops() > 0 ? in.loops() : std::max(1, cores / 2);
  out->ca_file = in.ca_file();
  out->connect_timeout = FromProto(in.connect_timeout());
  out->tcp_timeout = FromProto(in.tcp_timeout());
  out->tls_timeout = FromProto(in.tls_timeout());
  out->ping_after = FromProto(in.ping_after());
  out->ping_timeout = FromProto(in.ping_timeout());
  out->probe_timeout = FromProto(config.pool().probe_timeout());
  out->max_header_bytes = in.max_header_bytes();
  out->max_tls_sessions = in.max_tls_sessions();
  out->tls_session_lifetime = FromProto(in.tls_session_lifetime());
  out->dns_servers = ToVector(in.dns_servers());
  report.CheckEach("upstream.dns_servers", out->dns_servers, CheckDnsServer);
  ResolveAddresses(in, report, out);
  const v1::Egress& egress = config.egress();
  out->egress = {.default_public = egress.default_() == "public",
                 .allow = ToVector(egress.allow()),
                 .deny = ToVector(egress.deny())};
  report.CheckEach("egress.allow", out->egress.allow, CheckEgressRule);
  report.CheckEach("egress.deny", out->egress.deny, CheckEgressRule);
  report.WarnOfHostBits("egress.allow", out->egress.allow);
  report.WarnOfHostBits("egress.deny", out->egress.deny);
}

}  // namespace hotline::server
