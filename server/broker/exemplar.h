// A recent traced call in one bucket of a histogram.
#ifndef HOTLINE_SERVER_BROKER_EXEMPLAR_H_
#define HOTLINE_SERVER_BROKER_EXEMPLAR_H_

#include <atomic>
#include <cstdint>
#include <string_view>

#include "base/time.h"

namespace hotline::server {

struct Exemplar {
  int bucket = 0;
  uint64_t trace_high = 0;  // The trace id.
  uint64_t trace_low = 0;
  Duration value{0};
  Instant at{};
};

// Holds an exemplar that threads replace and read without a lock: a writer
// makes `version_` odd meanwhile; another writer then gives up, and a reader
// finds that the version has changed.
//
// Thread safety: thread-safe.
class ExemplarSlot {
 public:
  // How long an exemplar is kept at least.
  static constexpr Duration kKeep = std::chrono::seconds(1);

  // `traceparent` (W3C Trace Context) is ignored unless its trace is sampled.
  void Offer(std::string_view traceparent, Duration value, Instant now);

  // False: there is none, or it is being replaced. Leaves `bucket`.
  bool Get(Exemplar* out) const;

 private:
  std::atomic<uint32_t> version_{0};  // 0: never written.
  std::atomic<int64_t> at_ns_{0};
  std::atomic<int64_t> value_ns_{0};
  std::atomic<uint64_t> trace_high_{0};
  std::atomic<uint64_t> trace_low_{0};
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_EXEMPLAR_H_
