// Follows HTTP/2's framing in bytes that arrive in pieces, before nghttp2 sees
// them: nghttp2 does not report the frames that it ignores. For either role.
#ifndef HOTLINE_NET_HTTP2_FRAME_READER_H_
#define HOTLINE_NET_HTTP2_FRAME_READER_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace hotline::net {

struct FrameHead {
  size_t length = 0;
  uint8_t type = 0;
  uint8_t flags = 0;
  int32_t stream = 0;
};

class FrameReader {
 public:
  // Consumes `bytes` up to the end of one frame's header or payload. Returns
  // how many it consumed. `*begun`: a header was completed; see head().
  size_t Next(std::string_view bytes, bool* begun) {
    *begun = false;
    if (payload_left_ > 0) {
      const size_t size = std::min(payload_left_, bytes.size());
      const size_t done = head_.length - payload_left_;
      if (done < kNumberBytes) {
        std::memcpy(number_ + done, bytes.data(),
                    std::min(size, kNumberBytes - done));
      }
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

  const FrameHead& head() const { return head_; }
  // The same as received.
  std::string_view raw_head() const {
    return {reinterpret_cast<const char*>(raw_), kHeadBytes};
  }
  // How much has arrived of an incomplete header.
  size_t pending_head() const { return have_; }
  // A complete payload of four bytes as a number, without its highest bit.
  uint32_t number() const {
    return (number_[0] & 0x7fu) << 24 | number_[1] << 16 | number_[2] << 8 |
           number_[3];
  }
  // Between two frames.
  bool at_end() const { return have_ == 0 && payload_left_ == 0; }

 private:
  static constexpr size_t kHeadBytes = 9;
  static constexpr size_t kNumberBytes = 4;

  uint8_t raw_[kHeadBytes] = {};
  size_t have_ = 0;
  size_t payload_left_ = 0;
  uint8_t number_[kNumberBytes] = {};  // The payload's beginning.
  FrameHead head_;
};

}  // namespace hotline::net

#endif  // HOTLINE_NET_HTTP2_FRAME_READER_H_
