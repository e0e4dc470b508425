// Defaults and bounds of all keys. Part of config.
#ifndef HOTLINE_SERVER_CONFIG_RULES_H_
#define HOTLINE_SERVER_CONFIG_RULES_H_

#include <string_view>

#include "hotline/v1/config.pb.h"
#include "server/config/proto.h"
#include "server/config/yaml.h"

namespace hotline::server {

// Checks each value by itself, and sets omitted keys to their defaults.
// Afterwards every section exists, and every key that has a default is set.
void ApplyRules(v1::Config* config, const ConfigLines& lines,
                ConfigFaults* faults);

// Whether the number, duration or choice at `path` has a rule; `path` has no
// indices ("targets.warm"). For tests.
bool HasRule(std::string_view path);

// The line of `path`, or of the innermost key around it that is in the file.
int LineOf(const ConfigLines& lines, std::string_view path);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_CONFIG_RULES_H_
