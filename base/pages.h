// A block of whole pages that can be returned to the system while mapped.
#ifndef HOTLINE_BASE_PAGES_H_
#define HOTLINE_BASE_PAGES_H_

#include <cstddef>

namespace hotline {

// Pages use memory only once they are written to. Not thread-safe.
class Pages {
 public:
  Pages() = default;
  ~Pages() { Unmap(); }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;

  // Maps at least `bytes`, zeroed. False: there is no memory, and nothing has
  // changed.
  bool Map(size_t bytes);
  void Unmap();

  // Null before Map and after Unmap.
  void* data() const { return data_; }
  size_t size() const { return size_; }

  // Returns all pages to the system. The contents are lost: they read as zero.
  void GiveBack();
  // The same of a part, which is made of whole pages.
  void GiveBack(size_t from, size_t bytes);

  // The bytes that are in memory now.
  size_t resident_bytes() const;

 private:
  void* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace hotline

#endif  // HOTLINE_BASE_PAGES_H_
