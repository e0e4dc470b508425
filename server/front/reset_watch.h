// Finds the connections whose calls are reset too fast.
//
// gRPC counts, for each connection, the streams that began, those that ended
// with its answer and those that did not; it does not act on it
// (CVE-2023-44487). Most of such calls never reach a service, so nobody else
// sees them. The counts are read through channelz: one look at the whole server
// ten times a second, and at single connections only while many calls fail, or
// begin faster than they end.
#ifndef HOTLINE_SERVER_FRONT_RESET_WATCH_H_
#define HOTLINE_SERVER_FRONT_RESET_WATCH_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/time.h"

namespace hotline::server {

// How many streams a connection may have open: what gRPC is told.
inline constexpr int kMostConcurrentStreams = 1024;

// Streams of one connection, from its start.
struct StreamCounts {
  uint64_t started = 0;
  uint64_t failed = 0;
  uint64_t succeeded = 0;
};

// One connection's account: its resets and answers of about the last second.
// Pure.
class ResetAccount {
 public:
  // True: it has reset more than one and a half seconds' worth of `per_second`,
  // and more than was answered. Those that are neither failed nor succeeded,
  // and more than can be open at once, have been reset as well: gRPC works off
  // a whole burst before it counts one stream of it as failed.
  bool Add(const StreamCounts& counts, int per_second, Instant now);

 private:
  Instant last_{};
  uint64_t failed_ = 0;
  uint64_t succeeded_ = 0;
  double resets_ = 0;  // Fading, as the next.
  double answers_ = 0;
};

// Thread-compatible: for the front door's thread.
class ResetWatch {
 public:
  // By what the front door knows it: one of the two.
  struct Connection {
    uint64_t id = 0;   // Unix sockets; 0: it could not be told which.
    std::string peer;  // "127.0.0.1:5555".
  };

  explicit ResetWatch(int per_second) : per_second_(per_second) {}

  // Those that are over the limit now. Takes a tenth of a thread's time at
  // most.
  std::vector<Connection> Look(Instant now);

  // Connections over Unix sockets have no name that tells one from another.
  // They become known to channelz in the order in which they were delivered.
  void OnUnixDelivered(uint64_t id, Instant now);

 private:
  // Whether much has happened since the last look, and it is time for one.
  bool IsWorthALook(Instant now);

  void MatchUnix(Instant now);

  const int per_second_;
  uint64_t started_ = 0;  // Calls, in all.
  uint64_t failed_ = 0;
  uint64_t failed_at_look_ = 0;  // While it is the same, no account changes.
  Instant attention_until_{};
  Instant next_look_{};
  Instant rest_until_{};
  // By channelz's numbers of connections.
  absl::flat_hash_map<uint64_t, ResetAccount> accounts_;
  absl::flat_hash_map<uint64_t, uint64_t> ids_;
  // Delivered, and not found there yet; in order.
  std::vector<uint64_t> unmatched_;
  Instant match_until_{};
  uint64_t newest_ = 0;  // None up to it is new.
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_FRONT_RESET_WATCH_H_
