// What the configuration says of callers: listen and policy. Part of config.
#ifndef HOTLINE_SERVER_CONFIG_FRONT_H_
#define HOTLINE_SERVER_CONFIG_FRONT_H_

#include <string>

#include "hotline/v1/config.pb.h"
#include "server/config/config.h"
#include "server/config/proto.h"
#include "server/config/yaml.h"

namespace hotline::server {

// Where to say what is wrong. All must outlive it.
struct ConfigReport {
  const ConfigLines& lines;
  ConfigFaults* faults;
  ConfigFaults* warnings;

  void Fault(const std::string& path, const std::string& text) const;
  void Warn(const std::string& path, const std::string& text) const;
};

// All of `listen` but the addresses. `any_reachable`: whether others than this
// machine can connect to one of them.
void ResolveFrontDoor(const v1::Listen& in, bool any_reachable,
                      const ConfigReport& report, ListenSettings* out);

void ResolvePolicy(const v1::Policy& in, const ConfigReport& report,
                   PolicyRules* out);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_CONFIG_FRONT_H_
