#include "server/broker/overload.h"

#include <fcntl.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace hotline::server {
namespace {

constexpr Duration kSampleInterval = std::chrono::milliseconds(100);
// Memory is sampled earlier once requests of limit / kShare have come in.
constexpr int64_t kShare = 64;
// The cost of a call beside its request, roughly.
constexpr int64_t kCallBytes = 16 << 10;
constexpr Duration kRetryAfter = std::chrono::seconds(1);
// As many calls may run however short memory is. Otherwise, if something other
// than calls held the memory, no call would ever be served again.
constexpr int kAlways = 8;
// Cgroup files without a limit have a number above this.
constexpr int64_t kNoLimit = int64_t{1} << 60;

// The number in a file; 0 if there is none.
int64_t NumberIn(const std::string& path) {
  std::ifstream file(path);
  int64_t number = 0;
  return file >> number ? number : 0;
}

}  // namespace

Overload::Overload(OverloadLimits limits, MemoryFn memory, ShedFn on_shed)
    : memory_(std::move(memory)),
      on_shed_(std::move(on_shed)),
      max_memory_(limits.max_memory_bytes),
      max_calls_(limits.max_calls) {}

void Overload::Reconfigure(OverloadLimits limits) {
  max_memory_ = limits.max_memory_bytes;
  max_calls_ = limits.max_calls;
}

ErrorPtr Overload::Enter(int64_t bytes, Instant now) {
  const int64_t most = max_memory_.load(std::memory_order_relaxed);
  if (most > 0 && calls() >= kAlways && IsMemoryShort(most, bytes, now)) {
    return Refuse(Shed::kMemory, most);
  }
  const int max_calls = max_calls_.load(std::memory_order_relaxed);
  if (calls_.fetch_add(1, std::memory_order_relaxed) >= max_calls) {
    Leave();
    return Refuse(Shed::kCalls, max_calls);
  }
  return nullptr;
}

bool Overload::IsMemoryShort(int64_t most, int64_t bytes, Instant now) {
  const int64_t cost = bytes + kCallBytes;
  const int64_t since =
      bytes_since_.fetch_add(cost, std::memory_order_relaxed) + cost;
  const int64_t now_ns = now.time_since_epoch().count();
  int64_t next = next_sample_ns_.load(std::memory_order_relaxed);
  if (now_ns < next && since < most / kShare) {
    return short_.load(std::memory_order_relaxed);
  }
  // One thread samples, the others use the last sample.
  if (!next_sample_ns_.compare_exchange_strong(
          next, now_ns + kSampleInterval.count(), std::memory_order_relaxed)) {
    return short_.load(std::memory_order_relaxed);
  }
  bytes_since_.store(0, std::memory_order_relaxed);
  bool is_short = memory_() > most;
  if (is_short) {
    // The allocator may still hold freed memory.
    malloc_trim(0);
    is_short = memory_() > most;
  }
  short_.store(is_short, std::memory_order_relaxed);
  return is_short;
}

ErrorPtr Overload::Refuse(Shed why, int64_t limit) {
  const auto index = static_cast<size_t>(why);
  shed_[index].fetch_add(1, std::memory_order_relaxed);
  if (limiter_.Admit(MonotonicNow())) {
    const uint64_t others = limiter_.TakeSuppressed();
    HOTLINE_LOG(kWarning, "overloaded: new work is refused",
                {{"reason", kSheds[index]},
                 {"limit", limit},
                 {"calls", calls()},
                 {"suppressed", others}});
    if (on_shed_) on_shed_(why, limit, others);
  }
  static constexpr const char* kWhats[kSheds.size()] = {
      "memory is above ", "calls are at ",
      "the caller leaves its answers unread; in memory there may be "};
  ErrorPtr error = MakeError(
      "OVERLOADED", absl::StrCat("the broker is overloaded: ", kWhats[index],
                                 limit, why == Shed::kCalls ? "" : " bytes"));
  error->metadata.emplace_back("limit", kSheds[index]);
  error->retry_after = kRetryAfter;
  return error;
}

int64_t ResidentBytes() {
  // Kept open: under load there may be no descriptor left.
  static const int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  char text[128];
  const ssize_t size = pread(file, text, sizeof text - 1, 0);
  if (size <= 0) return 0;
  text[size] = '\0';
  char* resident = nullptr;
  std::strtoll(text, &resident, 10);
  return std::strtoll(resident, nullptr, 10) * sysconf(_SC_PAGESIZE);
}

int64_t CgroupMemoryLimit() {
  int64_t least = kNoLimit;
  const auto look = [&least](const std::string& path) {
    const int64_t limit = NumberIn(path);
    if (limit > 0) least = std::min(least, limit);
  };
  std::ifstream groups("/proc/self/cgroup");
  std::string line;  // "0::/path" (version 2) or "5:memory:/path".
  while (std::getline(groups, line)) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string kinds = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (kinds.empty()) {
      // In a container the process's own group is mounted as the root.
      look("/sys/fs/cgroup" + path + "/memory.max");
      look("/sys/fs/cgroup/memory.max");
    } else if (absl::StrCat(",", kinds, ",").find(",memory,") !=
               std::string::npos) {
      look("/sys/fs/cgroup/memory" + path + "/memory.limit_in_bytes");
      look("/sys/fs/cgroup/memory/memory.limit_in_bytes");
    }
  }
  return least == kNoLimit ? 0 : least;
}

}  // namespace hotline::server
