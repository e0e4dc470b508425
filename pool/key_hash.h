// Hashes HostPoolKeys.
#ifndef HOTLINE_POOL_KEY_HASH_H_
#define HOTLINE_POOL_KEY_HASH_H_

#include <cstdint>
#include <string>

#include "pool/types.h"

namespace hotline::pool {

// Two hashes of a key: `target` selects the shard, `pool` the HostPool in it.
// Reproducible for the same seed, so that a simulation can be repeated, and
// unpredictable without the seed.
struct KeyHash {
  KeyHash(const HostPoolKey& key, uint64_t seed);
  // For a target; `pool` is that of its kShared HostPool without options.
  KeyHash(const std::string& target, uint64_t seed);

  uint64_t target;
  uint64_t pool;
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_KEY_HASH_H_
