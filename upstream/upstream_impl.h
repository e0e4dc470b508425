// The implementation of Upstream, as its .cc files share it: upstream.cc has
// what its users call, dials.cc what runs for the pool. For no other file.
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
struct Settings {
  Options options;
  std::shared_ptr<const DialSettings> dial;

  TargetPolicy PolicyOf(const std::string& target) const {
    return options.target_policy ? options.target_policy(target)
                                 : TargetPolicy();
  }
};

// Keeps what has not changed since `before`, which may be null.
//
// Errors: INVALID_ARGUMENT for options that make no sense.
absl::StatusOr<std::shared_ptr<const Settings>> MakeSettings(
    Options options, std::shared_ptr<net::TlsSessions> sessions,
    const Settings* before);

class UpstreamImpl final : public Upstream, private ConnectionOwner {
 public:
  UpstreamImpl(std::shared_ptr<const Settings> settings,
               std::shared_ptr<net::TlsSessions> sessions)
      : sessions_(std::move(sessions)), settings_(std::move(settings)) {}
  ~UpstreamImpl() override { Stop(); }

  absl::Status Init();

  void Observe(Observer observer) override { observer_ = std::move(observer); }
  void Start(pool::TransportEvents* events,
             std::function<void(int, Instant)> tick) override;
  void Stop() override;
  absl::Status Reconfigure(Options options) override;
  absl::StatusOr<bool> RefreshTlsFiles() override;

  CallId StartCall(pool::ConnId conn, const Request& request,
                   CallHandler* handler, Instant now) override;
  CallId OpenStream(pool::ConnId conn, const Request& head, bool end,
                    StreamHandler* handler, Instant now) override;
  size_t SendBody(pool::ConnId conn, CallId call, std::string_view piece,
                  bool end) override;
  void Consume(pool::ConnId conn, CallId call, size_t bytes) override;
  void ResumeAnswer(pool::ConnId conn, CallId call) override;
  void CancelCall(pool::ConnId conn, CallId call, CallError why) override;
  std::shared_ptr<const ConnectionFacts> Describe(
      pool::ConnId conn) const override;

  Timer RunAt(Instant when, absl::AnyInvocable<void()> work) override;
  void CancelTimer(const Timer& timer) override;
  std::vector<net::Loop*> loops() const override;
  Duration LoopLag() const override;
  std::vector<LoopFigures> Loops() const override;
  DnsCounters Dns() const override { return resolver_->counters(); }

  std::vector<std::pair<std::string, Counters>> TargetCounters() const override;
  std::vector<AddressRow> Addresses(const std::string& target) const override {
    return keeper_->Rows(target);
  }
  std::optional<IpAddress> AddressOf(pool::ConnId conn) const override;
  bool Cool(const std::string& target, const IpAddress& address, Instant until,
            std::string_view why, Instant now) override {
    return keeper_->Cool(target, address, until, why, now);
  }
  std::optional<std::vector<pool::ConnId>> Block(const AddressBlock& block,
                                                 Instant now) override;
  bool Unblock(const AddressBlock& block, Instant now) override {
    return keeper_->Unblock(block, now);
  }
  std::vector<AddressBlock> Blocks(Instant now) const override {
    return keeper_->blocks().All(now);
  }

  // pool::Transport:
  void Dial(pool::ConnId id, std::shared_ptr<const pool::HostPoolKey> key,
            pool::LoopIndex on) override;
  void Probe(pool::ConnId id,
             std::shared_ptr<const pool::HostPoolKey> key) override;
  void Close(pool::ConnId conn, pool::CloseReason reason) override;
  void WakeAt(int shard, Instant when) override;

 private:
  static constexpr int kMaxShards = 65536;

  class ProbeCall;

  // On one loop, and touched on it only.
  struct Dials {
    absl::flat_hash_map<pool::ConnId, std::shared_ptr<upstream::Dial>> running;
    // Tests of addresses.
    absl::flat_hash_map<uint64_t, std::shared_ptr<upstream::Dial>> tests;
  };

  // ConnectionOwner:
  void OnConnectionClosed(Connection& connection,
                          pool::CloseReason reason) override;
  void OnKeepAlive(Connection& connection, Duration timeout) override {
    events_->KeepAliveSaid(connection.id(), timeout, MonotonicNow());
  }
  void OnConcurrency(Connection& connection, int max_streams) override {
    events_->ConcurrencyChanged(connection.id(), max_streams, MonotonicNow());
  }
  void OnGoAway(Connection& connection) override {
    if (observer_.on_go_away) {
      observer_.on_go_away(connection.target(), connection.id());
    }
    EndLending(connection);
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

  std::shared_ptr<const Settings> settings() const {
    MutexLock lock(&mu_);
    return settings_;
  }
  void set_settings(std::shared_ptr<const Settings> settings);

  size_t NextLoop() { return next_loop_.fetch_add(1) % loops_.size(); }
  uint64_t Random();
  upstream::Dial::Spec SpecFor(std::shared_ptr<const pool::HostPoolKey> key,
                               const TargetPolicy& policy,
                               const Options& options);
  void StartDial(size_t loop, pool::ConnId id,
                 std::shared_ptr<const pool::HostPoolKey> key);
  void TestAddress(std::shared_ptr<const pool::HostPoolKey> key,
                   const IpAddress& address, AddressKeeper::TestDone done);
  void StartTest(size_t loop, std::shared_ptr<const pool::HostPoolKey> key,
                 const IpAddress& address, AddressKeeper::TestDone done);
  void DrainAddress(const std::string& target, const IpAddress& address);
  void EndLending(Connection& connection) {
    const auto early = connection.TakeEarlyEnd();
    events_->GoAway(connection.id(), early ? &*early : nullptr, MonotonicNow());
  }
  void FinishDial(size_t loop, pool::ConnId id, const std::string& target,
                  DialResult result);
  void ShutOutIfBlocked(Connection* connection);
  // Also takes note of the certificate.
  void CountHandshakes(const std::string& target, const DialResult& result);
  void FailDial(pool::ConnId id, const char* message);
  void NoteUnsolicited(Connection& connection);
  void StopLoop(size_t loop);
  void Tick(int shard, Instant armed);
  std::string ProfileFor(const pool::HostPoolKey& key,
                         const TargetPolicy& policy, const Options& options);
  // The target's own counters. If there are too many, the smallest ones are
  // merged to make room.
  Counters& CountersOf(const std::string& target)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const std::shared_ptr<net::TlsSessions> sessions_;
  ConnectionTable table_;
  std::vector<std::unique_ptr<net::Loop>> loops_;

  mutable Mutex mu_;
  std::map<std::string, Counters> counters_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<const Settings> settings_ ABSL_GUARDED_BY(mu_);
  // Of targets with several TLS profiles: dials so far.
  std::map<std::string, size_t> profile_turns_ ABSL_GUARDED_BY(mu_);

  std::unique_ptr<Resolver> resolver_;
  std::unique_ptr<AddressKeeper> keeper_;
  std::vector<Dials> dials_;  // One per loop.
  std::atomic<uint64_t> random_{std::random_device()()};
  std::atomic<uint64_t> last_test_{0};
  std::atomic<size_t> next_loop_{0};
  pool::TransportEvents* events_ = nullptr;
  std::function<void(int, Instant)> tick_;
  Observer observer_;

  // The next tick of each shard, if any.
  Mutex ticks_mu_;
  absl::flat_hash_map<int, net::Loop::Deadline> ticks_
      ABSL_GUARDED_BY(ticks_mu_);

  // Stopping: nothing new begins. Stopped: nothing is reported any more.
  std::atomic<bool> stopping_{false};
  std::atomic<bool> stopped_{false};
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_UPSTREAM_IMPL_H_
