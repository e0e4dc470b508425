// What differs between two configurations.

#include <algorithm>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/config/config.h"
#include "server/config/print.h"

namespace hotline::server {
namespace {

std::map<std::string, YamlValue> ValuesOf(const Settings& settings) {
  std::map<std::string, YamlValue> out;
  VisitValues(settings.effective->config, settings.effective->hidden,
              [&out](const std::string& key, const YamlValue& value) {
                out.emplace(key, value);
              });
  return out;
}

// Whether `key` is `section`, or in it.
bool IsIn(std::string_view key, std::string_view section) {
  return key.starts_with(section) &&
         (key.size() == section.size() || key[section.size()] == '.');
}

}  // namespace

std::vector<std::string> WaitingForStart(const Settings& started,
                                         const Settings& now) {
  const std::pair<std::string_view, bool> keys[] = {
      {"listen", started.front != now.front ||
                     started.http_listen != now.http_listen ||
                     started.admin != now.admin},
      {"pool.shards", started.pool.shards != now.pool.shards},
      {"upstream.loops", started.upstream.loops != now.upstream.loops},
      {"upstream.dns_servers",
       started.upstream.dns_servers != now.upstream.dns_servers},
      {"metrics.max_targets",
       started.metrics_max_targets != now.metrics_max_targets},
  };
  std::vector<std::string> out;
  for (const auto& [key, changed] : keys) {
    if (changed) out.emplace_back(key);
  }
  return out;
}

std::vector<ConfigChange> DiffConfigs(const Settings& before,
                                      const Settings& after) {
  const std::map<std::string, YamlValue> old = ValuesOf(before);
  const std::map<std::string, YamlValue> now = ValuesOf(after);
  std::vector<ConfigChange> changes;
  for (const auto& [key, value] : now) {
    const auto found = old.find(key);
    if (found == old.end()) {
      changes.push_back({key, "", value.shown});
    } else if (found->second.actual != value.actual) {
      changes.push_back({key, found->second.shown, value.shown});
    }
  }
  for (const auto& [key, value] : old) {
    if (!now.contains(key)) changes.push_back({key, value.shown, ""});
  }
  std::sort(changes.begin(), changes.end(),
            [](const ConfigChange& a, const ConfigChange& b) {
              return a.key < b.key;
            });
  for (const std::string& section : WaitingForStart(before, after)) {
    for (ConfigChange& change : changes) {
      if (IsIn(change.key, section)) change.needs_restart = true;
    }
  }
  return changes;
}

}  // namespace hotline::server
