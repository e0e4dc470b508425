// Open connections by the pool's id. Ids are never reused, so the id of a
// closed connection finds nothing.
#ifndef HOTLINE_UPSTREAM_CONNECTION_CONNECTION_TABLE_H_
#define HOTLINE_UPSTREAM_CONNECTION_CONNECTION_TABLE_H_

#include <array>
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
  void Add(std::shared_ptr<Connection> connection) {
    const pool::ConnId conn = connection->id();
    Shard& shard = ShardOf(conn);
    MutexLock lock(&shard.mu);
    shard.connections.emplace(conn, std::move(connection));
  }

  // Null: gone.
  std::shared_ptr<Connection> Find(pool::ConnId conn) const {
    const Shard& shard = ShardOf(conn);
    MutexLock lock(&shard.mu);
    const auto it = shard.connections.find(conn);
    return it == shard.connections.end() ? nullptr : it->second;
  }

  void Remove(pool::ConnId conn) {
    std::shared_ptr<Connection> removed;  // Its end is not for the lock.
    Shard& shard = ShardOf(conn);
    MutexLock lock(&shard.mu);
    const auto it = shard.connections.find(conn);
    if (it == shard.connections.end()) return;
    removed = std::move(it->second);
    shard.connections.erase(it);
  }

  std::vector<std::shared_ptr<Connection>> All() const {
    std::vector<std::shared_ptr<Connection>> all;
    for (const Shard& shard : shards_) {
      MutexLock lock(&shard.mu);
      for (const auto& [conn, connection] : shard.connections) {
        all.push_back(connection);
      }
    }
    return all;
  }

 private:
  static constexpr int kShardBits = 4;
  static constexpr size_t kShards = 1 << kShardBits;

  struct alignas(64) Shard {
    mutable Mutex mu;
    absl::flat_hash_map<pool::ConnId, std::shared_ptr<Connection>> connections
        ABSL_GUARDED_BY(mu);
  };

  // The id's low bits are the pool's shard, so they are the same for all
  // connections of a target: the multiplication spreads the others.
  static size_t IndexOf(pool::ConnId conn) {
    return (conn * 0x9e3779b97f4a7c15u) >> (64 - kShardBits);
  }
  Shard& ShardOf(pool::ConnId conn) { return shards_[IndexOf(conn)]; }
  const Shard& ShardOf(pool::ConnId conn) const {
    return shards_[IndexOf(conn)];
  }

  std::array<Shard, kShards> shards_;
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_CONNECTION_CONNECTION_TABLE_H_
