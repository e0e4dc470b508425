// Records that live at a fixed place and are named by slot and version.
#ifndef HOTLINE_POOL_SLAB_H_
#define HOTLINE_POOL_SLAB_H_

#include <array>
#include <cassert>
#include <cstdint>
#include <memory>
#include <vector>

namespace hotline::pool {

// Base of a slab's records.
struct SlabEntry {
  uint32_t slot = 0;
  bool in_use = false;
  // Of the record while in use; of the next one while free. Never 0.
  uint64_t version = 1;
  SlabEntry* next_free = nullptr;
};

// Grows in chunks, never shrinks, and hands out the slot that was freed last:
// its lines are still in the cache. Not thread-safe.
template <typename T>
class Slab {
 public:
  // Versions run from 1 to `max_version` and then start again.
  explicit Slab(uint64_t max_version, uint32_t max_slots = UINT32_MAX)
      : max_version_(max_version), max_slots_(max_slots) {}
  Slab(const Slab&) = delete;
  Slab& operator=(const Slab&) = delete;

  bool full() const { return in_use_ >= max_slots_; }
  uint32_t in_use() const { return in_use_; }
  // Slots are numbered from 0 to here.
  uint32_t slots() const {
    return static_cast<uint32_t>(chunks_.size()) << kBits;
  }

  // A free record, as whoever freed it left it. REQUIRES: !full().
  T* Allocate() {
    assert(!full());
    if (free_ == nullptr) Grow();
    SlabEntry* entry = free_;
    free_ = entry->next_free;
    entry->in_use = true;
    ++in_use_;
    return static_cast<T*>(entry);
  }

  // Ends the record's version.
  void Free(T* record) {
    SlabEntry* entry = record;
    assert(entry->in_use);
    NextVersion(record);
    entry->in_use = false;
    entry->next_free = free_;
    free_ = entry;
    --in_use_;
  }

  // Makes the ids given out so far for this record stale.
  void NextVersion(T* record) {
    SlabEntry* entry = record;
    entry->version = entry->version >= max_version_ ? 1 : entry->version + 1;
  }

  // The record in that slot, in use or not; null when there is no such slot.
  T* At(uint32_t slot) const {
    const uint32_t chunk = slot >> kBits;
    if (chunk >= chunks_.size()) return nullptr;
    return &(*chunks_[chunk])[slot & (kChunk - 1)];
  }

  // The record of exactly this version, if it is in use.
  T* Find(uint32_t slot, uint64_t version) const {
    T* record = At(slot);
    if (record == nullptr || !record->in_use || record->version != version) {
      return nullptr;
    }
    return record;
  }

 private:
  static constexpr int kBits = 6;
  static constexpr uint32_t kChunk = 1 << kBits;

  void Grow() {
    const uint32_t first = slots();
    chunks_.push_back(std::make_unique<std::array<T, kChunk>>());
    for (uint32_t i = kChunk; i-- > 0;) {
      SlabEntry* entry = &(*chunks_.back())[i];
      entry->slot = first + i;
      entry->next_free = free_;
      free_ = entry;
    }
  }

  const uint64_t max_version_;
  const uint32_t max_slots_;
  uint32_t in_use_ = 0;
  SlabEntry* free_ = nullptr;
  std::vector<std::unique_ptr<std::array<T, kChunk>>> chunks_;
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_SLAB_H_
