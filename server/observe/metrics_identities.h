// Which identities of callers have series of their own. Part of metrics.
#ifndef HOTLINE_SERVER_OBSERVE_METRICS_IDENTITIES_H_
#define HOTLINE_SERVER_OBSERVE_METRICS_IDENTITIES_H_

#include <cstddef>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"
#include "server/broker/identity.h"

namespace hotline::server {

// At most `max` identities have series; all others count under kOther. A series
// is free once its identity has been quiet for kQuiet; it goes to the one with
// the most calls and denials among those without.
//
// The counts that a lost series showed move to kOther, and it starts from zero
// if it comes back, as for targets (TargetFold).
//
// Invariant: every counter of a label only grows while the label has it.
//
// Not thread-safe.
class IdentityFold {
 public:
  static constexpr std::string_view kOther = "other";
  static constexpr Duration kQuiet = std::chrono::minutes(10);

  explicit IdentityFold(size_t max) : max_(max) {}

  // `usage`: see FrontFigures::identities. One row per label; the last is
  // kOther.
  std::vector<IdentityUsage> Fold(const std::vector<IdentityUsage>& usage,
                                  Instant now);

 private:
  struct Shown {
    IdentityUsage counted;  // The values of its series.
    IdentityUsage last;     // The source's at the last Fold.
    Instant active{};       // When that last grew.
  };
  using Rows = std::map<std::string_view, const IdentityUsage*>;

  static void Count(const IdentityUsage& row, Instant now, Shown* shown);
  void Admit(const Rows& rows, Instant now);

  const size_t max_;
  std::map<std::string, Shown, std::less<>> shown_;
  // Those without series at the last Fold: kOther has counted them.
  std::set<std::string, std::less<>> seen_;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_OBSERVE_METRICS_IDENTITIES_H_
