#include "pool/target.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "pool/hot_path.h"

namespace hotline::pool {
namespace {

// A warm floor that a budget refused is tried again after this time.
constexpr Duration kFloorRetry = std::chrono::seconds(1);
// How often arrivals are sampled for the warm floor.
constexpr Duration kSample = std::chrono::seconds(1);

constexpr size_t kMaxHolders = 5;
constexpr Duration kMinRetry = std::chrono::milliseconds(10);
constexpr Duration kMaxRetry = std::chrono::seconds(1);

}  // namespace

Target::Target(ShardState* shard, std::string name, uint64_t arrival,
               const TargetConfig& config)
    : shard_(shard),
      config_(config),
      name_(std::move(name)),
      arrival_(arrival),
      connection_(&shard->shared->connections, shard->index, this),
      dial_(&shard->shared->dials, shard->index, this) {}

Target::~Target() {
  shard_->timers.Cancel(&timer_);
  while (Lease* lease = leases_.front()) {
    lease->Link<InTarget>::Unlink();
    shard_->timers.Cancel(&lease->timer);
  }
}

// --- Acquire ---

void Target::Acquire(HostPool* pool, const AcquireRequest& request, Instant now,
                     AcquireResult* result) {
  const bool repeatable = !request.request_id.empty();
  if (repeatable && AnswerRepeated(pool, request, now, result)) return;
  const bool new_only = request.reuse == Reuse::kForceNew;
  Home* const home = pool->HomeOf(request.loop);
  if (ConnRecord* conn = pool->FindLendable(new_only, home, now)) {
    const bool wants_own = pool->WantsOwn(*conn, home);
    Lease* lease = LendNow(pool, conn, request, now, result);
    if (wants_own) {
      DialSpeculatively(pool,
                        pool->standing() + pool->count(ConnState::kDialing) + 1,
                        home, now);
    }
    if (!repeatable) return;
    lease->named = AddNamed(pool, request);
    lease->named->lease = lease;
    return;
  }
  const std::optional<RejectReason> reason = WhyNotQueue(*pool, request, now);
  if (!reason.has_value()) return Queue(pool, request, now, result);
  if (*reason == RejectReason::kNoIdleConnection &&
      request.reuse != Reuse::kRequireWarm) {
    DialSpeculatively(pool, 0, home, now);  // For when the caller tries again.
  }
  Refuse(*reason, *pool, now, result);
  if (*reason == RejectReason::kWontMakeDeadline) {
    // By then the estimated wait has shrunk to what this caller accepts.
    result->rejection->retry_after = std::clamp<Duration>(
        ExpectedWait(*pool, new_only, now) - (request.deadline - now),
        kMinRetry, kMaxRetry);
  }
}

std::optional<RejectReason> Target::WhyNotQueue(const HostPool& pool,
                                                const AcquireRequest& request,
                                                Instant now) const {
  const bool new_only = request.reuse == Reuse::kForceNew;
  if (admission_ == Admission::kDrained) return RejectReason::kDrained;
  if (request.reuse == Reuse::kRequireWarm) {
    return RejectReason::kNoIdleConnection;
  }
  if (health_.breaker().Bars(now) && pool.Hopeless(new_only)) {
    return RejectReason::kCircuitOpen;
  }
  if (!request.may_wait) return RejectReason::kNoIdleConnection;
  if (request.deadline <= now) return RejectReason::kWaitTimeout;
  if (waiters_ >= config_.max_waiters || shard_->waiting.full()) {
    return RejectReason::kQueueFull;
  }
  if (config_.deadline_admission &&
      SaturatingAdd(now, ExpectedWait(pool, new_only, now)) >
          request.deadline) {
    return RejectReason::kWontMakeDeadline;
  }
  return std::nullopt;
}

void Target::Queue(HostPool* pool, const AcquireRequest& request, Instant now,
                   AcquireResult* result) {
  Waiting* waiting = pool->Join(request, now);
  if (!request.request_id.empty()) {
    waiting->terms.named = AddNamed(pool, request);
    waiting->terms.named->waiting = waiting;
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

// --- Repeated acquires ---

NamedAcquire* Target::AddNamed(HostPool* pool, const AcquireRequest& request) {
  if (named_ == nullptr) named_ = std::make_unique<NamedAcquires>();
  const auto added = named_->try_emplace(std::string(request.request_id)).first;
  added->second = {&added->first,     pool,    request.reuse,
                   request.lease_ttl, nullptr, nullptr};
  return &added->second;
}

void Target::EraseNamed(NamedAcquire* named) {
  named_->erase(named_->find(*named->name));
}

NamedAcquire* Target::Named(std::string_view request_id) const {
  if (named_ == nullptr) return nullptr;
  const auto found = named_->find(std::string(request_id));
  return found == named_->end() ? nullptr : &found->second;
}

bool Target::FindNamed(std::string_view request_id, LeaseId* lease) const {
  const NamedAcquire* const named = Named(request_id);
  if (named == nullptr || named->lease == nullptr) return false;
  Grant grant;
  named->pool->FillGrant(*named->lease, &grant);
  *lease = grant.lease;
  return true;
}

bool Target::RejectNamed(std::string_view request_id, Instant now) {
  const NamedAcquire* const named = Named(request_id);
  if (named == nullptr || named->waiting == nullptr) return false;
  named->pool->Reject(named->waiting, RejectReason::kSuperseded, now);
  return true;
}

// Answers a request whose request_id is known. False: it is not.
bool Target::AnswerRepeated(HostPool* pool, const AcquireRequest& request,
                            Instant now, AcquireResult* result) {
  NamedAcquire* const known = Named(request.request_id);
  if (known == nullptr) return false;
  NamedAcquire& named = *known;
  if (named.lease != nullptr && now >= named.lease->expires) {
    named.pool->Expire(named.lease, now);  // Its timer is late.
    return false;
  }
  if (named.pool != pool || named.reuse != request.reuse ||
      named.ttl != request.lease_ttl) {
    Refuse(RejectReason::kIdConflict, *pool, now, result);
  } else if (named.lease != nullptr) {
    Lease& lease = *named.lease;
    lease.used = true;  // Two callers know it.
    result->kind = AcquireResult::kGranted;
    pool->FillGrant(lease, &result->grant);
    if (lease.busy() && lease.has_end) {
      result->grant.expires = SaturatingAdd(now, lease.left);
    }
  } else if (!request.may_wait) {
    // The place in line stays with the earlier request.
    Refuse(RejectReason::kNoIdleConnection, *pool, now, result);
  } else if (request.deadline <= now) {
    Refuse(RejectReason::kWaitTimeout, *pool, now, result);
  } else {
    TakeOverPlace(named.waiting, request, now, result);
  }
  return true;
}

// The repeated request replaces the waiting one, which is rejected.
void Target::TakeOverPlace(Waiting* waiting, const AcquireRequest& request,
                           Instant now, AcquireResult* result) {
  assert(waiting != nullptr);
  shard_->outbox.push_back(RejectEffect{
      waiting->waiter,
      Explain(RejectReason::kSuperseded, *waiting->pool, waiting, now)});
  shard_->waiting.NextVersion(waiting);
  waiting->waiter = request.waiter;
  waiting->arrived = now;
  waiting->deadline = request.deadline;
  waiting->terms.secret = request.secret;
  waiting->terms.owner = request.owner;
  waiting->terms.holder = request.holder;
  waiting->pool->MoveTo(waiting, waiting->pool->HomeOf(request.loop));
  shard_->FireBy(&waiting->timer, waiting->deadline);
  result->kind = AcquireResult::kQueued;
  result->waiter = shard_->ids.Encode(*waiting);
}

// --- Dialling ---

bool Target::DialSpeculatively(HostPool* pool, int wanted, Home* home,
                               Instant now) {
  SizingNumbers numbers = pool->Numbers(now);
  if (wanted == 0) {
    ++numbers.waiters;
  } else {
    const int missing = wanted - pool->standing();
    if (missing <= 0) return false;
    numbers.floor_missing = std::max(numbers.floor_missing, missing);
  }
  if (ConnectionsToDial(numbers) == 0 || connection_.held() || dial_.held()) {
    return false;
  }
  if (!connection_.budget()->TryTake()) return false;
  if (!dial_.budget()->TryTake()) {
    connection_.budget()->Return();
    return false;
  }
  pool->BeginDial(home, now);
  return true;
}

void Target::BudgetGranted(const Budget* budget, Instant now) {
  (budget == connection_.budget() ? connection_ : dial_).OnDelivered();
  Settle(now);
}

void Target::Settle(Instant now) {
  changed_ = false;
  // A target that lost its last connection moves up in the line.
  if (total_ == 0) connection_.MoveUp();
  if (renewing_) [[unlikely]]
    StepRenewals(now);
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
    pool->BeginDial(/*home=*/nullptr, now);
  }
  if (waits_for_token) return;
  connection_.Release();
  dial_.Release();
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
  const bool first = total_ == 0;
  if (!connection_.Take(may_join, first)) {
    dial_.Release();  // Not held while waiting: other targets need it.
  } else if (dial_.Take(may_join, first)) {
    connection_.Use();
    dial_.Use();
    return true;
  }
  if (!may_join) pool->WakeBy(SaturatingAdd(now, kFloorRetry));
  return false;
}

// --- Room for other HostPools ---

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
    ConnRecord* conn = OldestIdle();
    if (conn == nullptr) return MakeRoomAmongShared();
    conn->pool->Close(conn, CloseReason::kReclaimed);
  }
}

// Drains one multiplexed connection at a time: its callers lose nothing.
void Target::MakeRoomAmongShared() {
  if (count(ConnState::kDraining) > 0) return;
  bool starved = false;
  for (const auto& pool : pools_) {
    starved = starved || (pool->has_waiters() && pool->HoldsNothing());
  }
  for (const auto& pool : pools_) {
    if (!starved && !pool->WantsUnused()) continue;
    ConnRecord* conn = pool->OldestShared();
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

// The longest idle connection; one of the warm floor only if there is no other.
ConnRecord* Target::OldestIdle() const {
  ConnRecord* best = nullptr;
  bool best_at_floor = false;
  for (const auto& pool : pools_) {
    ConnRecord* conn = pool->OldestIdle();
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

// --- Settings ---

void Target::Reconfigure(const TargetConfig& config, Instant now) {
  config_ = config;
  OnBreakerStep(health_.Reconfigure(), now);
  MoveFloor();
  if (records_ > 0) WatchFloor(now);
  for (const auto& pool : pools_) pool->Reconfigure(now);
  while (OverLimit()) {
    ConnRecord* conn = OldestIdle();
    if (conn == nullptr) break;
    conn->pool->Close(conn, CloseReason::kShrunk);
  }
  Settle(now);
}

void Target::Shutdown(Instant now) {
  for (const auto& pool : pools_) pool->Shutdown(now);
  Settle(now);
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

// --- Health ---

void Target::OnDialBegun(Instant now) {
  health_.OnDialBegun(now);
  WatchFloor(now);
}

void Target::OnDialed(const HostPoolKey& key, const Established& established,
                      Instant now) {
  const DialTimings& took = established.timings;
  ++counters_.opened;
  counters_.dial_resolve.Record(took.resolve);
  counters_.dial_connect.Record(took.connect);
  counters_.dial_tls.Record(took.tls);
  counters_.dial_validate.Record(took.validate);
  // One that was made to speak HTTP/1.1 says nothing about the others.
  if (key.options.alpn != "http/1.1") {
    known_streams_ = std::max(1, established.max_streams);
  }
  OnBreakerStep(health_.OnDialed(took, now), now);
}

void Target::OnDialFailed(const DialError& error, bool early, Instant began,
                          Instant now) {
  ++counters_.dials_failed[static_cast<int>(error.failure_class)];
  OnBreakerStep(early ? health_.OnEndedEarly(error, began, now)
                      : health_.OnDialFailed(error, began, now),
                now);
}

void Target::OnProved(Instant now) {
  ++counters_.dials_ok;
  OnBreakerStep(health_.OnProved(), now);
}

void Target::OnBreakerStep(TargetHealth::BreakerStep step, Instant now) {
  if (step == TargetHealth::BreakerStep::kNone) return;
  PoolEvent event{.kind = PoolEvent::Kind::kBreaker};
  if (step == TargetHealth::BreakerStep::kOpened) {
    const Breaker& breaker = health_.breaker();
    ++counters_.breaker_opened;
    // Any of them may want to make the trial.
    for (const auto& pool : pools_) pool->WakeBy(breaker.until());
    event.breaker = breaker.state(now);
    event.error = health_.last_dial_error();
    event.failures = breaker.failures();
    event.length = config_.breaker_open_for;
  }
  Report(std::move(event));
}

void Target::Report(PoolEvent event) {
  if (!shard_->observed()) return;
  event.key = pools_.front()->shared_key();
  shard_->outbox.push_back(std::move(event));
}

void Target::OnClosedIdle(Duration idle, Instant now) {
  if (health_.OnClosedIdle(idle, now)) ApplyIdleTimes(now);
}

void Target::OnKeepAliveSaid(Duration timeout, Instant now) {
  if (health_.OnKeepAliveSaid(timeout, now)) ApplyIdleTimes(now);
}

void Target::OnUnsolicited(Instant now) {
  if (!health_.OnUnsolicited(now)) return;
  ++counters_.quarantines;
  Report({.kind = PoolEvent::Kind::kQuarantine, .length = Quarantine::kLength});
  ApplyIdleTimes(now);
}

void Target::ApplyIdleTimes(Instant now) {
  for (const auto& pool : pools_) pool->Reconfigure(now);
}

// --- The warm floor ---

uint64_t Target::Arrivals() const {
  uint64_t arrivals = counters_.granted + counters_.cancelled;
  for (const uint64_t count : counters_.rejected) arrivals += count;
  return arrivals;
}

void Target::OnTimer(Instant now) {
  if (!adaptive() || shard_->shutdown) return;
  health_.SampleArrivals(Arrivals(), now);
  MoveFloor();
  // Without connections to keep it stops until the next dial.
  if (records_ > 0 || health_.floor() > config_.warm) {
    shard_->FireBy(&timer_, now + kSample);
  }
}

void Target::WatchFloor(Instant now) {
  if (!adaptive() || timer_.scheduled()) return;
  health_.SampleArrivals(Arrivals(), now);
  shard_->FireBy(&timer_, now + kSample);
}

void Target::MoveFloor() {
  const int streams = known_streams_ != 0
                          ? std::min(known_streams_, config_.max_streams)
                          : config_.expected_streams;
  const int change = health_.MoveFloor(streams);
  changed_ = changed_ || change != 0;
  // Connections that the floor kept may now be closed for other targets.
  if (change < 0) shard_->shared->connections.SearchAgain();
}

int Target::WarmDeficit() const {
  int deficit = 0;
  for (const auto& pool : pools_) deficit += pool->FloorMissing();
  return deficit;
}

// --- Numbers ---

int Target::ExpectedStreams(const HostPoolKey& key) const {
  if (key.mode == Mode::kExclusive || key.options.alpn == "http/1.1") return 1;
  const int streams =
      known_streams_ != 0 ? known_streams_ : config_.expected_streams;
  return std::min(streams, config_.max_streams);
}

bool Target::Empty() const {
  return records_ == 0 && waiters_ == 0 && !connection_.in_line() &&
         !dial_.in_line() && health_.floor() == 0 &&
         admission_ == Admission::kOpen;
}

// For a caller that would join the line now.
Duration Target::ExpectedWait(const HostPool& pool, bool new_only,
                              Instant now) const {
  SizingNumbers numbers = pool.Numbers(now);
  WaitNumbers wait;
  wait.place = pool.waiters() + 1;
  wait.dialing = numbers.dialing;
  ++(new_only ? numbers.new_only_waiters : numbers.waiters);
  wait.dials_to_come = ConnectionsToDial(numbers);
  wait.streams = numbers.streams;
  wait.dial_time = health_.dial_time();
  wait.lent = new_only ? 0 : lease_count_;
  const uint64_t leases = counters_.lease.total();
  if (leases > 0) {
    wait.lease_time = counters_.lease.sum() / static_cast<int64_t>(leases);
  }
  return EstimatedWait(wait);
}

// --- Explanations ---

WaitInfo Target::WaitInfoNow(const HostPool& pool, int place,
                             Instant now) const {
  WaitInfo info;
  info.place = place;
  info.dials_in_flight = pool.count(ConnState::kDialing);
  const int64_t covered =
      int64_t{info.dials_in_flight} * std::max(1, ExpectedStreams(pool.key()));
  if (admission_ == Admission::kPaused) {
    info.limit = WaitLimit::kPaused;
  } else if (info.dials_in_flight > 0 && place <= covered) {
    info.limit = WaitLimit::kDial;
  } else if (health_.breaker().Bars(now)) {
    info.limit = WaitLimit::kCircuitOpen;
  } else if (pool.backoff().active(now)) {
    info.limit = WaitLimit::kDialBackoff;
  } else if (total_ >= config_.max_connections) {
    info.limit = WaitLimit::kTargetConnections;
    info.limit_value = config_.max_connections;
  } else if (count(ConnState::kDialing) >= config_.max_dials) {
    info.limit = WaitLimit::kTargetDials;
    info.limit_value = config_.max_dials;
  } else if (connection_.in_line()) {
    info.limit = WaitLimit::kGlobalConnections;
    info.limit_value = connection_.budget()->max();
  } else if (dial_.in_line()) {
    info.limit = WaitLimit::kGlobalDials;
    info.limit_value = dial_.budget()->max();
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
  rejection->last_dial_error = health_.last_dial_error();
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
  if (reason == RejectReason::kShutdown || reason == RejectReason::kDrained) {
    return kMaxRetry;
  }
  const Breaker& breaker = health_.breaker();
  if (breaker.Bars(now)) {
    // The duration of a trial under way is unknown.
    return now < breaker.until() ? std::max(kMinRetry, breaker.until() - now)
                                 : kMaxRetry;
  }
  if (pool.backoff().active(now)) {
    return std::max(kMinRetry, pool.backoff().until() - now);
  }
  // The median duration of a lease: by then one has probably been released.
  return std::clamp(counters_.lease.Quantile(0.5), kMinRetry, kMaxRetry);
}

}  // namespace hotline::pool
