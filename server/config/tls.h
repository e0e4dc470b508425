// What the configuration says of TLS profiles. Part of config.
#ifndef HOTLINE_SERVER_CONFIG_TLS_H_
#define HOTLINE_SERVER_CONFIG_TLS_H_

#include <functional>
#include <set>
#include <string>

#include "hotline/v1/config.pb.h"
#include "server/config/config.h"

namespace hotline::server {

// Looks at tls_profiles and at whoever names one. The config has its defaults.
class TlsProfileRules {
 public:
  using Tell = std::function<void(const std::string& path, const std::string&)>;

  TlsProfileRules(v1::Config* config, const ConfigChecks& checks, Tell fault,
                  Tell warn)
      : config_(*config),
        checks_(checks),
        fault_(std::move(fault)),
        warn_(std::move(warn)) {}

  // tls_profiles and the keys of `upstream` that are about TLS. Before the
  // others.
  void ResolveProfiles(UpstreamSettings* out);

  // `given`: the file has targets[i].tls_profiles. `tls`: the target has https.
  void ResolveTarget(const v1::Target& in, const std::string& path, bool given,
                     bool tls, TargetSettings* out);

 private:
  void ResolveProfile(int i, UpstreamSettings* out);
  void Check(const TlsProfileSettings& profile, const std::string& path);
  bool CheckName(const std::string& name, const std::string& path);
  void CheckKnown(const std::string& name, const std::string& path);

  v1::Config& config_;
  const ConfigChecks& checks_;
  const Tell fault_;
  const Tell warn_;
  std::set<std::string, std::less<>> names_;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_CONFIG_TLS_H_
