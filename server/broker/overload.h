// When there is too much: refuses new work before anything breaks.
//
// Two limits, each a number that is looked at when work arrives: the memory of
// the process, and the calls under way. What runs goes on; who is refused is
// told when to come again. A third one, on answers that a caller leaves unread,
// is AnswerMemory's.
//
// However short memory is, a few calls may always run: see kAlways.
//
// Memory is sampled, by whoever comes a tenth of a second after the last look,
// or sooner when much has come in meanwhile.
//
// Thread-safe. No call waits.
#ifndef HOTLINE_SERVER_BROKER_OVERLOAD_H_
#define HOTLINE_SERVER_BROKER_OVERLOAD_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <string_view>

#include "base/time.h"
#include "server/broker/error.h"
#include "server/broker/options.h"

namespace hotline::server {

// Why work was refused: the label of shed_total.
enum class Shed : uint8_t { kMemory, kCalls, kAnswers };
inline constexpr std::array<std::string_view, 3> kSheds = {"memory", "calls",
                                                           "answers"};

class Overload {
 public:
  // Bytes in use; asked at most a few times per limit's worth of requests.
  using MemoryFn = std::function<int64_t()>;

  Overload(OverloadLimits limits, MemoryFn memory);

  void Reconfigure(OverloadLimits limits);

  // Null: a call whose request has `bytes` may begin; Leave follows. Errors:
  // RESOURCE_EXHAUSTED/OVERLOADED with RetryInfo; nothing follows.
  ErrorPtr Enter(int64_t bytes, Instant now);
  // The caller does not read its answers, `limit` bytes in all.
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
  std::atomic<int64_t> max_memory_;
  std::atomic<int> max_calls_;
  std::atomic<int> calls_{0};
  std::atomic<int64_t> next_look_ns_{0};
  std::atomic<int64_t> bytes_since_{0};
  std::atomic<bool> short_{false};
  std::array<std::atomic<uint64_t>, kSheds.size()> shed_{};
};

// This process's resident memory, in bytes; 0 when the system does not say.
int64_t ResidentBytes();

// What the memory cgroups (version 1 or 2) allow this process; 0: no limit.
int64_t CgroupMemoryLimit();

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_OVERLOAD_H_
