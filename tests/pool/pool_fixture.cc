#include "tests/pool/pool_fixture.h"

#include <algorithm>
#include <utility>

namespace hotline::pool {

void RecordingTransport::Dial(ConnId id, std::shared_ptr<const HostPoolKey> key,
                              LoopIndex loop) {
  dials.push_back({id, key->target, CloseReason::kError, loop});
}

void RecordingTransport::Probe(ConnId id,
                               std::shared_ptr<const HostPoolKey> key) {
  probes.push_back({id, key->target});
}

void RecordingTransport::Close(ConnId id, CloseReason reason) {
  closes.push_back({id, "", reason});
}

void RecordingTransport::WakeAt(int shard, Instant when) {
  const auto [wake, added] = wakes.try_emplace(shard, when);
  if (!added) wake->second = std::min(wake->second, when);
}

PoolTest::PoolTest() {
  config_.shards = 1;
  config_.instance = 7;
  config_.effects_per_turn = PoolConfig::kNoTurns;
}

PoolTest::~PoolTest() = default;

TargetConfig PoolTest::ConfigOf(const std::string& target) const {
  const auto found = targets_.find(target);
  return found == targets_.end() ? target_ : found->second;
}

Pool& PoolTest::pool() {
  if (pool_ == nullptr) {
    pool_ = std::make_unique<Pool>(
        config_, [this](const std::string& target) { return ConfigOf(target); },
        &transport_, on_event_);
    inspector_ = std::make_unique<Inspector>(pool_.get());
  }
  return *pool_;
}

void PoolTest::TearDown() {
  if (pool_ == nullptr) return;
  Shutdown();
  Pass(Duration(0));  // For effects left to a tick.
  for (const Caller& caller : callers_) {
    for (const Grant& grant : caller.grants) {
      EndCall(grant.lease);
      Release(grant.lease);
    }
    const size_t ends = caller.grants.size() + caller.rejections.size();
    EXPECT_EQ(ends, caller.left ? 0u : 1u);
  }
  while (dials() > 0) DialFailed();
  while (probes() > 0) Probed(false);
  CloseAll();
  Pass(hours(24));  // Lets the remaining timers fire.
  EXPECT_EQ(inspector_->CheckEmpty(), "");
}

void PoolTest::Check() { ASSERT_EQ(inspector_->Check(now_), ""); }

// --- Events of borrowers ---

Caller& PoolTest::Acquire(const Ask& ask) {
  Caller& caller = callers_.emplace_back();
  HostPoolKey key{ask.target, {}, ask.mode};
  key.options.pool_group = ask.group;
  AcquireRequest request;
  request.key = &key;
  request.reuse = ask.reuse;
  request.may_wait = ask.may_wait;
  request.deadline = now_ + ask.wait;
  request.lease_ttl = ask.ttl;
  request.secret = next_secret_++;
  request.holder = std::make_shared<Holder>(Holder{ask.client, "", ""});
  request.request_id = ask.request_id;
  request.loop = ask.loop;
  request.waiter = &caller;
  AcquireResult result = pool().Acquire(request, now_);
  caller.id = result.waiter;
  if (result.kind == AcquireResult::kGranted) {
    caller.grants.push_back(result.grant);
  } else if (result.kind == AcquireResult::kRejected) {
    caller.rejections.push_back(std::move(*result.rejection));
  }
  Check();
  return caller;
}

bool PoolTest::Cancel(Caller& caller) {
  const bool left = pool().Cancel(caller.id, now_);
  caller.left = caller.left || left;
  Check();
  return left;
}

LeaseStatus PoolTest::Release(const LeaseId& lease, Outcome outcome) {
  const LeaseStatus status = pool().Release(lease, outcome, now_);
  Check();
  return status;
}

LeaseStatus PoolTest::ReleaseNamed(const char* request_id, Outcome outcome,
                                   CallTag* running) {
  LeaseId lease;
  CallTag unused = 0;
  const LeaseStatus status =
      pool().ReleaseNamed(kA, request_id, outcome, now_, &lease,
                          running != nullptr ? running : &unused);
  Check();
  return status;
}

CallStart PoolTest::BeginCall(const LeaseId& lease, CallTag call) {
  CallStart start = pool().BeginCall(lease, call, now_);
  Check();
  return start;
}

void PoolTest::EndCall(const LeaseId& lease) {
  pool().EndCall(lease, now_);
  Check();
}

RenewResult PoolTest::Renew(const LeaseId& lease, Duration ttl) {
  const RenewResult result = pool().Renew(lease, ttl, now_);
  Check();
  return result;
}

void PoolTest::Warm(const char* target) {
  pool().Warm(target, now_);
  Check();
}

PrewarmResult PoolTest::Prewarm(int connections, int most, const char* group) {
  HostPoolKey key{kA, {}, Mode::kShared};
  key.options.pool_group = group;
  const PrewarmResult result = pool().Prewarm(key, connections, most, now_);
  Check();
  return result;
}

void PoolTest::Reconfigure() {
  pool().Reconfigure(config_, now_);
  Check();
}

void PoolTest::Shutdown() {
  pool().Shutdown(now_);
  Check();
}

// --- Events of the transport ---

ConnId PoolTest::Dialed(int streams, LoopIndex elsewhere) {
  if (transport_.dials.empty()) {
    ADD_FAILURE() << "nothing is being dialled";
    return 0;
  }
  const ConnId id = transport_.dials.front().id;
  const LoopIndex asked = transport_.dials.front().loop;
  transport_.dials.pop_front();
  Established established;
  established.loop = elsewhere != kNoLoop ? elsewhere
                     : asked != kNoLoop   ? asked
                                          : 0;
  established.max_streams = streams;
  established.timings = timings_;
  pool().Dialed(id, established, now_);
  Check();
  return id;
}

void PoolTest::DialFailed(FailureClass failure_class, const char* reason) {
  ASSERT_GT(dials(), 0u);
  const ConnId id = transport_.dials.front().id;
  transport_.dials.pop_front();
  pool().DialFailed(id, {failure_class, reason, "refused by the test"}, now_);
  Check();
}

void PoolTest::Probed(bool passed) {
  ASSERT_GT(probes(), 0u);
  const ConnId id = transport_.probes.front().id;
  transport_.probes.pop_front();
  pool().Probed(id, passed, now_);
  Check();
}

void PoolTest::CloseAll() {
  while (closes() > 0) {
    const ConnId id = transport_.closes.front().id;
    transport_.closes.pop_front();
    Closed(id, CloseReason::kError);
  }
}

void PoolTest::Closed(ConnId id, CloseReason reason) {
  pool().Closed(id, reason, nullptr, now_);
  Check();
}

void PoolTest::ClosedEarly(ConnId id, CloseReason reason) {
  pool().Closed(id, reason, &early_, now_);
  Check();
}

void PoolTest::GoAwayEarly(ConnId id) {
  pool().GoAway(id, &early_, now_);
  Check();
}

void PoolTest::Served(ConnId id) {
  pool().Served(id, now_);
  Check();
}

void PoolTest::GoAway(ConnId id) {
  pool().GoAway(id, nullptr, now_);
  Check();
}

void PoolTest::KeepAliveSaid(ConnId id, Duration timeout) {
  pool().KeepAliveSaid(id, timeout, now_);
  Check();
}

void PoolTest::ErrorCounted(ConnId id, int times) {
  for (int i = 0; i < times; ++i) {
    pool().ErrorCounted(id, now_);
    Check();
  }
}

void PoolTest::ConcurrencyChanged(ConnId id, int streams) {
  pool().ConcurrencyChanged(id, streams, now_);
  Check();
}

void PoolTest::Pass(Duration time) {
  const Instant end = now_ + time;
  while (true) {
    Instant next = kNever;
    for (const auto& [shard, when] : transport_.wakes) {
      next = std::min(next, when);
    }
    if (next > end) break;
    now_ = std::max(now_, next);
    Tick();
  }
  now_ = end;
  Check();
}

void PoolTest::Tick() {
  std::vector<int> due;
  for (const auto& [shard, when] : transport_.wakes) {
    if (when <= now_) due.push_back(shard);
  }
  for (const int shard : due) {
    transport_.wakes.erase(shard);
    pool().Tick(shard, now_);
    Check();
  }
}

// --- Starting points ---

Caller& PoolTest::Lent(const Ask& ask, int streams) {
  Caller& caller = Acquire(ask);
  if (caller.waiting()) Dialed(streams);
  EXPECT_TRUE(caller.granted());
  return caller;
}

ConnId PoolTest::Idle(const Ask& ask, int streams) {
  Caller& caller = Lent(ask, streams);
  EXPECT_EQ(Release(caller), LeaseStatus::kOk);
  return caller.conn();
}

// --- State ---

CloseReason PoolTest::OnlyClose() const {
  EXPECT_EQ(closes(), 1u);
  return closes() == 0 ? CloseReason::kError : transport_.closes[0].reason;
}

Snapshot PoolTest::Take(bool rows) {
  SnapshotRequest request;
  request.connections = request.leases = rows;
  return pool().TakeSnapshot(request, now_);
}

TargetRow PoolTest::Row(const char* target) {
  SnapshotRequest request;
  request.target = target;
  Snapshot snapshot = pool().TakeSnapshot(request, now_);
  return snapshot.targets.empty() ? TargetRow{} : snapshot.targets[0];
}

ConnectionRow PoolTest::Conn(ConnId id) {
  for (const ConnectionRow& row : Take(true).connections) {
    if (row.id == id) return row;
  }
  return {};
}

}  // namespace hotline::pool
