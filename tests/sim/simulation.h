// Random callers over a pool and a virtual network, from one seed.
#ifndef HOTLINE_TESTS_SIM_SIMULATION_H_
#define HOTLINE_TESTS_SIM_SIMULATION_H_

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "pool/inspector.h"
#include "pool/pool.h"
#include "tests/sim/dice.h"
#include "tests/sim/network.h"
#include "tests/sim/schedule.h"

namespace hotline::sim {

// After every event the Inspector checks the pool's invariants, and the results
// that the callers get are compared with a model of the lines and leases.
class Simulation {
 public:
  explicit Simulation(uint64_t seed, bool trace = false);
  ~Simulation();

  // Runs until `events` calls into the pool were made, then releases
  // everything. Returns the first problem; empty if there was none.
  std::string Run(int events);

  int events() const { return events_; }
  // Counts of events, so that a simulation in which nothing happens is noticed.
  uint64_t granted() const { return granted_; }
  uint64_t queued() const { return queued_; }
  const PeerEvents& peer_events() const { return network_->peer_events(); }
  // Connections that ended on probation.
  uint64_t early() const { return network_->early(); }
  // Breakers that opened, and callers that they rejected.
  uint64_t opened() const { return opened_; }
  uint64_t barred() const { return barred_; }
  // Leases on a connection of another loop than the caller's.
  uint64_t away() const { return away_; }
  // Connections that an operator's commands closed.
  uint64_t evicted() const { return evicted_; }

 private:
  struct LeaseModel;
  class Caller;

  // One line of one HostPool.
  using Line = std::deque<Caller*>;

  void SetUpNetwork();
  void SetUpPool();
  void OnEvent(const pool::PoolEvent& event);
  pool::TargetConfig RandomTargetConfig();
  pool::PoolConfig RandomPoolConfig();
  void Step();
  void Act();
  void Post(const std::function<void()>& event);
  void AfterEvent();
  void CheckModel();
  void WindDown();
  void CheckCounters();
  void Expect(bool holds, const std::string& what);
  void Trace(const Caller* caller, const std::string& what);

  void ChooseKeyAndTerms(Caller* caller);
  void Acquire(Caller* caller);
  // Whether a connection on the caller's loop could be lent to it.
  bool HasLendableAtHome(const Caller& caller) const;
  bool IsAway(const Caller& caller, pool::ConnId conn) const;
  // `at_home`: HasLendableAtHome, before the Acquire.
  void OnResult(Caller* caller, pool::AcquireResult result, bool at_home);
  void Cancel(Caller* caller);
  void Release(Caller* caller);
  void BeginCall(Caller* caller);
  void EndCall(Caller* caller);
  void Renew(Caller* caller);
  void TryStale();
  void Prewarm();
  void Reconfigure();
  void Operate();

  void OnGrant(Caller* caller, const pool::Grant& grant);
  void OnReject(Caller* caller, const pool::Rejection& rejection);
  void TakeLease(Caller* caller, const pool::Grant& grant);
  void CheckGrant(const Caller& caller, const pool::Grant& grant,
                  bool other_leases);
  void CheckRefusal(const pool::Rejection& rejection);
  void LeaveLine(Caller* caller);
  void Supersede(Caller* old);
  std::string LineName(const Caller& caller) const;
  pool::LeaseStatus Predict(const LeaseModel& lease) const;

  const uint64_t seed_;
  const bool trace_;
  Dice dice_;
  Schedule schedule_;
  NetworkOptions network_options_;
  std::unique_ptr<Network> network_;
  pool::PoolConfig config_;
  std::map<std::string, pool::TargetConfig> target_configs_;
  std::vector<std::string> targets_;
  std::unique_ptr<pool::Pool> pool_;
  std::unique_ptr<pool::Inspector> inspector_;
  std::vector<std::unique_ptr<Caller>> callers_;
  std::map<std::string, Line> lines_;
  std::unordered_map<pool::ConnId, std::vector<std::shared_ptr<LeaseModel>>>
      leases_on_;
  std::deque<LeaseId> old_leases_;
  bool shut_down_ = false;
  int pace_us_ = 0;          // The most time that passes in a step.
  int network_percent_ = 0;  // Of steps: an event of the network.
  int depth_ = 0;
  int events_ = 0;
  int most_events_ = 0;
  uint64_t acquires_ = 0;
  uint64_t repeats_ = 0;  // Acquires that returned an existing lease.
  pool::CallTag last_call_ = 0;
  uint64_t granted_ = 0;
  uint64_t queued_ = 0;
  uint64_t rejected_ = 0;
  uint64_t cancelled_ = 0;
  uint64_t opened_ = 0;
  uint64_t barred_ = 0;
  uint64_t away_ = 0;
  uint64_t evicted_ = 0;
  // By the pool's events.
  std::unordered_set<pool::ConnId> ready_;
  std::unordered_set<pool::ConnId> closed_;
  std::string problem_;
};

}  // namespace hotline::sim

#endif  // HOTLINE_TESTS_SIM_SIMULATION_H_
