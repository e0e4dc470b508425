// What the broker keeps or is configured with per target, resolved once a call.
//
// Thread safety: every method may be called from any thread.
#ifndef HOTLINE_SERVER_BROKER_TARGET_TABLE_H_
#define HOTLINE_SERVER_BROKER_TARGET_TABLE_H_

#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/hash/hash.h"
#include "base/mutex.h"
#include "server/broker/call_metrics.h"
#include "server/broker/options.h"
#include "server/broker/retry_budget.h"

namespace hotline::server {

struct TargetRef {
  RetryBudget* budget = nullptr;  // Lives as long as the table.
  CallMetrics::EntryRef metrics;
  // Null: its answers ask for nothing. Lives as long as the settings.
  const CoolDownSettings* cool_down = nullptr;
};

// Null: none is configured.
inline const CoolDownSettings* CoolDownOf(std::string_view target,
                                          const BrokerSettings& settings) {
  if (settings.cool_down.empty()) return nullptr;
  const auto found = settings.cool_down.find(target);
  return found == settings.cool_down.end() ? nullptr : &found->second;
}

// Targets are never forgotten; past a limit the others share one budget.
class TargetTable {
 public:
  // `metrics` must outlive the table.
  explicit TargetTable(const CallMetrics* metrics) : metrics_(metrics) {}

  // `target` is canonical.
  TargetRef Resolve(std::string_view target, const BrokerSettings& settings) {
    TargetRef ref;
    ref.cool_down = CoolDownOf(target, settings);
    const Name name{target, absl::HashOf(target)};
    // The set uses the lower bits.
    Stripe& stripe = stripes_[(name.hash >> 32) % kStripes];
    MutexLock lock(&stripe.mu);
    if (Target* const found = FindOrAdd(name, &stripe)) {
      metrics_->Resolve(target, name.hash, &found->metrics);
      ref.budget = &found->budget;
      ref.metrics = found->metrics;
    } else {
      ref.budget = &shared_budget_;
      ref.metrics.hash = name.hash;
    }
    return ref;
  }

 private:
  static constexpr size_t kStripes = 16;
  static constexpr size_t kMaxTargetsPerStripe = 8192;

  // A name and its hash, which is computed once.
  struct Name {
    std::string_view text;
    size_t hash = 0;
  };
  struct Target {
    std::string text;
    size_t hash = 0;
    RetryBudget budget;
    CallMetrics::EntryRef metrics;  // As of the last call.
  };
  using TargetPtr = std::unique_ptr<Target>;
  struct Hash {
    using is_transparent = void;
    size_t operator()(const Name& name) const { return name.hash; }
    size_t operator()(const TargetPtr& target) const { return target->hash; }
  };
  struct Equal {
    using is_transparent = void;
    static std::string_view Text(const Name& name) { return name.text; }
    static std::string_view Text(const TargetPtr& t) { return t->text; }
    template <typename A, typename B>
    bool operator()(const A& a, const B& b) const {
      return Text(a) == Text(b);
    }
  };
  struct alignas(64) Stripe {
    Mutex mu;
    absl::flat_hash_set<TargetPtr, Hash, Equal> targets ABSL_GUARDED_BY(mu);
  };

  // Null: the stripe is full.
  static Target* FindOrAdd(const Name& name, Stripe* stripe)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(stripe->mu) {
    const auto found = stripe->targets.find(name);
    if (found != stripe->targets.end()) return found->get();
    if (stripe->targets.size() >= kMaxTargetsPerStripe) return nullptr;
    auto added = std::make_unique<Target>();
    added->text = name.text;
    added->hash = name.hash;
    return stripe->targets.insert(std::move(added)).first->get();
  }

  const CallMetrics* const metrics_;
  std::array<Stripe, kStripes> stripes_;
  RetryBudget shared_budget_;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_TARGET_TABLE_H_
