// Prints config.proto's messages, as a whole or value by value. Part of config.
#ifndef HOTLINE_SERVER_CONFIG_PRINT_H_
#define HOTLINE_SERVER_CONFIG_PRINT_H_

#include <functional>
#include <string>

#include "google/protobuf/message.h"
#include "hotline/v1/config.pb.h"
#include "server/config/faults.h"

namespace hotline::server {

// Settings::effective.
struct EffectiveConfig {
  v1::Config config;  // With every default.
  HiddenValues hidden;
};

// Prints every field that is set or has no presence, as YAML that FillFromYaml
// reads back. The values in `hidden` are printed as they are written.
std::string ToYaml(const google::protobuf::Message& message,
                   const HiddenValues& hidden);

// The YAML of one number, text, duration, choice, or list of those.
struct YamlValue {
  std::string actual;
  std::string shown;  // Differs from `actual` if the value is hidden.
};

// Calls `visit` with what ToYaml prints, value by value. `key` is the path, but
// that it has the target or name of an entry in a list in place of its number.
using VisitValue =
    std::function<void(const std::string& key, const YamlValue& value)>;
void VisitValues(const google::protobuf::Message& message,
                 const HiddenValues& hidden, const VisitValue& visit);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_CONFIG_PRINT_H_
