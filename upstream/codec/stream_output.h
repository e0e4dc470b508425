// The output of a codec that has one stream at a time.
#ifndef HOTLINE_UPSTREAM_CODEC_STREAM_OUTPUT_H_
#define HOTLINE_UPSTREAM_CODEC_STREAM_OUTPUT_H_

#include <cstddef>
#include <string>
#include <utility>

namespace hotline::upstream {

struct StreamOutput {
  // From this size on, the sender of a streamed body is asked to wait.
  static constexpr size_t kEnoughBytes = 256 << 10;

  std::string bytes;
  bool owes_sendable = false;

  // What Codec::Send is to return after it has appended to `bytes`.
  size_t Held() {
    owes_sendable = bytes.size() >= kEnoughBytes;
    return owes_sendable ? bytes.size() : 0;
  }

  // Moves everything to the end of `out`. Returns whether OnSendable is due.
  bool TakeTo(std::string* out) {
    if (out->empty()) {
      out->swap(bytes);
    } else {
      out->append(bytes);
      bytes.clear();
    }
    return std::exchange(owes_sendable, false);
  }
};

}  // namespace hotline::upstream

#endif  // HOTLINE_UPSTREAM_CODEC_STREAM_OUTPUT_H_
