#include "net/http2/flood_account.h"

#include <nghttp2/nghttp2.h>

#include <algorithm>

namespace hotline::net {

const char* Http2FloodAccount::Charge(const FrameHead& frame, bool stray) {
  const auto length = static_cast<int64_t>(frame.length);
  if (stray && length > 0 && stray_allowance_ >= length) {
    stray_allowance_ -= length;
    return nullptr;
  }
  --credit_;
  continuations_ = frame.type == NGHTTP2_CONTINUATION ? continuations_ + 1 : 0;
  return continuations_ > limits_.max_continuations ? "a head in too many parts"
                                                    : nullptr;
}

void Http2FloodAccount::Earn(int frames) {
  credit_ = std::min(credit_ + frames, limits_.max_useless_frames);
}

void Http2FloodAccount::OnWindowUpdate(int32_t stream, uint32_t increment) {
  uint64_t& debt = stream == 0 ? connection_debt_ : streams_debt_;
  if (increment > 0 && increment <= debt) Earn(1);
  debt -= std::min<uint64_t>(increment, debt);
}

void Http2FloodAccount::AllowStray(int64_t bytes) {
  stray_allowance_ =
      std::min(stray_allowance_ + bytes, limits_.max_stray_bytes);
}

void Http2FloodAccount::OnWritten(uint64_t written, uint64_t produced) {
  if (written < replies_mark_) return;
  unwritten_replies_ = 0;
  replies_mark_ = produced;
}

const char* Http2FloodAccount::Check() const {
  if (credit_ < 0) return "too many frames of no use";
  if (unwritten_replies_ > limits_.max_useless_frames) {
    return "it does not read what it asks for";
  }
  return nullptr;
}

}  // namespace hotline::net
