// Open connections by handle. Handles are numbers that are never used twice, so
// one that is out of date finds nothing.
#ifndef HOTLINE_UPSTREAM_CONNECTION_CONNECTION_TABLE_H_
#define HOTLINE_UPSTREAM_CONNECTION_CONNECTION_TABLE_H_

#include <array>
#include <atomic>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"
#include "pool/types.h"
#include "upstream/connection/connection.h"

namespace hotline::upstream {

// Thread-safe. Sharded: every call looks its connection up.
class ConnectionTable {
 public:
  pool::Handle NewHandle() { return next_.fetch_add(1) + 1; }

  void Add(std::shared_ptr<Connection> connection) {
    const pool::Handle handle = connection->handle();
    Shard& shard = ShardOf(handle);
    MutexLock lock(&shard.mu);
    shard.connections.emplace(handle, std::move(connection));
  }

  // Null: gone.
  std::shared_ptr<Connection> Find(pool::Handle handle) const {
    const Shard& shard = ShardOf(handle);
    MutexLock lock(&shard.mu);
    const auto it = shard.connections.find(handle);
    return it == shard.connections.end() ? nullptr : it->second;
  }

  void Remove(pool::Handle handle) {
    std::shared_ptr<Connection> removed;  // Its end is not for the lock.
    Shard& shard = ShardOf(handle);
    MutexLock lock(&shard.mu);
    const auto it = shard.connections.find(handle);
    if (it == shard.connections.end()) return;
    removed = std::move(it->second);
    shard.connections.erase(it);
  }

  std::vector<std::shared_ptr<Connection>> All() const {
    std::vector<std::shared_ptr<Connection>> all;
    for (const Shard& shard : shards_) {
      MutexLock lock(&shard.mu);
      for (const auto& [handle, connection] : shard.connections) {
        all.push_back(connection);
      }
    }
    return all;
  }

 private:
  static constexpr size_t kShards = 16;

  struct alignas(64) Shard {
    mutable Mutex mu;
    absl::flat_hash_map<pool::Handle, std::shared_ptr<Connection>> connections
        ABSL_GUARDED_BY(mu);
  };

  Shard& ShardOf(pool::Handle handle) { return shards_[handle % kShards]; }
  const Shard& ShardOf(pool::Handle handle) const {
    return shards_[handle % kShards];
  }

  std::array<Shard, kShards> shards_;
  std::atomic<pool::Handle> next_{0};
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_CONNECTION_CONNECTION_TABLE_H_
