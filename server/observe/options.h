// The options of the access log and of traces; filled by config.
#ifndef HOTLINE_SERVER_OBSERVE_OPTIONS_H_
#define HOTLINE_SERVER_OBSERVE_OPTIONS_H_

#include <cstdint>
#include <string>

namespace hotline::server {

struct AccessLogOptions {
  enum class Mode : uint8_t {
    kOff,
    kErrors,   // Calls that failed.
    kSampled,  // Those, and one of `one_in` others.
  };
  Mode mode = Mode::kOff;
  uint32_t one_in = 1;

  friend bool operator==(const AccessLogOptions&,
                         const AccessLogOptions&) = default;
};

struct TracingOptions {
  // A valid http URL; empty: no traces.
  std::string collector;
  // Calls without a traceparent begin a trace: one of so many. 0: none.
  uint32_t new_trace_one_in = 0;

  friend bool operator==(const TracingOptions&,
                         const TracingOptions&) = default;
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_OBSERVE_OPTIONS_H_
