// Memory for objects that live as long as a call and are larger than the blocks
// that the C library keeps per thread (1032 bytes): each thread keeps some of
// the blocks that it frees, for the next objects of the same type.
//
//   auto call = std::allocate_shared<ExecuteCall>(
//       RecyclingAllocator<ExecuteCall>(), ...);
//   class PingCall final : public Call, public Recycled<PingCall> { ... };
//
// Thread safety: a block may be freed by another thread than the one that
// allocated it.
#ifndef HOTLINE_BASE_RECYCLING_H_
#define HOTLINE_BASE_RECYCLING_H_

#include <cstddef>
#include <memory>
#include <new>

namespace hotline {

// A standard allocator. Arrays are not recycled.
template <typename T>
class RecyclingAllocator {
 public:
  using value_type = T;

  // Blocks that a thread keeps of each type.
  static constexpr int kKept = 64;

  RecyclingAllocator() = default;
  template <typename U>
  explicit(false) RecyclingAllocator(const RecyclingAllocator<U>&) {}

  T* allocate(size_t count) {
    if (count != 1) return std::allocator<T>().allocate(count);
    Kept& kept = kept_;
    Block* const block = kept.first;
    if (block == nullptr) return std::allocator<T>().allocate(1);
    kept.first = block->next;
    --kept.count;
    return reinterpret_cast<T*>(block);
  }

  void deallocate(T* object, size_t count) {
    Kept& kept = kept_;
    if (count != 1 || kept.count == kMost) {
      return std::allocator<T>().deallocate(object, count);
    }
    kept.first = new (static_cast<void*>(object)) Block{kept.first};
    ++kept.count;
  }

  friend bool operator==(const RecyclingAllocator&, const RecyclingAllocator&) {
    return true;
  }

 private:
  struct Block {
    Block* next;
  };
  struct Kept {
    Block* first = nullptr;
    int count = 0;

    // At the thread's end, after which nothing more is kept.
    ~Kept() {
      count = kMost;
      while (first != nullptr) {
        Block* const block = first;
        first = block->next;
        std::allocator<T>().deallocate(reinterpret_cast<T*>(block), 1);
      }
    }
  };

// AddressSanitizer finds the use of a freed block only if it is freed.
#ifdef __SANITIZE_ADDRESS__
  static constexpr int kMost = 0;
#else
  static constexpr int kMost = kKept;
#endif

  static_assert(sizeof(T) >= sizeof(Block) && alignof(T) >= alignof(Block));
  static inline thread_local Kept kept_;
};

// A base whose `new` and `delete` recycle the memory of Derived, the complete
// object's type.
template <typename Derived>
class Recycled {
 public:
  static void* operator new(size_t) {
    return RecyclingAllocator<Derived>().allocate(1);
  }
  static void operator delete(void* object) {
    RecyclingAllocator<Derived>().deallocate(static_cast<Derived*>(object), 1);
  }

 protected:
  Recycled() = default;
  ~Recycled() = default;
};

}  // namespace hotline

#endif  // HOTLINE_BASE_RECYCLING_H_
