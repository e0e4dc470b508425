#include "server/broker/exemplar.h"

#include <charconv>
#include <cstddef>
#include <system_error>

namespace hotline::server {
namespace {

// The trace id of "00-<32 hex>-<16 hex>-<flags>"; false: it is not sampled, or
// this is no traceparent.
bool ParseSampled(std::string_view traceparent, uint64_t* high, uint64_t* low) {
  constexpr size_t kLength = 55;
  if (traceparent.size() < kLength) return false;
  const auto parse = [traceparent](size_t from, size_t length, uint64_t* out) {
    const char* const begin = traceparent.data() + from;
    const auto parsed = std::from_chars(begin, begin + length, *out, 16);
    return parsed.ec == std::errc() && parsed.ptr == begin + length;
  };
  uint64_t flags = 0;
  return parse(3, 16, high) && parse(19, 16, low) && parse(53, 2, &flags) &&
         (flags & 1) != 0;
}

}  // namespace

void ExemplarSlot::Offer(std::string_view traceparent, Duration value,
                         Instant now) {
  const int64_t now_ns = now.time_since_epoch().count();
  uint32_t version = version_.load(std::memory_order_acquire);
  if (version % 2 != 0) return;
  if (version != 0 &&
      now_ns - at_ns_.load(std::memory_order_relaxed) < kKeep.count()) {
    return;
  }
  uint64_t high = 0;
  uint64_t low = 0;
  if (!ParseSampled(traceparent, &high, &low)) return;
  if (!version_.compare_exchange_strong(version, version + 1)) return;
  // Released, so that a reader of one of them sees the odd version.
  at_ns_.store(now_ns, std::memory_order_release);
  value_ns_.store(value.count(), std::memory_order_release);
  trace_high_.store(high, std::memory_order_release);
  trace_low_.store(low, std::memory_order_release);
  version_.store(version + 2, std::memory_order_release);
}

bool ExemplarSlot::Get(Exemplar* out) const {
  const uint32_t version = version_.load(std::memory_order_acquire);
  if (version == 0 || version % 2 != 0) return false;
  out->at = Instant(Duration(at_ns_.load(std::memory_order_acquire)));
  out->value = Duration(value_ns_.load(std::memory_order_acquire));
  out->trace_high = trace_high_.load(std::memory_order_acquire);
  out->trace_low = trace_low_.load(std::memory_order_acquire);
  return version_.load(std::memory_order_relaxed) == version;
}

}  // namespace hotline::server
