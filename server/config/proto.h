// Converts a YAML tree into config.proto's messages and back, guided by their
// descriptors. Part of config.
#ifndef HOTLINE_SERVER_CONFIG_PROTO_H_
#define HOTLINE_SERVER_CONFIG_PROTO_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "base/time.h"
#include "google/protobuf/message.h"
#include "server/config/yaml.h"

namespace hotline::server {

// The line of each key, by path: "pool.max_connections", "targets[2].warm".
using ConfigLines = std::map<std::string, int, std::less<>>;

// Fills `message` from `root`: keys must be names of its fields, each at most
// once, and values of the fields' types. Faults are added to `faults`; the
// other fields are filled nevertheless.
void FillFromYaml(const YamlNode& root, google::protobuf::Message* message,
                  ConfigLines* lines, ConfigFaults* faults);

// Prints every field that is set or has no presence, as YAML that FillFromYaml
// reads back.
std::string ToYaml(const google::protobuf::Message& message);

// "45s", "0.5s".
std::string FormatDuration(Duration length);

// For fields of type google.protobuf.Duration.
bool IsDuration(const google::protobuf::FieldDescriptor& field);
Duration GetDuration(const google::protobuf::Message& message,
                     const google::protobuf::FieldDescriptor& field);
void SetDuration(google::protobuf::Message* message,
                 const google::protobuf::FieldDescriptor& field,
                 Duration length);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_CONFIG_PROTO_H_
