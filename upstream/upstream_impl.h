// The inside of Upstream: what runs on the loops, for upstream.cc alone.
#ifndef HOTLINE_UPSTREAM_UPSTREAM_IMPL_H_
#define HOTLINE_UPSTREAM_UPSTREAM_IMPL_H_

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"
#include "net/loop.h"
#include "upstream/address/keeper.h"
#include "upstream/address/resolver.h"
#include "upstream/connection/connection.h"
#include "upstream/connection/connection_table.h"
#include "upstream/dial/dial.h"
#include "upstream/upstream.h"

namespace hotline::upstream {

// What Reconfigure replaces.
struct Live {
  Options options;
  std::shared_ptr<const DialSettings> dial;
};

// Takes over what has not changed since `before`, which may be null.
//
// Errors: INVALID_ARGUMENT for options that make no sense.
absl::StatusOr<std::shared_ptr<const Live>> MakeLive(
    Options options, std::shared_ptr<net::TlsSessions> sessions,
    const Live* before);

class Upstream::Impl final : public ConnectionOwner {
 public:
  Impl(std::shared_ptr<const Live> live,
       std::shared_ptr<net::TlsSessions> sessions)
      : sessions_(std::move(sessions)), live_(std::move(live)) {}

  absl::Status Init();
  void Start(pool::TransportEvents* events,
             std::function<void(int, Instant)> tick);
  void Stop();

  void Dial(pool::ConnId id, std::shared_ptr<const pool::HostPoolKey> key);
  void Probe(pool::ConnId id, pool::Handle handle,
             std::shared_ptr<const pool::HostPoolKey> key);
  void WakeAt(int shard, Instant when);
  Timer RunAt(Instant when, absl::AnyInvocable<void()> work);

  void OnConnectionClosed(Connection& connection,
                          pool::CloseReason reason) override;
  void OnKeepAlive(Connection& connection, Duration timeout) override {
    events_->KeepAliveSaid(connection.id(), timeout, MonotonicNow());
  }
  void OnConcurrency(Connection& connection, int max_streams) override {
    events_->ConcurrencyChanged(connection.id(), max_streams, MonotonicNow());
  }
  void OnGoAway(Connection& connection) override {
    const auto early = connection.TakeEarlyEnd();
    events_->GoAway(connection.id(), early ? &*early : nullptr, MonotonicNow());
  }
  void OnAnswered(Connection& connection) override {
    keeper_->Answered(connection.target(), connection.ticket());
    events_->Served(connection.id(), MonotonicNow());
  }
  void OnErrors(Connection& connection, int count) override {
    for (int i = 0; i < count; ++i) {
      events_->ErrorCounted(connection.id(), MonotonicNow());
    }
  }

  std::shared_ptr<const Live> live() const {
    MutexLock lock(&mu_);
    return live_;
  }
  void set_live(std::shared_ptr<const Live> live) {
    keeper_->Configure(live->options.addresses);
    MutexLock lock(&mu_);
    live_.swap(live);
    profile_turns_.clear();
  }
  AddressKeeper& keeper() { return *keeper_; }

  const std::shared_ptr<net::TlsSessions> sessions_;
  ConnectionTable table_;
  std::vector<std::unique_ptr<net::Loop>> loops_;
  mutable Mutex mu_;
  std::map<std::string, Counters> counters_ ABSL_GUARDED_BY(mu_);

 private:
  static constexpr int kMaxShards = 65536;

  class ProbeCall;

  // Dials under way on one loop, and tests of addresses; touched on it only.
  struct Dials {
    absl::flat_hash_map<pool::ConnId, std::shared_ptr<upstream::Dial>> running;
    absl::flat_hash_map<uint64_t, std::shared_ptr<upstream::Dial>> tests;
  };

  size_t NextLoop() { return next_loop_.fetch_add(1) % loops_.size(); }
  uint64_t Random();
  upstream::Dial::Request RequestFor(
      std::shared_ptr<const pool::HostPoolKey> key, const TargetPolicy& policy,
      const Options& options);
  TargetPolicy PolicyOf(const Live& live, const std::string& target) const {
    const auto& ask = live.options.target_policy;
    return ask ? ask(target) : TargetPolicy();
  }
  void StartDial(size_t loop, pool::ConnId id,
                 std::shared_ptr<const pool::HostPoolKey> key);
  void TestAddress(std::shared_ptr<const pool::HostPoolKey> key,
                   const IpAddress& address, AddressKeeper::TestDone done);
  void StartTest(size_t loop, std::shared_ptr<const pool::HostPoolKey> key,
                 const IpAddress& address, AddressKeeper::TestDone done);
  void DrainAddress(const std::string& target, const IpAddress& address);
  void FinishDial(size_t loop, pool::ConnId id, const std::string& target,
                  DialResult result);
  void CountHandshakes(const std::string& target, const DialResult& result);
  void FailDial(pool::ConnId id, const char* message);
  void NoteUnsolicited(Connection& connection);
  void StopLoop(size_t loop);
  void Tick(int shard, Instant armed);
  std::string ProfileFor(const pool::HostPoolKey& key,
                         const TargetPolicy& policy, const Options& options);
  // REQUIRES: mu_ is held. Those of a target, or of all that have no room.
  Counters& CountersOf(const std::string& target)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  std::shared_ptr<const Live> live_ ABSL_GUARDED_BY(mu_);
  // Dials to targets with several TLS profiles; as many as are configured.
  std::map<std::string, size_t> profile_turns_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<Resolver> resolver_;
  std::unique_ptr<AddressKeeper> keeper_;
  std::vector<Dials> dials_;
  std::atomic<uint64_t> random_{std::random_device()()};
  std::atomic<uint64_t> last_test_{0};
  std::atomic<size_t> next_loop_{0};
  pool::TransportEvents* events_ = nullptr;
  std::function<void(int, Instant)> tick_;
  // Per shard, the work that will tell it the time, if any.
  Mutex ticks_mu_;
  absl::flat_hash_map<int, net::Loop::Deadline> ticks_
      ABSL_GUARDED_BY(ticks_mu_);
  // Stopping: what is asked is refused. Stopped: nothing is said any more.
  std::atomic<bool> stopping_{false};
  std::atomic<bool> stopped_{false};
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_UPSTREAM_IMPL_H_
