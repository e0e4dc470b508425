#include "pool/shard.h"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>

#include "pool/hot_path.h"

namespace hotline::pool {
namespace {

constexpr uint64_t kGolden = 0x9e3779b97f4a7c15u;

uint64_t Mix(uint64_t a, uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

uint64_t Load8(const char* at) {
  uint64_t word;
  std::memcpy(&word, at, sizeof(word));
  return word;
}

// Sixteen bytes at a time, folded in by a wide multiplication; what is left is
// read together with bytes before it.
uint64_t HashBytes(std::string_view text, uint64_t seed) {
  constexpr uint64_t kOdd = 0xd1b54a32d192ed03u;
  const char* at = text.data();
  size_t left = text.size();
  uint64_t hash = seed ^ (left * kGolden);
  if (left >= 16) {
    for (; left > 16; left -= 16, at += 16) {
      hash = Mix(Load8(at) ^ kOdd, Load8(at + 8) ^ hash);
    }
    at -= 16 - left;
    return Mix(Mix(Load8(at) ^ kOdd, Load8(at + 8) ^ hash), kGolden);
  }
  uint64_t low = 0;
  uint64_t high = 0;
  if (left > 8) {
    low = Load8(at);
    high = Load8(at + left - 8);
  } else {
    for (; left > 0; --left, ++at) {
      low = low << 8 | static_cast<unsigned char>(*at);
    }
  }
  return Mix(Mix(low ^ kOdd, high ^ hash), kGolden);
}

// Connections of a warm floor that a search for an idle one steps over at most.
// They move to the end, so that the next search sees others.
constexpr int kMaxStepsOverFloor = 64;

void MergeCounters(const TargetCounters& from, TargetCounters* into) {
  into->granted += from.granted;
  into->reused += from.reused;
  for (size_t i = 0; i < from.rejected.size(); ++i) {
    into->rejected[i] += from.rejected[i];
  }
  into->cancelled += from.cancelled;
  into->dials_ok += from.dials_ok;
  for (size_t i = 0; i < from.dials_failed.size(); ++i) {
    into->dials_failed[i] += from.dials_failed[i];
  }
  into->opened += from.opened;
  for (size_t i = 0; i < from.closed.size(); ++i) {
    into->closed[i] += from.closed[i];
  }
  into->probes_passed += from.probes_passed;
  into->probes_failed += from.probes_failed;
  into->errors_counted += from.errors_counted;
  into->leases_expired += from.leases_expired;
  into->leases_leaked += from.leases_leaked;
  into->wait.Merge(from.wait);
  into->lease.Merge(from.lease);
  into->dial_resolve.Merge(from.dial_resolve);
  into->dial_connect.Merge(from.dial_connect);
  into->dial_tls.Merge(from.dial_tls);
  into->dial_validate.Merge(from.dial_validate);
}

}  // namespace

KeyHash::KeyHash(const HostPoolKey& key, uint64_t seed)
    : target(HashBytes(key.target, seed)), pool(target) {
  if (key.mode == Mode::kExclusive) pool ^= kGolden;
  const ConnectionOptions& options = key.options;
  if (!options.sni.empty() || !options.pool_group.empty()) {
    pool = HashBytes(options.sni, pool);
    pool = HashBytes(options.pool_group, pool + 1);
  }
}

KeyHash::KeyHash(const std::string& target_name, uint64_t seed)
    : target(HashBytes(target_name, seed)), pool(target) {}

Shard::Shard(PoolShared* shared, int index)
    : shared_(shared), state_(shared, index), leases_(&state_) {}

Shard::~Shard() {
  // Targets unlink themselves from what state_ holds; so they go first.
  MutexLock lock(&mu_);
  pools_.clear();
  for (auto& [name, target] : targets_) {
    target->Link<Empties>::Unlink();
    target->Link<Known>::Unlink();
  }
  targets_.clear();
}

// --- Draining ---

bool Shard::StartDrainLocked() {
  if (state_.outbox.empty() || draining_) return false;
  draining_ = true;
  return true;
}

void Shard::Drain() {
  while (true) {
    {
      MutexLock lock(&mu_);
      if (state_.outbox.empty()) {
        draining_ = false;
        return;
      }
      std::swap(batch_, state_.outbox);
    }
    for (Effect& effect : batch_) Perform(effect);
    batch_.clear();
  }
}

void Shard::Perform(Effect& effect) {
  struct Performer {
    PoolShared* shared;
    int shard;
    void operator()(DialEffect& e) {
      shared->transport->Dial(e.conn, std::move(e.key));
    }
    void operator()(ProbeEffect& e) {
      shared->transport->Probe(e.conn, e.handle, std::move(e.key));
    }
    void operator()(CloseEffect& e) {
      shared->transport->Close(e.conn, e.handle, e.reason);
    }
    void operator()(WakeEffect& e) { shared->transport->WakeAt(shard, e.when); }
    void operator()(GrantEffect& e) { e.waiter->OnGrant(e.grant); }
    void operator()(RejectEffect& e) {
      e.waiter->OnReject(std::move(*e.rejection));
    }
    void operator()(LeakEffect& e) {
      if (shared->on_leak == nullptr) return;
      shared->on_leak(*e.key, e.conn, e.holder ? *e.holder : Holder{}, e.age);
    }
  };
  std::visit(Performer{shared_, state_.index}, effect);
}

// --- Finding ---

HostPool* Shard::FindPoolLocked(const HostPoolKey& key, uint64_t hash) const {
  HostPool*& recent = recent_[RecentSlot(hash)];
  if (recent != nullptr && recent->Is(key, hash)) [[likely]]
    return recent;
  const auto found = pools_.find(PoolRef{key, hash});
  if (found == pools_.end()) return nullptr;
  recent = *found;
  return *found;
}

void Shard::RemovePoolLocked(HostPool* pool) {
  HostPool*& recent = recent_[RecentSlot(pool->hash())];
  if (recent == pool) recent = nullptr;
  pools_.erase(pool);
}

HostPool* Shard::FindOrAddPoolLocked(const HostPoolKey& key,
                                     const KeyHash& hash) {
  if (HostPool* pool = FindPoolLocked(key, hash.pool)) return pool;
  Target* target = FindOrAddTargetLocked(key.target, hash.target);
  if (target == nullptr) return nullptr;
  // A new target comes with its default HostPool, which may be this one.
  if (HostPool* pool = FindPoolLocked(key, hash.pool)) return pool;
  return AddPoolLocked(target, key, hash.pool);
}

HostPool* Shard::AddPoolLocked(Target* target, HostPoolKey key, uint64_t hash) {
  HostPool* pool = target->AddPool(
      std::make_shared<const HostPoolKey>(std::move(key)), hash);
  pools_.insert(pool);
  return pool;
}

Target* Shard::FindOrAddTargetLocked(const std::string& name, uint64_t hash) {
  const auto found = targets_.find(name);
  if (found != targets_.end()) return found->second.get();
  while (shared_->targets.fetch_add(1, std::memory_order_relaxed) >=
         shared_->max_targets.load(std::memory_order_relaxed)) {
    shared_->targets.fetch_sub(1, std::memory_order_relaxed);
    if (!ForgetOneLocked()) return nullptr;
  }
  auto target = std::make_unique<Target>(&state_, name, hash,
                                         shared_->target_config(name));
  Target* const raw = target.get();
  targets_.emplace(name, std::move(target));
  known_.PushBack(raw);
  AddPoolLocked(raw, HostPoolKey{name, {}, Mode::kShared}, hash);
  return raw;
}

Connection* Shard::FindConnectionLocked(ConnId id) const {
  return state_.connections.Find(state_.ids.Slot(id), state_.ids.Version(id));
}

bool Shard::ForgetOne() {
  MutexLock lock(&mu_);
  return ForgetOneLocked();
}

bool Shard::ForgetOneLocked() {
  Target* target = empty_.front();
  if (target == nullptr) return false;
  target->Link<Empties>::Unlink();
  target->Link<Known>::Unlink();
  MergeCounters(target->counters(), &forgotten_);
  for (const auto& pool : target->pools()) RemovePoolLocked(pool.get());
  targets_.erase(target->name());
  shared_->targets.fetch_sub(1, std::memory_order_relaxed);
  return true;
}

void Shard::CountRejected(RejectReason reason) {
  MutexLock lock(&mu_);
  ++forgotten_.rejected[static_cast<int>(reason)];
}

// After an event: dials, and forgets what nobody needs.
void Shard::SettleLocked(Target* target, Instant now) {
  target->Settle(now);
  SweepLocked(target, now);
}

void Shard::SweepLocked(Target* target, Instant now) {
  for (size_t i = 0; i < target->pools().size();) {
    HostPool* pool = target->pools()[i].get();
    if (pool->Removable(now)) {
      RemovePoolLocked(pool);
      target->RemovePool(pool);
    } else {
      ++i;
    }
  }
  const bool listed = target->Link<Empties>::linked();
  if (target->Empty() == listed) return;
  if (listed) {
    target->Link<Empties>::Unlink();
  } else {
    empty_.PushBack(target);
  }
}

// --- Borrowing ---

bool Shard::Acquire(const AcquireRequest& request, const KeyHash& hash,
                    Instant now, AcquireResult* result) {
  bool drain = false;
  {
    MutexLock lock(&mu_);
    HostPool* pool = FindPoolLocked(*request.key, hash.pool);
    if (pool != nullptr && request.request_id.empty() && !state_.shutdown)
        [[likely]] {
      Target* target = pool->target();
      Connection* conn =
          pool->FindLendable(request.reuse == Reuse::kForceNew, now);
      if (conn != nullptr && !target->unsettled()) [[likely]] {
        target->LendNow(pool, conn, request, now, result);
        if (state_.outbox.empty()) [[likely]]
          return true;
      }
    }
    if (result->kind != AcquireResult::kGranted) {
      AcquireLocked(pool, request, hash, now, result);
    }
    drain = StartDrainLocked();
  }
  if (drain) Drain();
  return false;
}

void Shard::AcquireLocked(HostPool* pool, const AcquireRequest& request,
                          const KeyHash& hash, Instant now,
                          AcquireResult* result) {
  if (pool == nullptr && !state_.shutdown) {
    pool = FindOrAddPoolLocked(*request.key, hash);
  }
  if (pool == nullptr) {
    result->rejection = std::make_unique<Rejection>();
    result->rejection->reason = state_.shutdown ? RejectReason::kShutdown
                                                : RejectReason::kTooManyTargets;
    result->rejection->retry_after = std::chrono::seconds(1);
    if (state_.shutdown) {
      ++forgotten_.rejected[static_cast<int>(RejectReason::kShutdown)];
    }
    return;
  }
  Target* target = pool->target();
  if (state_.shutdown) {
    result->rejection =
        target->Explain(RejectReason::kShutdown, *pool, nullptr, now);
    return;
  }
  target->Acquire(pool, request, now, result);
  if (result->kind == AcquireResult::kQueued) {
    SweepLocked(target, now);  // It is settled; it may have been empty.
  } else {
    SettleLocked(target, now);
  }
}

LeaseStatus Shard::Release(const LeaseId& id, Outcome outcome, Instant now,
                           bool* quiet) {
  LeaseStatus status;
  bool drain = false;
  {
    MutexLock lock(&mu_);
    Target* target = nullptr;
    status = leases_.Release(id, outcome, now, &target);
    *quiet = target == nullptr && state_.outbox.empty();
    if (*quiet) [[likely]]
      return status;
    if (target != nullptr) SettleLocked(target, now);
    drain = StartDrainLocked();
  }
  if (drain) Drain();
  return status;
}

bool Shard::Cancel(WaiterId id, Instant now) {
  bool drain = false;
  {
    MutexLock lock(&mu_);
    Waiting* waiting =
        state_.waiting.Find(state_.ids.Slot(id), state_.ids.Version(id));
    if (waiting == nullptr) return false;
    Target* target = waiting->pool->target();
    ++target->counters().cancelled;
    waiting->pool->Leave(waiting);
    SettleLocked(target, now);
    drain = StartDrainLocked();
  }
  if (drain) Drain();
  return true;
}

CallStart Shard::BeginCall(const LeaseId& id, Instant now) {
  CallStart start;
  bool drain = false;
  {
    MutexLock lock(&mu_);
    Target* target = nullptr;
    start = leases_.BeginCall(id, now, &target);
    if (target != nullptr) SettleLocked(target, now);
    drain = StartDrainLocked();
  }
  if (drain) Drain();
  return start;
}

void Shard::EndCall(const LeaseId& id, Instant now) {
  bool drain = false;
  {
    MutexLock lock(&mu_);
    Target* target = nullptr;
    leases_.EndCall(id, now, &target);
    if (target != nullptr) SettleLocked(target, now);
    drain = StartDrainLocked();
  }
  if (drain) Drain();
}

RenewResult Shard::Renew(const LeaseId& id, Duration ttl, Instant now) {
  RenewResult result;
  bool drain = false;
  {
    MutexLock lock(&mu_);
    Target* target = nullptr;
    result = leases_.Renew(id, ttl, now, &target);
    if (target != nullptr) SettleLocked(target, now);
    drain = StartDrainLocked();
  }
  if (drain) Drain();
  return result;
}

// --- Upkeep ---

void Shard::Warm(const std::string& name, const KeyHash& hash, Instant now) {
  bool drain = false;
  {
    MutexLock lock(&mu_);
    if (state_.shutdown) return;
    Target* target = FindOrAddTargetLocked(name, hash.target);
    if (target == nullptr) return;
    SettleLocked(target, now);
    drain = StartDrainLocked();
  }
  if (drain) Drain();
}

void Shard::Reconfigure(Instant now) {
  bool drain = false;
  {
    MutexLock lock(&mu_);
    for (Target* target = known_.front(); target != nullptr;
         target = known_.Next(target)) {
      const TargetConfig config = shared_->target_config(target->name());
      if (config == target->config()) continue;
      target->Reconfigure(config, now);
      SweepLocked(target, now);
    }
    drain = StartDrainLocked();
  }
  if (drain) Drain();
}

void Shard::Shutdown(Instant now) {
  bool drain = false;
  {
    MutexLock lock(&mu_);
    state_.shutdown = true;
    for (Target* target = known_.front(); target != nullptr;
         target = known_.Next(target)) {
      target->Shutdown(now);
      SweepLocked(target, now);
    }
    drain = StartDrainLocked();
  }
  if (drain) Drain();
}

void Shard::Tick(Instant now) {
  bool drain = false;
  {
    MutexLock lock(&mu_);
    if (now < state_.announced) return;
    state_.timers.Advance(
        now, [&](PoolTimer* timer)
                 ABSL_NO_THREAD_SAFETY_ANALYSIS { FireLocked(timer, now); });
    const Instant next = state_.timers.NextDue();
    state_.announced = next;
    if (next != kNever) state_.outbox.push_back(WakeEffect{next});
    drain = StartDrainLocked();
  }
  if (drain) Drain();
}

void Shard::FireLocked(PoolTimer* timer, Instant now) {
  Target* target = nullptr;
  if (auto* const* conn = std::get_if<Connection*>(&timer->owner)) {
    target = (*conn)->pool->target();
    (*conn)->pool->OnTimer(*conn, now);
  } else if (auto* const* lease = std::get_if<Lease*>(&timer->owner)) {
    leases_.OnTimer(*lease, now, &target);
  } else if (auto* const* waiting = std::get_if<Waiting*>(&timer->owner)) {
    HostPool* pool = (*waiting)->pool;
    if (now < (*waiting)->deadline) {
      state_.FireBy(timer, (*waiting)->deadline);
      return;
    }
    target = pool->target();
    pool->Reject(*waiting, RejectReason::kWaitTimeout, now);
  } else if (auto* const* pool = std::get_if<HostPool*>(&timer->owner)) {
    target = (*pool)->target();
    if ((*pool)->BackingOff(now)) (*pool)->WakeBy((*pool)->backoff_until());
  }
  if (target != nullptr) SettleLocked(target, now);
}

// --- The transport's events ---

template <typename Event>
void Shard::OnConnection(ConnId id, Instant now, Event&& event) {
  bool drain = false;
  {
    MutexLock lock(&mu_);
    Connection* conn = FindConnectionLocked(id);
    if (conn == nullptr) return;
    HostPool* pool = conn->pool;
    Target* target = pool->target();
    event(*conn, *pool);
    SettleLocked(target, now);
    drain = StartDrainLocked();
  }
  if (drain) Drain();
}

void Shard::Dialed(ConnId id, const Established& established, Instant now) {
  OnConnection(id, now, [&](Connection& conn, HostPool& pool) {
    if (conn.state == ConnState::kDialing) {
      pool.Dialed(&conn, established, now);
    }
  });
}

void Shard::DialFailed(ConnId id, const DialError& error,
                       const DialTimings& timings, Instant now) {
  OnConnection(id, now, [&](Connection& conn, HostPool& pool) {
    if (conn.state != ConnState::kDialing) return;
    pool.target()->OnDialFailed(error, timings);
    pool.DialFailed(&conn, error, now);
  });
}

void Shard::Closed(ConnId id, CloseReason reason, Instant now) {
  OnConnection(id, now, [&](Connection& conn, HostPool& pool) {
    pool.Closed(&conn, reason);
  });
}

void Shard::Probed(ConnId id, bool passed, Instant now) {
  OnConnection(id, now, [&](Connection& conn, HostPool& pool) {
    pool.Probed(&conn, passed, now);
  });
}

void Shard::ConcurrencyChanged(ConnId id, int max_streams, Instant now) {
  OnConnection(id, now, [&](Connection& conn, HostPool& pool) {
    pool.ConcurrencyChanged(&conn, max_streams, now);
  });
}

void Shard::GoAway(ConnId id, Instant now) {
  OnConnection(id, now,
               [](Connection& conn, HostPool& pool) { pool.GoAway(&conn); });
}

void Shard::ErrorCounted(ConnId id, Instant now) {
  OnConnection(id, now, [](Connection& conn, HostPool& pool) {
    pool.ErrorCounted(&conn);
  });
}

// --- Over the budgets ---

void Shard::BudgetGranted(const Budget* budget, Target* target, Instant now) {
  bool drain = false;
  {
    MutexLock lock(&mu_);
    target->BudgetGranted(budget, now);
    SweepLocked(target, now);
    drain = StartDrainLocked();
  }
  if (drain) Drain();
}

Connection* Shard::OldestIdleLocked(bool floors) {
  for (int steps = 0; steps < kMaxStepsOverFloor; ++steps) {
    Connection* conn = state_.idle_order.front();
    if (conn == nullptr || floors || !conn->pool->AtFloor()) return conn;
    conn->Link<InIdleOrder>::Unlink();
    state_.idle_order.PushBack(conn);
  }
  return nullptr;
}

Instant Shard::OldestIdle(bool floors) {
  MutexLock lock(&mu_);
  const Connection* conn = OldestIdleLocked(floors);
  return conn == nullptr ? kNever : conn->idle_since;
}

void Shard::ReclaimOldest(bool floors, Instant now) {
  bool drain = false;
  {
    MutexLock lock(&mu_);
    Connection* conn = OldestIdleLocked(floors);
    if (conn == nullptr) return;
    const Budget::Claim claim =
        shared_->connections.ClaimIdle(conn->pool->AtFloor());
    if (claim == Budget::Claim::kNo) return;
    Target* target = conn->pool->target();
    conn->pool->Close(conn,
                      claim == Budget::Claim::kOverCap
                          ? CloseReason::kShrunk
                          : CloseReason::kReclaimed,
                      /*claimed=*/true);
    SettleLocked(target, now);
    drain = StartDrainLocked();
  }
  if (drain) Drain();
}

// --- Looking ---

void Shard::AddTo(const SnapshotRequest& request, Instant now,
                  Snapshot* snapshot) const {
  MutexLock lock(&mu_);
  MergeCounters(forgotten_, &snapshot->forgotten);
  for (const Target* target = known_.front(); target != nullptr;
       target = known_.Next(target)) {
    if (!request.target.empty() && target->name() != request.target) continue;
    snapshot->targets.push_back(target->Row(now));
    if (request.connections) target->AddConnections(now, snapshot);
    if (request.leases) target->AddLeases(now, snapshot);
  }
}

}  // namespace hotline::pool
