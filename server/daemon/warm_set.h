// The warm set: the connections that were ready before a restart, dialled again
// after it.
//
// A running hotlined writes down which connections are ready, periodically and
// when it starts to drain. The next process reads the file and dials them
// before callers ask: the busiest first, at a limited rate. Pure but for
// LoadWarmSet and ReplaceFile.
#ifndef HOTLINE_SERVER_DAEMON_WARM_SET_H_
#define HOTLINE_SERVER_DAEMON_WARM_SET_H_

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/time.h"
#include "pool/pool.h"

namespace hotline::server {

// The ready connections of one HostPool.
struct WarmEntry {
  pool::HostPoolKey key;
  int connections = 0;
  uint64_t uses = 0;  // Of all of them, since they were dialled.

  friend bool operator==(const WarmEntry&, const WarmEntry&) = default;
};

// The ready connections in `snapshot`, which must have its rows of connections:
// the busiest entries first, at most kMostWarmEntries.
std::vector<WarmEntry> WarmSetOf(const pool::Snapshot& snapshot);

inline constexpr size_t kMostWarmEntries = 10'000;
inline constexpr size_t kMostWarmSetBytes = 8 << 20;

// The file's text: a hotline.v1.WarmSet in JSON.
std::string FormatWarmSet(const std::vector<WarmEntry>& entries);

// Errors: INVALID_ARGUMENT with the first fault; a file is used as a whole or
// not at all.
absl::StatusOr<std::vector<WarmEntry>> ParseWarmSet(std::string_view text);

// The same for a file. Errors also: NOT_FOUND without one, and others of
// reading it.
absl::StatusOr<std::vector<WarmEntry>> LoadWarmSet(const std::string& path);

// Writes a temporary file and renames it: after a crash the file holds the old
// text or the new one, never a part.
absl::Status ReplaceFile(const std::string& path, const std::string& text);

// Dials the entries in order, at most `dials_per_second`. Dials that are not
// possible yet (limits, a failing upstream) are repeated until `patience` has
// passed.
//
// Pure: time is an argument, `prewarm` is Pool::Prewarm. Not thread-safe.
class Rewarmer {
 public:
  using Prewarm = std::function<pool::PrewarmResult(
      const pool::HostPoolKey& key, int connections, int most, Instant now)>;

  Rewarmer(std::vector<WarmEntry> entries, int dials_per_second,
           Duration patience, Instant now, Prewarm prewarm);

  // Dials what is due. Returns when to call it again, kNever once done.
  Instant Step(Instant now);
  bool done() const { return done_; }

  // Connections in all, and those not ready yet.
  int wanted() const { return wanted_; }
  int missing() const { return missing_; }

 private:
  std::vector<WarmEntry> entries_;
  const int dials_per_second_;
  const Instant end_;
  const Prewarm prewarm_;
  Instant last_;
  double allowed_ = 1;  // Dials, as of the last step.
  int wanted_ = 0;
  int missing_ = 0;
  bool done_ = false;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_DAEMON_WARM_SET_H_
