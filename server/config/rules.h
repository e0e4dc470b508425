// The default and the bounds of every key. Part of config.
#ifndef HOTLINE_SERVER_CONFIG_RULES_H_
#define HOTLINE_SERVER_CONFIG_RULES_H_

#include <string_view>

#include "hotline/v1/config.pb.h"
#include "server/config/proto.h"
#include "server/config/yaml.h"

namespace hotline::server {

// Checks each value on its own, and gives what was left out its default. After
// it every section is there, and every key that has a default.
void ApplyRules(v1::Config* config, const ConfigLines& lines,
                ConfigFaults* faults);

// Whether a number, a duration or a choice has a rule; `path` without indices
// ("targets.warm"). For tests.
bool HasRule(std::string_view path);

// The line of `path`, or of the nearest thing around it that is in the file.
int LineOf(const ConfigLines& lines, std::string_view path);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_CONFIG_RULES_H_
