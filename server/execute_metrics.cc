#include "server/execute_metrics.h"

#include <sched.h>

#include <algorithm>
#include <bit>

#include "absl/hash/hash.h"

namespace hotline::server {
namespace {

constexpr size_t kStripes = 8;

// By core: what runs at the same moment adds in different places, however many
// threads there are.
size_t MyStripe() {
  return static_cast<size_t>(std::max(sched_getcpu(), 0)) % kStripes;
}

bool EqualsIgnoringCase(std::string_view text, std::string_view lower) {
  if (text.size() != lower.size()) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if ((c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c) != lower[i]) return false;
  }
  return true;
}

// The index of `text` in `names`, or of the last name.
template <size_t n>
size_t IndexIn(const std::array<std::string_view, n>& names,
               std::string_view text) {
  for (size_t i = 0; i + 1 < n; ++i) {
    if (EqualsIgnoringCase(text, names[i])) return i;
  }
  return n - 1;
}

void Increment(std::atomic<uint64_t>& counter) {
  counter.fetch_add(1, std::memory_order_relaxed);
}

uint64_t Load(const std::atomic<uint64_t>& counter) {
  return counter.load(std::memory_order_relaxed);
}

}  // namespace

void HistogramCounts::Add(const AtomicHistogram& histogram) {
  for (int i = 0; i < Histogram::kBuckets; ++i) {
    counts[i] += histogram.count(i);
  }
  sum_ns += histogram.sum_ns();
}

// Aligned, so that cores on different stripes share no cache line.
struct alignas(64) ExecuteMetrics::Stripe {
  std::array<std::atomic<uint64_t>, kExecuteResults.size()> results{};
  std::array<std::atomic<uint64_t>, kRetryVerdicts.size()> retries{};
  std::atomic<uint64_t> stale_reuse{0};
  AtomicHistogram seconds;
};

struct ExecuteMetrics::Entry {
  explicit Entry(std::string_view target, size_t hash)
      : target(target), hash(hash) {}

  const std::string target;
  const size_t hash;
  std::array<Stripe, kStripes> stripes;
};

ExecuteMetrics::ExecuteMetrics(size_t max_targets)
    : max_targets_(std::max(max_targets, kLeastTargets)),
      mask_(std::bit_ceil(2 * max_targets_) - 1),
      slots_(new std::atomic<Entry*>[mask_ + 1]()),
      rest_(std::make_unique<Entry>("", 0)) {}

ExecuteMetrics::~ExecuteMetrics() {
  for (size_t i = 0; i <= mask_; ++i) delete slots_[i].load();
}

ExecuteMetrics::Entry* ExecuteMetrics::FindOrAdd(std::string_view target) {
  if (target.empty()) return rest_.get();
  const size_t hash = absl::HashOf(target);
  size_t at = hash & mask_;
  // At least half of the slots are free, so this ends.
  for (Entry* entry; (entry = slots_[at].load(std::memory_order_acquire));
       at = (at + 1) & mask_) {
    if (entry->hash == hash && entry->target == target) return entry;
  }
  if (used_.load(std::memory_order_relaxed) >= max_targets_) {
    return rest_.get();
  }
  MutexLock lock(&mu_);
  // Others may have filled the free slot meanwhile: go on from there.
  for (Entry* entry; (entry = slots_[at].load(std::memory_order_relaxed));
       at = (at + 1) & mask_) {
    if (entry->hash == hash && entry->target == target) return entry;
  }
  if (used_.load(std::memory_order_relaxed) >= max_targets_) {
    return rest_.get();
  }
  used_.fetch_add(1, std::memory_order_relaxed);
  Entry* const added = new Entry(target, hash);
  slots_[at].store(added, std::memory_order_release);
  return added;
}

ExecuteMetrics::Stripe& ExecuteMetrics::Mine(std::string_view target) {
  return FindOrAdd(target)->stripes[MyStripe()];
}

void ExecuteMetrics::RecordExecute(std::string_view target,
                                   std::string_view reason, Duration took) {
  Stripe& mine = Mine(target);
  Increment(
      mine.results[reason.empty() ? 0 : IndexIn(kExecuteResults, reason)]);
  mine.seconds.Record(took);
}

void ExecuteMetrics::RecordRetry(std::string_view target,
                                 std::string_view verdict) {
  Increment(Mine(target).retries[IndexIn(kRetryVerdicts, verdict)]);
}

void ExecuteMetrics::RecordStaleReuse(std::string_view target) {
  Increment(Mine(target).stale_reuse);
}

std::vector<ExecuteMetrics::Row> ExecuteMetrics::Read() const {
  std::vector<Row> rows;
  const auto read = [&rows](const Entry& entry) {
    Row& row = rows.emplace_back();
    row.target = entry.target;
    for (const Stripe& stripe : entry.stripes) {
      for (size_t i = 0; i < row.results.size(); ++i) {
        row.results[i] += Load(stripe.results[i]);
      }
      for (size_t i = 0; i < row.retries.size(); ++i) {
        row.retries[i] += Load(stripe.retries[i]);
      }
      row.stale_reuse += Load(stripe.stale_reuse);
      row.seconds.Add(stripe.seconds);
    }
  };
  for (size_t i = 0; i <= mask_; ++i) {
    const Entry* const entry = slots_[i].load(std::memory_order_acquire);
    if (entry != nullptr) read(*entry);
  }
  read(*rest_);
  return rows;
}

struct alignas(64) RpcMetrics::Stripe {
  AtomicHistogram seconds[kRpcMethods.size()][kGrpcCodes];
};

RpcMetrics::RpcMetrics() : stripes_(new Stripe[kStripes]) {}
RpcMetrics::~RpcMetrics() = default;

void RpcMetrics::RecordRpc(RpcMethod method, int code, Duration took) {
  constexpr int kUnknown = 2;
  if (code < 0 || code >= kGrpcCodes) code = kUnknown;
  stripes_[MyStripe()].seconds[static_cast<int>(method)][code].Record(took);
}

HistogramCounts RpcMetrics::Read(RpcMethod method, int code) const {
  HistogramCounts all;
  for (size_t i = 0; i < kStripes; ++i) {
    all.Add(stripes_[i].seconds[static_cast<int>(method)][code]);
  }
  return all;
}

}  // namespace hotline::server
