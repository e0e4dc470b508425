// Follows HTTP/2's framing in bytes that arrive in pieces, before nghttp2 sees
// them: nghttp2 does not tell of frames that it ignores.
#ifndef HOTLINE_UPSTREAM_HTTP2_FRAMES_H_
#define HOTLINE_UPSTREAM_HTTP2_FRAMES_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace hotline::upstream {

struct Http2FrameHead {
  size_t length = 0;
  uint8_t type = 0;
  uint8_t flags = 0;
  int32_t stream = 0;
};

class Http2FrameReader {
 public:
  // Moves over `bytes`, at most to the end of one frame's header or payload.
  // Returns how many it moved over; with `*begun` when a header became whole,
  // see head().
  size_t Next(std::string_view bytes, bool* begun) {
    *begun = false;
    if (payload_left_ > 0) {
      const size_t size = std::min(payload_left_, bytes.size());
      payload_left_ -= size;
      return size;
    }
    const size_t size = std::min(kHeadBytes - have_, bytes.size());
    std::memcpy(raw_ + have_, bytes.data(), size);
    have_ += size;
    if (have_ == kHeadBytes) {
      have_ = 0;
      head_.length = raw_[0] << 16 | raw_[1] << 8 | raw_[2];
      head_.type = raw_[3];
      head_.flags = raw_[4];
      head_.stream =
          (raw_[5] & 0x7f) << 24 | raw_[6] << 16 | raw_[7] << 8 | raw_[8];
      payload_left_ = head_.length;
      *begun = true;
    }
    return size;
  }

  const Http2FrameHead& head() const { return head_; }
  // Between two frames.
  bool at_end() const { return have_ == 0 && payload_left_ == 0; }

 private:
  static constexpr size_t kHeadBytes = 9;

  uint8_t raw_[kHeadBytes] = {};
  size_t have_ = 0;
  size_t payload_left_ = 0;
  Http2FrameHead head_;
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_HTTP2_FRAMES_H_
