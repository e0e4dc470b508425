// The load of `hotline bench`: keeps operations in flight and measures them.
#ifndef HOTLINE_CLIENT_CLI_BENCH_LOAD_H_
#define HOTLINE_CLIENT_CLI_BENCH_LOAD_H_

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "base/latency_histogram.h"
#include "base/mutex.h"
#include "base/time.h"

namespace hotline::client {

// Starts one operation, which calls `done` once: from any thread, possibly
// before this returns.
class BenchDriver {
 public:
  virtual ~BenchDriver() = default;
  virtual void Start(std::function<void(absl::Status)> done) = 0;
};

struct BenchPlan {
  int concurrency = 64;  // Operations in flight, at most.
  Duration duration{0};  // Zero: limited by `requests` only.
  int64_t requests = 0;  // In total; zero: limited by `duration` only.
  double rate = 0;       // Per second; zero: as fast as operations end.
};

struct BenchResult {
  LatencyHistogram latency;  // Of successful operations.
  std::map<std::string, uint64_t> errors;
  absl::Status first_error;
  Duration took{0};
  bool interrupted = false;

  uint64_t ok() const { return latency.total(); }
  uint64_t failed() const;
};

// Closed loop: each of `concurrency` slots starts its next operation when the
// previous one has ended. Open loop (with a rate): operation k is due at k /
// rate, and its latency counts from then even if no slot was free, so a stall
// shows in all the operations that it delayed.
class BenchLoad {
 public:
  // Slots are assigned to the drivers in turn. The drivers must outlive this.
  BenchLoad(const BenchPlan& plan, std::vector<BenchDriver*> drivers);

  // Runs to the end of the plan or until `interrupted` is set. Calls `tick`
  // about once a second with the result so far.
  BenchResult Run(const std::atomic<bool>& interrupted,
                  const std::function<void(const BenchResult&)>& tick);

 private:
  struct Slot {
    BenchDriver* driver = nullptr;
    Instant due{};
    // 0: no Start is on the stack; 1: one is; 2: one is, and its operation has
    // ended. So operations that end inside Start cause a loop, not a recursion.
    std::atomic<int> starting{0};
  };
  struct alignas(64) Stripe {
    Mutex mu;
    LatencyHistogram latency ABSL_GUARDED_BY(mu);
    std::map<std::string, uint64_t> errors ABSL_GUARDED_BY(mu);
    absl::Status first_error ABSL_GUARDED_BY(mu);
  };

  void Drive(size_t slot);
  void OnDone(size_t slot, const absl::Status& status);
  // No more operations are to start.
  bool OverLocked(Instant now) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Assigns the next operation to the slot. False: none is due; it is free.
  bool Next(size_t slot);
  void Record(size_t slot, const absl::Status& status, Instant now);
  // Starts the operations that are due; returns when the next one will be.
  Instant StartDue(Instant now);
  Instant DueAt(int64_t operation) const;
  BenchResult Collect(Instant now);

  static constexpr size_t kStripes = 16;

  const BenchPlan plan_;
  Instant start_{};
  std::vector<Slot> slots_;
  std::array<Stripe, kStripes> stripes_;

  Mutex mu_;
  std::condition_variable changed_;
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;
  int64_t started_ ABSL_GUARDED_BY(mu_) = 0;
  int running_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<size_t> free_ ABSL_GUARDED_BY(mu_);
};

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_CLI_BENCH_LOAD_H_
