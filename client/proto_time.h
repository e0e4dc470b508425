// Conversions between Duration and protobuf's Duration.
#ifndef HOTLINE_CLIENT_PROTO_TIME_H_
#define HOTLINE_CLIENT_PROTO_TIME_H_

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "base/time.h"
#include "google/protobuf/duration.pb.h"

namespace hotline::client {

inline google::protobuf::Duration ToProto(Duration duration) {
  google::protobuf::Duration proto;
  proto.set_seconds(duration.count() / 1'000'000'000);
  proto.set_nanos(static_cast<int32_t>(duration.count() % 1'000'000'000));
  return proto;
}

// Saturates if nanoseconds would overflow (292 years).
inline Duration FromProto(const google::protobuf::Duration& proto) {
  constexpr int64_t kMost = Duration::max().count() / 1'000'000'000 - 1;
  return std::chrono::seconds(std::clamp(proto.seconds(), -kMost, kMost)) +
         std::chrono::nanoseconds(proto.nanos());
}

}  // namespace hotline::client

#endif  // HOTLINE_CLIENT_PROTO_TIME_H_
