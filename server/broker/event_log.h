// What happened in the broker, for operators: a log of the last events, and the
// last events of each target, which go with its errors and into Stats.
//
//   log.Add({.kind = v1::EVENT_KIND_READY, .target = target}, now);
//   EventLog::Page page = log.Read(/*after=*/0, {.target = target}, 100);
//
// The log knows nothing of its watchers: each has a position of its own and
// comes back for more. An event costs one allocation and a short lock, however
// many watch, and whether or not they keep up.
//
// Thread safety: thread-safe. No method blocks.
//
// Invariants:
//   1. Sequence numbers are consecutive, from 1.
//   2. At most `capacity` events are kept, and kRecorded for each of the
//      kRecorders targets with the latest events.
//   3. Of one kind and target at most kMostPerSecond events are added within a
//      second; the next one says how many were left out.
#ifndef HOTLINE_SERVER_BROKER_EVENT_LOG_H_
#define HOTLINE_SERVER_BROKER_EVENT_LOG_H_

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"
#include "base/time.h"
#include "hotline/v1/broker.pb.h"
#include "pool/types.h"

namespace hotline::server {

// See the fields of v1::Event.
struct Event {
  v1::EventKind kind = v1::EVENT_KIND_UNSPECIFIED;
  std::string target = {};       // Canonical; empty: the process.
  std::string_view reason = {};  // Of static storage duration.
  pool::ConnId conn = 0;
  std::string address = {};
  std::string text = {};
  std::string identity = {};
  std::shared_ptr<const pool::Holder> holder = nullptr;
  uint64_t owner = 0;  // Of the lease.
  // Set by the log.
  uint64_t sequence = 0;
  std::chrono::system_clock::time_point time = {};
  uint64_t suppressed = 0;
};
using EventPtr = std::shared_ptr<const Event>;

struct EventFilter {
  std::string target = {};        // Empty: all.
  uint64_t kinds = ~uint64_t{0};  // Bits by v1::EventKind.

  bool Accepts(const Event& event) const {
    return (kinds >> event.kind & 1) != 0 &&
           (target.empty() || target == event.target);
  }
};
static_assert(v1::EventKind_ARRAYSIZE <= 64);

class EventLog {
 public:
  static constexpr size_t kCapacity = 4096;
  static constexpr size_t kRecorded = 16;
  static constexpr size_t kRecorders = 1024;
  static constexpr int kMostPerSecond = 100;
  static constexpr size_t kMostTextBytes = 256;

  explicit EventLog(size_t capacity = kCapacity) : capacity_(capacity) {}
  EventLog(const EventLog&) = delete;
  EventLog& operator=(const EventLog&) = delete;

  // Cuts the text to kMostTextBytes.
  void Add(Event event, Instant now);

  // The number of the last event; 0: none.
  uint64_t last() const { return last_.load(std::memory_order_acquire); }

  struct Page {
    std::vector<EventPtr> events;  // Oldest first.
    // The last number that was looked at: where to go on.
    uint64_t sequence = 0;
    // Events after `after` that are not kept any more. 0: there are none.
    uint64_t gap_first = 0;
    uint64_t gap_last = 0;
  };
  // Returns at most `most` of the events after `after` that `filter` accepts.
  // Looks at a bounded number: if sequence < last(), there may be more.
  Page Read(uint64_t after, const EventFilter& filter, size_t most) const;

  // The target's last events, at most `most`, oldest first.
  std::vector<EventPtr> Recent(std::string_view target,
                               size_t most = kRecorded) const;

 private:
  // How many events of one kind and target there were lately.
  struct Rate {
    Instant since = {};
    int count = 0;
    uint64_t left_out = 0;
  };
  // The flight recorder of a target.
  struct Recorder {
    std::string target;
    std::deque<EventPtr> events;
    std::array<Rate, v1::EventKind_ARRAYSIZE> rates{};
  };
  using Recorders = std::list<Recorder>;

  static bool Admit(Rate* rate, Instant now);
  // Moves what makes room to `evicted`.
  Recorder& RecorderOfLocked(const std::string& target, Recorders* evicted)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const size_t capacity_;
  std::atomic<uint64_t> last_{0};
  mutable Mutex mu_;
  std::deque<EventPtr> events_ ABSL_GUARDED_BY(mu_);  // Up to last_.
  Recorders recorders_ ABSL_GUARDED_BY(mu_);  // The latest event's first.
  absl::flat_hash_map<std::string, Recorders::iterator> recorder_of_
      ABSL_GUARDED_BY(mu_);
};

}  // namespace hotline::server

#endif  // HOTLINE_SERVER_BROKER_EVENT_LOG_H_
