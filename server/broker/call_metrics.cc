#include "server/broker/call_metrics.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <numeric>
#include <tuple>
#include <utility>

#include "absl/hash/hash.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "server/broker/striped_counter.h"

namespace hotline::server {
namespace {

constexpr Duration kMakeRoomEvery = std::chrono::seconds(10);
constexpr std::array<int64_t, kCallKinds> kNoneRunning{};

std::string Lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = absl::ascii_tolower(c);
  return out;
}

std::array<std::string, kExecuteResultCount> MakeExecuteResults() {
  std::array<std::string, kExecuteResultCount> out;
  size_t next = 0;
  out[next++] = "ok";
  for (const ReasonRow& row : kReasons) {
    if (EndsExecutes(row)) out[next++] = Lower(row.name);
  }
  out[next] = "other";
  return out;
}

// How an Execute ended.
struct Ending {
  size_t result = kExecuteResultCount - 1;  // Of kExecuteResults.
  bool target_untouched = false;
};

Ending EndingOf(std::string_view reason) {
  if (reason.empty()) return {.result = 0};
  size_t result = 1;
  for (const ReasonRow& row : kReasons) {
    if (!EndsExecutes(row)) continue;
    if (row.name == reason) {
      return {result, (row.flags & kTargetUntouched) != 0};
    }
    ++result;
  }
  return {};
}

size_t VerdictIndex(std::string_view verdict) {
  for (size_t i = 0; i + 1 < kRetryVerdicts.size(); ++i) {
    if (absl::EqualsIgnoreCase(
            {verdict.data(), verdict.size()},
            {kRetryVerdicts[i].data(), kRetryVerdicts[i].size()})) {
      return i;
    }
  }
  return kRetryVerdicts.size() - 1;
}

void Increment(std::atomic<uint64_t>& counter) {
  counter.fetch_add(1, std::memory_order_relaxed);
}

uint64_t Load(const std::atomic<uint64_t>& counter) {
  return counter.load(std::memory_order_relaxed);
}

size_t StatusClass(int status) {
  const size_t others = kStatusClasses.size() - 1;
  return status >= 100 && status < 600 ? static_cast<size_t>(status / 100 - 1)
                                       : others;
}

}  // namespace

const std::array<std::string, kExecuteResultCount> kExecuteResults =
    MakeExecuteResults();

void HistogramCounts::Add(const AtomicHistogram& histogram) {
  for (int i = 0; i < Histogram::kBuckets; ++i) {
    counts[i] += histogram.count(i);
  }
  sum_ns += histogram.sum_ns();
}

// Aligned, so that cores on different stripes share no cache line.
struct alignas(64) CallMetrics::Stripe {
  std::array<std::atomic<uint64_t>, kExecuteResultCount> results{};
  std::array<std::atomic<uint64_t>, kRetryVerdicts.size()> retries{};
  std::atomic<uint64_t> stale_reuse{0};
  std::array<std::atomic<uint64_t>, kStatusClasses.size()> statuses{};
  std::atomic<uint64_t> bytes_sent{0};
  std::atomic<uint64_t> bytes_received{0};
  AtomicHistogram seconds;
  AtomicHistogram first_byte;
  // Calls, by CallKind.
  std::array<std::atomic<uint64_t>, kCallKinds> begun{};
  std::array<std::atomic<uint64_t>, kCallKinds> ended{};
};

struct CallMetrics::Entry {
  Entry(std::string_view target, size_t hash, uint64_t number)
      : target(target), hash(hash), number(number) {}

  const std::string target;
  const size_t hash;
  const uint64_t number;
  std::atomic<Entry*> next{nullptr};  // In its bucket.
  std::array<Stripe, kStripes> stripes;
  std::array<ExemplarSlot, Histogram::kBuckets> exemplars;

  // Under read_mu_.
  uint64_t calls = 0;  // As of the last MakeRoom.
  double score = 0;    // Calls, halved at each MakeRoom.
  bool busy = false;   // A call was running at the last MakeRoom.
  // Stripes not yet seen without a thread since the entry was unlinked.
  uint32_t awaited = (1u << kStripes) - 1;
};

// The number of threads that are looking an entry up or recording into one.
struct alignas(64) CallMetrics::Present {
  std::atomic<uint32_t> threads{0};
};

namespace {

// Counts a thread as present for its lifetime. Sequentially consistent with
// Unlink and FreeRetired: a thread that finds an entry, or an EntryRef valid,
// is seen there.
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

}  // namespace

CallMetrics::CallMetrics(size_t max_targets)
    : max_targets_(std::max(max_targets, kLeastTargets)),
      mask_(std::bit_ceil(2 * max_targets_) - 1),
      buckets_(new std::atomic<Entry*>[mask_ + 1]()),
      others_(std::make_unique<Entry>("", 0, 0)),
      present_(new Present[kStripes]) {}

CallMetrics::~CallMetrics() {
  for (size_t i = 0; i <= mask_; ++i) {
    for (const Entry* entry = buckets_[i].load(); entry != nullptr;) {
      delete std::exchange(entry, entry->next.load());
    }
  }
}

CallMetrics::Entry* CallMetrics::In(const std::atomic<Entry*>& bucket,
                                    std::string_view target, size_t hash) {
  for (Entry* entry = bucket.load(); entry != nullptr;
       entry = entry->next.load()) {
    if (entry->hash == hash && entry->target == target) return entry;
  }
  return nullptr;
}

void CallMetrics::LookUp(std::string_view target, size_t hash,
                         EntryRef* ref) const {
  const Presence present(present_[MyStripe()].threads);
  ref->hash = hash;
  // Before the search: an eviction during it must make the ref stale.
  ref->evictions = evictions_.load();
  ref->entry = In(buckets_[hash & mask_], target, hash);
}

CallMetrics::Entry* CallMetrics::Find(std::string_view target,
                                      const EntryRef* ref, bool may_add) {
  if (ref != nullptr && IsValid(*ref)) return ref->entry;
  if (target.empty()) return others_.get();
  const size_t hash =
      ref != nullptr && ref->hash != 0 ? ref->hash : absl::HashOf(target);
  if (Entry* const found = In(buckets_[hash & mask_], target, hash)) {
    return found;
  }
  if (!may_add || used_.load(std::memory_order_relaxed) >= max_targets_) {
    return others_.get();
  }
  return Add(target, hash);
}

CallMetrics::Entry* CallMetrics::Add(std::string_view target, size_t hash) {
  std::atomic<Entry*>& bucket = buckets_[hash & mask_];
  MutexLock lock(&mu_);
  // Another thread may have added it meanwhile.
  if (Entry* const found = In(bucket, target, hash)) return found;
  if (used_.load(std::memory_order_relaxed) >= max_targets_) {
    return others_.get();
  }
  used_.fetch_add(1, std::memory_order_relaxed);
  Entry* const added = new Entry(target, hash, ++last_entry_);
  added->next = bucket.load();
  bucket = added;
  return added;
}

void CallMetrics::RecordExecute(std::string_view target,
                                std::string_view reason, Duration took,
                                const EntryRef* ref) {
  const size_t mine = MyStripe();
  const Presence present(present_[mine].threads);
  const Ending ending = EndingOf(reason);
  Stripe& stripe = Find(target, ref, !ending.target_untouched)->stripes[mine];
  Increment(stripe.results[ending.result]);
  stripe.seconds.Record(took);
}

CallMetrics::Running CallMetrics::Begin(std::string_view target, CallKind kind,
                                        const EntryRef& ref) {
  const size_t mine = MyStripe();
  const Presence present(present_[mine].threads);
  Entry* const entry = Find(target, &ref, /*may_add=*/false);
  Increment(entry->stripes[mine].begun[static_cast<size_t>(kind)]);
  return {entry, kind};
}

void CallMetrics::Confirm(std::string_view target, const EntryRef& ref,
                          Running* running) {
  if (running->entry != others_.get()) return;
  Running moved = *running;
  {
    const size_t mine = MyStripe();
    const Presence present(present_[mine].threads);
    moved.entry = Find(target, &ref, /*may_add=*/true);
    Increment(
        moved.entry->stripes[mine].begun[static_cast<size_t>(moved.kind)]);
  }
  End(running);
  *running = moved;
}

void CallMetrics::RecordStatus(const Running& running, int status) {
  if (running.entry == nullptr) return;
  Increment(running.entry->stripes[MyStripe()].statuses[StatusClass(status)]);
}

void CallMetrics::RecordBytes(const Running& running, uint64_t sent,
                              uint64_t received) {
  if (running.entry == nullptr) return;
  Stripe& stripe = running.entry->stripes[MyStripe()];
  stripe.bytes_sent.fetch_add(sent, std::memory_order_relaxed);
  stripe.bytes_received.fetch_add(received, std::memory_order_relaxed);
}

void CallMetrics::RecordFirstByte(const Running& running, Duration took) {
  if (running.entry == nullptr) return;
  running.entry->stripes[MyStripe()].first_byte.Record(took);
}

void CallMetrics::End(std::string_view target, const EntryRef& ref,
                      std::string_view reason, Duration took,
                      std::string_view traceparent, Instant now,
                      Running* running) {
  Entry* const entry = running->entry;
  if (entry == nullptr || entry == others_.get()) {
    RecordExecute(target, reason, took, &ref);
  } else {
    Stripe& stripe = entry->stripes[MyStripe()];
    Increment(stripe.results[EndingOf(reason).result]);
    stripe.seconds.Record(took);
    if (!traceparent.empty()) {
      entry->exemplars[Histogram::BucketOf(took)].Offer(traceparent, took, now);
    }
  }
  End(running);
}

void CallMetrics::End(Running* running) {
  Entry* const entry = std::exchange(running->entry, nullptr);
  if (entry == nullptr) return;
  // The last access to the entry: see FreeRetired.
  entry->stripes[MyStripe()]
      .ended[static_cast<size_t>(running->kind)]
      .fetch_add(1, std::memory_order_release);
}

void CallMetrics::RecordRetry(std::string_view target, std::string_view verdict,
                              const EntryRef* ref) {
  const size_t mine = MyStripe();
  const Presence present(present_[mine].threads);
  Increment(
      Find(target, ref, true)->stripes[mine].retries[VerdictIndex(verdict)]);
}

void CallMetrics::RecordStaleReuse(std::string_view target,
                                   const EntryRef* ref) {
  const size_t mine = MyStripe();
  const Presence present(present_[mine].threads);
  Increment(Find(target, ref, true)->stripes[mine].stale_reuse);
}

// Ends first: a call that is seen to have ended is seen to have begun.
std::array<int64_t, kCallKinds> CallMetrics::RunningIn(const Entry& entry) {
  std::array<int64_t, kCallKinds> running{};
  for (size_t kind = 0; kind < kCallKinds; ++kind) {
    for (const Stripe& stripe : entry.stripes) {
      running[kind] -= static_cast<int64_t>(
          stripe.ended[kind].load(std::memory_order_acquire));
    }
    for (const Stripe& stripe : entry.stripes) {
      running[kind] += static_cast<int64_t>(Load(stripe.begun[kind]));
    }
  }
  return running;
}

void CallMetrics::AddTo(const Entry& entry, Row* row) {
  const auto running = RunningIn(entry);
  for (size_t i = 0; i < running.size(); ++i) row->running[i] += running[i];
  for (size_t i = 0; i < entry.exemplars.size(); ++i) {
    Exemplar exemplar;
    if (!entry.exemplars[i].Get(&exemplar)) continue;
    exemplar.bucket = static_cast<int>(i);
    row->exemplars.push_back(exemplar);
  }
  for (const Stripe& stripe : entry.stripes) {
    for (size_t i = 0; i < row->results.size(); ++i) {
      row->results[i] += Load(stripe.results[i]);
    }
    for (size_t i = 0; i < row->retries.size(); ++i) {
      row->retries[i] += Load(stripe.retries[i]);
    }
    for (size_t i = 0; i < row->statuses.size(); ++i) {
      row->statuses[i] += Load(stripe.statuses[i]);
    }
    row->stale_reuse += Load(stripe.stale_reuse);
    row->bytes_sent += Load(stripe.bytes_sent);
    row->bytes_received += Load(stripe.bytes_received);
    row->seconds.Add(stripe.seconds);
    row->first_byte.Add(stripe.first_byte);
  }
}

std::vector<CallMetrics::Row> CallMetrics::Read() const {
  std::vector<Row> rows;
  MutexLock lock(&read_mu_);
  for (size_t i = 0; i <= mask_; ++i) {
    for (const Entry* entry = buckets_[i].load(); entry != nullptr;
         entry = entry->next.load()) {
      Row& row = rows.emplace_back();
      row.target = entry->target;
      row.entry = entry->number;
      AddTo(*entry, &row);
    }
  }
  Row& others = rows.emplace_back(freed_);
  AddTo(*others_, &others);
  for (const auto& entry : retired_) AddTo(*entry, &others);
  return rows;
}

void CallMetrics::MakeRoom(Instant now) {
  MutexLock lock(&read_mu_);
  FreeRetired();
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
      entry->busy = row.running != kNoneRunning;
      entries.push_back(entry);
    }
  }
  if (entries.size() <= max_targets_ - max_targets_ / 8) return;
  const size_t leaving = std::min(
      entries.size() - 1, entries.size() - (max_targets_ - max_targets_ / 4));
  std::nth_element(entries.begin(), entries.begin() + leaving, entries.end(),
                   [](const Entry* a, const Entry* b) {
                     return std::tie(a->busy, a->score) <
                            std::tie(b->busy, b->score);
                   });
  entries.resize(leaving);
  for (Entry* entry : entries) Unlink(entry);
  FreeRetired();
}

void CallMetrics::Unlink(Entry* entry) {
  {
    MutexLock lock(&mu_);
    std::atomic<Entry*>* link = &buckets_[entry->hash & mask_];
    while (link->load() != entry) link = &link->load()->next;
    // A thread that has reached the entry can go on from it.
    link->store(entry->next.load());
    used_.fetch_sub(1, std::memory_order_relaxed);
  }
  evictions_.fetch_add(1);
  retired_.emplace_back(entry);
}

void CallMetrics::FreeRetired() {
  uint32_t empty = 0;
  for (size_t i = 0; i < kStripes; ++i) {
    if (present_[i].threads.load() == 0) empty |= 1u << i;
  }
  std::erase_if(retired_, [this, empty](const std::unique_ptr<Entry>& entry)
                              ABSL_EXCLUSIVE_LOCKS_REQUIRED(read_mu_) {
                                entry->awaited &= ~empty;
                                if (entry->awaited != 0) return false;
                                // No more calls can begin in it.
                                if (RunningIn(*entry) != kNoneRunning) {
                                  return false;
                                }
                                AddTo(*entry, &freed_);
                                freed_.exemplars.clear();
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
