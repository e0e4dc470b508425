// Counters of calls, for /metrics and Stats: Executes by target (CallMetrics)
// and RPCs by method (RpcMetrics).
//
//   metrics.RecordExecute("https://a.example:443", "UPSTREAM_RESET", took);
//   for (const CallMetrics::Row& row : metrics.Read()) Show(row);
//
// Recording takes no lock: a table look-up, unless the call has an EntryRef,
// then relaxed additions to one of a few stripes, chosen by core. Reading sums
// the stripes: each counter is correct, two of them may be a moment apart.
//
// A call on a target is announced (Begin) and ended (End), which counts it as
// running in between. Recording for a running call needs no look-up at all.
//
// A target has an entry in the table. When the table fills up, the least called
// targets lose theirs (MakeRoom). Threads may still be recording into a retired
// entry: each announces itself in its stripe, and an entry is freed once every
// stripe has been seen without a thread, and no call that began in it still
// runs. Its counts move to the empty name. EntryRefs are not tracked: any
// eviction makes all of them stale, and a stale one is looked up again.
//
// Invariants:
// 1. The sum over all rows never falls.
// 2. An entry is not freed while a thread or a running call may use it, and is
//    not used by an EntryRef from before the last eviction.
//
// Thread safety: everything may be called from any thread.
#ifndef HOTLINE_SERVER_BROKER_CALL_METRICS_H_
#define HOTLINE_SERVER_BROKER_CALL_METRICS_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/histogram.h"
#include "base/mutex.h"
#include "base/time.h"
#include "server/broker/exemplar.h"
#include "server/broker/reasons.h"
#include "server/broker/rpc.h"

namespace hotline::server {

// How Executes end, as the label `result`: "ok", the reasons that EndsExecutes
// in lower case and in the table's order, and "other".
inline constexpr size_t kExecuteResultCount =
    2 + std::count_if(std::begin(kReasons), std::end(kReasons), EndsExecutes);
extern const std::array<std::string, kExecuteResultCount> kExecuteResults;

// The verdicts on attempts that were followed by a retry.
inline constexpr std::array<std::string_view, 5> kRetryVerdicts = {
    "not_sent", "refused_by_peer", "partial", "sent_unknown",
    "response_started"};

// The classes of upstreams' statuses, as the label `status_class`.
inline constexpr std::array<std::string_view, 6> kStatusClasses = {
    "1xx", "2xx", "3xx", "4xx", "5xx", "other"};

// What runs on a target's connection.
enum class CallKind : uint8_t { kExecute, kStream, kTunnel };
inline constexpr size_t kCallKinds = 3;

// A histogram that threads record into.
class AtomicHistogram {
 public:
  void Record(Duration value) {
    counts_[Histogram::BucketOf(value)].fetch_add(1, std::memory_order_relaxed);
    sum_ns_.fetch_add(value.count(), std::memory_order_relaxed);
  }
  uint64_t count(int bucket) const {
    return counts_[bucket].load(std::memory_order_relaxed);
  }
  int64_t sum_ns() const { return sum_ns_.load(std::memory_order_relaxed); }

 private:
  std::array<std::atomic<uint64_t>, Histogram::kBuckets> counts_{};
  std::atomic<int64_t> sum_ns_{0};
};

// The counts of a histogram, or of several added up.
struct HistogramCounts {
  std::array<uint64_t, Histogram::kBuckets> counts{};
  int64_t sum_ns = 0;

  void Add(const AtomicHistogram& histogram);
};

class CallMetrics {
  struct Entry;

 public:
  // Counts `max_targets` targets (at least kLeastTargets) separately, at about
  // 7 KiB each; the others are counted together under an empty name. The
  // minimum is more than /metrics shows by default, so that a target that gets
  // series there has an entry here.
  static constexpr size_t kLeastTargets = 1024;
  explicit CallMetrics(size_t max_targets);
  ~CallMetrics();
  CallMetrics(const CallMetrics&) = delete;
  CallMetrics& operator=(const CallMetrics&) = delete;

  // Where a target is counted, so that recording need not look it up. A plain
  // value; it may outlive the entry, but not this object.
  struct EntryRef {
    size_t hash = 0;         // absl::HashOf(target); 0: not computed yet.
    Entry* entry = nullptr;  // Null: not found yet.
    uint64_t evictions = 0;  // As of when `entry` was found.
  };
  // Updates `*ref`, which is of the same target or new. Adds no entry.
  void Resolve(std::string_view target, size_t hash, EntryRef* ref) const {
    if (!IsValid(*ref)) LookUp(target, hash, ref);
  }

  // --- A call that runs: from Begin to End ---

  // Where it is counted. A plain value; null before Begin and after End.
  struct Running {
    Entry* entry = nullptr;
    CallKind kind = CallKind::kExecute;
  };
  // A call on `target` (canonical) has arrived. Adds no entry: until Confirm, a
  // target without one is counted under the empty name.
  Running Begin(std::string_view target, CallKind kind, const EntryRef& ref);
  // The call has a connection, so the target is worth an entry.
  void Confirm(std::string_view target, const EntryRef& ref, Running* running);
  // The upstream answered with this status.
  void RecordStatus(const Running& running, int status);
  // Bytes were exchanged with the upstream.
  void RecordBytes(const Running& running, uint64_t sent, uint64_t received);
  // The time from a request's first byte to the answer's.
  void RecordFirstByte(const Running& running, Duration took);
  // As RecordExecute, at `now`. `traceparent`: the call's, or empty.
  void End(std::string_view target, const EntryRef& ref,
           std::string_view reason, Duration took, std::string_view traceparent,
           Instant now, Running* running);
  // The end of what is no Execute.
  void End(Running* running);

  // --- Events of a target ---
  //
  // In these, `ref` is the target's; null: the caller has not resolved it.
  //
  // An Execute on `target` (canonical) ended after `took`. `reason`: the
  // error's, empty for success. A reason that is kTargetUntouched gets the
  // target no entry; without one it is counted under the empty name.
  void RecordExecute(std::string_view target, std::string_view reason,
                     Duration took, const EntryRef* ref = nullptr);

  // An attempt failed with `verdict` ("NOT_SENT") and is retried.
  void RecordRetry(std::string_view target, std::string_view verdict,
                   const EntryRef* ref = nullptr);

  // A reused connection was found dead when the request was written.
  void RecordStaleReuse(std::string_view target, const EntryRef* ref = nullptr);

  struct Row {
    std::string target;  // Empty: all targets without an entry.
    uint64_t entry = 0;  // A new number each time that the target gets one.
    std::array<uint64_t, kExecuteResultCount> results{};
    std::array<uint64_t, kRetryVerdicts.size()> retries{};
    uint64_t stale_reuse = 0;
    std::array<uint64_t, kStatusClasses.size()> statuses{};
    uint64_t bytes_sent = 0;
    uint64_t bytes_received = 0;
    HistogramCounts seconds;
    HistogramCounts first_byte;
    std::array<int64_t, kCallKinds> running{};  // Now, by CallKind.
    std::vector<Exemplar> exemplars;            // Of `seconds`.
  };
  // In no particular order.
  std::vector<Row> Read() const;

  // Frees a quarter of the table if less than an eighth is free. To be called
  // after Read; does nothing if it did its work within the last ten seconds.
  void MakeRoom(Instant now);

 private:
  struct Stripe;
  struct Present;

  // Evictions are counted after the entry is unlinked, and before it is freed.
  bool IsValid(const EntryRef& ref) const {
    return ref.entry != nullptr && ref.evictions == evictions_.load();
  }
  void LookUp(std::string_view target, size_t hash, EntryRef* ref) const;
  // The target's entry; without one, a new one if `may_add` and there is room,
  // else others_.
  Entry* Find(std::string_view target, const EntryRef* ref, bool may_add);
  Entry* Add(std::string_view target, size_t hash);
  static Entry* In(const std::atomic<Entry*>& bucket, std::string_view target,
                   size_t hash);
  void Unlink(Entry* entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(read_mu_);
  void FreeRetired() ABSL_EXCLUSIVE_LOCKS_REQUIRED(read_mu_);
  static void AddTo(const Entry& entry, Row* row);
  static std::array<int64_t, kCallKinds> RunningIn(const Entry& entry);

  const size_t max_targets_;
  const size_t mask_;  // Of buckets_, whose number is a power of two.
  // Chains: changed under `mu_`, read without it.
  const std::unique_ptr<std::atomic<Entry*>[]> buckets_;
  const std::unique_ptr<Entry> others_;
  const std::unique_ptr<Present[]> present_;  // By stripe.
  std::atomic<size_t> used_{0};
  std::atomic<uint64_t> evictions_{0};
  // Taken before mu_. Entries are unlinked under both.
  mutable Mutex read_mu_;
  Instant make_room_at_ ABSL_GUARDED_BY(read_mu_){};
  // Unlinked, not yet freed.
  std::vector<std::unique_ptr<Entry>> retired_ ABSL_GUARDED_BY(read_mu_);
  Row freed_ ABSL_GUARDED_BY(read_mu_);  // Counts of freed entries.
  Mutex mu_;
  uint64_t last_entry_ ABSL_GUARDED_BY(mu_) = 0;
};

class RpcMetrics {
 public:
  RpcMetrics();
  ~RpcMetrics();

  // An RPC ended with the gRPC status `code` after `took`. A number that is no
  // code counts as UNKNOWN.
  void RecordRpc(RpcMethod method, int code, Duration took);

  HistogramCounts Read(RpcMethod method, int code) const;

 private:
  struct Stripe;
  const std::unique_ptr<Stripe[]> stripes_;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_CALL_METRICS_H_
