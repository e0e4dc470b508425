// Converts a YAML tree into config.proto's messages, guided by their
// descriptors; print.h is the way back. Part of config.
#ifndef HOTLINE_SERVER_CONFIG_PROTO_H_
#define HOTLINE_SERVER_CONFIG_PROTO_H_

#include <map>
#include <string>
#include <string_view>

#include "base/time.h"
#include "google/protobuf/message.h"
#include "server/config/config.h"
#include "server/config/faults.h"
#include "server/config/yaml.h"

namespace hotline::server {

// What the file has beside the values themselves.
struct ConfigSource {
  // Of the values, or of their keys where they are sections or lists; by path:
  // "pool.max_connections", "targets[2].warm".
  std::map<std::string, Place, std::less<>> places;
  HiddenValues hidden;
};

// Fills `message` from `root`: keys must be names of its fields, each at most
// once, and values of the fields' types. Text may have references (outside.h),
// which `lookup` answers. Faults are added to `faults`; the other fields are
// filled nevertheless.
void FillFromYaml(const YamlNode& root, const ConfigLookup& lookup,
                  google::protobuf::Message* message, ConfigSource* source,
                  ConfigFaults* faults);

// Whether a number is one of bytes, which may be written as "64MiB".
bool IsSize(const google::protobuf::FieldDescriptor& field);

// For fields of type google.protobuf.Duration.
bool IsDuration(const google::protobuf::FieldDescriptor& field);
Duration GetDuration(const google::protobuf::Message& message,
                     const google::protobuf::FieldDescriptor& field);
void SetDuration(google::protobuf::Message* message,
                 const google::protobuf::FieldDescriptor& field,
                 Duration length);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_CONFIG_PROTO_H_
