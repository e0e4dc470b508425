#include "net/http2/memory.h"

#include <cstdlib>
#include <cstring>

namespace hotline::net {
namespace {

// The buffer is a frame of the protocol's usual most, 16 KiB, and a little.
constexpr size_t kFrameBytes = 16 << 10;
constexpr size_t kMappedBytes = 20 << 10;

Http2Memory* Self(void* self) { return static_cast<Http2Memory*>(self); }

}  // namespace

Http2Memory::Http2Memory()
    : functions_{
          .mem_user_data = this,
          .malloc = [](size_t bytes,
                       void* self) { return Self(self)->Allocate(bytes); },
          .free = [](void* memory, void* self) { Self(self)->Free(memory); },
          .calloc = [](size_t count, size_t bytes,
                       void*) { return std::calloc(count, bytes); },
          .realloc =
              [](void* old, size_t bytes, void* self) {
                return Self(self)->Reallocate(old, bytes);
              },
      } {}

void* Http2Memory::Allocate(size_t bytes) {
  // The first that is that large is the frame buffer's; others, for a head that
  // needs more, come and go.
  if (frame_.data() == nullptr && bytes >= kFrameBytes &&
      bytes <= kMappedBytes && frame_.Map(kMappedBytes)) {
    return frame_.data();
  }
  return std::malloc(bytes);
}

void* Http2Memory::Reallocate(void* old, size_t bytes) {
  if (old == nullptr) return Allocate(bytes);
  if (old != frame_.data()) return std::realloc(old, bytes);
  if (bytes <= frame_.size()) return old;
  void* const larger = std::malloc(bytes);
  if (larger == nullptr) return nullptr;
  std::memcpy(larger, old, frame_.size());
  frame_.Unmap();
  return larger;
}

void Http2Memory::Free(void* memory) {
  if (memory == nullptr || memory != frame_.data()) return std::free(memory);
  frame_.Unmap();
}

}  // namespace hotline::net
