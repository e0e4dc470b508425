#include "pool/key_hash.h"

#include <cstring>
#include <string_view>

namespace hotline::pool {
namespace {

constexpr uint64_t kGolden = 0x9e3779b97f4a7c15u;

uint64_t Mix(uint64_t a, uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

uint64_t Load8(const char* at) {
  uint64_t word;
  std::memcpy(&word, at, sizeof(word));
  return word;
}

// Folds in sixteen bytes at a time by a wide multiplication. The last, partial
// block overlaps the one before it.
uint64_t HashBytes(std::string_view text, uint64_t seed) {
  constexpr uint64_t kOdd = 0xd1b54a32d192ed03u;
  const char* at = text.data();
  size_t left = text.size();
  const uint64_t secret = seed ^ kOdd;
  uint64_t hash = seed ^ (left * kGolden);
  if (left >= 16) {
    for (; left > 16; left -= 16, at += 16) {
      hash = Mix(Load8(at) ^ secret, Load8(at + 8) ^ hash);
    }
    at -= 16 - left;
    return Mix(Mix(Load8(at) ^ secret, Load8(at + 8) ^ hash), kGolden);
  }
  uint64_t low = 0;
  uint64_t high = 0;
  if (left > 8) {
    low = Load8(at);
    high = Load8(at + left - 8);
  } else {
    for (; left > 0; --left, ++at) {
      low = low << 8 | static_cast<unsigned char>(*at);
    }
  }
  return Mix(Mix(low ^ secret, high ^ hash), kGolden);
}

}  // namespace

KeyHash::KeyHash(const HostPoolKey& key, uint64_t seed)
    : target(HashBytes(key.target, seed)), pool(target) {
  if (key.mode == Mode::kExclusive) pool ^= kGolden;
  const ConnectionOptions& options = key.options;
  if (!options.sni.empty() || !options.pool_group.empty() ||
      !options.alpn.empty() || !options.tls_profile.empty()) {
    pool = HashBytes(options.sni, pool);
    pool = HashBytes(options.pool_group, pool + 1);
    pool = HashBytes(options.alpn, pool + 2);
    pool = HashBytes(options.tls_profile, pool + 3);
  }
  if (!options.remote_ip.empty() || !options.source_ip.empty()) {
    pool = HashBytes(options.remote_ip, pool + 2);
    pool = HashBytes(options.source_ip, pool + 3);
  }
  if (!options.validate.empty()) pool = HashBytes(options.validate, pool + 4);
}

KeyHash::KeyHash(const std::string& target_name, uint64_t seed)
    : target(HashBytes(target_name, seed)), pool(target) {}

}  // namespace hotline::pool
