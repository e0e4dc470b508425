#include "server/config/tls.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/broker/proto_time.h"
#include "server/config/yaml.h"

namespace hotline::server {
namespace {

constexpr int kMostProfiles = 64;
constexpr int kMostInSet = 64;

std::vector<std::string> ToVector(
    const google::protobuf::RepeatedPtrField<std::string>& in) {
  return {in.begin(), in.end()};
}

bool IsProfileName(const std::string& name) {
  const auto fine = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  };
  return !name.empty() && name.size() <= 64 &&
         std::all_of(name.begin(), name.end(), fine);
}

TlsProfileSettings ToSettings(const v1::TlsProfile& in) {
  TlsProfileSettings out;
  out.name = in.name();
  out.min_version = in.min_version();
  out.max_version = in.max_version();
  out.ciphers = ToVector(in.ciphers());
  out.groups = ToVector(in.groups());
  out.signature_algorithms = ToVector(in.signature_algorithms());
  out.alpn = ToVector(in.alpn());
  out.grease = in.grease();
  out.permute_extensions = in.permute_extensions();
  out.certificate_compression = ToVector(in.certificate_compression());
  out.extra_extensions = ToVector(in.extra_extensions());
  out.session_tickets = in.session_tickets();
  out.cert_file = in.client_certificate().cert_file();
  out.key_file = in.client_certificate().key_file();
  out.ca_file = in.ca_file();
  out.pins = ToVector(in.pins());
  out.allow_weak_certificates = in.allow_weak_certificates();
  return out;
}

}  // namespace

void TlsProfileRules::ResolveProfiles(UpstreamSettings* out) {
  for (const std::string_view name : kBuiltInTlsProfiles) names_.emplace(name);
  if (config_.tls_profiles_size() > kMostProfiles) {
    fault_("tls_profiles", absl::StrCat("must be at most ", kMostProfiles,
                                        ", not ", config_.tls_profiles_size()));
  }
  for (int i = 0; i < config_.tls_profiles_size(); ++i) ResolveProfile(i, out);

  v1::Upstream& in = *config_.mutable_upstream();
  if (!in.has_tls_profile()) in.set_tls_profile("default");
  CheckKnown(in.tls_profile(), "upstream.tls_profile");
  out->tls_profile = in.tls_profile();
  out->max_tls_sessions = in.max_tls_sessions();
  out->tls_session_lifetime = FromProto(in.tls_session_lifetime());
  if (!in.ca_file().empty()) {
    TlsProfileSettings trusting;
    trusting.min_version = "1.2";
    trusting.max_version = "1.3";
    trusting.ca_file = in.ca_file();
    Check(trusting, "upstream");
  }
}

void TlsProfileRules::ResolveProfile(int i, UpstreamSettings* out) {
  v1::TlsProfile& in = *config_.mutable_tls_profiles(i);
  const std::string path = absl::StrCat("tls_profiles[", i, "]");
  if (in.alpn().empty()) {
    in.add_alpn("h2");
    in.add_alpn("http/1.1");
  }
  if (!in.has_session_tickets()) in.set_session_tickets(true);
  const bool named = CheckName(in.name(), path + ".name");
  if (in.has_client_certificate()) {
    const auto& certificate = in.client_certificate();
    const std::string inside = path + ".client_certificate";
    if (certificate.cert_file().empty()) {
      fault_(inside + ".cert_file", "is required");
    }
    if (certificate.key_file().empty()) {
      fault_(inside + ".key_file", "is required");
    }
    if (certificate.cert_file().empty() || certificate.key_file().empty()) {
      return;
    }
  }
  TlsProfileSettings settings = ToSettings(in);
  Check(settings, path);
  if (in.min_version() < "1.2") {
    warn_(path + ".min_version",
          "TLS 1.0 and 1.1 are broken in known ways (RFC 8996)");
  }
  if (in.allow_weak_certificates()) {
    warn_(path + ".allow_weak_certificates",
          "SHA-1 signatures and short RSA keys can be forged");
  }
  if (named) out->tls_profiles.push_back(std::move(settings));
}

bool TlsProfileRules::CheckName(const std::string& name,
                                const std::string& path) {
  if (name.empty()) {
    fault_(path, "is required");
  } else if (!IsProfileName(name)) {
    fault_(path, "must be at most 64 bytes of [a-z0-9_-]");
  } else if (std::find(std::begin(kBuiltInTlsProfiles),
                       std::end(kBuiltInTlsProfiles),
                       name) != std::end(kBuiltInTlsProfiles)) {
    fault_(path, absl::StrCat(name, " is built in: choose another name"));
  } else if (!names_.insert(name).second) {
    fault_(path, absl::StrCat(name, " is given twice"));
  } else {
    return true;
  }
  return false;
}

void TlsProfileRules::Check(const TlsProfileSettings& profile,
                            const std::string& path) {
  if (!checks_.tls_profile) return;
  for (const KeyFault& fault : checks_.tls_profile(profile)) {
    fault_(fault.key.empty() ? path : absl::StrCat(path, ".", fault.key),
           fault.text);
  }
}

void TlsProfileRules::CheckKnown(const std::string& name,
                                 const std::string& path) {
  if (names_.contains(name)) return;
  fault_(path,
         absl::StrCat("there is no TLS profile ", Quoted(name.substr(0, 64)),
                      "; there are ", absl::StrJoin(names_, ", ")));
}

void TlsProfileRules::ResolveTarget(const v1::Target& in,
                                    const std::string& path, bool given,
                                    bool tls, TargetSettings* out) {
  const std::string one = path + ".tls_profile";
  const std::string set = path + ".tls_profiles";
  if (in.has_tls_profile()) CheckKnown(in.tls_profile(), one);
  for (int i = 0; i < in.tls_profiles_size(); ++i) {
    const std::string item = absl::StrCat(set, "[", i, "]");
    CheckKnown(in.tls_profiles(i), item);
    const auto first = in.tls_profiles().begin();
    if (std::find(first, first + i, in.tls_profiles(i)) != first + i) {
      fault_(item, "given twice");
    }
  }
  if (in.has_tls_profile() && given) {
    fault_(set, "has no meaning beside tls_profile");
  } else if (given && in.tls_profiles_size() == 0) {
    fault_(set, "must name at least one profile");
  } else if (in.tls_profiles_size() > kMostInSet) {
    fault_(set, absl::StrCat("must be at most ", kMostInSet));
  }
  if (!tls && (in.has_tls_profile() || given)) {
    fault_(in.has_tls_profile() ? one : set, "only with https and tls");
  }
  out->tls_profiles = ToVector(in.tls_profiles());
  if (in.has_tls_profile()) out->tls_profiles = {in.tls_profile()};
}

}  // namespace hotline::server
