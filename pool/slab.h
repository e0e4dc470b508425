// A table of records with fixed addresses, named by index and version.
#ifndef HOTLINE_POOL_SLAB_H_
#define HOTLINE_POOL_SLAB_H_

#include <array>
#include <cassert>
#include <cstdint>
#include <memory>
#include <vector>

namespace hotline::pool {

// Base class of a slab's records.
struct SlabEntry {
  uint32_t index = 0;  // In the slab; constant.
  bool in_use = false;
  // Of the current record, or, while free, of the next one. Never 0.
  uint64_t version = 1;
  SlabEntry* next_free = nullptr;
};

// Grows in chunks and never shrinks. Allocates the record that was freed last,
// because it is still in the cache. Not thread-safe.
template <typename T>
class Slab {
 public:
  // Versions run from 1 to `max_version` and then wrap around.
  explicit Slab(uint64_t max_version, uint32_t max_records = UINT32_MAX)
      : max_version_(max_version), max_records_(max_records) {}
  Slab(const Slab&) = delete;
  Slab& operator=(const Slab&) = delete;

  bool full() const { return in_use_ >= max_records_; }
  uint32_t in_use() const { return in_use_; }
  // Records, in use or not; their indexes are below this.
  uint32_t size() const {
    return static_cast<uint32_t>(chunks_.size()) << kBits;
  }

  // Returns a record in the state in which it was freed. REQUIRES: !full().
  T* Allocate() {
    assert(!full());
    if (free_ == nullptr) Grow();
    SlabEntry* entry = free_;
    free_ = entry->next_free;
    entry->in_use = true;
    ++in_use_;
    return static_cast<T*>(entry);
  }

  // Frees the record and makes its ids stale.
  void Free(T* record) {
    SlabEntry* entry = record;
    assert(entry->in_use);
    NextVersion(record);
    entry->in_use = false;
    entry->next_free = free_;
    free_ = entry;
    --in_use_;
  }

  // Makes the ids of this record stale.
  void NextVersion(T* record) {
    SlabEntry* entry = record;
    entry->version = entry->version >= max_version_ ? 1 : entry->version + 1;
  }

  // Returns the record at `index`, in use or not; null if there is none.
  T* At(uint32_t index) const {
    const uint32_t chunk = index >> kBits;
    if (chunk >= chunks_.size()) return nullptr;
    return &(*chunks_[chunk])[index & (kChunk - 1)];
  }

  // Returns the record if it is in use and has exactly this version, else null.
  T* Find(uint32_t index, uint64_t version) const {
    T* record = At(index);
    if (record == nullptr || !record->in_use || record->version != version) {
      return nullptr;
    }
    return record;
  }

 private:
  static constexpr int kBits = 6;
  static constexpr uint32_t kChunk = 1 << kBits;

  void Grow() {
    const uint32_t first = size();
    chunks_.push_back(std::make_unique<std::array<T, kChunk>>());
    for (uint32_t i = kChunk; i-- > 0;) {
      SlabEntry* entry = &(*chunks_.back())[i];
      entry->index = first + i;
      entry->next_free = free_;
      free_ = entry;
    }
  }

  const uint64_t max_version_;
  const uint32_t max_records_;
  uint32_t in_use_ = 0;
  SlabEntry* free_ = nullptr;
  std::vector<std::unique_ptr<std::array<T, kChunk>>> chunks_;
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_SLAB_H_
