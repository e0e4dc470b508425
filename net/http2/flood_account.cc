#include "net/http2/flood_account.h"

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <chrono>

namespace hotline::net {

void TokenBucket::Refill(Instant now) {
  if (balance_ >= capacity_ || per_second_ <= 0) {
    refilled_ = now;
    return;
  }
  const Duration step = std::chrono::nanoseconds(1'000'000'000 / per_second_);
  const int64_t steps = std::max<int64_t>((now - refilled_) / step, 0);
  if (steps == 0) return;
  refilled_ += steps * step;
  Earn(std::min(steps, capacity_));
}

void TokenBucket::Earn(int64_t amount) {
  balance_ = std::min(balance_ + amount, capacity_);
}

const char* FloodAccount::CountContinuation(const FrameHead& frame) {
  continuations_ = frame.type == NGHTTP2_CONTINUATION ? continuations_ + 1 : 0;
  return continuations_ > limits_.max_continuations
             ? "a head in too many frames"
             : nullptr;
}

bool FloodAccount::CoverStray(size_t bytes) {
  const auto size = static_cast<int64_t>(bytes);
  if (size == 0 || size > stray_allowance_) return false;
  stray_allowance_ -= size;
  return true;
}

void FloodAccount::AllowStray(int64_t bytes) {
  stray_allowance_ =
      std::min(stray_allowance_ + bytes, limits_.max_stray_bytes);
}

bool FloodAccount::OnWindowUpdate(int32_t stream, uint32_t increment) {
  uint64_t& debt = stream == 0 ? connection_debt_ : streams_debt_;
  const bool paid_for = increment > 0 && increment <= debt;
  debt -= std::min<uint64_t>(increment, debt);
  return paid_for;
}

void FloodAccount::OnWritten(uint64_t written, uint64_t produced) {
  if (written < replies_mark_) return;
  unwritten_replies_ = 0;
  replies_mark_ = produced;
}

const char* FloodAccount::Check() const {
  if (credit_.overdrawn()) return "too many frames of no use";
  if (unwritten_replies_ > limits_.max_useless_frames) {
    return "it does not read what it asks for";
  }
  return nullptr;
}

}  // namespace hotline::net
