// Threads that borrow from one pool and cancel, over a transport with its own
// thread. Results are counted, and at the end nothing may be left.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "pool/inspector.h"
#include "pool/pool.h"
#include "tests/stress/threaded_transport.h"

namespace hotline::pool {
namespace {

constexpr int kThreads = 4;

// One wait, which ends by a callback or by Cancel, but not both.
class Wait final : public Waiter {
 public:
  void OnGrant(const Grant& grant) override {
    lease_ = grant.lease;
    conn_ = grant.conn;
    Finish(kGranted);
  }
  void OnReject(Rejection rejection) override {
    reason_ = rejection.reason;
    Finish(kRejected);
  }

  // Prepares for a new wait. Not while one is under way.
  void Reset() { end_.store(kNothing, std::memory_order_relaxed); }

  bool ended() const { return end_.load(std::memory_order_acquire) != 0; }
  bool AwaitGrant() {
    end_.wait(kNothing, std::memory_order_acquire);
    return end_.load(std::memory_order_acquire) == kGranted;
  }

  const LeaseId& lease() const { return lease_; }
  ConnId conn() const { return conn_; }
  RejectReason reason() const { return reason_; }

 private:
  enum End : int { kNothing, kGranted, kRejected };

  void Finish(End end) {
    EXPECT_EQ(end_.exchange(end, std::memory_order_acq_rel), kNothing)
        << "ended twice";
    end_.notify_all();
  }

  std::atomic<int> end_{kNothing};
  LeaseId lease_;
  ConnId conn_ = 0;
  RejectReason reason_ = RejectReason::kShutdown;
};

class PoolStress : public ::testing::Test {
 protected:
  void Start() {
    config_.loops = 2;
    pool_ = std::make_unique<Pool>(
        config_, [this](const std::string&) { return target_; }, &transport_);
    transport_.Start(pool_.get());
  }

  template <typename Work>
  void InThreads(Work work) {
    std::vector<std::thread> threads;
    for (int i = 0; i < kThreads; ++i) threads.emplace_back(work, i);
    for (std::thread& thread : threads) thread.join();
  }

  AcquireResult Acquire(const HostPoolKey& key, Wait* wait,
                        Reuse reuse = Reuse::kPrefer, bool may_wait = true,
                        Duration most = std::chrono::minutes(5)) {
    AcquireRequest request;
    request.key = &key;
    request.reuse = reuse;
    request.may_wait = may_wait;
    request.deadline = MonotonicNow() + most;
    request.lease_ttl = std::chrono::minutes(5);
    request.secret = secret_.fetch_add(1, std::memory_order_relaxed);
    request.loop = static_cast<LoopIndex>(request.secret % 2);
    request.waiter = wait;
    if (wait != nullptr) wait->Reset();
    return pool_->Acquire(request, MonotonicNow());
  }

  // After everything was released: closes all connections and checks that
  // nothing is left.
  void Finish() {
    pool_->Shutdown(MonotonicNow());
    while (!Gone()) std::this_thread::yield();
    transport_.Stop();
    EXPECT_EQ(transport_.open(), 0);
    Inspector inspector(pool_.get());
    // Lets the remaining timers fire.
    const Instant later = MonotonicNow() + std::chrono::hours(24);
    for (int i = 0; i < pool_->shards(); ++i) pool_->Tick(i, later);
    EXPECT_EQ(inspector.Check(later), "");
    EXPECT_EQ(inspector.CheckEmpty(), "");
    pool_.reset();
  }

  uint64_t Granted() const {
    uint64_t granted = 0;
    const Snapshot snapshot = pool_->TakeSnapshot({}, MonotonicNow());
    for (const TargetRow& row : snapshot.targets) {
      granted += row.counters.granted;
    }
    return granted + snapshot.forgotten.granted;
  }

  PoolConfig config_;
  TargetConfig target_;
  ThreadedTransport transport_;
  std::unique_ptr<Pool> pool_;

 private:
  bool Gone() const {
    const Snapshot snapshot = pool_->TakeSnapshot({}, MonotonicNow());
    if (snapshot.connections_reserved > 0) return false;
    for (const TargetRow& row : snapshot.targets) {
      EXPECT_EQ(row.leases, 0);
      EXPECT_EQ(row.waiters, 0);
    }
    return true;
  }

  std::atomic<uint64_t> secret_{1};
};

// Four threads borrow one connection and cancel their waits just when they are
// about to be served.
TEST_F(PoolStress, CancelAndGrantHaveExactlyOneOwner) {
  constexpr uint64_t kRaces = 100'000;
  // How often each side must win at least; otherwise there was no race. On a
  // busy machine a thread may not run for long, so the test goes on until it
  // has.
  constexpr uint64_t kWins = kRaces / 100;
  target_.max_connections = 1;
  target_.max_dials = 1;
  // Checks and back-offs would only slow the race down.
  target_.probe = ProbeKind::kNone;
  target_.dial_backoff_base = Duration(1);
  Start();
  const HostPoolKey key{"https://a.test:443", {}, Mode::kExclusive};
  std::atomic<uint64_t> races{0};
  std::atomic<uint64_t> cancelled{0};
  std::atomic<uint64_t> beaten{0};
  std::atomic<uint64_t> granted{0};
  std::atomic<int> holders{0};
  InThreads([&](int thread) {
    std::mt19937_64 random(thread);
    Wait wait;
    while (races.load(std::memory_order_relaxed) < kRaces ||
           cancelled.load(std::memory_order_relaxed) < kWins ||
           beaten.load(std::memory_order_relaxed) < kWins) {
      const AcquireResult result = Acquire(key, &wait);
      LeaseId lease = result.grant.lease;
      bool mine = result.kind == AcquireResult::kGranted;
      if (result.kind == AcquireResult::kQueued) {
        // Some leave at once, some when they are nearly served.
        for (uint64_t i = random() % 16; i > 0 && !wait.ended(); --i) {
          std::this_thread::yield();
        }
        races.fetch_add(1, std::memory_order_relaxed);
        if (pool_->Cancel(result.waiter, MonotonicNow())) {
          cancelled.fetch_add(1, std::memory_order_relaxed);
          // A late callback would find a later wait, and fail there.
          EXPECT_FALSE(wait.ended());
          EXPECT_FALSE(pool_->Cancel(result.waiter, MonotonicNow()));
        } else {
          beaten.fetch_add(1, std::memory_order_relaxed);
          mine = wait.AwaitGrant();
          lease = wait.lease();
        }
      }
      if (!mine) continue;
      granted.fetch_add(1, std::memory_order_relaxed);
      EXPECT_EQ(holders.fetch_add(1), 0) << "lent to two callers";
      if (random() % 2 == 0) std::this_thread::yield();
      holders.fetch_sub(1);
      const Outcome outcome =
          random() % 1000 == 0 ? Outcome::kDiscard : Outcome::kOk;
      EXPECT_EQ(pool_->Release(lease, outcome, MonotonicNow()),
                LeaseStatus::kOk);
    }
  });
  EXPECT_EQ(Granted(), granted.load()) << "a grant that no caller received";
  std::printf("%llu cancelled, %llu too late\n",
              static_cast<unsigned long long>(cancelled.load()),
              static_cast<unsigned long long>(beaten.load()));
  Finish();
}

// All operations at once, on several targets and shards and a global cap.
TEST_F(PoolStress, NothingIsLostUnderAllOperations) {
  constexpr int kRounds = 60'000;  // Of each thread.
  config_.shards = 4;
  config_.max_connections = 6;
  config_.max_dials = 3;
  config_.max_targets = 6;
  target_.max_connections = 2;
  target_.check_interval = std::chrono::milliseconds(2);
  target_.idle_timeout = std::chrono::milliseconds(5);
  target_.max_lifetime = std::chrono::milliseconds(50);
  target_.dial_backoff_base = std::chrono::microseconds(50);
  Start();
  std::vector<HostPoolKey> keys;
  for (int i = 0; i < 8; ++i) {
    keys.push_back({"https://" + std::to_string(i) + ".test:443",
                    {},
                    i % 3 == 0 ? Mode::kExclusive : Mode::kShared});
  }
  std::atomic<uint64_t> granted{0};
  std::atomic<uint64_t> waited{0};
  InThreads([&](int thread) {
    std::mt19937_64 random(thread + 100);
    Wait wait;
    for (int i = 0; i < kRounds; ++i) {
      const uint64_t dice = random();
      const auto reuse = dice % 16 == 0   ? Reuse::kForceNew
                         : dice % 16 == 1 ? Reuse::kRequireWarm
                                          : Reuse::kPrefer;
      const AcquireResult result =
          Acquire(keys[dice / 16 % keys.size()], &wait, reuse,
                  dice / 256 % 4 != 0, std::chrono::milliseconds(20));
      LeaseId lease = result.grant.lease;
      bool mine = result.kind == AcquireResult::kGranted;
      if (result.kind == AcquireResult::kQueued) {
        waited.fetch_add(1, std::memory_order_relaxed);
        const bool leave = dice / 1024 % 2 == 0;
        if (leave && pool_->Cancel(result.waiter, MonotonicNow())) continue;
        mine = wait.AwaitGrant();
        lease = wait.lease();
      }
      if (!mine) continue;
      granted.fetch_add(1, std::memory_order_relaxed);
      const uint64_t use = dice / 4096 % 8;
      const Instant now = MonotonicNow();
      if (use == 0) {
        EXPECT_EQ(pool_->Renew(lease, std::chrono::minutes(5), now).status,
                  LeaseStatus::kOk);
      } else if (use <= 2) {
        EXPECT_EQ(pool_->BeginCall(lease, 1, now).status, LeaseStatus::kOk);
        if (use == 1) pool_->EndCall(lease, now);
      }
      const Outcome outcome = dice / 65536 % 32 == 0   ? Outcome::kBroken
                              : dice / 65536 % 32 == 1 ? Outcome::kDiscard
                                                       : Outcome::kOk;
      EXPECT_EQ(pool_->Release(lease, outcome, now), LeaseStatus::kOk);
      if (use == 2) pool_->EndCall(lease, now);
      EXPECT_EQ(pool_->Release(lease, outcome, now), LeaseStatus::kEnded);
      if (i % 4096 == 0) pool_->Reconfigure(config_, now);
    }
  });
  EXPECT_EQ(Granted(), granted.load()) << "a grant that no caller received";
  EXPECT_GT(granted.load(), 1000u);
  EXPECT_GT(waited.load(), 1000u);
  std::printf("%llu granted, %llu waited\n",
              static_cast<unsigned long long>(granted.load()),
              static_cast<unsigned long long>(waited.load()));
  Finish();
}

// Snapshots are taken a page of rows at a time while targets are evicted and
// come back: no target has two rows, and no count is lost.
TEST_F(PoolStress, SnapshotsCountEverythingWhileTargetsAreEvicted) {
  config_.shards = 1;
  config_.max_targets = 150;  // More than a page.
  target_.probe = ProbeKind::kNone;
  Start();
  std::vector<HostPoolKey> keys;
  for (int i = 0; i < 400; ++i) {
    keys.push_back(
        {"https://" + std::to_string(i) + ".test:443", {}, Mode::kExclusive});
  }
  std::atomic<bool> over{false};
  std::atomic<int> snapshots{0};
  InThreads([&](int thread) {
    if (thread > 0) {
      std::mt19937_64 random(thread);
      while (!over) {
        const AcquireResult result =
            Acquire(keys[random() % keys.size()], nullptr, Reuse::kRequireWarm,
                    /*may_wait=*/false);
        EXPECT_EQ(result.kind, AcquireResult::kRejected);
      }
      return;
    }
    uint64_t last = 0;
    const Instant end = MonotonicNow() + std::chrono::seconds(3);
    for (; MonotonicNow() < end && !HasFailure(); ++snapshots) {
      const Snapshot snapshot = pool_->TakeSnapshot({}, MonotonicNow());
      constexpr int kReason = static_cast<int>(RejectReason::kNoIdleConnection);
      uint64_t sum = snapshot.forgotten.rejected[kReason];
      std::set<std::string> names;
      for (const TargetRow& row : snapshot.targets) {
        sum += row.counters.rejected[kReason];
        EXPECT_TRUE(names.insert(row.target).second) << row.target;
      }
      EXPECT_GE(sum, last) << "a count was lost";
      last = sum;
    }
    over = true;
  });
  EXPECT_GT(snapshots, 10);
  Finish();
}

// Shutdown while all threads borrow.
TEST_F(PoolStress, ShutdownUnderLoadLeavesNothing) {
  config_.shards = 2;
  config_.max_connections = 4;
  for (int round = 0; round < 50; ++round) {
    Start();
    const std::array<HostPoolKey, 2> keys{
        HostPoolKey{"https://a.test:443", {}, Mode::kExclusive},
        HostPoolKey{"https://b.test:443", {}, Mode::kExclusive}};
    std::atomic<int> served{0};
    InThreads([&](int thread) {
      Wait wait;
      for (int i = 0;; ++i) {
        const AcquireResult result = Acquire(keys[(i + thread) % 2], &wait);
        LeaseId lease = result.grant.lease;
        RejectReason reason = RejectReason::kDialFailed;
        bool mine = result.kind == AcquireResult::kGranted;
        if (result.kind == AcquireResult::kQueued) {
          mine = wait.AwaitGrant();
          lease = wait.lease();
          reason = wait.reason();
        } else if (!mine) {
          reason = result.rejection->reason;
        }
        if (!mine && reason == RejectReason::kShutdown) return;
        if (!mine) continue;
        if (served.fetch_add(1) == 200) pool_->Shutdown(MonotonicNow());
        EXPECT_EQ(pool_->Release(lease, Outcome::kOk, MonotonicNow()),
                  LeaseStatus::kOk);
      }
    });
    Finish();
    ASSERT_FALSE(HasFailure()) << "round " << round;
  }
}

}  // namespace
}  // namespace hotline::pool
