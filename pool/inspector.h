// Looks inside a pool and says which invariant is broken. For tests.
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
struct Connection;

// Remembers what it saw last, because a lowered limit may be exceeded as long
// as nothing is added. Call Check only while no other thread is inside the
// pool and no effect is being carried out.
class Inspector {
 public:
  explicit Inspector(const Pool* pool);

  // Empty: invariants 1 to 5 of pool.h hold, nobody waits for something that
  // is there, and no timer is forgotten.
  std::string Check(Instant now);

  // Empty: invariant 6 holds, nothing is left.
  std::string CheckEmpty();

  // As Check saw them: those that count against the limits.
  int connections() const { return connections_; }
  // Effects or tokens were left for the next tick; never with kNoTurns.
  bool unfinished() const { return unfinished_; }

  // The earliest tick the shard has asked for and not had; kNever: none.
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

  // Since a breaker opened last.
  struct Spell {
    uint64_t opened = 0;
    int dials = 0;  // That ran by then, and still do.
  };

  void CheckShard(const Shard& shard, Instant now, Totals* totals);
  void CheckTarget(const Shard& shard, const Target& target, Instant now,
                   Totals* totals);
  void CheckBreaker(const Target& target, Instant now);
  void CheckPool(const Shard& shard, const HostPool& pool, Instant now);
  void CheckConnection(const HostPool& pool, const Connection& conn);
  void CheckLines(const HostPool& pool, Instant now);
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
  std::unordered_map<std::string, Spell> spells_;
  std::vector<int> leases_on_;  // By the connection's slot.
  int walked_[5] = {};          // Connections by state, of one HostPool.
  int idle_walked_ = 0;
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_INSPECTOR_H_
