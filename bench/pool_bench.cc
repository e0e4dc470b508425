// The cost of the pool itself, with a transport that answers from inside the
// call. The clock is read once, outside.
//
//   P1  AcquireRelease/...       one thread, one idle HTTP/1.1 connection:
//                                Acquire is granted by value, Release puts the
//                                connection back. With and without a lease TTL.
//   P2  OnTwoTargets/threads:2   the same on two threads, each with a target
//                                of its own in a shard of its own. Compare
//                                items_per_second with threads:1.
//   P3  KnownTargets/N           the same, in turn on 64 busy targets among N
//                                known ones; IdleConnections/N: on one target
//                                with N idle connections; Waiters/N: one
//                                connection and N waiters: a Release grants it
//                                to the first, which then joins the end of the
//                                line again.
//
//   TwoMutexRounds is the locking alone.
//
// One item is one pair of Acquire and Release. Run it on an idle machine, with
//   bazel run //bench:pool_bench -- --benchmark_repetitions=9
//       --benchmark_enable_random_interleaving=true
// and take the medians; on a busy machine, take the minimum.
#include <cstdlib>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "benchmark/benchmark.h"
#include "pool/pool.h"

namespace hotline::pool {
namespace {

constexpr Instant kNow{std::chrono::hours(1000)};

// Dials and closes at once; never ticks.
class InstantTransport final : public Transport {
 public:
  void set_events(TransportEvents* events) { events_ = events; }
  void Dial(ConnId id, std::shared_ptr<const HostPoolKey> key,
            LoopIndex) override {
    static_cast<void>(key);
    events_->Dialed(id, {.max_streams = 1, .timings = {}}, kNow);
  }
  void Probe(ConnId id, std::shared_ptr<const HostPoolKey>) override {
    events_->Probed(id, true, kNow);
  }
  void Close(ConnId id, CloseReason reason) override {
    events_->Closed(id, reason, nullptr, kNow);
  }
  void WakeAt(int, Instant) override {}

 private:
  TransportEvents* events_ = nullptr;
};

// Stores its grant.
class Caller final : public Waiter {
 public:
  void OnGrant(const Grant& grant) override {
    lease = grant.lease;
    *granted = this;
  }
  void OnReject(Rejection) override {}

  LeaseId lease;
  Caller** granted = nullptr;
};

struct Fixture {
  explicit Fixture(int connections) {
    PoolConfig config;
    config.max_connections = connections;
    config.max_dials = connections;
    config.max_targets = 1'000'000;
    config.instance = 7;
    TargetConfig target;
    target.max_connections = connections;
    target.max_dials = connections;
    target.max_waiters = 1'000'000;
    pool = std::make_unique<Pool>(
        config, [target](const std::string&) { return target; }, &transport);
    transport.set_events(pool.get());
  }

  // Makes a connection to the target and returns a lease on it.
  LeaseId LeaseNew(const HostPoolKey& key) {
    Caller caller;
    Caller* granted = nullptr;
    caller.granted = &granted;
    AcquireRequest request = RequestFor(key);
    request.waiter = &caller;
    const AcquireResult result = pool->Acquire(request, kNow);
    if (result.kind == AcquireResult::kGranted) return result.grant.lease;
    if (granted != &caller) std::abort();
    return caller.lease;
  }

  static AcquireRequest RequestFor(const HostPoolKey& key) {
    AcquireRequest request;
    request.key = &key;
    request.secret = 0x5eed;
    return request;
  }

  InstantTransport transport;
  std::unique_ptr<Pool> pool;
};

HostPoolKey KeyOf(int index) {
  return {"https://host-" + std::to_string(index) + ".example.com:443",
          {},
          Mode::kShared};
}

void Pair(Pool& pool, const AcquireRequest& request) {
  const AcquireResult result = pool.Acquire(request, kNow);
  if (result.kind != AcquireResult::kGranted) std::abort();
  benchmark::DoNotOptimize(result.grant.conn);
  pool.Release(result.grant.lease, Outcome::kOk, kNow);
}

// The locking alone, a lower bound for a pair.
void TwoMutexRounds(benchmark::State& state) {
  Mutex mu;
  for (auto _ : state) {
    { MutexLock lock(&mu); }
    { MutexLock lock(&mu); }
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(TwoMutexRounds);

void AcquireRelease(benchmark::State& state, Duration ttl) {
  Fixture fixture(10);
  const HostPoolKey key = KeyOf(0);
  fixture.pool->Release(fixture.LeaseNew(key), Outcome::kOk, kNow);
  AcquireRequest request = Fixture::RequestFor(key);
  request.lease_ttl = ttl;
  for (auto _ : state) Pair(*fixture.pool, request);
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK_CAPTURE(AcquireRelease, for_a_call, Duration(0));
BENCHMARK_CAPTURE(AcquireRelease, with_ttl, std::chrono::seconds(30));

void OnTwoTargets(benchmark::State& state) {
  static Fixture* fixture = nullptr;
  static HostPoolKey keys[2];
  if (state.thread_index() == 0) {
    fixture = new Fixture(10);
    int found = 0;
    uint16_t first_shard = 0;
    for (int i = 0; found < 2; ++i) {
      const HostPoolKey key = KeyOf(i);
      const LeaseId lease = fixture->LeaseNew(key);
      fixture->pool->Release(lease, Outcome::kOk, kNow);
      if (found == 1 && lease.shard == first_shard) continue;
      first_shard = lease.shard;
      keys[found++] = key;
    }
  }
  const HostPoolKey& key = keys[state.thread_index() & 1];
  AcquireRequest request = Fixture::RequestFor(key);
  for (auto _ : state) Pair(*fixture->pool, request);
  state.SetItemsProcessed(state.iterations());
  if (state.thread_index() == 0) {
    delete fixture;
    fixture = nullptr;
  }
}
BENCHMARK(OnTwoTargets)->Threads(1)->UseRealTime();
BENCHMARK(OnTwoTargets)->Threads(2)->UseRealTime();

void KnownTargets(benchmark::State& state) {
  constexpr int kHot = 64;
  const int known = static_cast<int>(state.range(0));
  Fixture fixture(known + 1);
  std::vector<HostPoolKey> keys;
  for (int i = 0; i < known; ++i) {
    const HostPoolKey key = KeyOf(i);
    fixture.pool->Release(fixture.LeaseNew(key), Outcome::kOk, kNow);
    // Spread evenly.
    if (i % (known / std::min(known, kHot)) == 0) keys.push_back(key);
  }
  size_t next = 0;
  for (auto _ : state) {
    Pair(*fixture.pool, Fixture::RequestFor(keys[next]));
    next = next + 1 == keys.size() ? 0 : next + 1;
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(KnownTargets)->Arg(1)->Arg(64)->Arg(1000)->Arg(100'000);

// Ticks of all shards without due timers: the cost of idle targets.
void IdleTicks(benchmark::State& state) {
  const int known = static_cast<int>(state.range(0));
  Fixture fixture(known + 1);
  for (int i = 0; i < known; ++i) {
    fixture.pool->Release(fixture.LeaseNew(KeyOf(i)), Outcome::kOk, kNow);
  }
  for (auto _ : state) {
    for (int i = 0; i < fixture.pool->shards(); ++i)
      fixture.pool->Tick(i, kNow);
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(IdleTicks)->Arg(1)->Arg(1000)->Arg(100'000);

void IdleConnections(benchmark::State& state) {
  const int connections = static_cast<int>(state.range(0));
  Fixture fixture(connections);
  const HostPoolKey key = KeyOf(0);
  std::vector<LeaseId> leases;
  for (int i = 0; i < connections; ++i) leases.push_back(fixture.LeaseNew(key));
  for (const LeaseId& lease : leases) {
    fixture.pool->Release(lease, Outcome::kOk, kNow);
  }
  const AcquireRequest request = Fixture::RequestFor(key);
  for (auto _ : state) Pair(*fixture.pool, request);
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(IdleConnections)->Arg(1)->Arg(100)->Arg(10'000);

void Waiters(benchmark::State& state) {
  const int waiters = static_cast<int>(state.range(0));
  Fixture fixture(1);
  const HostPoolKey key = KeyOf(0);
  Caller* granted = nullptr;
  LeaseId lease = fixture.LeaseNew(key);
  std::vector<Caller> callers(waiters);
  AcquireRequest request = Fixture::RequestFor(key);
  request.deadline = kNow + std::chrono::seconds(30);
  for (Caller& caller : callers) {
    caller.granted = &granted;
    request.waiter = &caller;
    fixture.pool->Acquire(request, kNow);
  }
  for (auto _ : state) {
    fixture.pool->Release(lease, Outcome::kOk, kNow);
    lease = granted->lease;
    request.waiter = granted;
    fixture.pool->Acquire(request, kNow);
  }
  state.SetItemsProcessed(state.iterations());
  fixture.pool->Shutdown(kNow);
}
BENCHMARK(Waiters)->Arg(1)->Arg(100)->Arg(10'000);

}  // namespace
}  // namespace hotline::pool

// A second thread sleeps throughout: in a process with a single thread the C
// library's mutexes omit their atomic instructions, which no server can.
int main(int argc, char** argv) {
  std::promise<void> done;
  std::thread sleeper([until = done.get_future()] { until.wait(); });
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  done.set_value();
  sleeper.join();
}
