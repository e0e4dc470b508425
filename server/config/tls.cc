#include "server/config/tls.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace hotline::server {
namespace {

constexpr int kMostProfiles = 64;
constexpr int kMostInSet = 64;

bool IsProfileName(const std::string& name) {
  const auto fine = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  };
  return !name.empty() && name.size() <= 64 &&
         std::all_of(name.begin(), name.end(), fine);
}

net::TlsProfile ToProfile(const v1::TlsProfile& in) {
  return {.name = in.name(),
          .min_version = in.min_version(),
          .max_version = in.max_version(),
          .ciphers = ToVector(in.ciphers()),
          .groups = ToVector(in.groups()),
          .signature_algorithms = ToVector(in.signature_algorithms()),
          .alpn = ToVector(in.alpn()),
          .grease = in.grease(),
          .permute_extensions = in.permute_extensions(),
          .certificate_compression = ToVector(in.certificate_compression()),
          .extra_extensions = ToVector(in.extra_extensions()),
          .session_tickets = in.session_tickets(),
          .cert_file = in.client_certificate().cert_file(),
          .key_file = in.client_certificate().key_file(),
          .ca_file = in.ca_file(),
          .pins = ToVector(in.pins()),
          .allow_weak_certificates = in.allow_weak_certificates()};
}

// Both files of a client certificate are there.
bool CheckFiles(const v1::TlsProfile& in, const std::string& path,
                const ConfigReport& report) {
  if (!in.has_client_certificate()) return true;
  bool ok = true;
  const auto& certificate = in.client_certificate();
  for (const auto& [key, file] :
       {std::pair("cert_file", &certificate.cert_file()),
        std::pair("key_file", &certificate.key_file())}) {
    if (!file->empty()) continue;
    report.Fault(absl::StrCat(path, ".client_certificate.", key),
                 "is required");
    ok = false;
  }
  return ok;
}

}  // namespace

void TlsProfileRules::ResolveProfiles(v1::Config* config,
                                      upstream::Options* out) {
  names_ = {std::begin(kBuiltInTlsProfiles), std::end(kBuiltInTlsProfiles)};
  if (config->tls_profiles_size() > kMostProfiles) {
    report_.Fault("tls_profiles",
                  absl::StrCat("must be at most ", kMostProfiles, ", not ",
                               config->tls_profiles_size()));
  }
  for (int i = 0; i < config->tls_profiles_size(); ++i) {
    ResolveProfile(config->mutable_tls_profiles(i),
                   absl::StrCat("tls_profiles[", i, "]"), out);
  }
  v1::Upstream& in = *config->mutable_upstream();
  if (!in.has_tls_profile()) in.set_tls_profile("default");
  CheckKnown(in.tls_profile(), "upstream.tls_profile");
  out->tls_profile = in.tls_profile();
  if (in.ca_file().empty()) return;
  net::TlsProfile trusting;
  trusting.ca_file = in.ca_file();
  Check(trusting, "upstream");
}

void TlsProfileRules::ResolveProfile(v1::TlsProfile* in,
                                     const std::string& path,
                                     upstream::Options* out) {
  if (in->alpn().empty()) {
    in->add_alpn("h2");
    in->add_alpn("http/1.1");
  }
  if (!in->has_session_tickets()) in->set_session_tickets(true);
  const bool named = CheckName(in->name(), path + ".name");
  if (!CheckFiles(*in, path, report_)) return;
  net::TlsProfile profile = ToProfile(*in);
  Check(profile, path);
  if (in->min_version() < "1.2") {
    report_.Warn(path + ".min_version",
                 "TLS 1.0 and 1.1 are broken in known ways (RFC 8996)");
  }
  if (in->allow_weak_certificates()) {
    report_.Warn(path + ".allow_weak_certificates",
                 "SHA-1 signatures and short RSA keys can be forged");
  }
  if (named) out->tls_profiles.push_back(std::move(profile));
}

bool TlsProfileRules::CheckName(const std::string& name,
                                const std::string& path) {
  if (name.empty()) {
    report_.Fault(path, "is required");
  } else if (!IsProfileName(name)) {
    report_.Fault(path, "must be at most 64 bytes of [a-z0-9_-]");
  } else if (std::find(std::begin(kBuiltInTlsProfiles),
                       std::end(kBuiltInTlsProfiles),
                       name) != std::end(kBuiltInTlsProfiles)) {
    report_.Fault(path,
                  absl::StrCat(name, " is built in: choose another name"));
  } else if (!names_.insert(name).second) {
    report_.Fault(path, absl::StrCat(name, " is given twice"));
  } else {
    return true;
  }
  return false;
}

void TlsProfileRules::Check(const net::TlsProfile& profile,
                            const std::string& path) const {
  if (!checks_.tls_profile) return;
  for (const net::TlsFault& fault : checks_.tls_profile(profile)) {
    report_.Fault(fault.key.empty() ? path : absl::StrCat(path, ".", fault.key),
                  fault.text);
  }
}

void TlsProfileRules::CheckKnown(const std::string& name,
                                 const std::string& path) const {
  if (names_.contains(name)) return;
  report_.Fault(
      path,
      absl::StrCat("there is no TLS profile ", Quoted(name.substr(0, 64)),
                   "; there are ", absl::StrJoin(names_, ", ")),
      {"tls_profiles"});
}

void TlsProfileRules::ResolveTarget(const v1::Target& in,
                                    const std::string& path, bool tls,
                                    std::vector<std::string>* out) const {
  const std::string one = path + ".tls_profile";
  const std::string set = path + ".tls_profiles";
  const bool given = report_.Given(set);
  if (in.has_tls_profile()) CheckKnown(in.tls_profile(), one);
  for (int i = 0; i < in.tls_profiles_size(); ++i) {
    const std::string item = absl::StrCat(set, "[", i, "]");
    CheckKnown(in.tls_profiles(i), item);
    const auto first = in.tls_profiles().begin();
    if (std::find(first, first + i, in.tls_profiles(i)) != first + i) {
      report_.Fault(item, "given twice");
    }
  }
  if (in.has_tls_profile() && given) {
    report_.Fault(set, "has no meaning beside tls_profile");
  } else if (given && in.tls_profiles_size() == 0) {
    report_.Fault(set, "must name at least one profile");
  } else if (in.tls_profiles_size() > kMostInSet) {
    report_.Fault(set, absl::StrCat("must be at most ", kMostInSet));
  }
  if (!tls && (in.has_tls_profile() || given)) {
    report_.Fault(in.has_tls_profile() ? one : set, "only with https and tls",
                  {path + ".target"});
  }
  *out = ToVector(in.tls_profiles());
  if (in.has_tls_profile()) *out = {in.tls_profile()};
}

}  // namespace hotline::server
