// Sheds load: refuses new calls before the process runs out of memory or has
// too many calls to serve any of them.
//
//   if (ErrorPtr error = overload.Enter(bytes, now)) return error;
//   ...
//   overload.Leave();
//
// Two limits are checked when a call arrives: the resident memory of the
// process, and the calls under way. Calls that run continue; a refused caller
// learns when to retry. A third limit, on answers left unread, is
// AnswerMemory's.
//
// Memory is sampled, by the call that arrives 100 ms after the last sample, or
// sooner if many bytes have come in since.
//
// Thread safety: every method may be called from any thread. None blocks.
//
// Invariants:
//   1. However short memory is, kAlways calls may run.
//   2. calls() never exceeds max_calls, but for a change of that limit.
#ifndef HOTLINE_SERVER_BROKER_OVERLOAD_H_
#define HOTLINE_SERVER_BROKER_OVERLOAD_H_

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string_view>

#include "base/log.h"
#include "base/time.h"
#include "server/broker/error.h"
#include "server/broker/options.h"

namespace hotline::server {

// Why a call was refused: the label of shed_total.
enum class Shed : uint8_t { kMemory, kCalls, kAnswers };
inline constexpr std::array<std::string_view, 3> kSheds = {"memory", "calls",
                                                           "answers"};

class Overload {
 public:
  // Returns the bytes in use. Called at each sample.
  using MemoryFn = std::function<int64_t()>;
  // Called when a call is refused, at most once a second; `others` were refused
  // since the last time. Must not block.
  using ShedFn = std::function<void(Shed why, int64_t limit, uint64_t others)>;

  Overload(OverloadLimits limits, MemoryFn memory, ShedFn on_shed = nullptr);

  void Reconfigure(OverloadLimits limits);

  // Null: a call whose request has `bytes` may begin; Leave must follow.
  // Errors: RESOURCE_EXHAUSTED/OVERLOADED with RetryInfo; Leave must not
  // follow.
  ErrorPtr Enter(int64_t bytes, Instant now);
  // The error for a caller that does not read its answers; `limit` is that of
  // all unread answers, in bytes. Counts as kAnswers.
  ErrorPtr RefuseAnswers(int64_t limit) {
    return Refuse(Shed::kAnswers, limit);
  }
  void Leave() { calls_.fetch_sub(1, std::memory_order_relaxed); }

  int calls() const { return calls_.load(std::memory_order_relaxed); }
  uint64_t shed(Shed why) const {
    return shed_[static_cast<size_t>(why)].load(std::memory_order_relaxed);
  }

 private:
  bool IsMemoryShort(int64_t most, int64_t bytes, Instant now);
  ErrorPtr Refuse(Shed why, int64_t limit);

  const MemoryFn memory_;
  const ShedFn on_shed_;
  LogLimiter limiter_{std::chrono::seconds(1)};
  std::atomic<int64_t> max_memory_;
  std::atomic<int> max_calls_;
  std::atomic<int> calls_{0};
  std::atomic<int64_t> next_sample_ns_{0};
  std::atomic<int64_t> bytes_since_{0};
  std::atomic<bool> short_{false};
  std::array<std::atomic<uint64_t>, kSheds.size()> shed_{};
};

// This process's resident memory, in bytes; 0 if it cannot be read.
int64_t ResidentBytes();

// The limit of this process's memory cgroups (version 1 or 2); 0: none.
int64_t CgroupMemoryLimit();

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_OVERLOAD_H_
