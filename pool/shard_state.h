// State that the objects of one shard share, and state that all shards share.
#ifndef HOTLINE_POOL_SHARD_STATE_H_
#define HOTLINE_POOL_SHARD_STATE_H_

#include <atomic>
#include <bit>
#include <cstdint>

#include "base/time.h"
#include "base/timer_wheel.h"
#include "pool/budget.h"
#include "pool/effect.h"
#include "pool/list.h"
#include "pool/pool.h"
#include "pool/records.h"
#include "pool/slab.h"

namespace hotline::pool {

// Shared by the shards of a pool. Its members are thread-safe or constant.
struct PoolShared {
  PoolShared(const PoolConfig& config, TargetConfigFn target_config_in,
             Transport* transport_in, EventFn on_event_in)
      : instance(config.instance),
        shards(config.shards),
        loops(config.loops),
        effects_per_turn(config.effects_per_turn),
        seed(config.seed),
        target_config(std::move(target_config_in)),
        transport(transport_in),
        on_event(std::move(on_event_in)),
        connections(config.max_connections),
        dials(config.max_dials),
        max_targets(config.max_targets),
        leak_after(config.leak_after.count()) {}

  const uint32_t instance;
  const int shards;
  const int loops;
  const int effects_per_turn;
  const uint64_t seed;
  const TargetConfigFn target_config;
  Transport* const transport;
  const EventFn on_event;
  Budget connections;
  Budget dials;
  std::atomic<int> targets{0};
  std::atomic<int> max_targets;
  std::atomic<int64_t> leak_after;  // Nanoseconds.
};

// Ids of records: version | index | shard. The shard takes as few bits as
// possible, which leaves more for the version.
class IdCodec {
 public:
  static constexpr int kIndexBits = 24;

  IdCodec(int shards, int shard)
      : shard_bits_(ShardBits(shards)), shard_(static_cast<uint64_t>(shard)) {}

  uint64_t max_version() const {
    return (uint64_t{1} << (64 - kIndexBits - shard_bits_)) - 1;
  }
  uint64_t Encode(const SlabEntry& entry) const {
    return entry.version << (kIndexBits + shard_bits_) |
           uint64_t{entry.index} << shard_bits_ | shard_;
  }
  uint32_t Index(uint64_t id) const {
    return static_cast<uint32_t>(id >> shard_bits_) & ((1u << kIndexBits) - 1);
  }
  uint64_t Version(uint64_t id) const {
    return id >> (kIndexBits + shard_bits_);
  }
  // `id` can be any number: the result may not be a shard.
  static uint64_t ShardOf(uint64_t id, int shards) {
    return id & ((uint64_t{1} << ShardBits(shards)) - 1);
  }

 private:
  static int ShardBits(int shards) {
    return std::bit_width(static_cast<unsigned>(shards - 1));
  }

  const int shard_bits_;
  const uint64_t shard_;
};

// SplitMix64, which is good enough for jitter.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t Next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  // In [0, 1).
  double NextDouble() { return static_cast<double>(Next() >> 11) * 0x1p-53; }

 private:
  uint64_t state_;
};

// Guarded by the shard's mutex.
struct ShardState {
  ShardState(PoolShared* shared_in, int index_in)
      : shared(shared_in),
        index(index_in),
        ids(shared_in->shards, index_in),
        connections(ids.max_version(), 1u << IdCodec::kIndexBits),
        waiting(ids.max_version(), 1u << IdCodec::kIndexBits),
        leases(UINT32_MAX),
        random(shared_in->seed * 0x9e3779b97f4a7c15u +
               static_cast<uint64_t>(index_in)) {}

  PoolShared* const shared;
  const int index;
  const IdCodec ids;

  Slab<ConnRecord> connections;
  Slab<Waiting> waiting;
  Slab<Lease> leases;
  List<ConnRecord, InIdleOrder> idle_order;
  TimerWheel<PoolTimer> timers;
  Instant announced = kNever;  // Time of the WakeAt whose Tick is outstanding.
  Outbox outbox;
  Random random;
  uint64_t next_order = 1;  // Of waiters.
  bool shutdown = false;

  // Whether events are reported to anyone.
  bool observed() const { return shared->on_event != nullptr; }

  // Makes the timer fire by `when`, or earlier. Asks the transport for a tick
  // if none is due that early.
  void FireBy(PoolTimer* timer, Instant when) {
    if (timers.ScheduledBy(timer, when)) [[likely]]
      return;
    FireEarlier(timer, when);
  }

 private:
  [[gnu::noinline]] void FireEarlier(PoolTimer* timer, Instant when) {
    if (when == kNever) return;
    timers.Schedule(timer, when);
    if (when < announced) {
      announced = when;
      outbox.push_back(WakeEffect{when});
    }
  }
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_SHARD_STATE_H_
