// A block of whole pages, of which the system takes back what is not needed.
#ifndef HOTLINE_BASE_PAGES_H_
#define HOTLINE_BASE_PAGES_H_

#include <cstddef>

namespace hotline {

// Its pages take memory once they are written to. Not thread-safe.
class Pages {
 public:
  Pages() = default;
  ~Pages() { Unmap(); }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;

  // At least `bytes`, zeroed. False, and nothing has changed: there are none to
  // be had.
  bool Map(size_t bytes);
  void Unmap();

  // Null before Map and after Unmap.
  void* data() const { return data_; }
  size_t size() const { return size_; }

  // What is in it is lost; it is zero when it is read again.
  void GiveBack();
  // The same of a part, which is made of whole pages.
  void GiveBack(size_t from, size_t bytes);

  // Of it that are in memory now.
  size_t resident_bytes() const;

 private:
  void* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace hotline

#endif  // HOTLINE_BASE_PAGES_H_
