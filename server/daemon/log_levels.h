// The levels of the log that an operator has set, for a while or until the next
// reload.
//
//   LogLevels levels(settings->log_level);
//   levels.Set(LogLevel::kDebug, "https://a.example:443", now + minutes(5));
//   ...
//   levels.Expire(now);  // Now and then.
//
// Thread safety: LogLevels is thread-safe. It sets the process's levels
// (base/log.h), so there is one.
#ifndef HOTLINE_SERVER_DAEMON_LOG_LEVELS_H_
#define HOTLINE_SERVER_DAEMON_LOG_LEVELS_H_

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/time.h"

namespace hotline::server {

class LogLevels {
 public:
  static constexpr size_t kMostTargets = 16;

  explicit LogLevels(LogLevel configured) : configured_(configured) {}

  // Until `until` or Configure; kNever: until Configure. `target` empty: the
  // level of lines whose target has none of its own. Returns the level before;
  // nothing, without effect: too many targets have one.
  std::optional<LogLevel> Set(LogLevel level, const std::string& target,
                              Instant until);

  // The configured level holds for all lines from now on.
  void Configure(LogLevel configured);

  // Ends the levels whose time is over. Returns whether there were any.
  bool Expire(Instant now);

  // "the log level is debug", "the log level of https://a.example:443 is debug,
  // for another 5 min".
  std::vector<std::string> InWords(Instant now) const;

 private:
  struct Override {
    LogLevel level;
    Instant until;
  };

  void Apply() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  mutable Mutex mu_;
  LogLevel configured_ ABSL_GUARDED_BY(mu_);
  // By target; empty: of the others.
  std::map<std::string, Override> set_ ABSL_GUARDED_BY(mu_);
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_DAEMON_LOG_LEVELS_H_
