// `tls_profiles`, and the keys that name one. Part of config.
#ifndef HOTLINE_SERVER_CONFIG_TLS_H_
#define HOTLINE_SERVER_CONFIG_TLS_H_

#include <set>
#include <string>
#include <vector>

#include "hotline/v1/config.pb.h"
#include "server/config/config.h"
#include "server/config/report.h"

namespace hotline::server {

// References must outlive it.
class TlsProfileRules {
 public:
  TlsProfileRules(const ConfigChecks& checks, const ConfigReport& report)
      : checks_(checks), report_(report) {}

  // Fills the profiles and the name of the default one; writes its defaults to
  // `config`. To be called first.
  void ResolveProfiles(v1::Config* config, upstream::Options* out);

  // Fills the names of a target's profiles. `tls`: it is an https or tls one.
  void ResolveTarget(const v1::Target& in, const std::string& path, bool tls,
                     std::vector<std::string>* out) const;

  // Every name that may be used.
  const std::set<std::string, std::less<>>& names() const { return names_; }

 private:
  void ResolveProfile(v1::TlsProfile* in, const std::string& path,
                      upstream::Options* out);
  void Check(const net::TlsProfile& profile, const std::string& path) const;
  bool CheckName(const std::string& name, const std::string& path);
  void CheckKnown(const std::string& name, const std::string& path) const;

  const ConfigChecks& checks_;
  const ConfigReport& report_;
  std::set<std::string, std::less<>> names_;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_CONFIG_TLS_H_
