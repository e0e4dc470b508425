#include "tests/sim/simulation.h"

#include <algorithm>
#include <cstdio>
#include <numeric>
#include <utility>

namespace hotline::sim {

using pool::AcquireRequest;
using pool::AcquireResult;
using pool::Grant;
using pool::LeaseStatus;
using pool::Mode;
using pool::Outcome;
using pool::Rejection;
using pool::RejectReason;
using pool::Reuse;

namespace {

constexpr int kCallers = 12;
constexpr int kMaxDepth = 3;
constexpr size_t kOldLeases = 64;
constexpr Instant kStart{std::chrono::hours(1000)};
// How late the pool may notice the time, in addition to late ticks.
constexpr Duration kGrain = std::chrono::milliseconds(1);

}  // namespace

struct Simulation::LeaseModel {
  LeaseId id;
  pool::ConnId conn = 0;
  Instant expires = kNever;
  Duration left{0};
  bool has_end = false;
  pool::CallTag call = 0;  // Runs on it; 0: none.
  bool released = false;

  bool busy() const { return call != 0; }
};

class Simulation::Caller final : public pool::Waiter {
 public:
  enum State { kIdle, kWaiting, kHolding };

  Caller(Simulation* sim, int index_in) : index(index_in), sim_(sim) {}

  void OnGrant(const Grant& grant) override { sim_->OnGrant(this, grant); }
  void OnReject(Rejection rejection) override {
    sim_->OnReject(this, rejection);
  }

  const int index;
  State state = kIdle;
  bool leaving = false;  // Inside Cancel.
  pool::HostPoolKey key;
  Reuse reuse = Reuse::kPrefer;
  Duration ttl{0};
  Instant deadline = kNever;
  std::string request_id;
  uint64_t secret = 0;
  pool::LoopIndex loop = pool::kNoLoop;
  pool::WaiterId waiter = 0;
  std::shared_ptr<LeaseModel> lease;

 private:
  Simulation* const sim_;
};

Simulation::Simulation(uint64_t seed, bool trace)
    : seed_(seed), trace_(trace), dice_(seed), schedule_(kStart) {
  SetUpNetwork();
  SetUpPool();
}

Simulation::~Simulation() = default;

void Simulation::Expect(bool holds, const std::string& what) {
  if (!holds && problem_.empty()) problem_ = what;
}

void Simulation::Trace(const Caller* caller, const std::string& what) {
  if (!trace_) return;
  const std::string who =
      caller == nullptr ? "" : "#" + std::to_string(caller->index) + " ";
  const Duration at = schedule_.now() - kStart;
  std::fprintf(stderr, "%6d %12.6f %*s%s\n", events_, ToSeconds(at), 2 * depth_,
               "", (who + what).c_str());
}

// --- Set-up ---

pool::TargetConfig Simulation::RandomTargetConfig() {
  pool::TargetConfig config;
  config.max_connections = dice_.Between(1, 6);
  config.max_waiters = dice_.Percent(20) ? dice_.Between(0, 3) : 100;
  config.max_dials = dice_.Between(1, 4);
  config.max_streams = dice_.Between(1, 5);
  config.expected_streams = dice_.Percent(50) ? 0 : 1;
  config.warm = dice_.Percent(30) ? dice_.Between(1, 2) : 0;
  config.warm_max = dice_.Percent(30) ? config.warm + dice_.Between(1, 3) : 0;
  config.desync_limit = dice_.Between(0, 3);
  config.deadline_admission = dice_.Percent(30);
  config.idle_timeout = dice_.Millis(20, 400);
  config.max_lifetime = dice_.Millis(100, 3000);
  config.check_interval = dice_.Millis(10, 300);
  config.probe = static_cast<pool::ProbeKind>(dice_.Between(0, 2));
  config.max_errors = dice_.Between(0, 4);
  config.probe_fall = dice_.Percent(50) ? 1 : dice_.Between(1, 3);
  config.probe_rise = dice_.Percent(50) ? 1 : dice_.Between(1, 3);
  config.dial_backoff_base = dice_.Millis(1, 20);
  config.dial_backoff_cap = dice_.Millis(20, 100);
  config.breaker_failures = dice_.Percent(50) ? dice_.Between(1, 4) : 0;
  config.breaker_open_for = dice_.Millis(5, 200);
  return config;
}

pool::PoolConfig Simulation::RandomPoolConfig() {
  pool::PoolConfig config;
  config.max_connections = dice_.Between(1, 14);
  config.max_dials = dice_.Between(1, 6);
  config.max_targets = dice_.Percent(30) ? dice_.Between(1, 3) : 100;
  config.leak_after = dice_.Millis(20, 500);
  config.effects_per_turn = pool::PoolConfig::kNoTurns;
  return config;
}

void Simulation::SetUpNetwork() {
  pace_us_ = dice_.Percent(50) ? 3000 : 20'000;
  network_options_.inline_percent =
      dice_.Percent(50) ? dice_.Between(0, 60) : 0;
  network_options_.dial_fails_percent =
      dice_.Percent(20) ? dice_.Between(50, 100) : dice_.Between(0, 20);
  network_options_.max_streams = dice_.Percent(50) ? 1 : dice_.Between(2, 6);
  network_options_.early_end_percent =
      dice_.Percent(20) ? dice_.Between(50, 100) : dice_.Between(0, 20);
  network_percent_ = dice_.Percent(70) ? 3 : dice_.Between(4, 30);
  network_options_.addresses = dice_.Between(1, 3);
  network_options_.loops = dice_.Between(1, 3);
  network_options_.late_tick_percent =
      dice_.Percent(50) ? 0 : dice_.Between(5, 60);
  network_ = std::make_unique<Network>(&schedule_, &dice_, network_options_);
  network_->set_post([this](const auto& event) { Post(event); });
}

void Simulation::SetUpPool() {
  const int targets = dice_.Between(1, 5);
  for (int i = 0; i < targets; ++i) {
    targets_.push_back("https://host" + std::to_string(i) + ":443");
    target_configs_[targets_.back()] = RandomTargetConfig();
  }
  config_ = RandomPoolConfig();
  config_.shards = dice_.Between(1, 3);
  config_.loops = network_options_.loops;
  config_.instance = static_cast<uint32_t>(dice_.Bits());
  config_.seed = seed_;
  if (dice_.Percent(40)) config_.effects_per_turn = dice_.Between(2, 5);
  pool_ = std::make_unique<pool::Pool>(
      config_,
      [this](const std::string& target) { return target_configs_[target]; },
      network_.get(), [this](const pool::PoolEvent& event) { OnEvent(event); });
  network_->set_pool(pool_.get());
  inspector_ = std::make_unique<pool::Inspector>(pool_.get());
  for (int i = 0; i < kCallers; ++i) {
    callers_.push_back(std::make_unique<Caller>(this, i));
  }
}

void Simulation::OnEvent(const pool::PoolEvent& event) {
  using Kind = pool::PoolEvent::Kind;
  Expect(event.key != nullptr, "an event without a key");
  if (event.kind == Kind::kLeaseLeaked) {
    Expect(event.length >= std::chrono::milliseconds(20),
           "a leak reported too early");
  } else if (event.kind == Kind::kBreaker) {
    const bool opened = event.breaker == pool::BreakerState::kOpen;
    opened_ += opened ? 1 : 0;
    Expect(opened == (event.failures > 0), "opened without a failure");
    Expect(event.breaker != pool::BreakerState::kHalfOpen,
           "half open is no change");
  } else if (event.kind == Kind::kReady) {
    Expect(ready_.insert(event.conn).second, "a connection was ready twice");
  } else if (event.kind == Kind::kClosed) {
    Expect(closed_.insert(event.conn).second, "a connection closed twice");
  }
}

// --- Running ---

std::string Simulation::Run(int events) {
  most_events_ = events;
  const int shutdown_at =
      dice_.Percent(10) ? dice_.Between(1, events) : events + 1;
  while (events_ < events && problem_.empty()) {
    if (!shut_down_ && events_ >= shutdown_at) {
      shut_down_ = true;
      Post([&] { pool_->Shutdown(schedule_.now()); });
    }
    Step();
  }
  if (problem_.empty()) WindDown();
  if (problem_.empty()) return "";
  return "seed " + std::to_string(seed_) + ", event " +
         std::to_string(events_) + ": " + problem_;
}

void Simulation::Step() {
  if (dice_.Percent(network_percent_)) {
    network_->CauseRandomEvent();
  } else {
    Act();
  }
  if (dice_.Percent(50)) return;  // Many events happen at the same time.
  const Instant later = schedule_.now() + dice_.Micros(0, pace_us_);
  while (!schedule_.empty() && schedule_.next() <= later && problem_.empty()) {
    schedule_.RunNext();
  }
  schedule_.PassTo(later);
}

void Simulation::Act() {
  Caller* caller = callers_[dice_.Between(0, kCallers - 1)].get();
  const int roll = dice_.Between(1, 100);
  if (roll <= 2) {
    TryStale();
  } else if (roll <= 3) {
    if (dice_.Percent(30)) Reconfigure();
    if (dice_.Percent(70)) Operate();
  } else if (roll <= 4) {
    const std::string& target =
        targets_[dice_.Between(0, static_cast<int>(targets_.size()) - 1)];
    Post([&] { pool_->Warm(target, schedule_.now()); });
  } else if (roll <= 5) {
    Prewarm();
  } else if (caller->state == Caller::kIdle) {
    Acquire(caller);
  } else if (caller->state == Caller::kWaiting) {
    if (dice_.Percent(15)) Cancel(caller);
  } else if (roll <= 20) {
    BeginCall(caller);
  } else if (roll <= 45) {
    EndCall(caller);
  } else if (roll <= 52) {
    Renew(caller);
  } else if (roll <= 85) {
    Release(caller);
  }
}

void Simulation::Prewarm() {
  pool::HostPoolKey key;
  key.target =
      targets_[dice_.Between(0, static_cast<int>(targets_.size()) - 1)];
  if (dice_.Percent(30)) key.options.pool_group = "apart";
  if (dice_.Percent(20)) key.mode = Mode::kExclusive;
  const int wanted = dice_.Between(1, 4);
  const int most = dice_.Between(0, 3);
  Trace(nullptr, "prewarm " + key.target);
  Post([&] {
    const pool::PrewarmResult result =
        pool_->Prewarm(key, wanted, most, schedule_.now());
    Expect(result.begun <= most, "more dials than were asked for");
    Expect(result.missing >= 0 && result.missing <= wanted,
           "more missing than were wanted");
  });
}

// All calls into the pool go through this function.
void Simulation::Post(const std::function<void()>& event) {
  ++depth_;
  ++events_;
  event();
  --depth_;
  if (depth_ == 0) AfterEvent();
}

void Simulation::AfterEvent() {
  if (!problem_.empty()) return;
  Expect(network_->problem().empty(), network_->problem());
  const std::string broken = inspector_->Check(schedule_.now());
  Expect(broken.empty(), broken);
  // Closes left for a tick have not reached the network yet.
  Expect(inspector_->unfinished() ||
             inspector_->connections() == network_->outstanding(),
         "the pool and the network count connections differently");
  if ((events_ & 15) == 0) CheckModel();
}

void Simulation::CheckModel() {
  const Instant now = schedule_.now();
  const Duration late = kGrain + network_options_.max_late;
  if (inspector_->unfinished()) return;  // Some results are still to come.
  size_t waiting = 0;
  for (const auto& [name, line] : lines_) waiting += line.size();
  size_t callers_waiting = 0;
  for (const auto& caller : callers_) {
    if (caller->state != Caller::kWaiting) continue;
    ++callers_waiting;
    Expect(caller->deadline == kNever || now <= caller->deadline + late,
           "a caller waits past its deadline");
  }
  Expect(waiting == callers_waiting, "the model lost a caller");
}

// Ends everything; nothing may be left.
void Simulation::WindDown() {
  network_->StopFaults();
  for (const auto& caller : callers_) {
    if (caller->state == Caller::kWaiting && dice_.Percent(50)) {
      Cancel(caller.get());
    }
    if (caller->state == Caller::kHolding) {
      EndCall(caller.get());
      Release(caller.get());
    }
  }
  shut_down_ = true;
  Post([&] { pool_->Shutdown(schedule_.now()); });
  while (inspector_->unfinished() && !schedule_.empty()) schedule_.RunNext();
  for (const auto& caller : callers_) {
    Expect(caller->state != Caller::kWaiting, "a caller waits for ever");
    if (caller->state == Caller::kHolding) {
      EndCall(caller.get());
      Release(caller.get());
    }
  }
  while (!schedule_.empty() && problem_.empty()) schedule_.RunNext();
  for (const auto& caller : callers_) {
    Expect(caller->state == Caller::kIdle, "a caller is not done");
  }
  const std::string left = inspector_->CheckEmpty();
  Expect(left.empty(), left);
  Expect(network_->outstanding() == 0, "a connection is left in the network");
  CheckCounters();
}

void Simulation::CheckCounters() {
  const pool::Snapshot snapshot = pool_->TakeSnapshot({}, schedule_.now());
  uint64_t granted = 0;
  uint64_t ended = 0;
  uint64_t cancelled = 0;
  uint64_t rejected = 0;
  uint64_t opened = 0;
  uint64_t closed = 0;
  uint64_t circuits = 0;
  uint64_t dials = 0;
  uint64_t away = 0;
  const auto add = [&](const pool::TargetCounters& counters) {
    granted += counters.granted;
    away += counters.cross_loop;
    ended += counters.lease.total();
    cancelled += counters.cancelled;
    for (uint64_t n : counters.rejected) rejected += n;
    opened += counters.opened;
    circuits += counters.breaker_opened;
    dials += counters.dials_ok;
    for (uint64_t n : counters.dials_failed) dials += n;
    for (uint64_t n : counters.closed) closed += n;
    evicted_ += counters.closed[static_cast<int>(pool::CloseReason::kOperator)];
    Expect(counters.granted == counters.wait.total(), "a wait not recorded");
    const uint64_t ends = std::accumulate(counters.closed.begin(),
                                          counters.closed.end(), uint64_t{0});
    Expect(ends == counters.age.total() && ends == counters.uses.total(),
           "a close without its age or uses");
  };
  add(snapshot.forgotten);
  for (const auto& row : snapshot.targets) add(row.counters);
  Expect(granted == granted_, "grants are miscounted");
  Expect(away == away_, "leases on other loops' connections are miscounted");
  Expect(granted == ended, "leases begun are not leases ended");
  Expect(cancelled == cancelled_, "cancels are miscounted");
  Expect(rejected == rejected_, "rejections are miscounted");
  Expect(acquires_ == granted_ + repeats_ + rejected_ + cancelled_,
         "an acquire has no end, or two");
  Expect(circuits == opened_, "a breaker's opening was not reported");
  Expect(dials == network_->dials(), "a dial has no result, or two");
  Expect(opened == closed, "connections opened are not connections closed");
}

// --- Callers ---

std::string Simulation::LineName(const Caller& caller) const {
  return caller.key.target + "|" + caller.key.options.pool_group + "|" +
         (caller.key.mode == Mode::kExclusive ? "x" : "s") +
         (caller.reuse == Reuse::kForceNew ? "n" : "a");
}

void Simulation::ChooseKeyAndTerms(Caller* caller) {
  caller->key = {};
  caller->key.target =
      targets_[dice_.Between(0, static_cast<int>(targets_.size()) - 1)];
  if (dice_.Percent(15)) caller->key.options.pool_group = "apart";
  if (dice_.Percent(15)) caller->key.mode = Mode::kExclusive;
  caller->reuse = dice_.Percent(75)   ? Reuse::kPrefer
                  : dice_.Percent(50) ? Reuse::kForceNew
                                      : Reuse::kRequireWarm;
  caller->ttl = dice_.Percent(50) ? Duration(0) : dice_.Millis(5, 200);
  caller->deadline = dice_.Percent(10)
                         ? kNever
                         : schedule_.now() + dice_.Micros(-1000, 150'000);
  caller->request_id =
      dice_.Percent(20) ? "r" + std::to_string(dice_.Between(0, 2)) : "";
  if (!caller->request_id.empty()) caller->ttl = dice_.Millis(50, 51);
  caller->secret = dice_.Bits();
  caller->loop =
      dice_.Percent(90)
          ? static_cast<pool::LoopIndex>(dice_.Between(0, config_.loops - 1))
          : pool::kNoLoop;
}

bool Simulation::HasLendableAtHome(const Caller& caller) const {
  return inspector_->HasLendableAt(caller.key, caller.reuse == Reuse::kForceNew,
                                   caller.loop, schedule_.now());
}

bool Simulation::IsAway(const Caller& caller, pool::ConnId conn) const {
  return caller.loop != pool::kNoLoop && network_->LoopOf(conn) != caller.loop;
}

void Simulation::Acquire(Caller* caller) {
  ChooseKeyAndTerms(caller);
  AcquireRequest request;
  request.key = &caller->key;
  request.reuse = caller->reuse;
  request.may_wait = dice_.Percent(90);
  request.deadline = caller->deadline;
  request.lease_ttl = caller->ttl;
  request.secret = caller->secret;
  request.request_id = caller->request_id;
  request.loop = caller->loop;
  request.waiter = caller;
  // Its wait may end before Acquire returns, so it joins the model's line
  // first.
  caller->state = Caller::kWaiting;
  caller->waiter = 0;
  lines_[LineName(*caller)].push_back(caller);
  ++acquires_;
  const bool try_idle = dice_.Percent(20);
  Trace(caller, "acquire " + LineName(*caller) + " " + caller->request_id);
  Post([&] {
    const Instant now = schedule_.now();
    AcquireResult result;
    bool at_home = HasLendableAtHome(*caller);
    if (!try_idle || !pool_->AcquireIdle(request, now, &result)) {
      if (try_idle) {
        // AcquireIdle may have carried out effects, and so let others join
        // before this caller.
        LeaveLine(caller);
        lines_[LineName(*caller)].push_back(caller);
      }
      at_home = HasLendableAtHome(*caller);
      result = pool_->Acquire(request, now);
    }
    OnResult(caller, std::move(result), at_home);
  });
}

void Simulation::OnResult(Caller* caller, AcquireResult result, bool at_home) {
  if (result.kind == AcquireResult::kQueued) {
    ++queued_;
    Expect(result.waiter != 0, "no id for a waiter");
    if (caller->state == Caller::kWaiting && caller->waiter == 0) {
      caller->waiter = result.waiter;
    }
    return;
  }
  Expect(caller->state == Caller::kWaiting, "two results of one acquire");
  LeaveLine(caller);
  caller->state = Caller::kIdle;
  if (result.kind == AcquireResult::kGranted) {
    Trace(caller, "granted at once");
    const uint64_t repeats = repeats_;
    TakeLease(caller, result.grant);
    Expect(
        !at_home || repeats_ > repeats || !IsAway(*caller, result.grant.conn),
        "lent another loop's connection although its own had one");
  } else {
    Expect(result.rejection != nullptr, "rejected without a reason");
    ++rejected_;
    CheckRefusal(*result.rejection);
    Trace(caller, "refused " + std::string(ToString(result.rejection->reason)));
  }
}

void Simulation::CheckRefusal(const Rejection& rejection) {
  if (rejection.reason != RejectReason::kCircuitOpen) return;
  ++barred_;
  Expect(!rejection.last_dial_error.empty(), "barred without a failed dial");
  Expect(rejection.retry_after > Duration(0), "barred for no time");
}

void Simulation::LeaveLine(Caller* caller) {
  Line& line = lines_[LineName(*caller)];
  const auto found = std::find(line.begin(), line.end(), caller);
  Expect(found != line.end(), "the model does not know the caller that left");
  if (found != line.end()) line.erase(found);
}

void Simulation::Cancel(Caller* caller) {
  if (caller->waiter == 0) return;  // Inside its own Acquire.
  Trace(caller, "cancel");
  Post([&] {
    const bool was_nested = depth_ > 1 || inspector_->unfinished();
    caller->leaving = true;
    const bool left = pool_->Cancel(caller->waiter, schedule_.now());
    Expect(left || was_nested || caller->state != Caller::kWaiting,
           "could not cancel a caller that waits");
    caller->leaving = false;
    if (!left) return;
    Expect(caller->state == Caller::kWaiting, "cancelled after its wait ended");
    LeaveLine(caller);
    caller->state = Caller::kIdle;
    ++cancelled_;
  });
}

void Simulation::OnGrant(Caller* caller, const Grant& grant) {
  Expect(caller->state == Caller::kWaiting,
         "granted to a caller that does not wait");
  if (caller->state != Caller::kWaiting) return;
  const Line& line = lines_[LineName(*caller)];
  // A caller inside Cancel has left the line already.
  const auto first = std::find_if(line.begin(), line.end(), [&](Caller* c) {
    return c == caller || !c->leaving;
  });
  Expect(first != line.end() && *first == caller, "served out of order");
  LeaveLine(caller);
  caller->state = Caller::kIdle;
  Expect(grant.wait.place > 0, "waited without a place");
  Trace(caller, "granted");
  TakeLease(caller, grant);
  if (depth_ < kMaxDepth && dice_.Percent(20)) Release(caller);
}

void Simulation::OnReject(Caller* caller, const Rejection& rejection) {
  Trace(caller, "rejected " + std::string(ToString(rejection.reason)));
  Expect(caller->state == Caller::kWaiting, "rejected, but did not wait");
  caller->leaving = false;
  if (caller->state != Caller::kWaiting) return;
  ++rejected_;
  CheckRefusal(rejection);
  if (rejection.reason == RejectReason::kSuperseded) {
    Supersede(caller);
  } else {
    LeaveLine(caller);
  }
  if (rejection.reason == RejectReason::kWaitTimeout) {
    Expect(schedule_.now() >= caller->deadline, "timed out too early");
  }
  caller->state = Caller::kIdle;
  if (depth_ < kMaxDepth && dice_.Percent(20)) Acquire(caller);
}

// The caller that repeated the request takes over the place.
void Simulation::Supersede(Caller* old) {
  Line& line = lines_[LineName(*old)];
  const auto place = std::find(line.begin(), line.end(), old);
  const auto heir = std::find_if(
      place == line.end() ? place : place + 1, line.end(), [&](Caller* c) {
        return c->request_id == old->request_id && c->ttl == old->ttl;
      });
  Expect(heir != line.end(), "superseded by no caller");
  if (heir == line.end()) return;
  *place = *heir;
  line.erase(heir);
}

void Simulation::TakeLease(Caller* caller, const Grant& grant) {
  Expect(grant.lease.instance == config_.instance, "a foreign lease");
  Expect(!network_->ProbeOutstanding(grant.conn), "lent during a check");
  auto& leases = leases_on_[grant.conn];
  for (const auto& lease : leases) {
    if (!(lease->id == grant.lease)) continue;
    // A repeated request_id returns the same lease.
    Expect(!caller->request_id.empty(), "one lease for two callers");
    caller->state = Caller::kHolding;
    caller->lease = lease;
    ++repeats_;
    return;
  }
  std::erase_if(leases, [&](const auto& lease) {
    return Predict(*lease) == LeaseStatus::kEnded && !lease->busy();
  });
  CheckGrant(*caller, grant, !leases.empty());
  caller->lease = std::make_shared<LeaseModel>();
  caller->lease->id = grant.lease;
  caller->lease->conn = grant.conn;
  caller->lease->expires = grant.expires;
  caller->lease->has_end = grant.expires != kNever;
  leases.push_back(caller->lease);
  caller->state = Caller::kHolding;
  ++granted_;
}

// `other_leases`: there are others on the same connection.
void Simulation::CheckGrant(const Caller& caller, const Grant& grant,
                            bool other_leases) {
  // The lease may have the secret of an earlier, repeated request.
  const bool own =
      std::any_of(callers_.begin(), callers_.end(), [&](const auto& other) {
        return other->secret == grant.lease.secret &&
               (other.get() == &caller ||
                (other->request_id == caller.request_id &&
                 !caller.request_id.empty()));
      });
  Expect(own, "not the caller's secret");
  Expect(caller.reuse != Reuse::kForceNew || grant.uses == 0,
         "wanted an unused connection");
  Expect(grant.reused == (grant.uses > 0), "`reused` and `uses` disagree");
  if (IsAway(caller, grant.conn)) ++away_;
  const bool single =
      network_options_.max_streams == 1 || caller.key.mode == Mode::kExclusive;
  Expect(!single || !other_leases, "lent twice");
  Expect((grant.expires != kNever) == (caller.ttl > Duration(0)),
         "the lease's end does not follow from its time to live");
}

LeaseStatus Simulation::Predict(const LeaseModel& lease) const {
  if (lease.released) return LeaseStatus::kEnded;
  if (!lease.busy() && schedule_.now() >= lease.expires) {
    return LeaseStatus::kEnded;
  }
  return LeaseStatus::kOk;
}

void Simulation::Release(Caller* caller) {
  LeaseModel& lease = *caller->lease;
  const auto outcome = dice_.Percent(70)
                           ? Outcome::kOk
                           : static_cast<Outcome>(dice_.Between(1, 2));
  const LeaseStatus expected = Predict(lease);
  Trace(caller, "release");
  // It has ended once the pool decides, before any other event.
  lease.released = true;
  const pool::CallTag call = lease.call;
  if (!lease.busy()) {
    caller->state = Caller::kIdle;
    old_leases_.push_back(lease.id);
    if (old_leases_.size() > kOldLeases) old_leases_.pop_front();
  }
  const LeaseId id = lease.id;
  const bool holder_is_gone = dice_.Percent(10);
  Post([&] {
    pool::CallTag running = 0;
    const LeaseStatus status =
        holder_is_gone ? pool_->Reclaim(id, schedule_.now(), &running)
                       : pool_->Release(id, outcome, schedule_.now(), &running);
    Expect(status == expected, "a release with an unexpected status");
    Expect(running == (status == LeaseStatus::kOk ? call : 0),
           "released from another call than the one that runs");
  });
}

void Simulation::BeginCall(Caller* caller) {
  LeaseModel& lease = *caller->lease;
  LeaseStatus expected = Predict(lease);
  if (expected == LeaseStatus::kOk && lease.busy())
    expected = LeaseStatus::kBusy;
  const pool::CallTag call = ++last_call_;
  if (expected == LeaseStatus::kOk) {
    lease.call = call;
    if (lease.has_end) lease.left = lease.expires - schedule_.now();
    lease.expires = kNever;
  }
  Trace(caller, "begin call");
  Post([&] {
    const auto start = pool_->BeginCall(lease.id, call, schedule_.now());
    Expect(start.status == expected, "a call begun with an unexpected status");
    if (start.status != LeaseStatus::kOk) return;
    Expect(start.conn == lease.conn, "a call on another's connection");
    Expect(start.key->target == caller->key.target, "another's target");
  });
}

void Simulation::EndCall(Caller* caller) {
  LeaseModel& lease = *caller->lease;
  if (lease.busy() && lease.has_end && !lease.released) {
    lease.expires = SaturatingAdd(schedule_.now(), lease.left);
  }
  lease.call = 0;
  if (lease.released) caller->state = Caller::kIdle;
  Trace(caller, "end call");
  const LeaseId id = lease.id;
  Post([&] { pool_->EndCall(id, schedule_.now()); });
}

void Simulation::Renew(Caller* caller) {
  LeaseModel& lease = *caller->lease;
  const LeaseStatus expected = Predict(lease);
  const Duration ttl = dice_.Millis(5, 200);
  const Instant now = schedule_.now();
  if (expected == LeaseStatus::kOk) {
    lease.has_end = true;
    if (lease.busy()) {
      lease.left = ttl;
    } else {
      lease.expires = now + ttl;
    }
  }
  Trace(caller, "renew");
  Post([&] {
    const auto result = pool_->Renew(lease.id, ttl, now);
    Expect(result.status == expected, "a renewal with an unexpected status");
    Expect(expected != LeaseStatus::kOk || result.expires == now + ttl,
           "renewed for another time");
  });
}

// Stale, forged and foreign ids change nothing.
void Simulation::TryStale() {
  LeaseId id;
  LeaseStatus expected = LeaseStatus::kUnknown;
  const int kind = dice_.Between(0, 3);
  Caller* caller = callers_[dice_.Between(0, kCallers - 1)].get();
  if (kind == 0 && !old_leases_.empty()) {
    id =
        old_leases_[dice_.Between(0, static_cast<int>(old_leases_.size()) - 1)];
    expected = LeaseStatus::kEnded;
  } else if (kind == 1 && caller->state == Caller::kHolding &&
             Predict(*caller->lease) == LeaseStatus::kOk) {
    id = caller->lease->id;
    id.secret ^= 1;
  } else if (kind == 2 && caller->state == Caller::kHolding) {
    id = caller->lease->id;
    id.instance ^= 1;
    expected = LeaseStatus::kOtherInstance;
  } else {
    id.instance = config_.instance;
    id.shard = static_cast<uint16_t>(dice_.Between(0, 4));
    id.slot = 1'000'000;
    id.version = 1;
  }
  Trace(nullptr, "stale");
  Post([&] {
    Expect(pool_->Release(id, Outcome::kBroken, schedule_.now()) == expected,
           "a stale lease id with an unexpected status");
    Expect(pool_->BeginCall(id, 1, schedule_.now()).status == expected,
           "a call on a stale lease");
  });
}

void Simulation::Reconfigure() {
  for (const std::string& target : targets_) {
    if (dice_.Percent(30)) target_configs_[target] = RandomTargetConfig();
  }
  pool::PoolConfig next = RandomPoolConfig();
  next.shards = config_.shards;
  next.instance = config_.instance;
  next.max_targets = config_.max_targets;
  Trace(nullptr, "reconfigure");
  Post([&] { pool_->Reconfigure(next, schedule_.now()); });
}

void Simulation::Operate() {
  const std::string& target =
      targets_[dice_.Between(0, static_cast<int>(targets_.size()) - 1)];
  const int kind = dice_.Between(0, 9);
  Trace(nullptr, "operate " + std::to_string(kind) + " " + target);
  if (kind <= 5) {
    // Mostly open, so that something goes on.
    const auto admission = static_cast<pool::Admission>(
        kind <= 3 ? 0 : dice_.Between(1, pool::kAdmissions - 1));
    Post([&] { pool_->SetAdmission(target, admission, schedule_.now()); });
  } else if (kind <= 7) {
    Post([&] { pool_->Reconnect(target, schedule_.now()); });
  } else if (kind == 8) {
    Post([&] { pool_->ForgiveDials(target, schedule_.now()); });
  } else {
    if (leases_on_.empty()) return;
    const pool::ConnId conn = leases_on_.begin()->first;
    const bool at_once = dice_.Percent(50);
    Post([&] { pool_->Evict(conn, at_once, schedule_.now()); });
  }
}

}  // namespace hotline::sim
