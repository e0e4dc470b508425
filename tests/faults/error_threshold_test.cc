// Errors that a connection survives: counted, and too many are the end of it.
//
// A broken HTTP/1.1 connection closes by itself; the count is for connections
// that go on, as HTTP/2 ones do over a reset stream. So the pool is asked
// alone, with a world that only takes notes, on a clock of the test's own.
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "pool/pool.h"

namespace hotline::pool {
namespace {

using std::chrono::seconds;

// Notes what the pool asks of it.
class NotingWorld final : public Transport {
 public:
  void Dial(ConnId id, std::shared_ptr<const HostPoolKey>, LoopIndex) override {
    dials.push_back(id);
  }
  void Probe(ConnId id, std::shared_ptr<const HostPoolKey>) override {
    probes.push_back(id);
  }
  void Close(ConnId id, CloseReason reason) override {
    closes.emplace_back(id, reason);
  }
  void WakeAt(int, Instant when) override { wake = std::min(wake, when); }

  std::vector<ConnId> dials;
  std::vector<ConnId> probes;
  std::vector<std::pair<ConnId, CloseReason>> closes;
  Instant wake = kNever;
};

// Keeps the last grant.
class Caller final : public Waiter {
 public:
  void OnGrant(const Grant& grant) override { granted = grant; }
  void OnReject(Rejection) override { rejected = true; }
  Grant granted;
  bool rejected = false;
};

class ErrorThresholdTest : public ::testing::Test {
 protected:
  ErrorThresholdTest() {
    target_.max_connections = 2;
    target_.expected_streams = 0;
    PoolConfig config;
    config.shards = 1;
    pool_ = std::make_unique<Pool>(
        config, [this](const std::string&) { return target_; }, &world_);
    key_.target = "https://a.test:443";
  }

  AcquireResult Ask(Caller* caller) {
    AcquireRequest request;
    request.key = &key_;
    request.secret = 1;
    request.waiter = caller;
    return pool_->Acquire(request, now_);
  }
  // A connection with a hundred slots, one of them lent.
  Grant Lend() {
    Caller caller;
    EXPECT_EQ(Ask(&caller).kind, AcquireResult::kQueued);
    Established established;
    established.max_streams = 100;
    pool_->Dialed(world_.dials.back(), established, now_);
    EXPECT_NE(caller.granted.conn, 0u);
    return caller.granted;
  }
  TargetRow Row() { return pool_->TakeSnapshot({}, now_).targets[0]; }

  Instant now_{seconds(1000)};
  TargetConfig target_;
  NotingWorld world_;
  HostPoolKey key_;
  std::unique_ptr<Pool> pool_;
};

TEST_F(ErrorThresholdTest, TenErrorsAreCountedAndTheConnectionIsKept) {
  const Grant first = Lend();
  for (int i = 0; i < 10; ++i) pool_->ErrorCounted(first.conn, now_);
  EXPECT_EQ(Row().counters.errors_counted, 10u);
  Caller caller;
  const AcquireResult again = Ask(&caller);
  ASSERT_EQ(again.kind, AcquireResult::kGranted);
  EXPECT_EQ(again.grant.conn, first.conn);
  EXPECT_TRUE(world_.closes.empty());
}

TEST_F(ErrorThresholdTest, TheEleventhEndsItsServiceAndAnotherIsDialled) {
  const Grant first = Lend();
  for (int i = 0; i < 11; ++i) pool_->ErrorCounted(first.conn, now_);
  // Whoever has it keeps it; nobody else gets it.
  EXPECT_TRUE(world_.closes.empty());
  Caller caller;
  EXPECT_EQ(Ask(&caller).kind, AcquireResult::kQueued);
  ASSERT_EQ(world_.dials.size(), 2u);
  EXPECT_EQ(pool_->Release(first.lease, Outcome::kOk, now_), LeaseStatus::kOk);
  ASSERT_EQ(world_.closes.size(), 1u);
  EXPECT_EQ(world_.closes[0].first, first.conn);
  EXPECT_EQ(world_.closes[0].second, CloseReason::kProbeFailed);
  pool_->Closed(first.conn, CloseReason::kError, nullptr, now_);

  Established established;
  established.max_streams = 100;
  pool_->Dialed(world_.dials[1], established, now_);
  EXPECT_EQ(caller.granted.conn, world_.dials[1]);
  EXPECT_EQ(Row().counters.closed[static_cast<int>(CloseReason::kProbeFailed)],
            1u);
}

TEST_F(ErrorThresholdTest, TheThresholdIsTheTargets) {
  target_.max_errors = 2;
  const Grant first = Lend();
  pool_->ErrorCounted(first.conn, now_);
  pool_->ErrorCounted(first.conn, now_);
  Caller caller;
  EXPECT_EQ(Ask(&caller).kind, AcquireResult::kGranted);
  pool_->ErrorCounted(first.conn, now_);
  Caller other;
  EXPECT_EQ(Ask(&other).kind, AcquireResult::kQueued);
  pool_->Shutdown(now_);
}

}  // namespace
}  // namespace hotline::pool
