#include "server/daemon/change_log.h"

#include <cstddef>
#include <string_view>
#include <vector>

#include "base/log.h"

namespace hotline::server {
namespace {

// Text without YAML's quotes: the log has its own.
std::string_view Unquoted(std::string_view value) {
  if (value.size() < 2 || value.front() != '"' || value.back() != '"') {
    return value;
  }
  return value.substr(1, value.size() - 2);
}

}  // namespace

void LogChanges(const Settings& before, const Settings& after) {
  // A generated file may differ in thousands.
  constexpr size_t kMost = 50;
  const std::vector<ConfigChange> changes = DiffConfigs(before, after);
  for (size_t i = 0; i < changes.size() && i < kMost; ++i) {
    const ConfigChange& change = changes[i];
    HOTLINE_LOG(kInfo, "configuration changed",
                {{"key", change.key},
                 {"before", Unquoted(change.before)},
                 {"after", Unquoted(change.after)},
                 {"needs_restart", change.needs_restart}});
  }
  if (changes.size() > kMost) {
    HOTLINE_LOG(kInfo, "configuration changed in further keys",
                {{"keys", changes.size() - kMost}});
  }
}

}  // namespace hotline::server
