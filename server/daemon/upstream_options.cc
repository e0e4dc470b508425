#include "server/daemon/upstream_options.h"

#include <string>
#include <utility>
#include <vector>

#include "net/tls/tls.h"

namespace hotline::server {
namespace {

net::TlsProfile TlsProfileOf(const TlsProfileSettings& in) {
  return {.name = in.name,
          .min_version = in.min_version,
          .max_version = in.max_version,
          .ciphers = in.ciphers,
          .groups = in.groups,
          .signature_algorithms = in.signature_algorithms,
          .alpn = in.alpn,
          .grease = in.grease,
          .permute_extensions = in.permute_extensions,
          .certificate_compression = in.certificate_compression,
          .extra_extensions = in.extra_extensions,
          .session_tickets = in.session_tickets,
          .cert_file = in.cert_file,
          .key_file = in.key_file,
          .ca_file = in.ca_file,
          .pins = in.pins,
          .allow_weak_certificates = in.allow_weak_certificates};
}

upstream::Check CheckOf(const CheckSettings& settings) {
  return {.path = settings.path,
          .method = settings.method,
          .min_status = settings.min_status,
          .max_status = settings.max_status};
}

}  // namespace

ConfigChecks UpstreamChecks() {
  return {.tls_profile = [](const TlsProfileSettings& profile) {
    std::vector<KeyFault> faults;
    for (auto& fault : net::CheckTlsProfile(TlsProfileOf(profile))) {
      faults.push_back({std::move(fault.key), std::move(fault.text)});
    }
    return faults;
  }};
}

upstream::Options UpstreamOptionsOf(std::shared_ptr<const Settings> settings) {
  const UpstreamSettings& in = settings->upstream;
  upstream::Options out;
  out.loops = in.loops;
  out.ca_file = in.ca_file;
  for (const TlsProfileSettings& profile : in.tls_profiles) {
    out.tls_profiles.push_back(TlsProfileOf(profile));
  }
  out.tls_profile = in.tls_profile;
  out.max_tls_sessions = in.max_tls_sessions;
  out.tls_session_lifetime = in.tls_session_lifetime;
  out.connect_timeout = in.connect_timeout;
  out.tcp_timeout = in.tcp_timeout;
  out.tls_timeout = in.tls_timeout;
  out.probe_timeout = in.probe_timeout;
  out.ping_after = in.ping_after;
  out.ping_timeout = in.ping_timeout;
  out.max_header_bytes = in.max_header_bytes;
  out.attempt_stagger = in.attempt_stagger;
  out.source_addresses = in.source_addresses;
  out.addresses = {.eject_after = in.eject_after,
                   .eject_base = in.eject_base,
                   .eject_max = in.eject_max,
                   .grace = in.address_grace};
  out.dns_servers = in.dns_servers;
  out.egress = {.default_public = in.egress_default_public,
                .allow = in.egress_allow,
                .deny = in.egress_deny};
  out.target_policy = [settings =
                           std::move(settings)](const std::string& target) {
    const TargetSettings& mine = settings->ForTarget(target);
    upstream::TargetPolicy policy;
    policy.proxy = mine.proxy;
    policy.validate = CheckOf(mine.validate);
    policy.probe = CheckOf(mine.probe);
    policy.probe_tcp_only = mine.probe_tcp_only;
    policy.probe_is_asked_for = mine.probe_is_asked_for;
    policy.tls_profiles = mine.tls_profiles;
    return policy;
  };
  return out;
}

}  // namespace hotline::server
