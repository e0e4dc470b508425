// Bytes on their way to a socket.
#ifndef HOTLINE_NET_HTTP2_OUTPUT_BUFFER_H_
#define HOTLINE_NET_HTTP2_OUTPUT_BUFFER_H_

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>

namespace hotline::net {

// Appended to at the end, dropped from the start. Not thread-safe.
class OutputBuffer {
 public:
  OutputBuffer() = default;
  OutputBuffer(OutputBuffer&& other) noexcept { *this = std::move(other); }
  OutputBuffer& operator=(OutputBuffer&& other) noexcept {
    data_ = std::move(other.data_);
    capacity_ = std::exchange(other.capacity_, 0);
    begin_ = std::exchange(other.begin_, 0);
    end_ = std::exchange(other.end_, 0);
    return *this;
  }

  size_t size() const { return end_ - begin_; }
  bool empty() const { return begin_ == end_; }
  size_t capacity() const { return capacity_; }
  std::string_view view() const { return {data_.get() + begin_, size()}; }

  // Room for `bytes` more at the end, to be written by the caller.
  char* Extend(size_t bytes) {
    if (capacity_ - end_ < bytes) Grow(bytes);
    return data_.get() + std::exchange(end_, end_ + bytes);
  }
  void Append(const void* bytes, size_t size) {
    if (size > 0) std::memcpy(Extend(size), bytes, size);
  }
  void Append(std::string_view bytes) { Append(bytes.data(), bytes.size()); }

  // REQUIRES: bytes <= size().
  void Drop(size_t bytes) {
    begin_ += bytes;
    if (begin_ == end_) begin_ = end_ = 0;
  }

 private:
  static constexpr size_t kLeastBytes = 1024;

  void Grow(size_t bytes) {
    const size_t size = this->size();
    if (size + bytes > capacity_ || begin_ < capacity_ / 2) {
      capacity_ = std::max({kLeastBytes, capacity_ * 2, size + bytes});
      std::unique_ptr<char[]> larger(new char[capacity_]);
      if (size > 0) std::memcpy(larger.get(), data_.get() + begin_, size);
      data_ = std::move(larger);
    } else {
      std::memmove(data_.get(), data_.get() + begin_, size);
    }
    begin_ = 0;
    end_ = size;
  }

  std::unique_ptr<char[]> data_;
  size_t capacity_ = 0;
  size_t begin_ = 0;
  size_t end_ = 0;
};

}  // namespace hotline::net

#endif  // HOTLINE_NET_HTTP2_OUTPUT_BUFFER_H_
