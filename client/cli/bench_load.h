// The load of `hotline bench`: operations kept in flight, and what they took.
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

// Starts one operation, which ends in `done`, once: from any thread, maybe from
// inside the call.
class BenchDriver {
 public:
  virtual ~BenchDriver() = default;
  virtual void Start(std::function<void(absl::Status)> done) = 0;
};

struct BenchPlan {
  int concurrency = 64;  // Operations in flight, at most.
  Duration duration{0};  // Zero: no end but `requests`.
  int64_t requests = 0;  // In all; zero: no end but `duration`.
  double rate = 0;       // Started per second; zero: as fast as they end.
};

struct BenchResult {
  LatencyHistogram latency;  // Of those that succeeded.
  std::map<std::string, uint64_t> errors;
  absl::Status first_error;
  Duration took{0};
  bool interrupted = false;

  uint64_t ok() const { return latency.total(); }
  uint64_t failed() const;
};

// Closed loop: each of `concurrency` slots starts its next operation when the
// last one has ended. Open loop (with a rate): operation k is due at k / rate,
// and its latency counts from there, however late a slot was free for it; so a
// stall shows in all the operations it held up.
class BenchLoad {
 public:
  // Drivers take turns over the slots; they must outlive this.
  BenchLoad(const BenchPlan& plan, std::vector<BenchDriver*> drivers);

  // Runs to the end of the plan or until `interrupted` is set. `tick` is called
  // about once a second with what there is so far.
  BenchResult Run(const std::atomic<bool>& interrupted,
                  const std::function<void(const BenchResult&)>& tick);

 private:
  struct Slot {
    BenchDriver* driver = nullptr;
    Instant due{};
    // Whether Start is on the stack, and has ended meanwhile: so that ends
    // from inside it make a loop and not a recursion.
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
  // When the slot's next operation was due, if there is one to start now.
  bool Next(size_t slot);
  void Record(size_t slot, const absl::Status& status, Instant now);
  // Starts what is due; returns when something will be.
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
