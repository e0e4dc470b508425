// Converts between base/time.h and protobuf's durations and timestamps.
#ifndef HOTLINE_SERVER_BROKER_PROTO_TIME_H_
#define HOTLINE_SERVER_BROKER_PROTO_TIME_H_

#include <chrono>

#include "base/time.h"
#include "google/protobuf/duration.pb.h"
#include "google/protobuf/timestamp.pb.h"

namespace hotline::server {

inline void FillDuration(Duration length, google::protobuf::Duration* out) {
  out->set_seconds(length.count() / 1'000'000'000);
  out->set_nanos(static_cast<int32_t>(length.count() % 1'000'000'000));
}

// Saturates at the limits of Duration. REQUIRES: `in` is a valid protobuf
// duration.
inline Duration FromProto(const google::protobuf::Duration& in) {
  constexpr int64_t kMost = 9'000'000'000;
  if (in.seconds() > kMost) return Duration::max();
  if (in.seconds() < -kMost) return Duration::min();
  return std::chrono::seconds(in.seconds()) + Duration(in.nanos());
}

inline void FillTimestamp(std::chrono::system_clock::time_point when,
                          google::protobuf::Timestamp* out) {
  const int64_t ns =
      std::chrono::duration_cast<Duration>(when.time_since_epoch()).count();
  out->set_seconds(ns / 1'000'000'000);
  out->set_nanos(static_cast<int32_t>(ns % 1'000'000'000));
}

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_PROTO_TIME_H_
