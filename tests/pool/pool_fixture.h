// The fixture of the pool's tests: a pool, a transport that only records what
// it is asked for, and a clock that the test advances. One event at a time.
#ifndef HOTLINE_TESTS_POOL_POOL_FIXTURE_H_
#define HOTLINE_TESTS_POOL_POOL_FIXTURE_H_

#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "pool/inspector.h"
#include "pool/pool.h"

namespace hotline::pool {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

inline constexpr const char* kA = "https://a.test:443";
inline constexpr const char* kB = "https://b.test:443";
inline constexpr const char* kC = "https://c.test:443";

// Carries nothing out: the test reports the results.
class RecordingTransport final : public Transport {
 public:
  struct Asked {
    ConnId id = 0;
    std::string target;
    CloseReason reason = CloseReason::kError;  // Of a close.
    LoopIndex loop = kNoLoop;                  // Of a dial.
  };

  void Dial(ConnId id, std::shared_ptr<const HostPoolKey> key,
            LoopIndex loop) override;
  void Probe(ConnId id, std::shared_ptr<const HostPoolKey> key) override;
  void Close(ConnId id, CloseReason reason) override;
  void WakeAt(int shard, Instant when) override;

  // Requests not answered yet, oldest first.
  std::deque<Asked> dials;
  std::deque<Asked> probes;
  std::deque<Asked> closes;
  // The earliest tick asked for since the last one, by shard.
  std::map<int, Instant> wakes;
};

// One Acquire and its end.
class Caller final : public Waiter {
 public:
  void OnGrant(const Grant& grant) override { grants.push_back(grant); }
  void OnReject(Rejection rejection) override {
    rejections.push_back(std::move(rejection));
  }

  bool waiting() const { return grants.empty() && rejections.empty(); }
  bool granted() const { return grants.size() == 1 && rejections.empty(); }
  bool rejected() const { return grants.empty() && rejections.size() == 1; }
  const Grant& grant() const { return grants.at(0); }
  const LeaseId& lease() const { return grants.at(0).lease; }
  ConnId conn() const { return grants.at(0).conn; }
  const Rejection& rejection() const { return rejections.at(0); }
  RejectReason reason() const { return rejections.at(0).reason; }

  WaiterId id = 0;
  bool left = false;  // Cancelled in time.
  std::vector<Grant> grants;
  std::vector<Rejection> rejections;
};

struct Ask {
  const char* target = kA;
  Mode mode = Mode::kShared;
  Reuse reuse = Reuse::kPrefer;
  bool may_wait = true;
  Duration wait = seconds(10);
  Duration ttl = seconds(30);
  const char* client = "";
  const char* request_id = "";
  const char* group = "";
  LoopIndex loop = kNoLoop;
};

// Each verb is one event, after which the invariants are checked. At the end of
// a test everything is released, and nothing may be left.
class PoolTest : public ::testing::Test {
 protected:
  PoolTest();
  ~PoolTest() override;
  void TearDown() override;

  // The pool; made from config_ and target_ on first use.
  Pool& pool();

  // --- Events of borrowers ---
  Caller& Acquire(const Ask& ask = {});
  bool Cancel(Caller& caller);
  LeaseStatus Release(const LeaseId& lease, Outcome outcome = Outcome::kOk);
  LeaseStatus Release(const Caller& caller, Outcome outcome = Outcome::kOk) {
    return Release(caller.lease(), outcome);
  }
  LeaseStatus ReleaseNamed(const char* request_id,
                           Outcome outcome = Outcome::kOk,
                           CallTag* running = nullptr);
  CallStart BeginCall(const LeaseId& lease, CallTag call = 1);
  void EndCall(const LeaseId& lease);
  RenewResult Renew(const LeaseId& lease, Duration ttl);
  void Warm(const char* target);
  // Of the default HostPool, or of the one with this pool_group.
  PrewarmResult Prewarm(int connections, int most, const char* group = "");
  void Reconfigure();
  void Shutdown();

  // --- Events of the transport; the oldest request is answered first ---
  // Placed as asked for, or on `elsewhere`; on loop 0 if neither says.
  ConnId Dialed(int streams = 1, LoopIndex elsewhere = kNoLoop);
  void DialFailed(FailureClass failure_class = FailureClass::kNetwork,
                  const char* reason = "CONNECT_FAILED");
  void Probed(bool passed);
  // Answers all outstanding closes.
  void CloseAll();
  void Closed(ConnId id, CloseReason reason = CloseReason::kPeerClosed);
  void GoAway(ConnId id);
  // The same, on probation.
  void ClosedEarly(ConnId id, CloseReason reason = CloseReason::kPeerClosed);
  void GoAwayEarly(ConnId id);
  void Served(ConnId id);
  void KeepAliveSaid(ConnId id, Duration timeout);
  void ErrorCounted(ConnId id, int times = 1);
  void ConcurrencyChanged(ConnId id, int streams);
  // Advances the clock, with the ticks that were asked for.
  void Pass(Duration time);

  // --- Starting points ---
  // A caller that was granted a connection, dialled for it if necessary.
  Caller& Lent(const Ask& ask = {}, int streams = 1);
  // An idle connection that has served.
  ConnId Idle(const Ask& ask = {}, int streams = 1);

  // --- State ---
  size_t dials() const { return transport_.dials.size(); }
  // The loop that the oldest dial is to be placed on.
  LoopIndex dial_loop() const { return transport_.dials.front().loop; }
  size_t probes() const { return transport_.probes.size(); }
  size_t closes() const { return transport_.closes.size(); }
  // The reason of the only outstanding close.
  CloseReason OnlyClose() const;
  Snapshot Take(bool rows = false);
  TargetRow Row(const char* target = kA);
  TargetCounters Counters(const char* target = kA) {
    return Row(target).counters;
  }
  int Count(ConnState state, const char* target = kA) {
    return Row(target).connections[static_cast<int>(state)];
  }
  ConnectionRow Conn(ConnId id);

  void Check();

  PoolConfig config_;
  TargetConfig target_;
  std::map<std::string, TargetConfig> targets_;  // Overrides target_.
  EventFn on_event_;
  RecordingTransport transport_;
  Instant now_ = Instant{} + hours(1);
  DialTimings timings_;  // Of each dial.
  DialError early_{FailureClass::kNetwork, "CONNECT_FAILED", "it ended early"};

 private:
  TargetConfig ConfigOf(const std::string& target) const;
  void Tick();

  std::unique_ptr<Pool> pool_;
  std::unique_ptr<Inspector> inspector_;
  std::deque<Caller> callers_;
  uint64_t next_secret_ = 1000;
};

}  // namespace hotline::pool

#endif  // HOTLINE_TESTS_POOL_POOL_FIXTURE_H_
