// Counters of what the Broker does, for /metrics: calls per target and RPCs per
// method.
//
// Recording takes no lock: a look-up, then relaxed additions to one of a few
// stripes, chosen by core. Reading sums the stripes: each figure is right, two
// of them may be a moment apart.
//
// Targets have entries in a table. They leave it again when it fills up, those
// that are called least first (MakeRoom), so it is not the first names that
// have it for life. An entry that left is freed when no thread can be recording
// into it any more: threads note that they are inside, and an entry waits until
// each stripe has been seen without any. What it had counted goes on counting
// under the empty name; so no sum ever falls.
//
// Thread safety: everything may be called from any thread.
#ifndef HOTLINE_SERVER_BROKER_CALL_METRICS_H_
#define HOTLINE_SERVER_BROKER_CALL_METRICS_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/histogram.h"
#include "base/mutex.h"
#include "base/time.h"

namespace hotline::server {

// How Executes end: "ok", "cancelled" (by the caller), or the ErrorInfo's
// reason in lower case. The last one takes what is not in the list.
inline constexpr std::array<std::string_view, 39> kExecuteResults = {
    "ok",
    "alpn_mismatch",
    "bad_header",
    "bad_lease_id",
    "bad_method",
    "bad_option",
    "bad_target",
    "bad_url",
    "body_too_large",
    "caller_timeout",
    "cancelled",
    "connect_failed",
    "dns_failed",
    "draining",
    "egress_denied",
    "lease_busy",
    "lease_expired",
    "lease_not_yours",
    "lease_other_instance",
    "lease_target_mismatch",
    "lease_unknown",
    "no_identity",
    "no_idle_connection",
    "not_authorized",
    "overloaded",
    "protocol_error",
    "proxy_refused",
    "queue_full",
    "quota",
    "response_too_large",
    "superseded",
    "tls_failed",
    "tls_verify_failed",
    "too_many_targets",
    "upstream_reset",
    "upstream_timeout",
    "validation_failed",
    "wait_timeout",
    "other",
};

// The verdicts over attempts that were made again.
inline constexpr std::array<std::string_view, 5> kRetryVerdicts = {
    "not_sent", "refused_by_peer", "partial", "sent_unknown",
    "response_started"};

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

// What a histogram has counted.
struct HistogramCounts {
  std::array<uint64_t, Histogram::kBuckets> counts{};
  int64_t sum_ns = 0;

  void Add(const AtomicHistogram& histogram);
};

// How an Execute ends that was refused before anything was asked for its
// target. It does not get the target an entry.
inline constexpr std::array<std::string_view, 13> kRefusedResults = {
    "bad_header",      "bad_lease_id",   "bad_method", "bad_option",
    "bad_target",      "bad_url",        "draining",   "egress_denied",
    "no_identity",     "not_authorized", "overloaded", "quota",
    "too_many_targets"};

class ExecuteMetrics {
 public:
  // Counts `max_targets` targets (kLeastTargets at least) each on their own,
  // about 4 KiB apiece; those that find no room count together under an empty
  // name. It is more than /metrics shows, so that a target that gets series
  // there has figures here.
  static constexpr size_t kLeastTargets = 1024;
  explicit ExecuteMetrics(size_t max_targets);
  ~ExecuteMetrics();
  ExecuteMetrics(const ExecuteMetrics&) = delete;
  ExecuteMetrics& operator=(const ExecuteMetrics&) = delete;

  // An Execute on `target` (canonical) ended after `took`. `reason`: empty for
  // success, else the ErrorInfo's ("UPSTREAM_RESET") in either case, or
  // "cancelled". One of kRefusedResults counts under the empty name, unless the
  // target has an entry.
  void RecordExecute(std::string_view target, std::string_view reason,
                     Duration took);

  // An attempt failed with `verdict` ("NOT_SENT", in either case) and is made
  // again.
  void RecordRetry(std::string_view target, std::string_view verdict);

  // A reused connection turned out to be dead when the request was written.
  void RecordStaleReuse(std::string_view target);

  struct Row {
    std::string target;  // Empty: all those without an entry.
    uint64_t life = 0;   // Another one each time that the target gets an entry.
    std::array<uint64_t, kExecuteResults.size()> results{};
    std::array<uint64_t, kRetryVerdicts.size()> retries{};
    uint64_t stale_reuse = 0;
    HistogramCounts seconds;
  };
  // In no particular order.
  std::vector<Row> Read() const;

  // If less than an eighth of the table is free, frees a quarter of it. To be
  // called by whoever looks at the figures; what it does, it does at most every
  // ten seconds.
  void MakeRoom(Instant now);

 private:
  struct Entry;
  struct Stripe;
  struct Inside;

  // `may_add`: if there is none and there is room. Else rest_.
  Entry* Find(std::string_view target, bool may_add);
  Entry* Add(std::string_view target, size_t hash);
  static Entry* In(const std::atomic<Entry*>& bucket, std::string_view target,
                   size_t hash);
  void Unlink(Entry* entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(read_mu_);
  void FreeLeft() ABSL_EXCLUSIVE_LOCKS_REQUIRED(read_mu_);
  static void AddTo(const Entry& entry, Row* row);

  const size_t max_targets_;
  const size_t mask_;  // Of buckets_, whose number is a power of two.
  // Chains. They change under `mu_`, and are read without it.
  const std::unique_ptr<std::atomic<Entry*>[]> buckets_;
  const std::unique_ptr<Entry> rest_;
  const std::unique_ptr<Inside[]> inside_;  // By stripe.
  std::atomic<size_t> used_{0};
  // Entries leave under it, too; taken before mu_.
  mutable Mutex read_mu_;
  Instant make_room_at_ ABSL_GUARDED_BY(read_mu_){};
  // Out of the table, not yet free.
  std::vector<std::unique_ptr<Entry>> left_ ABSL_GUARDED_BY(read_mu_);
  Row gone_ ABSL_GUARDED_BY(read_mu_);  // What those had counted that are free.
  Mutex mu_;
  uint64_t last_life_ ABSL_GUARDED_BY(mu_) = 0;
};

enum class RpcMethod : uint8_t {
  kAcquire,
  kRelease,
  kRenew,
  kExecute,
  kExecuteStream,
  kStats,
  kTunnel,
  kSession,
};
inline constexpr std::array<std::string_view, 8> kRpcMethods = {
    "Acquire",       "Release", "Renew",  "Execute",
    "ExecuteStream", "Stats",   "Tunnel", "Session"};

// gRPC's status codes, 0 to 16.
inline constexpr int kGrpcCodes = 17;

class RpcMetrics {
 public:
  RpcMetrics();
  ~RpcMetrics();

  // An RPC ended with gRPC's status `code` (others count as UNKNOWN) after
  // `took`.
  void RecordRpc(RpcMethod method, int code, Duration took);

  HistogramCounts Read(RpcMethod method, int code) const;

 private:
  struct Stripe;
  const std::unique_ptr<Stripe[]> stripes_;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_CALL_METRICS_H_
