#include "base/pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

namespace hotline {
namespace {

size_t PageSize() {
  static const size_t size = sysconf(_SC_PAGESIZE);
  return size;
}

}  // namespace

bool Pages::Map(size_t bytes) {
  const size_t size = (bytes + PageSize() - 1) / PageSize() * PageSize();
  void* const data = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return false;
  // Otherwise the kernel would merge adjacent blocks into huge pages, which are
  // resident as a whole.
  madvise(data, size, MADV_NOHUGEPAGE);
  Unmap();
  data_ = data;
  size_ = size;
  return true;
}

void Pages::Unmap() {
  if (data_ != nullptr) munmap(data_, size_);
  data_ = nullptr;
  size_ = 0;
}

void Pages::GiveBack() { GiveBack(0, size_); }

void Pages::GiveBack(size_t from, size_t bytes) {
  if (data_ == nullptr) return;
  madvise(static_cast<char*>(data_) + from, bytes, MADV_DONTNEED);
}

size_t Pages::resident_bytes() const {
  if (data_ == nullptr) return 0;
  std::vector<unsigned char> pages(size_ / PageSize());
  if (mincore(data_, size_, pages.data()) != 0) return 0;
  return PageSize() *
         std::count_if(pages.begin(), pages.end(),
                       [](unsigned char page) { return (page & 1) != 0; });
}

}  // namespace hotline
