#include "pool/inspector.h"

#include <algorithm>

#include "pool/pool_impl.h"

// The inspector takes no locks: see its header.
#define HOTLINE_UNLOCKED ABSL_NO_THREAD_SAFETY_ANALYSIS

namespace hotline::pool {

Inspector::Inspector(const Pool* pool) : pool_(pool) {}

void Inspector::Expect(bool holds, const char* what) {
  if (!holds && problem_.empty()) problem_ = what;
}

void Inspector::ExpectWithin(int value, int limit, Count* seen,
                             const char* what) {
  // Within a lowered limit nothing is added. While it was being lowered the
  // event may have added something still.
  const bool same_limit = limit == seen->limit;
  Expect(value <= limit || value <= seen->value || !same_limit, what);
  *seen = {value, limit};
}

std::string Inspector::Check(Instant now) {
  problem_.clear();
  Totals totals;
  unfinished_ = false;
  for (const auto& shard : pool_->impl_->shards()) {
    CheckShard(*shard, now, &totals);
  }
  // A target that the pool has forgotten begins anew if it comes back.
  std::erase_if(open_breakers_, [this](const auto& seen) HOTLINE_UNLOCKED {
    const auto& shards = pool_->impl_->shards();
    return std::none_of(shards.begin(), shards.end(),
                        [&](const auto& shard) HOTLINE_UNLOCKED {
                          return shard->targets_.contains(seen.first);
                        });
  });
  CheckBudgets(totals);
  const bool has_turns =
      pool_->impl_->shared().effects_per_turn < PoolConfig::kNoTurns;
  Expect(has_turns || !unfinished_, "effects or tokens left undone");
  connections_ = totals.connections;
  return problem_;
}

void Inspector::CheckShard(const Shard& shard, Instant now,
                           Totals* totals) HOTLINE_UNLOCKED {
  const ShardState& state = shard.state_;
  Expect(!shard.draining_, "marked as draining, but no thread is");
  if (shard.undone_ || !state.outbox.empty()) unfinished_ = true;
  Expect(state.announced <= state.timers.Earliest(), "a timer without a wake");
  leases_on_.assign(state.connections.size(), 0);
  size_t pools = 0;
  int records = 0;
  int waiting = 0;
  int leases = 0;
  idle_walked_ = 0;
  for (const auto& [name, target] : shard.targets_) {
    CheckTarget(*target, now, totals);
    pools += target->pools_.size();
    records += target->records_;
    waiting += target->waiters_;
    leases += target->lease_count_;
    Expect(target->Empty() == target->Link<InEmpty>::linked(),
           "the list of empty targets is wrong");
  }
  Expect(pools == shard.pools_.size(), "a HostPool without its target");
  Expect(records == static_cast<int>(state.connections.in_use()),
         "a connection is lost");
  Expect(waiting == static_cast<int>(state.waiting.in_use()),
         "a waiter is lost");
  Expect(leases == static_cast<int>(state.leases.in_use()), "a lease is lost");
  int idle = 0;
  for (const ConnRecord* conn = state.idle_order.front(); conn != nullptr;
       conn = state.idle_order.Next(conn)) {
    ++idle;
    Expect(conn->pool->IsIdle(*conn), "not idle, but listed as idle");
    if (!conn->pool->AtFloor()) totals->idle_above_floor = true;
  }
  Expect(idle == idle_walked_, "the order of idle connections is wrong");
}

void Inspector::CheckTarget(const Target& target, Instant now, Totals* totals) {
  CheckLeases(target);
  CheckCounts(target, now, totals);
  CheckTokens(target, totals);
  CheckBreaker(target, now);
}

void Inspector::CheckLeases(const Target& target) {
  int leases = 0;
  for (const Lease* lease = target.leases_.front(); lease != nullptr;
       lease = target.leases_.Next(lease)) {
    ++leases;
    ++leases_on_[lease->conn->index];
    Expect(lease->in_use && lease->conn->in_use, "a lease on nothing");
  }
  Expect(leases == target.lease_count_, "leases are miscounted");
}

void Inspector::CheckCounts(const Target& target, Instant now, Totals* totals) {
  const int idle_before = idle_walked_;
  int by_state[kConnStates] = {};
  int waiters = 0;
  int records = 0;
  for (const auto& pool : target.pools_) {
    CheckPool(*pool);
    for (int i = 0; i < kConnStates; ++i) by_state[i] += walked_[i];
    waiters += pool->waiters();
    records += pool->records_;
    CheckProgress(target, *pool, now);
  }
  int total = 0;
  for (int i = 0; i < kConnStates; ++i) {
    total += by_state[i];
    Expect(by_state[i] == target.counts_[i], "the target miscounts a state");
  }
  Expect(total == target.total_, "the target's total is wrong");
  Expect(records == target.records_, "the target's records are wrong");
  Expect(waiters == target.waiters_, "the target's waiters are miscounted");
  Expect(idle_walked_ - idle_before == target.idle_, "idle is miscounted");
  const int dialing = target.count(ConnState::kDialing);
  Seen& seen = seen_[target.name_];
  ExpectWithin(total, target.config_.max_connections, &seen.connections,
               "more connections than the target may have");
  ExpectWithin(dialing, target.config_.max_dials, &seen.dials,
               "more dials than the target may have");
  totals->connections += total;
  totals->dialing += dialing;
  totals->closing += target.count(ConnState::kClosing);
}

void Inspector::CheckTokens(const Target& target, Totals* totals) {
  const TokenClaim& connection = target.connection_;
  const TokenClaim& dial = target.dial_;
  totals->connection_tokens_held += connection.held() ? 1 : 0;
  totals->dial_tokens_held += dial.held() ? 1 : 0;
  totals->in_connection_line += connection.in_line() ? 1 : 0;
  totals->in_dial_line += dial.in_line() ? 1 : 0;
  // A target whose Delivery is under way has left the line, and will return the
  // token if it does not need it.
  const bool claims =
      connection.linked() || dial.linked() || connection.held() || dial.held();
  Expect(!claims || target.waiters_ > 0,
         "claims a budget's token without a waiter");
  Expect(!dial.held(), "keeps a dial's token");
}

// While it is open no dial begins, and no waiter needs one; while it is half
// open one dial may begin. Dials that were under way when it opened continue.
void Inspector::CheckBreaker(const Target& target, Instant now) {
  const BreakerState state = target.health().breaker().state(now);
  const uint64_t opened = target.counters_.breaker_opened;
  const int dialing = target.count(ConnState::kDialing);
  OpenBreaker& seen = open_breakers_[target.name_];
  if (state == BreakerState::kClosed || seen.opened != opened) {
    seen = {opened, dialing};
    return;
  }
  const int trials = state == BreakerState::kHalfOpen ? 1 : 0;
  Expect(dialing <= seen.dials + trials, "dialled in spite of the breaker");
  if (state != BreakerState::kOpen) return;
  seen.dials = std::min(seen.dials, dialing);
  for (const auto& pool : target.pools_) {
    pool->line_.ForEach([&](const Waiting* waiting) {
      Expect(!pool->Hopeless(waiting->new_only),
             "a caller waits for a dial that the breaker bars");
    });
  }
}

void Inspector::CheckPool(const HostPool& pool) {
  for (int& count : walked_) count = 0;
  int records = 0;
  Expect(pool.backoff_.failures() > 0 || pool.backoff_.until() == Instant{},
         "backs off without a failure");
  pool.ForEachConnection([&](const ConnRecord& conn) {
    ++records;
    Expect(conn.in_use && conn.pool == &pool,
           "a foreign connection in the lists");
    if (!conn.gone) ++walked_[static_cast<int>(conn.state)];
    if (pool.IsIdle(conn)) ++idle_walked_;
    Expect(leases_on_[conn.index] == conn.active,
           "leases on a connection are not its active count");
    CheckConnection(pool, conn);
  });
  Expect(records == pool.records_, "records are miscounted");
  for (int i = 0; i < kConnStates; ++i) {
    Expect(walked_[i] == pool.counts_[i], "a HostPool miscounts a state");
  }
  CheckLine(pool);
  CheckHomes(pool);
}

void Inspector::CheckState(const HostPool& pool, const ConnRecord& conn) {
  switch (conn.state) {
    case ConnState::kDialing:
      Expect(conn.active == 0 && !conn.gone, "a dial with leases");
      Expect(conn.dial_began <= pool.backoff_.failed_at() ||
                 conn.dial_began >= pool.backoff_.until(),
             "dialled in spite of the back-off");
      break;
    case ConnState::kReady:
      break;
    case ConnState::kProbing:
      Expect(conn.active == 0, "lent while a check runs on it");
      Expect(conn.recheck_at == kNever || conn.checks_failed > 0,
             "scheduled for a recheck without a failed check");
      break;
    case ConnState::kDraining:
      Expect(conn.active > 0 || conn.gone, "drained, but not closed");
      break;
    case ConnState::kClosing:
      break;
  }
  Expect(!conn.gone || conn.active > 0, "gone, but kept");
}

void Inspector::CheckConnection(const HostPool& pool, const ConnRecord& conn) {
  CheckState(pool, conn);
  Expect(conn.Link<InIdleOrder>::linked() == pool.IsIdle(conn),
         "idle order and state disagree");
  const bool lendable =
      !conn.gone && conn.state == ConnState::kReady && conn.active < conn.limit;
  bool listed = false;
  const auto& lists = pool.lendable_;
  for (const auto* list : {&lists.partial, &lists.idle, &lists.fresh}) {
    for (const ConnRecord* c = list->front(); c != nullptr; c = list->Next(c)) {
      if (c == &conn) listed = true;
    }
  }
  Expect(listed == lendable, "listed as lendable, or not, wrongly");
  const bool has_home = conn.home != nullptr;
  Expect(conn.Link<AtHome>::linked() == (lendable && has_home),
         "lendable, but not at its loop, or the reverse");
  Expect(
      has_home == (pool.home_count_ > 0) || conn.state == ConnState::kDialing,
      "a connection without a loop");
}

void Inspector::CheckHomes(const HostPool& pool) {
  std::vector<Home> seen(pool.home_count_);
  const auto at = [&](const Home* home) -> Home& { return seen[home->loop]; };
  pool.ForEachConnection([&](const ConnRecord& conn) {
    if (conn.home == nullptr || conn.gone) return;
    at(conn.home).dialing += conn.state == ConnState::kDialing ? 1 : 0;
    at(conn.home).connections += conn.state <= ConnState::kProbing ? 1 : 0;
  });
  pool.line_.ForEach([&](const Waiting* waiting) {
    if (waiting->home != nullptr) ++at(waiting->home).waiters;
  });
  const auto& leases = pool.target_->leases_;
  for (const Lease* lease = leases.front(); lease != nullptr;
       lease = leases.Next(lease)) {
    if (lease->conn->pool != &pool || lease->callers_home == nullptr) continue;
    Expect(lease->callers_home != lease->conn->home,
           "a cross-loop lease on its own loop");
    ++at(lease->callers_home).leases_elsewhere;
    ++at(lease->conn->home).foreign_leases;
  }
  for (int i = 0; i < pool.home_count_; ++i) {
    const Home& home = pool.homes_[i];
    Expect(home.connections == seen[i].connections &&
               home.dialing == seen[i].dialing &&
               home.waiters == seen[i].waiters &&
               home.leases_elsewhere == seen[i].leases_elsewhere &&
               home.foreign_leases == seen[i].foreign_leases,
           "a loop's counts are wrong");
  }
}

bool Inspector::HasLendableAt(const HostPoolKey& key, bool new_only,
                              LoopIndex loop,
                              Instant now) const HOTLINE_UNLOCKED {
  bool found = false;
  for (const auto& shard : pool_->impl_->shards()) {
    const auto target = shard->targets_.find(key.target);
    if (target == shard->targets_.end()) continue;
    for (const auto& pool : target->second->pools_) {
      if (pool->key() != key) continue;
      pool->ForEachConnection([&](const ConnRecord& conn) {
        const bool fit = conn.active == 0
                             ? now < conn.lend_until && now < conn.retire_at
                             : conn.active < conn.limit;
        const bool lendable = conn.state == ConnState::kReady && !conn.gone &&
                              fit && conn.limit > 0 &&
                              !(new_only && conn.uses > 0);
        found = found ||
                (lendable && conn.home != nullptr && conn.home->loop == loop);
      });
    }
  }
  return found;
}

void Inspector::CheckLine(const HostPool& pool) {
  const WaitLine& line = pool.line_;
  if (line.first_any() != nullptr) {
    Expect(pool.lendable_.empty(), "a caller waits while a slot is free");
  }
  if (line.first_new_only() != nullptr) {
    Expect(pool.lendable_.fresh.empty(),
           "a caller waits while an unused connection is free");
  }
  int any_length = 0;
  int new_only_length = 0;
  uint64_t any_order = 0;
  uint64_t new_only_order = 0;
  line.ForEach([&](const Waiting* waiting) {
    ++(waiting->new_only ? new_only_length : any_length);
    uint64_t& order = waiting->new_only ? new_only_order : any_order;
    Expect(waiting->order > order, "a line is out of order");
    order = waiting->order;
    Expect(waiting->deadline == kNever || waiting->timer.scheduled(),
           "a deadline without a timer");
  });
  Expect(any_length == line.any_length() &&
             new_only_length == line.new_only_length(),
         "a line's length is wrong");
}

// A caller must wait for something that will happen.
void Inspector::CheckProgress(const Target& target, const HostPool& pool,
                              Instant now) {
  if (!pool.has_waiters() || pool.Wanted(now) == 0) return;
  for (const auto& any : target.pools_) {
    // A back-off or the open breaker has just ended, so dials are wanted, but
    // its tick is still to come.
    const bool paused =
        any->backoff_.failures() > 0 ||
        target.health().breaker().state(now) != BreakerState::kClosed;
    if (paused && any->timer_.scheduled()) return;
  }
  const bool dials_bind =
      target.count(ConnState::kDialing) >= target.config_.max_dials;
  const bool connections_bind = target.total_ >= target.config_.max_connections;
  const bool in_line = target.connection_.in_line() || target.dial_.in_line();
  Expect(dials_bind || connections_bind || in_line,
         "a caller waits although a dial could begin");
  if (connections_bind && !dials_bind && target.idle_ > 0) {
    Expect(target.PlacesShort(now) <= 0 || target.OldestIdle() == nullptr,
           "a caller waits for a place that an idle connection has");
  }
}

void Inspector::CheckBudgets(const Totals& totals) HOTLINE_UNLOCKED {
  const PoolShared& shared = pool_->impl_->shared();
  const Budget& connections = shared.connections;
  const Budget& dials = shared.dials;
  unfinished_ = unfinished_ || !connections.deliveries_.empty() ||
                !dials.deliveries_.empty() || connections.search_wanted();
  const int connections_due = static_cast<int>(connections.deliveries_.size());
  const int dials_due = static_cast<int>(dials.deliveries_.size());
  Expect(dials.used_ == totals.dialing + totals.dial_tokens_held + dials_due,
         "dial tokens are not dials");
  Expect(connections.returning_ == totals.closing,
         "expected returns are miscounted");
  Expect(
      connections.used_ ==
          totals.connections + totals.connection_tokens_held + connections_due,
      "connection tokens are not connections");
  Expect(connections.waiting_ + connections_due == totals.in_connection_line &&
             dials.waiting_ + dials_due == totals.in_dial_line,
         "a budget's line is miscounted");
  Expect(connections.waiting_ == 0 || connections.used_ >= connections.max_,
         "a connection token is free while a target is in line");
  Expect(dials.waiting_ == 0 || dials.used_ >= dials.max_,
         "a dial token is free while a target is in line");
  Expect(connections.pressure() == 0 || !totals.idle_above_floor || unfinished_,
         "an idle connection is kept while another target waits");
  ExpectWithin(connections.used_, connections.max_, &seen_in_all_.connections,
               "more connections than the pool may have");
  ExpectWithin(dials.used_, dials.max_, &seen_in_all_.dials,
               "more dials than the pool may have");
}

std::string Inspector::CheckEmpty() HOTLINE_UNLOCKED {
  problem_.clear();
  for (const auto& shard : pool_->impl_->shards()) {
    const ShardState& state = shard->state_;
    Expect(state.connections.in_use() == 0, "a connection is left");
    Expect(state.leases.in_use() == 0, "a lease is left");
    Expect(state.waiting.in_use() == 0, "a waiter is left");
    Expect(state.timers.size() == 0, "a timer is left");
    Expect(state.outbox.empty(), "an effect is left");
  }
  const PoolShared& shared = pool_->impl_->shared();
  Expect(shared.connections.used() == 0, "a connection token is left");
  Expect(shared.dials.used() == 0, "a dial token is left");
  Expect(shared.connections.waiting() + shared.dials.waiting() == 0,
         "a budget's line is not empty");
  return problem_;
}

Instant Inspector::Announced(int shard) const HOTLINE_UNLOCKED {
  return pool_->impl_->shards()[shard]->state_.announced;
}

}  // namespace hotline::pool
