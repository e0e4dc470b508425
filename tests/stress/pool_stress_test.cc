// Threads over one pool.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "pool/pool.h"

namespace hotline::pool {
namespace {

// Answers from inside the call.
class InlineTransport final : public Transport {
 public:
  void Dial(ConnId id, std::shared_ptr<const HostPoolKey>) override {
    Established established;
    established.handle = id;
    pool->Dialed(id, established, MonotonicNow());
  }
  void Probe(ConnId id, Handle, std::shared_ptr<const HostPoolKey>) override {
    pool->Probed(id, true, MonotonicNow());
  }
  void Close(ConnId id, Handle, CloseReason reason) override {
    pool->Closed(id, reason, MonotonicNow());
  }
  void WakeAt(int, Instant) override {}

  Pool* pool = nullptr;
};

class CountingWaiter final : public Waiter {
 public:
  void OnGrant(const Grant& grant) override {
    lease = grant.lease;
    granted = true;
    granted.notify_all();
  }
  void OnReject(Rejection) override { FAIL() << "rejected"; }

  LeaseId lease;
  std::atomic<bool> granted{false};
};

TEST(PoolStress, ThreadsShareOneConnection) {
  InlineTransport transport;
  TargetConfig target;
  target.max_connections = 1;
  Pool pool(
      PoolConfig{}, [&](const std::string&) { return target; }, &transport);
  transport.pool = &pool;
  const HostPoolKey key{"https://a.test:443", {}, Mode::kShared};
  std::atomic<int> holders{0};
  auto borrow = [&] {
    for (int i = 0; i < 2000; ++i) {
      CountingWaiter waiter;
      AcquireRequest request;
      request.key = &key;
      request.waiter = &waiter;
      const AcquireResult result = pool.Acquire(request, MonotonicNow());
      ASSERT_NE(result.kind, AcquireResult::kRejected);
      LeaseId lease = result.grant.lease;
      if (result.kind == AcquireResult::kQueued) {
        waiter.granted.wait(false);
        lease = waiter.lease;
      }
      EXPECT_EQ(holders.fetch_add(1), 0);
      holders.fetch_sub(1);
      EXPECT_EQ(pool.Release(lease, Outcome::kOk, MonotonicNow()),
                LeaseStatus::kOk);
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back(borrow);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace hotline::pool
