#include "server/broker/call_metrics.h"

#include <sched.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <numeric>
#include <utility>

#include "absl/hash/hash.h"

namespace hotline::server {
namespace {

constexpr size_t kStripes = 8;
constexpr Duration kMakeRoomEvery = std::chrono::seconds(10);

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
  Entry(std::string_view target, size_t hash, uint64_t life)
      : target(target), hash(hash), life(life) {}

  const std::string target;
  const size_t hash;
  const uint64_t life;
  std::atomic<Entry*> next{nullptr};  // In its bucket.
  std::array<Stripe, kStripes> stripes;

  // Under read_mu_.
  uint64_t calls = 0;  // When room was made last.
  double score = 0;    // Calls of late.
  // Stripes that were not yet without a thread since it left the table.
  uint32_t awaited = (1u << kStripes) - 1;
};

// Threads that look for an entry or record into one.
struct alignas(64) ExecuteMetrics::Inside {
  std::atomic<uint32_t> threads{0};
};

namespace {

// Present while it lives. The order is that of Unlink and FreeLeft: a thread
// that finds an entry is seen there.
class Presence {
 public:
  explicit Presence(std::atomic<uint32_t>& threads) : threads_(threads) {
    threads_.fetch_add(1, std::memory_order_seq_cst);
  }
  ~Presence() { threads_.fetch_sub(1, std::memory_order_release); }
  Presence(const Presence&) = delete;
  Presence& operator=(const Presence&) = delete;

 private:
  std::atomic<uint32_t>& threads_;
};

bool IsRefusal(std::string_view reason) {
  return std::any_of(kRefusedResults.begin(), kRefusedResults.end(),
                     [reason](std::string_view refusal) {
                       return EqualsIgnoringCase(reason, refusal);
                     });
}

}  // namespace

ExecuteMetrics::ExecuteMetrics(size_t max_targets)
    : max_targets_(std::max(max_targets, kLeastTargets)),
      mask_(std::bit_ceil(2 * max_targets_) - 1),
      buckets_(new std::atomic<Entry*>[mask_ + 1]()),
      rest_(std::make_unique<Entry>("", 0, 0)),
      inside_(new Inside[kStripes]) {}

ExecuteMetrics::~ExecuteMetrics() {
  for (size_t i = 0; i <= mask_; ++i) {
    for (const Entry* entry = buckets_[i].load(); entry != nullptr;) {
      delete std::exchange(entry, entry->next.load());
    }
  }
}

ExecuteMetrics::Entry* ExecuteMetrics::In(const std::atomic<Entry*>& bucket,
                                          std::string_view target,
                                          size_t hash) {
  for (Entry* entry = bucket.load(); entry != nullptr;
       entry = entry->next.load()) {
    if (entry->hash == hash && entry->target == target) return entry;
  }
  return nullptr;
}

ExecuteMetrics::Entry* ExecuteMetrics::Find(std::string_view target,
                                            bool may_add) {
  if (target.empty()) return rest_.get();
  const size_t hash = absl::HashOf(target);
  if (Entry* const found = In(buckets_[hash & mask_], target, hash)) {
    return found;
  }
  if (!may_add || used_.load(std::memory_order_relaxed) >= max_targets_) {
    return rest_.get();
  }
  return Add(target, hash);
}

ExecuteMetrics::Entry* ExecuteMetrics::Add(std::string_view target,
                                           size_t hash) {
  std::atomic<Entry*>& bucket = buckets_[hash & mask_];
  MutexLock lock(&mu_);
  // Another thread may have been quicker.
  if (Entry* const found = In(bucket, target, hash)) return found;
  if (used_.load(std::memory_order_relaxed) >= max_targets_) {
    return rest_.get();
  }
  used_.fetch_add(1, std::memory_order_relaxed);
  Entry* const added = new Entry(target, hash, ++last_life_);
  added->next = bucket.load();
  bucket = added;
  return added;
}

void ExecuteMetrics::RecordExecute(std::string_view target,
                                   std::string_view reason, Duration took) {
  const size_t mine = MyStripe();
  const Presence inside(inside_[mine].threads);
  const bool ok = reason.empty();
  Stripe& stripe = Find(target, ok || !IsRefusal(reason))->stripes[mine];
  Increment(stripe.results[ok ? 0 : IndexIn(kExecuteResults, reason)]);
  stripe.seconds.Record(took);
}

void ExecuteMetrics::RecordRetry(std::string_view target,
                                 std::string_view verdict) {
  const size_t mine = MyStripe();
  const Presence inside(inside_[mine].threads);
  Increment(Find(target, true)
                ->stripes[mine]
                .retries[IndexIn(kRetryVerdicts, verdict)]);
}

void ExecuteMetrics::RecordStaleReuse(std::string_view target) {
  const size_t mine = MyStripe();
  const Presence inside(inside_[mine].threads);
  Increment(Find(target, true)->stripes[mine].stale_reuse);
}

void ExecuteMetrics::AddTo(const Entry& entry, Row* row) {
  for (const Stripe& stripe : entry.stripes) {
    for (size_t i = 0; i < row->results.size(); ++i) {
      row->results[i] += Load(stripe.results[i]);
    }
    for (size_t i = 0; i < row->retries.size(); ++i) {
      row->retries[i] += Load(stripe.retries[i]);
    }
    row->stale_reuse += Load(stripe.stale_reuse);
    row->seconds.Add(stripe.seconds);
  }
}

std::vector<ExecuteMetrics::Row> ExecuteMetrics::Read() const {
  std::vector<Row> rows;
  MutexLock lock(&read_mu_);
  for (size_t i = 0; i <= mask_; ++i) {
    for (const Entry* entry = buckets_[i].load(); entry != nullptr;
         entry = entry->next.load()) {
      Row& row = rows.emplace_back();
      row.target = entry->target;
      row.life = entry->life;
      AddTo(*entry, &row);
    }
  }
  Row& rest = rows.emplace_back(gone_);
  AddTo(*rest_, &rest);
  for (const auto& entry : left_) AddTo(*entry, &rest);
  return rows;
}

void ExecuteMetrics::MakeRoom(Instant now) {
  MutexLock lock(&read_mu_);
  FreeLeft();
  if (now < make_room_at_) return;
  make_room_at_ = now + kMakeRoomEvery;
  std::vector<Entry*> entries;
  for (size_t i = 0; i <= mask_; ++i) {
    for (Entry* entry = buckets_[i].load(); entry != nullptr;
         entry = entry->next.load()) {
      Row row;
      AddTo(*entry, &row);
      const uint64_t calls =
          std::accumulate(row.results.begin(), row.results.end(), uint64_t{0});
      entry->score =
          entry->score / 2 + static_cast<double>(calls - entry->calls);
      entry->calls = calls;
      entries.push_back(entry);
    }
  }
  if (entries.size() <= max_targets_ - max_targets_ / 8) return;
  const size_t leaving = std::min(
      entries.size() - 1, entries.size() - (max_targets_ - max_targets_ / 4));
  std::nth_element(
      entries.begin(), entries.begin() + leaving, entries.end(),
      [](const Entry* a, const Entry* b) { return a->score < b->score; });
  entries.resize(leaving);
  for (Entry* entry : entries) Unlink(entry);
  FreeLeft();
}

void ExecuteMetrics::Unlink(Entry* entry) {
  {
    MutexLock lock(&mu_);
    std::atomic<Entry*>* link = &buckets_[entry->hash & mask_];
    while (link->load() != entry) link = &link->load()->next;
    // Whoever stands on it still finds the way from there.
    link->store(entry->next.load());
    used_.fetch_sub(1, std::memory_order_relaxed);
  }
  left_.emplace_back(entry);
}

void ExecuteMetrics::FreeLeft() {
  uint32_t empty = 0;
  for (size_t i = 0; i < kStripes; ++i) {
    if (inside_[i].threads.load() == 0) empty |= 1u << i;
  }
  std::erase_if(left_, [this, empty](const std::unique_ptr<Entry>& entry)
                           ABSL_EXCLUSIVE_LOCKS_REQUIRED(read_mu_) {
                             entry->awaited &= ~empty;
                             if (entry->awaited != 0) return false;
                             AddTo(*entry, &gone_);
                             return true;
                           });
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
