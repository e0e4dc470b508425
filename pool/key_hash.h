// Hashes of HostPoolKeys.
#ifndef HOTLINE_POOL_KEY_HASH_H_
#define HOTLINE_POOL_KEY_HASH_H_

#include <cstdint>
#include <string>

#include "pool/types.h"

namespace hotline::pool {

// Hashes of a key: `target` chooses the shard, `pool` finds the HostPool in it.
// The same in every run with the same seed, so that a simulation can be
// repeated; and not to be foreseen by whoever does not know the seed.
struct KeyHash {
  KeyHash(const HostPoolKey& key, uint64_t seed);
  // Of a target; `pool` is that of a SHARED HostPool without options.
  KeyHash(const std::string& target, uint64_t seed);

  uint64_t target;
  uint64_t pool;
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_KEY_HASH_H_
