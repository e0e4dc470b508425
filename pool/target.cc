#include "pool/target.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "pool/hot_path.h"

namespace hotline::pool {
namespace {

// A warm floor that a budget refused is tried again after this.
constexpr Duration kFloorRetry = std::chrono::seconds(1);

constexpr size_t kMaxHolders = 5;
constexpr Duration kMinRetry = std::chrono::milliseconds(10);
constexpr Duration kMaxRetry = std::chrono::seconds(1);

}  // namespace

Target::Target(ShardState* shard, std::string name, uint64_t hash,
               uint64_t arrival, const TargetConfig& config)
    : shard_(shard),
      config_(config),
      name_(std::move(name)),
      hash_(hash),
      arrival_(arrival),
      floor_(config.warm),
      connection_(&shard->shared->connections, shard->index, this),
      dial_(&shard->shared->dials, shard->index, this) {
  UseIdleLimit();
}

Target::~Target() {
  shard_->timers.Cancel(&timer_);
  for (Claim* claim : {&connection_, &dial_}) {
    claim->budget->Leave(&claim->ticket);
  }
  while (Lease* lease = leases_.front()) {
    lease->Link<InTarget>::Unlink();
    shard_->timers.Cancel(&lease->timer);
  }
}

// --- Acquire ---

void Target::Acquire(HostPool* pool, const AcquireRequest& request, Instant now,
                     AcquireResult* result) {
  const bool repeatable = !request.request_id.empty();
  if (repeatable && Repeat(pool, request, now, result)) return;
  const bool new_only = request.reuse == Reuse::kForceNew;
  if (Connection* conn = pool->FindLendable(new_only, now)) {
    Lease* lease = LendNow(pool, conn, request, now, result);
    if (!repeatable) return;
    lease->request = Remember(pool, request);
    lease->request->lease = lease;
  } else if (request.reuse == Reuse::kRequireWarm) {
    Refuse(RejectReason::kNoIdleConnection, *pool, now, result);
  } else if (breaker_.Bars(now) && pool->Hopeless(new_only)) {
    Refuse(RejectReason::kCircuitOpen, *pool, now, result);
  } else if (!request.may_wait) {
    DialForNobody(pool, 0, now);
    Refuse(RejectReason::kNoIdleConnection, *pool, now, result);
  } else if (request.deadline <= now) {
    Refuse(RejectReason::kWaitTimeout, *pool, now, result);
  } else if (waiters_ >= config_.max_waiters || shard_->waiting.full()) {
    Refuse(RejectReason::kQueueFull, *pool, now, result);
  } else if (config_.deadline_admission &&
             SaturatingAdd(now, ExpectedWait(*pool, new_only, now)) >
                 request.deadline) {
    Refuse(RejectReason::kWontMakeDeadline, *pool, now, result);
    // When it would be as this caller could just bear it.
    result->rejection->retry_after = std::clamp<Duration>(
        ExpectedWait(*pool, new_only, now) - (request.deadline - now),
        kMinRetry, kMaxRetry);
  } else {
    Queue(pool, request, now, result);
  }
}

Request* Target::Remember(HostPool* pool, const AcquireRequest& request) {
  if (requests_ == nullptr) requests_ = std::make_unique<Requests>();
  const auto added =
      requests_->try_emplace(std::string(request.request_id)).first;
  added->second = {&added->first,     pool,    request.reuse,
                   request.lease_ttl, nullptr, nullptr};
  return &added->second;
}

void Target::Queue(HostPool* pool, const AcquireRequest& request, Instant now,
                   AcquireResult* result) {
  Waiting* waiting = pool->Join(request, now);
  if (!request.request_id.empty()) {
    waiting->terms.request = Remember(pool, request);
    waiting->terms.request->waiting = waiting;
  }
  Settle(now);
  waiting->info = WaitInfoNow(*pool, waiting->info.place, now);
  result->kind = AcquireResult::kQueued;
  result->waiter = shard_->ids.Encode(*waiting);
}

void Target::Refuse(RejectReason reason, const HostPool& pool, Instant now,
                    AcquireResult* result) {
  result->kind = AcquireResult::kRejected;
  result->rejection = Explain(reason, pool, nullptr, now);
}

// A request_id that is known. True: `result` is the answer.
bool Target::Repeat(HostPool* pool, const AcquireRequest& request, Instant now,
                    AcquireResult* result) {
  if (requests_ == nullptr) return false;
  const auto found = requests_->find(std::string(request.request_id));
  if (found == requests_->end()) return false;
  Request& record = found->second;
  if (record.lease != nullptr && now >= record.lease->expires) {
    record.pool->Expire(record.lease, now);  // Its tick is late.
    return false;
  }
  if (record.pool != pool || record.reuse != request.reuse ||
      record.ttl != request.lease_ttl) {
    Refuse(RejectReason::kIdConflict, *pool, now, result);
    return true;
  }
  if (record.lease != nullptr) {
    const Lease& lease = *record.lease;
    result->kind = AcquireResult::kGranted;
    pool->FillGrant(lease, &result->grant);
    if (lease.busy && lease.has_end) {
      result->grant.expires = SaturatingAdd(now, lease.left);
    }
    return true;
  }
  Waiting* waiting = record.waiting;
  assert(waiting != nullptr);
  // Who does not want the place leaves it to whoever has it.
  if (!request.may_wait) {
    Refuse(RejectReason::kNoIdleConnection, *pool, now, result);
    return true;
  }
  if (request.deadline <= now) {
    Refuse(RejectReason::kWaitTimeout, *pool, now, result);
    return true;
  }
  shard_->outbox.push_back(
      RejectEffect{waiting->waiter,
                   Explain(RejectReason::kSuperseded, *pool, waiting, now)});
  shard_->waiting.NextVersion(waiting);
  waiting->waiter = request.waiter;
  waiting->arrived = now;
  waiting->deadline = request.deadline;
  waiting->terms.secret = request.secret;
  waiting->terms.owner = request.owner;
  waiting->terms.holder = request.holder;
  shard_->FireBy(&waiting->timer, waiting->deadline);
  result->kind = AcquireResult::kQueued;
  result->waiter = shard_->ids.Encode(*waiting);
  return true;
}

void Target::ForgetRequest(Request* request) {
  requests_->erase(requests_->find(*request->name));
}

bool Target::DialForNobody(HostPool* pool, int wanted, Instant now) {
  SizingNumbers numbers = pool->Numbers(now);
  if (wanted == 0) {
    ++numbers.waiters;
  } else {
    const int missing = wanted - pool->standing();
    if (missing <= 0) return false;
    numbers.floor_missing = std::max(numbers.floor_missing, missing);
  }
  if (ConnectionsToDial(numbers) == 0 || connection_.holds || dial_.holds) {
    return false;
  }
  if (!connection_.budget->TryTake()) return false;
  if (!dial_.budget->TryTake()) {
    connection_.budget->Return();
    return false;
  }
  pool->BeginDial(now);
  return true;
}

// --- Dialling ---

void Target::BudgetGranted(const Budget* budget, Instant now) {
  Claim& claim = budget == connection_.budget ? connection_ : dial_;
  assert(claim.in_line && !claim.holds);
  claim.in_line = false;
  claim.holds = true;
  Settle(now);
}

void Target::Settle(Instant now) {
  touched_ = false;
  // A target that lost its last connection moves up in the line.
  if (connection_.in_line && total_ == 0 && !connection_.joined_poor &&
      connection_.budget->Leave(&connection_.ticket)) {
    connection_.in_line = false;
  }
  bool waits_for_token = false;
  while (!shard_->shutdown) {
    HostPool* pool = NextToDial(now);
    if (pool == nullptr) break;
    if (count(ConnState::kDialing) >= config_.max_dials) break;
    if (total_ >= config_.max_connections) {
      MakeRoom(now);
      break;
    }
    if (!TakeTokens(pool, now)) {
      waits_for_token = pool->has_waiters();
      break;
    }
    pool->BeginDial(now);
  }
  if (waits_for_token) return;
  Release(&connection_);
  Release(&dial_);
}

HostPool* Target::NextToDial(Instant now) const {
  HostPool* best = nullptr;
  uint64_t best_order = 0;
  for (const auto& pool : pools_) {
    const uint64_t order = pool->OldestOrder();
    if (best != nullptr && order >= best_order) continue;
    if (pool->Wanted(now) == 0) continue;
    best = pool.get();
    best_order = order;
  }
  return best;
}

bool Target::TakeTokens(HostPool* pool, Instant now) {
  const bool may_join = pool->has_waiters();
  if (!Take(&connection_, may_join)) {
    // A dial's token is not for keeping: others need it meanwhile.
    Release(&dial_);
  } else if (Take(&dial_, may_join)) {
    connection_.holds = dial_.holds = false;
    return true;
  }
  if (!may_join) pool->WakeBy(SaturatingAdd(now, kFloorRetry));
  return false;
}

bool Target::Take(Claim* claim, bool may_join) {
  if (claim->holds) return true;
  if (claim->in_line) return false;
  if (!may_join) {
    claim->holds = claim->budget->TryTake();
    return claim->holds;
  }
  claim->joined_poor = total_ == 0;
  claim->holds = claim->budget->TakeOrJoin(&claim->ticket, claim->joined_poor);
  claim->in_line = !claim->holds;
  return claim->holds;
}

void Target::Release(Claim* claim) {
  if (claim->in_line && claim->budget->Leave(&claim->ticket)) {
    claim->in_line = false;
  }
  if (claim->holds) {
    claim->holds = false;
    claim->budget->Return();
  }
}

int Target::PlacesShort(Instant now) const {
  int wanted = 0;
  for (const auto& pool : pools_) {
    if (pool->has_waiters()) wanted += pool->Wanted(now);
  }
  wanted = std::min(wanted, config_.max_dials - count(ConnState::kDialing));
  return total_ - config_.max_connections + wanted - count(ConnState::kClosing);
}

void Target::MakeRoom(Instant now) {
  for (int short_of = PlacesShort(now); short_of > 0; --short_of) {
    Connection* conn = OldestIdle();
    if (conn == nullptr) return MakeRoomAmongShared();
    conn->pool->Close(conn, CloseReason::kReclaimed);
  }
}

// One at a time: those who share it lose nothing.
void Target::MakeRoomAmongShared() {
  if (count(ConnState::kDraining) > 0) return;
  bool starved = false;
  for (const auto& pool : pools_) {
    starved = starved || (pool->has_waiters() && pool->HoldsNothing());
  }
  for (const auto& pool : pools_) {
    if (!starved && !pool->WantsUnused()) continue;
    Connection* conn = pool->OldestShared();
    if (conn != nullptr) return pool->Drain(conn, CloseReason::kReclaimed);
  }
}

bool Target::OwesPlaceBefore(const Waiting& waiting, Instant now) const {
  if (waiters_ == waiting.pool->waiters()) return false;
  const int leaving = count(ConnState::kClosing) + count(ConnState::kDraining);
  if (total_ - count(ConnState::kClosing) < config_.max_connections) {
    return false;
  }
  int owed = 0;
  for (const auto& pool : pools_) {
    owed += pool->HoldsNothing() && pool->OldestOrder() < waiting.order &&
            pool->Wanted(now) > 0;
  }
  return owed > leaving;
}

// The warm floor gives way only when there is nothing else.
Connection* Target::OldestIdle() const {
  Connection* best = nullptr;
  bool best_at_floor = false;
  for (const auto& pool : pools_) {
    Connection* conn = pool->OldestIdle();
    if (conn == nullptr) continue;
    const bool at_floor = pool->AtFloor();
    if (best == nullptr || at_floor < best_at_floor ||
        (at_floor == best_at_floor && conn->idle_since < best->idle_since)) {
      best = conn;
      best_at_floor = at_floor;
    }
  }
  return best;
}

// --- Upkeep ---

void Target::Reconfigure(const TargetConfig& config, Instant now) {
  config_ = config;
  if (config_.breaker_failures <= 0) CloseBreaker();
  if (config_.desync_limit <= 0) {
    quarantine_.Lift();
    no_reuse_ = false;
  }
  UseIdleLimit();
  MoveFloor();
  if (records_ > 0) WatchFloor(now);
  for (const auto& pool : pools_) pool->Reconfigure(now);
  while (OverLimit()) {
    Connection* conn = OldestIdle();
    if (conn == nullptr) break;
    conn->pool->Close(conn, CloseReason::kShrunk);
  }
  Settle(now);
}

void Target::Shutdown(Instant now) {
  for (const auto& pool : pools_) pool->Shutdown(now);
  Settle(now);
}

void Target::OnDialed(const HostPoolKey& key, const Established& established,
                      Instant now) {
  const DialTimings& took = established.timings;
  dial_time_.Add(took.resolve + took.connect + took.tls + took.validate);
  // Each new connection asks again whether what was learned still holds.
  Forget(now);
  ++counters_.opened;
  counters_.dial_resolve.Record(established.timings.resolve);
  counters_.dial_connect.Record(established.timings.connect);
  counters_.dial_tls.Record(established.timings.tls);
  counters_.dial_validate.Record(established.timings.validate);
  // One that was made to speak HTTP/1.1 says nothing of the others.
  if (key.options.alpn != "http/1.1") {
    known_streams_ = std::max(1, established.max_streams);
  }
  if (!ended_early_) EndFailures();
}

HostPool* Target::AddPool(std::shared_ptr<const HostPoolKey> key,
                          uint64_t hash) {
  pools_.push_back(
      std::make_unique<HostPool>(shard_, this, std::move(key), hash));
  return pools_.back().get();
}

void Target::RemovePool(HostPool* pool) {
  for (auto& owned : pools_) {
    if (owned.get() != pool) continue;
    std::swap(owned, pools_.back());
    pools_.pop_back();
    return;
  }
}

// --- Numbers ---

int Target::ExpectedStreams(const HostPoolKey& key) const {
  if (key.mode == Mode::kExclusive || key.options.alpn == "http/1.1") return 1;
  const int streams =
      known_streams_ != 0 ? known_streams_ : config_.expected_streams;
  return std::min(streams, config_.max_streams);
}

bool Target::Empty() const {
  return records_ == 0 && waiters_ == 0 && !connection_.in_line &&
         !dial_.in_line && floor_ == 0;
}

WaitInfo Target::WaitInfoNow(const HostPool& pool, int place,
                             Instant now) const {
  WaitInfo info;
  info.place = place;
  info.dials_in_flight = pool.count(ConnState::kDialing);
  const int64_t covered =
      int64_t{info.dials_in_flight} * std::max(1, ExpectedStreams(pool.key()));
  if (info.dials_in_flight > 0 && place <= covered) {
    info.limit = WaitLimit::kDial;
  } else if (breaker_.Bars(now)) {
    info.limit = WaitLimit::kCircuitOpen;
  } else if (pool.BackingOff(now)) {
    info.limit = WaitLimit::kDialBackoff;
  } else if (total_ >= config_.max_connections) {
    info.limit = WaitLimit::kTargetConnections;
    info.limit_value = config_.max_connections;
  } else if (count(ConnState::kDialing) >= config_.max_dials) {
    info.limit = WaitLimit::kTargetDials;
    info.limit_value = config_.max_dials;
  } else if (connection_.in_line) {
    info.limit = WaitLimit::kGlobalConnections;
    info.limit_value = connection_.budget->max();
  } else if (dial_.in_line) {
    info.limit = WaitLimit::kGlobalDials;
    info.limit_value = dial_.budget->max();
  } else {
    info.limit = WaitLimit::kDial;
  }
  return info;
}

std::unique_ptr<Rejection> Target::Explain(RejectReason reason,
                                           const HostPool& pool,
                                           const Waiting* waiting,
                                           Instant now) {
  ++counters_.rejected[static_cast<int>(reason)];
  auto rejection = std::make_unique<Rejection>();
  rejection->reason = reason;
  rejection->last_dial_error = last_dial_error_;
  const int place = waiting != nullptr ? waiting->info.place : 0;
  rejection->wait =
      WaitInfoNow(pool, std::max(1, std::min(place, pool.waiters())), now);
  rejection->wait.place = place;
  if (waiting != nullptr) {
    rejection->wait.waited = std::max(Duration(0), now - waiting->arrived);
  }
  if (reason == RejectReason::kWaitTimeout ||
      reason == RejectReason::kQueueFull ||
      reason == RejectReason::kWontMakeDeadline) {
    for (const Lease* lease = leases_.front();
         lease != nullptr && rejection->oldest_holders.size() < kMaxHolders;
         lease = leases_.Next(lease)) {
      rejection->oldest_holders.push_back(
          {lease->holder != nullptr ? *lease->holder : Holder{},
           std::max(Duration(0), now - lease->granted), lease->owner});
    }
  }
  rejection->retry_after = RetryAfter(reason, pool, now);
  return rejection;
}

Duration Target::RetryAfter(RejectReason reason, const HostPool& pool,
                            Instant now) const {
  if (reason == RejectReason::kShutdown) return kMaxRetry;
  if (breaker_.Bars(now)) {
    // A trial that is under way has no end that is known.
    return now < breaker_.until() ? std::max(kMinRetry, breaker_.until() - now)
                                  : kMaxRetry;
  }
  if (pool.BackingOff(now)) {
    return std::max(kMinRetry, pool.backoff_until() - now);
  }
  // A lease's usual length: by then one has probably come back.
  return std::clamp(counters_.lease.Quantile(0.5), kMinRetry, kMaxRetry);
}

int Target::WarmDeficit() const {
  int deficit = 0;
  for (const auto& pool : pools_) deficit += pool->FloorMissing();
  return deficit;
}

TargetRow Target::Row(Instant now) const {
  TargetRow row;
  row.target = name_;
  row.connections = counts_;
  row.idle = idle_;
  row.max_connections = config_.max_connections;
  row.waiters = waiters_;
  row.leases = lease_count_;
  row.last_dial_error = last_dial_error_;
  row.breaker = breaker_.state(now);
  row.failures_in_a_row = breaker_.failures();
  if (row.breaker == BreakerState::kOpen) {
    row.breaker_open_for = breaker_.until() - now;
  }
  row.keep_alive_said = idle_limit_.said();
  row.keep_alive_learned = idle_limit_.learned();
  row.idle_for = rest_for_;
  if (quarantine_.active(now)) row.no_reuse_for = quarantine_.until() - now;
  row.floor = floor_;
  row.arrivals_per_second = arrivals_.per_second();
  row.dial_time = dial_time_.mean();
  row.counters = counters_;
  Instant oldest = now;
  row.warm_deficit = WarmDeficit();
  for (const auto& pool : pools_) {
    oldest = std::min(oldest, pool->OldestArrival(now));
  }
  row.oldest_wait = now - oldest;
  return row;
}

ConnectionRow Target::RowOf(const Connection& conn, Instant now) const {
  ConnectionRow row;
  row.id = shard_->ids.Encode(conn);
  row.key = conn.pool->key();
  row.state = conn.state;
  row.active = conn.active;
  row.limit = conn.limit;
  const bool open = conn.state != ConnState::kDialing;
  row.age = now - (open ? conn.ready_since : conn.dial_began);
  if (conn.state == ConnState::kReady && conn.active == 0) {
    row.idle = now - conn.idle_since;
  }
  row.uses = conn.uses;
  row.errors = conn.errors;
  return row;
}

LeaseRow Target::RowOf(const Lease& lease, Instant now) const {
  LeaseRow row;
  row.id = shard_->ids.Encode(lease);
  row.target = name_;
  row.mode = lease.conn->pool->key().mode;
  row.conn = shard_->ids.Encode(*lease.conn);
  if (lease.holder != nullptr) row.holder = *lease.holder;
  row.owner = lease.owner;
  row.granted = lease.granted;
  row.age = std::max(Duration(0), now - lease.granted);
  row.busy = lease.busy;
  if (lease.expires != kNever) row.remaining = lease.expires - now;
  return row;
}

}  // namespace hotline::pool
