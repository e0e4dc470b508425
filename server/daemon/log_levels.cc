#include "server/daemon/log_levels.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace hotline::server {

void LogLevels::Apply() {
  LogLevel others = configured_;
  TargetLogLevels targets;
  for (const auto& [target, set] : set_) {
    if (target.empty()) {
      others = set.level;
    } else {
      targets.emplace_back(target, set.level);
    }
  }
  SetLogLevel(others);
  SetTargetLogLevels(std::move(targets));
}

std::optional<LogLevel> LogLevels::Set(LogLevel level,
                                       const std::string& target,
                                       Instant until) {
  MutexLock lock(&mu_);
  const auto others = set_.find("");
  LogLevel before = others == set_.end() ? configured_ : others->second.level;
  const auto found = set_.find(target);
  if (found != set_.end()) {
    before = found->second.level;
  } else if (!target.empty() && set_.size() - set_.count("") >= kMostTargets) {
    return std::nullopt;
  }
  set_.insert_or_assign(target, Override{level, until});
  Apply();
  return before;
}

void LogLevels::Configure(LogLevel configured) {
  MutexLock lock(&mu_);
  configured_ = configured;
  set_.clear();
  Apply();
}

bool LogLevels::Expire(Instant now) {
  MutexLock lock(&mu_);
  const size_t ended = std::erase_if(
      set_, [now](const auto& entry) { return entry.second.until <= now; });
  if (ended > 0) Apply();
  return ended > 0;
}

std::vector<std::string> LogLevels::InWords(Instant now) const {
  MutexLock lock(&mu_);
  std::vector<std::string> lines;
  for (const auto& [target, set] : set_) {
    lines.push_back(absl::StrCat(
        "the log level ",
        target.empty() ? "" : absl::StrCat("of ", target, " "), "is ",
        std::string(ToString(set.level)),
        set.until == kNever
            ? ""
            : absl::StrCat(", for another ",
                           ToMilliseconds(set.until - now) / 1000, " s")));
  }
  return lines;
}

}  // namespace hotline::server
