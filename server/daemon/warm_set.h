// What was warm before a restart is made warm again after it.
//
// A running hotlined writes down which connections are ready, every so often
// and when it begins to drain; the next one reads it, and dials them before
// anybody asks: the busiest first, and not too many at once.
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

// Interchangeable connections that are to be made.
struct WarmEntry {
  pool::HostPoolKey key;
  int connections = 0;
  uint64_t uses = 0;

  friend bool operator==(const WarmEntry&, const WarmEntry&) = default;
};

// What is ready in `snapshot`, which needs the rows of connections: the busiest
// first, kMostWarmEntries of them.
std::vector<WarmEntry> WarmSetOf(const pool::Snapshot& snapshot);

inline constexpr size_t kMostWarmEntries = 10'000;
inline constexpr size_t kMostWarmSetBytes = 8 << 20;

// A warm set as it stands in its file: a hotline.v1.WarmSet in JSON.
std::string FormatWarmSet(const std::vector<WarmEntry>& entries);

// Errors: INVALID_ARGUMENT, saying what is wrong; nothing of such a file is
// used.
absl::StatusOr<std::vector<WarmEntry>> ParseWarmSet(std::string_view text);

// The same for a file. Errors also: NOT_FOUND when there is none, and whatever
// else reading can come to.
absl::StatusOr<std::vector<WarmEntry>> LoadWarmSet(const std::string& path);

// Writes beside the file and renames: a reader, or a crash, finds the old text
// or the new one, whole.
absl::Status ReplaceFile(const std::string& path, const std::string& text);

// Makes the entries, `dials_per_second` of them, in their order. What cannot be
// made at once (limits, an upstream that is away) is tried again until
// `patience` is over.
//
// Pure: it is told the time and asks the pool through `prewarm`
// (Pool::Prewarm). Not thread-safe.
class Rewarmer {
 public:
  using Prewarm = std::function<pool::PrewarmResult(
      const pool::HostPoolKey& key, int connections, int most, Instant now)>;

  Rewarmer(std::vector<WarmEntry> entries, int dials_per_second,
           Duration patience, Instant now, Prewarm prewarm);

  // Does what is due; when to call it again, kNever once it is done.
  Instant Step(Instant now);
  bool done() const { return done_; }

  // Connections there are to be, and those that are not yet.
  int wanted() const { return wanted_; }
  int missing() const { return missing_; }

 private:
  std::vector<WarmEntry> entries_;
  const int dials_per_second_;
  const Instant end_;
  const Prewarm prewarm_;
  Instant last_;
  double allowed_ = 1;  // Dials, saved up since the last step.
  int wanted_ = 0;
  int missing_ = 0;
  bool done_ = false;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_DAEMON_WARM_SET_H_
