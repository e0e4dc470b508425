// Defaults and bounds of all keys. Part of config.
#ifndef HOTLINE_SERVER_CONFIG_RULES_H_
#define HOTLINE_SERVER_CONFIG_RULES_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"
#include "hotline/v1/config.pb.h"
#include "server/config/faults.h"
#include "server/config/proto.h"

namespace hotline::server {

// Checks each value by itself, and sets omitted and faulty keys to their
// defaults. Afterwards every section exists, and every key that has a default
// is set.
void ApplyRules(v1::Config* config, const ConfigSource& source,
                ConfigFaults* faults);

struct NumberRule {
  const char* path;
  int64_t least;
  int64_t most;
  std::optional<int64_t> otherwise;  // None: remains unset.
};

struct DurationRule {
  const char* path;
  Duration least;
  Duration most;
  std::optional<Duration> otherwise;  // None: remains unset.
};

struct ChoiceRule {
  const char* path;
  std::vector<std::string> choices;  // The first one is the default.
};

// The rule of the number, duration or choice at `path`, which has no indices
// ("targets.warm"); null if there is none.
const NumberRule* NumberRuleOf(std::string_view path);
const DurationRule* DurationRuleOf(std::string_view path);
const ChoiceRule* ChoiceRuleOf(std::string_view path);

// The place of `path`, or of the innermost key around it that is in the file.
Place PlaceOf(const std::map<std::string, Place, std::less<>>& places,
              std::string_view path);

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_CONFIG_RULES_H_
