// Checks the invariants of a pool, for tests.
#ifndef HOTLINE_POOL_INSPECTOR_H_
#define HOTLINE_POOL_INSPECTOR_H_

#include <string>
#include <unordered_map>
#include <vector>

#include "base/time.h"
#include "pool/pool.h"

namespace hotline::pool {

class HostPool;
class Shard;
class Target;
struct ConnRecord;

// It remembers the last check, because a lowered limit may be exceeded as long
// as nothing is added. It takes no lock: call Check only while no other thread
// is inside the pool and no effect is being carried out.
class Inspector {
 public:
  explicit Inspector(const Pool* pool);

  // Returns an empty string if invariants 1 to 5 of pool.h hold, every waiter
  // waits for something that will happen, and no timer is forgotten.
  std::string Check(Instant now);

  // Returns an empty string if invariant 6 holds.
  std::string CheckEmpty();

  // Whether a connection that lives on `loop` could be lent for `key` now.
  bool HasLendableAt(const HostPoolKey& key, bool new_only, LoopIndex loop,
                     Instant now) const;

  // Connections that count against the limits, at the last Check.
  int connections() const { return connections_; }
  // At the last Check, effects or tokens were left for the next tick. Never
  // true with kNoTurns.
  bool unfinished() const { return unfinished_; }

  // The earliest tick that the shard has asked for and not had; kNever: none.
  Instant Announced(int shard) const;

 private:
  struct Totals {
    int connections = 0;
    int dialing = 0;
    int closing = 0;
    int connection_tokens_held = 0;
    int dial_tokens_held = 0;
    int in_connection_line = 0;
    int in_dial_line = 0;
    bool idle_above_floor = false;
  };
  struct Count {
    int value = 0;
    int limit = 0;
  };
  struct Seen {
    Count connections;
    Count dials;
  };

  // Since a breaker last opened.
  struct OpenBreaker {
    uint64_t opened = 0;  // How often, so far.
    int dials = 0;        // Under way then, and still now.
  };

  void CheckShard(const Shard& shard, Instant now, Totals* totals);
  void CheckTarget(const Target& target, Instant now, Totals* totals);
  void CheckBreaker(const Target& target, Instant now);
  void CheckLeases(const Target& target);
  void CheckCounts(const Target& target, Instant now, Totals* totals);
  void CheckTokens(const Target& target, Totals* totals);
  void CheckPool(const HostPool& pool);
  void CheckConnection(const HostPool& pool, const ConnRecord& conn);
  void CheckState(const HostPool& pool, const ConnRecord& conn);
  void CheckLine(const HostPool& pool);
  void CheckHomes(const HostPool& pool);
  void CheckProgress(const Target& target, const HostPool& pool, Instant now);
  void CheckBudgets(const Totals& totals);
  void Expect(bool holds, const char* what);
  void ExpectWithin(int value, int limit, Count* seen, const char* what);

  const Pool* const pool_;
  std::string problem_;
  int connections_ = 0;
  bool unfinished_ = false;
  std::unordered_map<std::string, Seen> seen_;
  Seen seen_in_all_;
  std::unordered_map<std::string, OpenBreaker> open_breakers_;
  std::vector<int> leases_on_;    // By the connection's index.
  int walked_[kConnStates] = {};  // Connections of one HostPool.
  int idle_walked_ = 0;
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_INSPECTOR_H_
